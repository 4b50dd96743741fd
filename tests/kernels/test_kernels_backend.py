"""Choice of the backend, light import, and what the compiled module itself refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_cases import LOWEST

import bml
from bml import kernels
from bml.kernels import _arrays, _backend, _errors, _isa
from bml.kernels._table import KERNELS, Call, bytes_of

COMPILED = ["_cpu", *(f"_core_{cpu}" for cpu in _isa.BUILDS)]
HEAVY = ("numba", "torch", "pandas", "polars", "scipy", "h5py", "mlflow", "optuna", "psycopg", "matplotlib", "sklearn")
NOTHING_COMPILED = f"import sys; sys.modules |= dict.fromkeys({[f'bml.kernels.{m}' for m in COMPILED]!r})"
CALL = "import numpy as np; print(bml.kernels.depth_profile(np.ones((1, 1, 4))).tolist())"


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(bml.__file__).parents[1])
    clean = {k: v for k, v in os.environ.items() if k not in ("BML_KERNELS", "BML_CPU")}
    return subprocess.run(
        [sys.executable, "-c", code], env=clean | {"PYTHONPATH": root} | environment, capture_output=True, text=True
    )


def test_importing_and_calling_loads_numpy_only() -> None:
    done = python(f"import sys, bml.kernels; {CALL}; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert done.stdout.splitlines() == ["[[1, 1]]", "[]"], done.stderr


def test_import_brings_no_third_party_package_but_numpy() -> None:
    code = """
