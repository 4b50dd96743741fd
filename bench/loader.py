"""The loader beside what it is measured by: memcpy, pread, h5py, npz, a torch DataLoader.

    python -m bench.loader [--folder /tmp/bml-bench-loader] [--rounds 7] [--only warm,cold,feed,wait,bounds]

Windows of 24 h of 10 s rows x 7 symbols x 60 levels x 4. One round runs every contender once, in one process; a
figure is a quotient of medians over the rounds. The folder takes 2 GB and is kept; delete it afterwards.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from bench.loader_days import dataset, evict
from bml.dataset.batches import ArrayLoader
from bml.dataset.dataset import Dataset
from bml.dataset.days import Days
from bml.dataset.reading import WindowReader
from bml.kernels import empty, gather_windows
from bml.types import Int64

DAYS, ASSETS, ROWS, CELLS = 10, 7, 8640, 240
HALF, SINGLE = ROWS * CELLS * ASSETS * 2, ROWS * CELLS * ASSETS * 4  # bytes of a window
Work = Callable[[int], object]
Line = tuple[str, float, float, bool]  # what, figure, bar, whether the figure must not be above it


def races(contenders: dict[str, Work], rounds: int, before: Callable[[], object] | None = None) -> dict[str, float]:
    """Median seconds of each; round k passes k, round 0 is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for k in range(rounds + 1):
        for name, work in contenders.items():
            if before is not None:
                before()
            began = time.perf_counter()
            work(k)
            taken[name].append(time.perf_counter() - began)
    found = {name: median(times[1:]) for name, times in taken.items()}
    for name, seconds in found.items():
        print(f"    {name:34}{seconds * 1e3:9.2f} ms", file=sys.stderr)
    return found


class Windows:
    """Windows of a dataset, the k-th of them another one for every k."""

    def __init__(self, made: Dataset) -> None:
        self.made, self.reader = made, WindowReader(made, threads=2)
        self.stops = np.random.default_rng(3).permutation(made.row_N) + 1
        self.asset_W: Int64 = np.arange(ASSETS, dtype=np.int64)
        self.out = empty((ASSETS, ROWS, 60, 4), np.float32)
        self.feature = np.empty((ASSETS, ROWS, 0), np.float32)

    def read(self, k: int) -> None:
        """As the loader does: standardised float32."""
        stop_W = np.repeat(self.stops[k % len(self.stops)], ASSETS)
        self.reader.read(self.asset_W, stop_W, (self.out, self.feature))

    def slices(self, k: int) -> Iterator[tuple[int, int, int, int, int]]:
        """(symbol, day, first row, rows, row of the window) of the k-th window."""
        stop = int(self.stops[k % len(self.stops)])
        for a in range(ASSETS):
            row = stop - ROWS
            while row < stop:
                number, start = divmod(row, ROWS)
                count = min(ROWS - start, stop - row)
                yield a, number, start, count, row - stop + ROWS
                row += count

    def paths(self, k: int) -> list[Path]:
        """The files of the k-th window."""
        return [self.path(a, number) for a, number, *_ in self.slices(k)]

    def path(self, a: int, number: int) -> Path:
        return self.made.store.path(self.made.symbols[a], self.made.grid.day(number))


