"""Outliers, frozen feeds and old snapshots: what they may not enter, and that a feed that repeats itself may."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_market import Market

from bml.dataset.content import content_age_ms
from bml.dataset.dataset import Dataset
from bml.types import Flag

MINUTE = 60_000_000_000
HORIZON, STRIDE, WINDOW = 30, 10, 120  # rows of SMALL; a tenth of the horizon are 3 rows
AT = 5 * 1440 + 600


def anchors(dataset: Dataset) -> set[int]:
    return set(dataset.row_N.tolist())


def same_windows(one: Dataset, two: Dataset) -> bool:
    return all(
        np.array_equal(getattr(one.index, name), getattr(two.index, name)) for name in one.index.__dataclass_fields__
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Market().dataset(tmp_path_factory.mktemp("plain"))


def test_an_outlier_enters_neither_labels_nor_sigma(plain: Dataset, tmp_path: Path) -> None:
    market = Market()
    market.mid["AAA"][AT] *= 1.1
    market.flag["AAA"][AT] |= int(Flag.OUTLIER)
    dataset = market.dataset(tmp_path)
    assert anchors(plain) - anchors(dataset) == {AT, AT - HORIZON}
    assert dataset.drop_reasons["AAA"]["anchor_invalid"] == 1
    assert dataset.drop_reasons["AAA"]["label_invalid"] == 1
    kept = np.isin(plain.row_N, dataset.row_N)
    np.testing.assert_array_equal(dataset.index.return_N, plain.index.return_N[kept])
    np.testing.assert_allclose(dataset.index.sigma_N, plain.index.sigma_N[kept], rtol=0.01)
    assert dataset.last_y_N[dataset.row_N == AT + HORIZON].tolist() == [-1]


def test_outliers_count_like_filled_rows_in_a_window(plain: Dataset, tmp_path: Path) -> None:
    market = Market()
    market.flag["AAA"][AT + 1 : AT + 4] |= int(Flag.OUTLIER)  # 2 of 120 rows are allowed
    dataset = market.dataset(tmp_path)
    lost = set(range(AT + 10, AT + 3 + WINDOW, STRIDE))
    assert anchors(plain) - anchors(dataset) == lost
    assert dataset.drop_reasons["AAA"]["target_filled"] == len(lost)


def test_a_frozen_feed_is_no_price(plain: Dataset, tmp_path: Path) -> None:
    """Six hours; its rows are no longer news after three minutes."""
    market = Market()
    start, stop = AT + 1, AT + 361
    market.freeze("AAA", start, stop)
    dataset = market.dataset(tmp_path, max_filled=1.0)
    # row AT is the last new one, AT + 3 the last that is 3 minutes old
    frozen = set(range(AT + 4, stop))
    lost = {row for row in anchors(plain) if row in frozen or row + HORIZON in frozen}
    assert anchors(plain) - anchors(dataset) == lost
    assert len(lost) == 39
    strict = market.dataset(tmp_path)
    begin, end = AT + 6, stop - 1 + WINDOW - 3  # at least 3 of its stale rows in the window
    lost |= {row for row in anchors(plain) if begin <= row <= end}
    assert anchors(plain) - anchors(strict) == lost


def test_a_freeze_goes_on_over_midnight(tmp_path: Path) -> None:
    market = Market()
    midnight = 6 * 1440
    market.freeze("AAA", midnight - 2, midnight + 10)
    kept = anchors(market.dataset(tmp_path, max_filled=1.0, stride_s=60.0))
    assert [row - midnight for row in range(midnight - 3, midnight + 12) if row in kept] == [-3, -2, -1, 0, 10, 11]


def test_a_feed_that_repeats_now_and_then_is_not_frozen(plain: Dataset, tmp_path: Path) -> None:
    """Every other row repeats the one before, and half the others are flagged for a snapshot between two rows."""
    market = Market()
    for symbol in market.symbols:
        mid, book, flag = market.mid[symbol], market.book[symbol], market.flag[symbol]
        mid[1::2], book[1::2] = mid[0::2], book[0::2]
        flag[1::2] |= int(Flag.STUCK)
        flag[2::4] |= int(Flag.STUCK)
    dataset = market.dataset(tmp_path)
    assert anchors(dataset) == anchors(plain)
    assert dataset.present_NA.all()


def test_flags_without_an_equal_book_freeze_nothing(plain: Dataset, tmp_path: Path) -> None:
    market = Market()
    market.flag["AAA"][1:] |= int(Flag.STUCK)
    assert same_windows(market.dataset(tmp_path / "a"), plain)
    market.mid["AAA"][AT : AT + 400] = 100.0  # the touch stands still, the depth does not
    assert anchors(market.dataset(tmp_path / "b")) == anchors(plain)


@pytest.mark.parametrize(("max_stale_s", "kept_rows"), [(None, 3), (60.0, 1), (59.9, 0), (600.0, 10)])
def test_labels_start_and_end_on_fresh_mids(tmp_path: Path, max_stale_s: float | None, kept_rows: int) -> None:
    """Rows AT + k are k minutes old up to k = 20, whatever their flags say of it."""
    market = Market()
    market.fill("AAA", AT + 1, AT + 21)
    kept = anchors(market.dataset(tmp_path, max_filled=1.0, stride_s=60.0, max_stale_s=max_stale_s))
    stale = set(range(AT + kept_rows + 1, AT + 21))
    near = range(AT - 100, AT + 100)
    assert {row for row in near if row not in kept} == {row for row in near if row in stale or row + HORIZON in stale}


def test_the_default_limit_is_never_below_the_cadence(tmp_path: Path) -> None:
    """Horizon 5 min at a cadence of 1 min: a tenth would be half a minute."""
    market = Market()
    market.fill("AAA", AT + 1, AT + 4)
    kept = anchors(market.dataset(tmp_path, horizon_s=300.0, stride_s=60.0, max_filled=1.0))
    assert [row in kept for row in range(AT, AT + 5)] == [True, True, False, False, True]


def test_a_filled_row_of_a_repeat_is_as_old_as_the_first(tmp_path: Path) -> None:
    """Two repeats, then two rows carried forward: 4 minutes in all, though no snapshot is older than 2."""
    market = Market()
    market.freeze("AAA", AT + 1, AT + 3)
    market.fill("AAA", AT + 3, AT + 5)
    market.flag["AAA"][AT + 3 : AT + 5] |= int(Flag.STUCK)  # the flags of the snapshot in use
    kept = anchors(market.dataset(tmp_path, stride_s=60.0, max_filled=1.0))
    assert [row in kept for row in range(AT, AT + 6)] == [True, True, True, True, False, True]


def test_ages_add_up_and_a_gap_begins_anew() -> None:
    mid = np.array([1.0, 1, 1, np.nan, 1, 1, 2])
    age = np.array([400, 100, 200, -1, 50, 60, 999], np.int32)
    repeat = np.array([False, True, True, False, False, True, False])
    assert content_age_ms(age, mid, repeat, MINUTE).tolist() == [400, 60_400, 120_400, -1, 50, 60_050, 999]
    long = content_age_ms(np.zeros(3, np.int32), np.ones(3), np.array([False, True, True]), 20 * 86_400 * 10**9)
    assert long.tolist() == [0, 20 * 86_400_000, 2**31 - 1]


def test_a_note_tells_what_is_carried_forward(plain: Dataset, tmp_path: Path) -> None:
    assert not [note for note in plain.notes if "carried forward" in note]
    market = Market()
    for row in range(5, market.n_days * 1440 - 10, 40):
        market.fill("AAA", row, row + 6)  # of 4 anchors, one is on the last of these, and one label ends there
    dataset = market.dataset(tmp_path, max_filled=1.0, max_stale_s=600.0)
    assert any(
        note.startswith("25 % of anchors and 25 % of label ends are carried forward, oldest 6.0 min")
        for note in dataset.summary()["notes"]
    )


def test_a_note_of_what_is_carried_forward_is_silent_about_the_test_block(plain: Dataset, tmp_path: Path) -> None:
    """Where labels of triple barriers end is what came of them."""
    market = Market()
    for row in range(plain.row_N[plain.fold.test[0]] + 5, market.n_days * 1440 - 10, 40):
        market.fill("AAA", row, row + 6)
    dataset = market.dataset(tmp_path, max_filled=1.0, max_stale_s=600.0)
    assert anchors(dataset) == anchors(plain)
    assert not [note for note in dataset.notes if "carried forward" in note]


def test_a_row_with_a_snapshot_of_its_own_is_not_carried_forward(plain: Dataset, tmp_path: Path) -> None:
    """All snapshots but those at the ends of labels came half a minute before their rows; none is missing."""
    market = Market()
    for symbol in market.symbols:
        market.age_ms[symbol][:] = 30_000
        market.age_ms[symbol][::STRIDE] = 0
    assert same_windows(market.dataset(tmp_path, max_stale_s=10.0), plain)
