"""What a sample counts: less with age, and no more than once where labels overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bml.types import NS_PER_DAY, SPLITS, Float64, Fold, Int64, SampleIndex


def exponential_decay(anchor_ns_N: Int64, reference_ns: int, half_life_days: float | Sequence[float] | None) -> Float64:
    """(N,) weights 0.5 ** (age / half-life) with age = reference - anchor, scaled to mean 1 over the rows given.

    Several half-lives give the mean of their decays, each scaled to mean 1 first; None gives ones.
    ``reference_ns`` is the end of the training block. Raises ValueError on a half-life that is not positive,
    or an anchor after the reference. Pass the training rows only: the mean is taken over what is passed.
    """
    if half_life_days is None or anchor_ns_N.shape[0] == 0:
        return np.ones(anchor_ns_N.shape[0])
    half_lives = [half_life_days] if isinstance(half_life_days, int | float) else list(half_life_days)
    if not half_lives or not all(0 < value < np.inf for value in half_lives):
        raise ValueError(f"exponential_decay: half-lives must be positive days, got {half_life_days!r}")
    age_N = (reference_ns - anchor_ns_N) / NS_PER_DAY
    if (age_N < 0).any():
        raise ValueError("exponential_decay: an anchor lies after the reference time; pass training rows only")
    # ages are counted from the youngest row, which the scaling undoes: no underflow when all rows are old
    decays = [np.exp2(-(age_N - age_N.min()) / value) for value in half_lives]
    w_N: Float64 = np.mean([decay / decay.mean() for decay in decays], axis=0)
    return w_N


def average_uniqueness(start_ns_N: Int64, stop_ns_N: Int64) -> Float64:
    """Mean over each label interval (start, stop] of 1 / (number of intervals alive then), (N,) in (0, 1].

    The sum over samples is their effective number: 180 labels that overlap like bricks count little more
    than one. O(N log N). Raises ValueError where an interval is empty.
    """
    times, alive = _alive(start_ns_N, stop_ns_N, "average_uniqueness")
    share = np.divide(1.0, alive, out=np.zeros(alive.shape), where=alive > 0)
    return _mean_over(start_ns_N, stop_ns_N, times, share)


def concurrency(start_ns_N: Int64, stop_ns_N: Int64) -> Float64:
    """Mean over each label interval (start, stop] of the number of intervals alive then, itself included, (N,) >= 1.

    O(N log N). Raises ValueError where an interval is empty.
    """
    times, alive = _alive(start_ns_N, stop_ns_N, "concurrency")
    return _mean_over(start_ns_N, stop_ns_N, times, alive.astype(np.float64))


def uniqueness(index: SampleIndex, rows: Int64) -> Float64:
    """(R,) average uniqueness of ``rows`` among themselves, each target for itself: what each row counts.

    Sums over any part of the rows, such as those of a class, are that part's effective number.
    """
    out_R = np.empty(rows.shape[0])
    for code in np.unique(index.target_N[rows]):
        mine = np.flatnonzero(index.target_N[rows] == code)
        at = rows[mine]
        out_R[mine] = average_uniqueness(index.anchor_ns_N[at], index.label_stop_ns_N[at])
    return out_R


def block_uniqueness(index: SampleIndex, fold: Fold) -> dict[str, Float64]:
    """Per block, :func:`uniqueness` of its rows among those of the block."""
    return {name: uniqueness(index, getattr(fold, name)) for name in SPLITS}


def combined(*factors: Float64) -> Float64:
    """(N,) the product of weights, scaled to mean 1 over the rows given; ones where it is 0 everywhere."""
    product_N: Float64 = np.prod(factors, axis=0)
    mean = product_N.mean() if product_N.shape[0] else 0.0
    return product_N / mean if mean > 0 else np.ones(product_N.shape)


def _alive(start_ns_N: Int64, stop_ns_N: Int64, who: str) -> tuple[Int64, Int64]:
    """The borders of all intervals, ascending, and the number of intervals alive between each two of them."""
    if not (stop_ns_N > start_ns_N).all():
        raise ValueError(f"{who}: every interval must have stop > start")
    times = np.unique(np.concatenate([start_ns_N, stop_ns_N]))
    begun = np.searchsorted(np.sort(start_ns_N), times[:-1], side="right")
    ended = np.searchsorted(np.sort(stop_ns_N), times[:-1], side="right")
    return times, begun - ended


def _mean_over(start_ns_N: Int64, stop_ns_N: Int64, times: Int64, value: Float64) -> Float64:
    """Mean over each interval of a function that is constant between ``times``."""
    integral = np.concatenate([[0.0], np.cumsum(value * np.diff(times))])
    start_at, stop_at = np.searchsorted(times, start_ns_N), np.searchsorted(times, stop_ns_N)
    mean_N: Float64 = (integral[stop_at] - integral[start_at]) / (stop_ns_N - start_ns_N)
    return mean_N