def memcpy(n_bytes: int) -> Work:
    """Copies so many bytes by two threads, into memory used again."""
    pool = ThreadPoolExecutor(2)
    source, target = empty((n_bytes,), np.uint8), empty((n_bytes,), np.uint8)
    source[:], target[:] = 1, 2
    halves = [slice(0, n_bytes // 2), slice(n_bytes // 2, n_bytes)]
    return lambda k: list(pool.map(lambda part: np.copyto(target[part], source[part]), halves))


def as_they_are(windows: Windows) -> Work:
    """The gather kernel alone, without a conversion."""
    days, out = windows.reader._days, empty((ASSETS, ROWS, 60, 4), np.float16)

    def work(k: int) -> None:
        slices = list(windows.slices(k))
        arrays = tuple(days.get(a, number).arrays[0] for a, number, *_ in slices)
        each = len(slices) // ASSETS
        starts = np.array([x[2] for x in slices[::each]])
        places = np.arange(len(slices)).reshape(ASSETS, each)
        gather_windows(arrays, places, starts, rows=ROWS, dtype=np.float16, out=out, threads=2)

    return work


def by_h5py(windows: Windows) -> Work:
    """The usual way: every file opened for every read."""
    out = np.empty((ASSETS, ROWS, 60, 4), np.float16)

    def work(k: int) -> None:
        for a, number, start, count, to in windows.slices(k):
            with h5py.File(windows.path(a, number), "r") as file:
                out[a, to : to + count] = file["book"][start : start + count]

    return work


def by_npz(windows: Windows, folder: Path) -> Work:
    """Compressed, one file a symbol-day."""
    days = Days(windows.made)
    folder.mkdir(exist_ok=True)
    for a in range(ASSETS):
        for number in range(2):
            if not (folder / f"{a}-{number}.npz").exists():
                np.savez_compressed(folder / f"{a}-{number}.npz", book=days.get(a, number).arrays[0])
    out = np.empty((ASSETS, ROWS, 60, 4), np.float16)

    def work(k: int) -> None:
        for a in range(ASSETS):
            for number, part in enumerate((slice(0, ROWS // 2), slice(ROWS // 2, ROWS))):
                out[a, part] = np.load(folder / f"{a}-{number}.npz")["book"][part]

    return work


def warm(half: Windows, single: Windows, folder: Path, rounds: int) -> list[Line]:
    for windows in (half, single):
        for k in range(len(windows.stops)):  # every page in memory, and mapped
            windows.read(k)
    found = races(
        {
            "memcpy, float16 window": memcpy(HALF),
            "memcpy, read + written": memcpy((HALF + SINGLE) // 2),
            "memcpy, float32 window": memcpy(SINGLE),
            "gather float16 as it is": as_they_are(half),
            "loader float16 -> float32": half.read,
            "loader float32": single.read,
            "h5py, opened for every read": by_h5py(half),
        },
        rounds,
    )
    npz = races({"npz, compressed": by_npz(half, folder / "npz")}, 1)["npz, compressed"]
    gather, loaded = found["gather float16 as it is"], found["loader float16 -> float32"]
    return [
        ("warm: float16 window / 2-thread memcpy of it", found["memcpy, float16 window"] / gather, 0.75, False),
        ("warm: float16 -> float32 / memcpy of read + written", found["memcpy, read + written"] / loaded, 0.75, False),
        ("warm: float32 / memcpy", found["memcpy, float32 window"] / found["loader float32"], 0.75, False),
        ("warm: float16 / h5py opened for every read", found["h5py, opened for every read"] / gather, 4.0, False),
        ("warm: float16 / npz compressed", npz / gather, 60.0, False),
    ]


def cold(windows: Windows, name: str, bar: float, rounds: int) -> list[Line]:
    """Beside the same bytes of other files, read one after another by one thread."""
    size = ROWS * CELLS * windows.made.store.open("S0", windows.made.grid.day(0)).book_TLF.itemsize
    target = np.ones(1 << 20, np.uint8).data

    def sequential(k: int) -> None:
        for a in range(ASSETS):
            fd = os.open(windows.path(a, (k + a) % DAYS), os.O_RDONLY)
            done = 0
            while done < size:
                done += os.preadv(fd, [target[: size - done]], done)
            os.close(fd)

    def read(k: int) -> None:
        windows.read(k)

    stayed = 0.0

    def drop() -> None:
        nonlocal stayed
        windows.reader = WindowReader(windows.made, threads=2)
        for number in range(DAYS):  # headers are known, as after the first epoch
            for a in range(ASSETS):
                windows.reader._days.get(a, number)
        windows.reader._days._mapped.clear()
        stayed = max(stayed, evict([windows.path(a, number) for a in range(ASSETS) for number in range(DAYS)]))

    found = races({"sequential pread": sequential, f"loader, {name}, cold": read}, rounds, drop)
    print(f"    largest share of a file still in memory: {stayed:.2f}", file=sys.stderr)
    return [
        (f"cold: {name} / sequential pread", found["sequential pread"] / found[f"loader, {name}, cold"], bar, False)
    ]


class Mapped(TorchDataset[torch.Tensor]):
    """What one writes for a DataLoader: numpy memory maps, a tensor a window, standardised."""

    def __init__(self, windows: Windows, n: int) -> None:
        self.windows, self.n = windows, n
        self.maps: dict[Path, Any] = {}
        made = windows.made
        self.offset = made.store.open("S0", made.grid.day(0)).place("book").offset
        self.mean, self.std = (torch.from_numpy(x).float() for x in (made.scaler.mean_ALF, made.scaler.std_ALF))

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, k: int) -> torch.Tensor:
        out = torch.empty(ASSETS, ROWS, 60, 4)
        for a, number, start, count, to in self.windows.slices(k):
            path = self.windows.path(a, number)
            if path not in self.maps:
                self.maps[path] = np.memmap(path, np.float16, "c", self.offset, (ROWS, 60, 4))
            rows = torch.from_numpy(self.maps[path][start : start + count])
            part = out[a, to : to + count]
            torch.sub(rows, self.mean[a], out=part).div_(self.std[a]).clamp_(-10, 10).nan_to_num_(nan=0.0)
        return out


def feed(windows: Windows, rounds: int) -> list[Line]:
    """Batches of four, from the first one on."""
    n = 4 * 8
    order = np.argsort(np.argsort(windows.made.row_N))[np.searchsorted(windows.made.row_N + 1, windows.stops[:n])]
    own = ArrayLoader(windows.made, order, batch_size=4)
    theirs: Any = DataLoader(Mapped(windows, n), batch_size=4, num_workers=2)
    for one, two in zip(own, theirs, strict=True):
        np.testing.assert_allclose(one.x_short_BATLF, two.numpy(), rtol=1e-4, atol=1e-4)

    def consumed(batches: Any) -> float:
        began = 0.0
        for k, batch in enumerate(batches):
            _ = batch[0, 0, 0] if isinstance(batch, torch.Tensor) else batch.x_short_BATLF[0, 0, 0]
            began = time.perf_counter() if k == 0 else began
        return time.perf_counter() - began

    times = [(consumed(own), consumed(theirs)) for _ in range(rounds)]
    ours, others = (median(t) / 7 for t in zip(*times, strict=True))
    print(f"    a batch of 4: loader {ours * 1e3:.1f} ms, DataLoader {others * 1e3:.1f} ms", file=sys.stderr)
    return [("feed: batches of 4 / DataLoader, 2 workers, memmap", others / ours, 3.5, False)]


def wait(windows: Windows, rounds: int) -> list[Line]:
    """What ``next`` takes when a step takes 1.3 times what a batch takes to load."""
    own = ArrayLoader(windows.made, np.arange(len(windows.made))[: 4 * 8], batch_size=4)
    alone = []
    for _ in range(rounds):
        began = time.perf_counter()
        alone.append((sum(1 for _ in own), time.perf_counter() - began)[1] / 8)
    waits = []
    for _ in range(rounds):
        batches = own.epoch(0)
        next(batches)
        for _ in range(7):
            time.sleep(1.3 * median(alone))
            began = time.perf_counter()
            next(batches)
            waits.append(time.perf_counter() - began)
    print(f"    load {median(alone) * 1e3:.1f} ms, longest wait {max(waits) * 1e3:.2f} ms", file=sys.stderr)
    return [("wait: ms for a batch, step of 1.3 loads (median)", median(waits) * 1e3, 1.0, True)]


def bounds(folder: Path) -> list[Line]:
    """5,005 day files, 10,000 windows all over them."""
    made = dataset(folder / "small", n_symbols=7, n_days=715, cadence_s=600, levels=4, dtype=np.float16, stride_s=3600)
    loader = ArrayLoader(made, np.linspace(0, len(made) - 1, 10_000).astype(np.int64), batch_size=16, shuffle=True)
    most, grown, start = 0, 0, 0
    for k, _ in enumerate(loader):
        most = max(most, len(os.listdir("/proc/self/fd")))
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        start = resident if k == 200 else start
        grown = max(grown, resident - start) if k > 200 else 0
    files = len(loader._reader._days._known)
    print(f"    {files} files, {len(loader) * 16} windows, {threading.active_count()} threads", file=sys.stderr)
    return [
        (f"bounds: descriptors, {files} day files", float(most), 64.0, True),
        ("bounds: MB more after window 3,200 of 10,000", grown / 1e6, 64.0, True),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/bml-bench-loader"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="warm,cold,feed,wait,bounds")
    told = parser.parse_args()
    wanted, sizes = told.only.split(","), {"n_symbols": ASSETS, "n_days": DAYS, "cadence_s": 10, "levels": 60}
    half, single = (
        Windows(dataset(told.folder / kind, dtype=kind, stride_s=1800, **sizes)) for kind in ("float16", "float32")
    )
    parts: dict[str, Callable[[], list[Line]]] = {
        "warm": lambda: warm(half, single, told.folder, told.rounds),
        "cold": lambda: cold(half, "float16", 0.60, told.rounds) + cold(single, "float32", 0.75, told.rounds),
        "feed": lambda: feed(half, told.rounds),
        "wait": lambda: wait(half, told.rounds),
        "bounds": lambda: bounds(told.folder),
    }
    lines: list[Line] = []
    for name in wanted:
        print(f"{name}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        lines += parts[name]()
    print(f"\n| figure | measured | bar | |\n|---|---|---|---|\n{'':.0s}", end="")
    for what, figure, bar, is_most in lines:
        ok = figure <= bar if is_most else figure >= bar
        print(f"| {what} | {figure:.2f} | {'at most' if is_most else 'at least'} {bar:g} | {'yes' if ok else 'NO'} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