import sys, numpy
before = set(sys.modules)
import bml.kernels
new = {m.split('.')[0] for m in set(sys.modules) - before}
print(sorted(new - set(sys.stdlib_module_names) - {'bml', 'numpy'}))
"""
    assert python(code).stdout.strip() == "[]"


def test_numba_by_variable() -> None:
    pytest.importorskip("numba", reason="numba is an extra")
    done = python(f"import bml.kernels; from bml.kernels import _backend; {CALL}; print(_backend.current())",
                  BML_KERNELS="numba")  # fmt: skip
    assert done.stdout.splitlines() == ["[[1, 1]]", "numba"], done.stderr


def test_numba_needs_no_compiled_module() -> None:
    done = python(f"{NOTHING_COMPILED}; import bml.kernels; {CALL}", BML_KERNELS="numba")
    assert done.stdout.strip() == "[[1, 1]]", done.stderr


@pytest.mark.parametrize(
    ("block", "variable", "words"),
    [
        ("", "fast", "ImportError: BML_KERNELS='fast' is not a kernel backend: use 'compiled' or 'numba', or unset it"),
        ("", "spec", "ImportError: BML_KERNELS='spec' is not a kernel backend"),
        ("", "", "ImportError: BML_KERNELS='' is not a kernel backend"),
        (NOTHING_COMPILED, "compiled", "ImportError: the compiled module bml.kernels._cpu cannot be loaded"),
        (NOTHING_COMPILED, "compiled", "python setup.py build_ext --inplace"),
        ("import sys; sys.modules['numba'] = None", "numba", "pip install 'bml[numba]'"),
    ],
)
def test_what_cannot_be_had_is_an_import_error(block: str, variable: str, words: str) -> None:
    done = python(f"{block}; import bml.kernels" if block else "import bml.kernels", BML_KERNELS=variable)
    assert done.returncode == 1
    assert words in done.stderr.splitlines()[-1]


def test_use_switches_and_comes_back() -> None:
    before = _backend.current()
    with _backend.use("spec"):
        assert _backend.current() == "spec"
        with _backend.use("compiled"):
            assert _backend.current() == "compiled"
        assert _backend.current() == "spec"
    assert _backend.current() == before
    with pytest.raises(ValueError, match=r"^unknown kernel backend 'fast': there are compiled, numba, spec$"):
        _backend.use("fast").__enter__()


def test_the_table_names_the_public_kernels_and_compiled_loops() -> None:
    core = _isa.load(_isa.best())
    for kernel in KERNELS:
        assert getattr(kernels, kernel.name) is kernel.call
        assert all(callable(getattr(core, loop.name)) for loop in kernel.loops)
    loops = {loop.name for kernel in KERNELS for loop in kernel.loops} | {k.name for k in KERNELS if not k.loops}
    assert loops == {name for name in dir(core) if callable(getattr(core, name)) and not name.startswith("_")}
    assert bytes_of(Call((np.zeros(2), (np.zeros(1), 3)), {"a": np.zeros(1, np.int8), "b": None})) == 25


def test_a_build_without_compiled_kernels_in_use_is_refused() -> None:
    done = python("import bml.kernels", BML_KERNELS="numba", BML_CPU="v2")
    assert "ImportError: BML_CPU chooses a compiled build, and BML_KERNELS=numba runs none" in done.stderr


def test_error_codes_are_those_of_the_headers() -> None:
    codes = {name: value for name, value in vars(_errors).items() if name.isupper() and isinstance(value, int)}
    assert codes == _isa.load(_isa.best()).ERROR_CODES | {"OK": 0}
    assert set(_errors._WORDS) == set(codes.values()) - {0}


class TestCompiledModule:
    """Called past its wrapper it must refuse, never read or write out of bounds."""

    core = _isa.load(_isa.best())

    def test_converts_nothing(self) -> None:
        count = np.zeros((2, 2), np.int64)
        for book in (np.ones((1, 2, 4), np.float16), np.ones((1, 2, 8))[..., ::2], np.ones((1, 2, 4), ">f8")):
            with pytest.raises(TypeError, match="incompatible function arguments"):
                self.core.depth_profile(book, count, 1)
        with pytest.raises(TypeError, match="incompatible function arguments"):
            self.core.depth_profile(np.ones((1, 2, 4)), count.astype(np.int32), 1)

    def test_checks_sizes(self) -> None:
        with pytest.raises(ValueError, match="count_L2: wrong size"):
            self.core.depth_profile(np.ones((1, 2, 4)), np.zeros((1, 2), np.int64), 1)
        with pytest.raises(ValueError, match="book_TLF: wrong shape"):
            self.core.depth_profile(np.ones((1, 2, 3)), np.zeros((2, 2), np.int64), 1)
        for edges in ([[0, 3]], [[2, 1]], [[-1, 2]]):
            with pytest.raises(ValueError, match="edges: decreasing or outside the levels"):
                self.core.bin_depth(
                    np.ones((1, 2, 4)), np.array(edges), np.ones((1, 1, 4)), np.ones((1, 1, 2), np.float32), 1
                )

    @pytest.mark.parametrize(("day", "start", "which", "words"), [
        ([[0, 2]], [0], [0], "day_WK: no such day"), ([[0, 1]], [-1], [0], "start_W: outside of its day"),
        ([[0, 1]], [LOWEST], [0], "start_W: outside of its day"), ([[0, 1]], [3], [0], "start_W: outside of its day"),
        ([[0, 1]], [2], [0], "day_WK: too few rows"), ([[0, -1]], [0], [0], "day_WK: too few rows"),
        ([[0, 1]], [0], [1], "standard_W: no such set"), ([[0, 1]], [0], [-1], "standard_W: no such set"),
        ([[0, 1]], [0, 0], [0], "start_W: wrong size"), ([[0, 1]], [0], [], "standard_W: wrong size"),
    ])  # fmt: skip
    def test_windows_outside_their_days_are_refused(
        self, day: list[list[int]], start: list[int], which: list[int], words: str
    ) -> None:
        days, sets = (np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)), np.ones((1, 3), np.float32)
        places, first, standard = (np.array(x, np.int64) for x in (day, start, which))
        out = np.zeros((1, 3, 3), np.float32)
        self.core.gather_windows(days, np.array([[0, 1]]), np.zeros(1, np.int64), sets, sets, np.zeros(1, np.int64),
                                 10.0, out, False, 1)  # fmt: skip
        assert (out == 2.0).all()
        with pytest.raises(ValueError, match=f"^{words}"):
            self.core.gather_windows(days, places, first, sets, sets, standard, 10.0, out, False, 1)
        with pytest.raises(ValueError, match=r"^days: wrong shape"):
            self.core.gather_windows((days[0], days[1][:, :2].copy()), places, first, sets, sets, standard, 10.0, out,
                                     False, 1)  # fmt: skip

    def test_does_not_write_to_read_only_memory(self) -> None:
        count = np.zeros((2, 2), np.int64)
        count.flags.writeable = False
        with pytest.raises(ValueError, match="not writeable"):
            self.core.depth_profile(np.ones((1, 2, 4)), count, 1)

    def rows(self, starts: list[int], slot: list[int], times: int) -> Any:
        """tall_to_wide of two rows at the times 1 and 2 with what the wrapper found out of them."""
        return (
            np.array([1, 2]), np.ones(2, np.int32), (np.ones(2),) * 4, np.empty(0, np.int8), np.empty(0, np.int64), 1,
            np.array(starts, np.int64), np.array(slot, np.int32), np.arange(1, times + 1), np.empty((times, 1, 4)),
            np.zeros(times, np.int32), np.zeros(3, np.int64), 1,
        )  # fmt: skip

    def test_a_snapshot_of_two_times_is_told(self) -> None:
        (loop,) = [x for k in KERNELS for x in k.loops if x.name == "tall_to_wide"]
        for backend in ("compiled", "spec"):
            assert loop.on(backend)(*self.rows([0, 2], [], 1))[0] == _errors.TIMES_CHANGED

    @pytest.mark.parametrize(("starts", "slot"), [
        ([0, 1, 3], []), ([0, 2, 2], []), ([1, 1, 2], []), ([0, 2], []), ([], [0, 2]), ([], [-1, 0]), ([], [0]),
    ])  # fmt: skip
    def test_snapshots_outside_the_rows_are_refused(self, starts: list[int], slot: list[int]) -> None:
        with pytest.raises(ValueError, match=r"starts|slot_N"):
            self.core.tall_to_wide(*self.rows(starts, slot, 2))


class TestBuilds:
    """The builds of the compiled module: one is loaded, by the processor or by BML_CPU."""

    def test_only_the_fastest_is_loaded(self) -> None:
        done = python("import sys, bml.kernels; print(*[m for m in sys.modules if 'kernels._core' in m])")
        assert done.stdout.split() == [f"bml.kernels._core_{_isa.runnable()[0]}"], done.stderr

    @pytest.mark.parametrize("cpu", _isa.runnable())
    def test_by_variable(self, cpu: str) -> None:
        code = f"import sys, bml.kernels; {CALL}; print(*[m for m in sys.modules if 'kernels._core' in m])"
        done = python(code, BML_CPU=cpu)
        assert done.stdout.splitlines() == ["[[1, 1]]", f"bml.kernels._core_{cpu}"], done.stderr

    @pytest.mark.parametrize(
        ("block", "cpu", "words"),
        [
            ("pass", "v9", "ImportError: BML_CPU='v9': there is no such build of the kernels; here "),
            ("pass", "", "ImportError: BML_CPU='': there is no such build of the kernels; here "),
            ("sys.modules['bml.kernels._core_v2'] = None", "v2", "BML_CPU='v2': this build is not installed; here "),
            ("cpu = sys.modules['bml.kernels._cpu'] = type(sys)('of an old machine'); cpu.RUNS = ()", _isa.best(),
             f"BML_CPU={_isa.best()!r}: this processor cannot run it; here none can be had"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_had(self, block: str, cpu: str, words: str) -> None:
        done = python(f"import sys; {block}; import bml.kernels", BML_CPU=cpu)
        assert done.returncode == 1
        assert words in done.stderr.splitlines()[-1]

    def test_use_names_a_build(self) -> None:
        for cpu in _isa.runnable():
            with _backend.use("compiled", cpu):
                assert _backend.current() == "compiled"
                assert _backend.told().startswith(f"compiled, {cpu} of ")
        with pytest.raises(ImportError, match="no such build"):
            _backend.use("compiled", "v9").__enter__()
        with pytest.raises(ValueError, match="has no builds"):
            _backend.use("spec", "v3").__enter__()


@pytest.mark.parametrize(
    ("variable", "given", "wanted"), [(None, None, 1), ("3", None, 3), ("3", 2, 2), ("x", 5, 5), ("1024", None, 1024)]
)
def test_threads(monkeypatch: pytest.MonkeyPatch, variable: str | None, given: int | None, wanted: int) -> None:
    monkeypatch.delenv("BML_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("BML_NUM_THREADS", variable)
    assert _arrays.threads("f", given) == wanted


@pytest.mark.parametrize(
    ("variable", "given", "kind", "words"),
    [
        ("", None, ValueError, "f: BML_NUM_THREADS must be a number from 1 to 1024, not ''"),
        ("two", None, ValueError, "f: BML_NUM_THREADS must be a number from 1 to 1024, not 'two'"),
        ("0", None, ValueError, "f: BML_NUM_THREADS must be a number from 1 to 1024, not '0'"),
        ("1025", None, ValueError, "f: BML_NUM_THREADS must be a number from 1 to 1024, not '1025'"),
        ("2", 0, ValueError, "f: threads must be a number from 1 to 1024, not 0"),
        ("2", 2.0, TypeError, "f: threads must be an integer, not float"),
        ("2", True, TypeError, "f: threads must be an integer, not bool"),
    ],
)
def test_threads_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, given: int | None, kind: type[Exception], words: str
) -> None:
    monkeypatch.setenv("BML_NUM_THREADS", variable)
    with pytest.raises(kind, match=f"^{words}$"):
        _arrays.threads("f", given)
