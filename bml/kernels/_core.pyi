"""Every build of the compiled module (_core_v2, _core_v3, _core_v4, _core_base): exact dtypes, C order, nothing
converted. Call it through bml.kernels."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from bml.types import Float32, Float64, Floats, Int32, Int64

ERROR_CODES: dict[str, int]
NDEBUG: bool  # False: built with BML_DEBUG=1

def _rows_are_plain(ts_ns_N: object, level_N: object, columns: object, side_N: object, batch_N: object) -> bool: ...
def _is_apart(array: object, others: Iterable[object]) -> bool: ...
def find_snapshots(ts_ns_N: Int64, starts: Int64, times: Int64) -> int: ...
def distinct_times(ts_ns_N: Int64, slot_N: Int32, times: Int64, threads: int) -> int: ...
def tall_to_wide(
    ts_ns_N: Int64,
    level_N: Int32,
    columns: tuple[Floats, ...],
    side_N: npt.NDArray[np.int8],
    batch_N: Int64,
    keep: int,
    starts: Int64,
    slot_N: Int32,
    ts_ns_T: Int64,
    book_TLF: Floats,
    duplicate_T: Int32,
    counts: Int64,
    threads: int,
) -> tuple[int, int]: ...
def day_tensor(
    ts_ns_N: Int64,
    level_N: Int32,
    columns: tuple[Floats, ...],
    side_N: npt.NDArray[np.int8],
    batch_N: Int64,
    keep: int,
    starts: Int64,
    slot_N: Int32,
    ts_ns_T: Int64,
    grid_ns_G: Int64,
    edges: Int64,
    options: tuple[int, int, bool, bool, bool, bool],
    book_GDF: Floats,
    on_grid: tuple[Float32, Int64, Int64, Float64],
    of_snapshots: tuple[Float64, Int32, Int32, npt.NDArray[np.uint8]],
    profile_L2: Int64,
    moments: tuple[Int64, Float64, Float64, Float64, Float64, Float64],
    counts: Int64,
    threads: int,
) -> tuple[int, int]: ...
def day_tensor_of_book(
    ts_ns_T: Int64,
    book_TLF: Floats,
    grid_ns_G: Int64,
    edges: Int64,
    options: tuple[int, int, bool, bool, bool, bool],
    book_GDF: Floats,
    on_grid: tuple[Float32, Int64, Int64, Float64],
    of_snapshots: tuple[Float64, Int32, Int32, npt.NDArray[np.uint8]],
    profile_L2: Int64,
    moments: tuple[Int64, Float64, Float64, Float64, Float64, Float64],
    threads: int,
) -> tuple[int, int]: ...
def resample_grid(
    ts_ns_T: Int64,
    values_TX: Floats,
    grid_ns_G: Int64,
    max_age_ns: int,
    method: int,
    values_GX: Floats,
    source_G: Int64,
    age_ns_G: Int64,
    threads: int,
) -> tuple[int, int]: ...
def depth_profile(book_TLF: Floats, count_L2: Int64, threads: int) -> None: ...
def bin_depth(book_TLF: Floats, edges: Int64, book_TDF: Floats, coverage_TD2: Float32, threads: int) -> None: ...
def occupied_edges(book_TLF: Floats, near_levels: int, deep_bins: int, edges_TE: Int64, threads: int) -> None: ...
def daily_moments(
    x_TV: Floats,
    count_V: Int64,
    mean_V: Float64,
    m2_V: Float64,
    m3_V: Float64,
    m4_V: Float64,
    total_V: Float64,
    threads: int,
) -> None: ...
def gather_windows(
    days: tuple[npt.NDArray[np.uint16] | Float32, ...],
    day_WK: Int64,
    start_W: Int64,
    shift_GX: Float32,
    scale_GX: Float32,
    standard_W: Int64,
    limit: float,
    values_WTX: npt.NDArray[np.uint16] | Float32,
    halves: bool,
    threads: int,
) -> None: ...
def _pool_sum(n_units: int, spins: int, threads: int) -> int: ...
def _pool_size() -> int: ...
