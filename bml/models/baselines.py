"""What every model has to beat, fitted on training rows only and deterministic, so anyone can refit them.

prior             class shares of the training rows
persistence       P(y | the last label of the same symbol that was known at the anchor)
volatility_only   the training distribution of return / volatility, scaled by the volatility at the anchor:
                  knows how much the market moves, nothing about where to (of triple barriers: outcome shares at
                  like volatility)
logistic          multinomial logistic regression on a few features of the newest snapshot and recent returns
logistic_book     the same, on these features and the whole newest snapshot of every symbol

All share one form: ``Family.fit(dataset, rows, w_N)`` with training rows and their weights of mean 1, then
``.proba(dataset, rows)`` -> (N, C) float64, every entry positive, rows summing to 1. They hold plain arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from bml.types import DataError, Float32, Float64, Floats, Int64

if TYPE_CHECKING:
    from bml.dataset.dataset import Dataset

#: standardised features are clipped here: one absurd snapshot must not own a forecast
FEATURE_LIMIT = 10.0
#: L2 penalties the logistic baseline chooses from, per row
PENALTIES = (1.0, 0.1, 0.01, 0.001)
#: the same for the one on whole books, where less would fit noise and take long
BOOK_PENALTIES = (0.3, 0.1, 0.03)
#: training rows it uses, the newest: 1.3 GB for seven books of 60 levels
BOOK_ROWS = 200_000
#: groups of rows of like volatility that outcomes of triple barriers are counted in
OUTCOME_GROUPS = 10
#: rows it forecasts at a time
BOOK_CHUNK = 16_384


class Baseline(Protocol):
    @classmethod
    def fit(cls, dataset: Dataset, rows: Int64, w_N: Float64) -> Self: ...

    def proba(self, dataset: Dataset, rows: Int64) -> Float64: ...


@dataclass(frozen=True, slots=True)
class Prior:
    share_C: Float64

    @classmethod
    def fit(cls, dataset: Dataset, rows: Int64, w_N: Float64) -> Self:
        return cls(shares(dataset.index.y_N[rows], w_N, len(dataset.class_names)))

    def proba(self, dataset: Dataset, rows: Int64) -> Float64:
        return np.tile(self.share_C, (rows.shape[0], 1))


@dataclass(frozen=True, slots=True)
class Persistence:
    """Row k of ``transition_XC`` is P(y | last label k); the last row, for "no label known yet", is the prior."""

    transition_XC: Float64

    @classmethod
    def fit(cls, dataset: Dataset, rows: Int64, w_N: Float64) -> Self:
        classes = len(dataset.class_names)
        y_N, last_N = dataset.index.y_N[rows], dataset.last_y_N[rows]
        prior_C = shares(y_N, w_N, classes)
        count_XC = np.zeros((classes + 1, classes))
        known = last_N >= 0
        np.add.at(count_XC, (last_N[known], y_N[known]), w_N[known])
        total_X1 = count_XC.sum(axis=1, keepdims=True)
        return cls((count_XC + classes * prior_C) / (total_X1 + classes))  # as if the prior had been seen C times

    def proba(self, dataset: Dataset, rows: Int64) -> Float64:
        proba_NC: Float64 = self.transition_XC[dataset.last_y_N[rows]]  # -1 is the last row
        return proba_NC


@dataclass(frozen=True, slots=True)
class VolatilityOnly:
    """``z_M`` are the sorted training values of return / volatility, ``below_M1[m]`` the share of weight before m."""

    z_M: Float64
    below_M1: Float64

    @classmethod
    def fit(cls, dataset: Dataset, rows: Int64, w_N: Float64) -> Self:
        z_N = dataset.index.return_N[rows] / dataset.vol_N[rows]
        order = np.argsort(z_N, kind="stable")
        return cls(z_N[order], np.concatenate([[0.0], np.cumsum(w_N[order])]) / w_N.sum())

    def proba(self, dataset: Dataset, rows: Int64) -> Float64:
        """P(z < edge), strictly, because a class holds its lower edge: an exact 0 is not split between two."""
        edges_NE, vol_N = dataset.index.edges_NE[rows], dataset.vol_N[rows]
        below_NE = self.below_M1[np.searchsorted(self.z_M, edges_NE / vol_N[:, None], side="left")]
        mass_NC = np.diff(below_NE, axis=1, prepend=0.0, append=1.0)
        seen, classes = self.z_M.shape[0], mass_NC.shape[1]
        proba_NC: Float64 = (mass_NC * seen + 1.0) / (seen + classes)
        return proba_NC


@dataclass(frozen=True, slots=True)
class VolatilityOutcome:
    """Volatility only, of triple barriers: outcome shares by how far apart the barriers are in volatilities.

    A return at a touch says where the barrier was, not how far the market goes, so returns cannot be scaled as
    :class:`VolatilityOnly` does. ``inner_B`` part the training rows into groups of equal size, ``share_GC`` are theirs.
    """

    inner_B: Float64
    share_GC: Float64

    @classmethod
    def fit(cls, dataset: Dataset, rows: Int64, w_N: Float64) -> Self:
        y_N, classes = dataset.index.y_N[rows], len(dataset.class_names)
        width_N = _barrier_width(dataset, rows)
        inner_B = np.quantile(width_N, np.arange(1, OUTCOME_GROUPS) / OUTCOME_GROUPS)
        group_N = np.searchsorted(inner_B, width_N, side="right")
        prior_C = shares(y_N, w_N, classes)
        count_GC = np.zeros((OUTCOME_GROUPS, classes))
        np.add.at(count_GC, (group_N, y_N), w_N)
        return cls(inner_B, (count_GC + classes * prior_C) / (count_GC.sum(axis=1, keepdims=True) + classes))

    def proba(self, dataset: Dataset, rows: Int64) -> Float64:
        proba_NC: Float64 = self.share_GC[np.searchsorted(self.inner_B, _barrier_width(dataset, rows), side="right")]
        return proba_NC


def _barrier_width(dataset: Dataset, rows: Int64) -> Float64:
    edges_NE = dataset.index.edges_NE[rows]
    width_N: Float64 = (edges_NE[:, -1] - edges_NE[:, 0]) / dataset.vol_N[rows]
    return width_N


@dataclass(frozen=True, slots=True)
class Logistic:
    """Standardised features times ``weight_PC`` plus ``bias_C``, mixed with the prior at the weight of C rows."""

    mean_P: Float64
    scale_P: Float64
    weight_PC: Float64
    bias_C: Float64
    share_C: Float64
    mix: float

    @classmethod
    def fit(cls, dataset: Dataset, rows: Int64, w_N: Float64) -> Self:
        """Fitted by :meth:`chosen` on the features of ``rows``."""
        return cls.chosen(_features(dataset, rows), dataset, rows, w_N, PENALTIES)

    @classmethod
    def chosen(cls, x_NP: Floats, dataset: Dataset, rows: Int64, w_N: Float64, penalties: tuple[float, ...]) -> Self:
        """The penalty is the one with the best NLL on the last fifth of the training rows (in time order), among
        fits on the rows whose labels are known when that fifth begins; then all rows are fitted with it."""
        index, classes = dataset.index, len(dataset.class_names)
        y_N, held = index.y_N[rows], rows.shape[0] - rows.shape[0] // 5
        penalty = penalties[0]
        if held < rows.shape[0]:
            # all labels are equally long, so those known by then are the first ones: a view, no copy
            known = int(
                np.searchsorted(index.label_stop_ns_N[rows[:held]], index.anchor_ns_N[rows[held]], side="right")
            )
            if known:
                tried = [cls.of(x_NP[:known], y_N[:known], w_N[:known], classes, value) for value in penalties]
                penalty = penalties[int(np.argmin([_nll(t.of_features(x_NP[held:]), y_N[held:]) for t in tried]))]
        return cls.of(x_NP, y_N, w_N, classes, penalty)

    @classmethod
    def of(cls, x_NP: Floats, y_N: Int64, w_N: Float64, classes: int, penalty: float) -> Self:
        """Fit with ``penalty`` per row on the squared weights; one class among ``y_N`` leaves all weights 0.

        Computed in the precision of ``x_NP``, of which one standardised copy is made.
        """
        mean_P, std_P = _moments(x_NP)
        scale_P = np.where(std_P > 1e-12, std_P, 1.0)
        weight_PC, bias_C = np.zeros((x_NP.shape[1], classes)), np.full(classes, -np.inf)
        seen = np.unique(y_N)
        bias_C[seen] = 0.0
        if seen.shape[0] > 1:
            from sklearn.linear_model import LogisticRegression

            solver = LogisticRegression(C=1.0 / (penalty * y_N.shape[0]), max_iter=5000, tol=1e-4)
            solver.fit(_standardised(x_NP, mean_P, scale_P), y_N, sample_weight=w_N.astype(x_NP.dtype))
            two = seen.shape[0] == 2  # sklearn then keeps one column, that of the second class
            weight_PC[:, seen[1:] if two else seen] = solver.coef_.T
            bias_C[seen[1:] if two else seen] = solver.intercept_
        share_C = shares(y_N, w_N, classes)
        return cls(mean_P, scale_P, weight_PC, bias_C, share_C, classes / (y_N.shape[0] + classes))

    def proba(self, dataset: Dataset, rows: Int64) -> Float64:
        return self.of_features(_features(dataset, rows))

    def of_features(self, x_NP: Floats) -> Float64:
        z_NP = _standardised(x_NP, self.mean_P, self.scale_P)
        logits_NC = (z_NP @ self.weight_PC.astype(x_NP.dtype)).astype(np.float64) + self.bias_C
        odds_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
        fitted_NC = odds_NC / odds_NC.sum(axis=1, keepdims=True)
        proba_NC: Float64 = (1.0 - self.mix) * fitted_NC + self.mix * self.share_C
        return proba_NC


@dataclass(frozen=True, slots=True)
class LogisticBook:
    """The logistic regression of ``Logistic`` on its features beside the newest snapshot of all symbols.

    What a network must beat to show that the hours before the newest snapshot are worth anything.
    """

    fitted: Logistic

    @classmethod
    def fit(cls, dataset: Dataset, rows: Int64, w_N: Float64) -> Self:
        """Uses the newest ``BOOK_ROWS`` of ``rows`` (they are in time order), with ``BOOK_PENALTIES`` to choose from.

        float32; holds two copies of the features, each 4 bytes x rows x (symbols x levels x fields + some 30).
        """
        rows, w_N = rows[-BOOK_ROWS:], w_N[-BOOK_ROWS:]
        return cls(Logistic.chosen(_book_features(dataset, rows), dataset, rows, w_N, BOOK_PENALTIES))

    def proba(self, dataset: Dataset, rows: Int64) -> Float64:
        parts = [rows[start : start + BOOK_CHUNK] for start in range(0, rows.shape[0], BOOK_CHUNK)]
        return np.concatenate([self.fitted.of_features(_book_features(dataset, part)) for part in parts])


#: in the order reports print them
BASELINES: dict[str, type[Baseline]] = {
    "prior": Prior,
    "persistence": Persistence,
    "volatility_only": VolatilityOnly,
    "logistic": Logistic,
    "logistic_book": LogisticBook,
}


def baselines_for(dataset: Dataset) -> dict[str, type[Baseline]]:
    """``BASELINES``, with the kind of volatility_only that fits the labels of ``dataset``."""
    return BASELINES if dataset.outcomes is None else BASELINES | {"volatility_only": VolatilityOutcome}


def shares(y_N: Int64, w_N: Float64, classes: int) -> Float64:
    """Weighted class shares with one row added to each class (Laplace), so that none is 0."""
    if y_N.shape[0] == 0:
        raise DataError("a baseline needs training rows and the train block has none: widen the split")
    count_C = np.bincount(y_N, weights=w_N, minlength=classes) + 1.0
    share_C: Float64 = count_C / count_C.sum()
    return share_C


def _features(dataset: Dataset, rows: Int64) -> Float64:
    """Features of the anchors without "age": a trend in time can only be extrapolated."""
    from bml.dataset.features import anchor_features

    x_NP, names = anchor_features(dataset, rows)
    if not np.isfinite(x_NP).all():
        bad = int(rows[np.argmin(np.isfinite(x_NP).all(axis=1))])
        raise DataError(f"logistic: the anchor features of dataset row {bad} are not finite")
    return x_NP[:, [k for k, name in enumerate(names) if name != "age"]]


def _book_features(dataset: Dataset, rows: Int64) -> Float32:
    """Features of the anchors and, after them, the newest snapshots (already standardised and clipped)."""
    from bml.dataset.features import newest_book

    few_NP = _features(dataset, rows)
    book_NK, _ = newest_book(dataset, rows)
    return np.concatenate([few_NP, book_NK], axis=1, dtype=np.float32, casting="same_kind")


def _nll(proba_NC: Float64, y_N: Int64) -> float:
    return float(-np.log(proba_NC[np.arange(y_N.shape[0]), y_N]).mean())


def _moments(x_NP: Floats) -> tuple[Float64, Float64]:
    """Mean and standard deviation of each column, summed in float64 column by column (no copy of the whole)."""
    mean_P = x_NP.mean(axis=0, dtype=np.float64)
    square_P = np.array([np.square(x_NP[:, p] - mean_P[p]).mean(dtype=np.float64) for p in range(x_NP.shape[1])])
    return mean_P, np.sqrt(square_P)


def _standardised(x_NP: Floats, mean_P: Float64, scale_P: Float64) -> Floats:
    z_NP = x_NP - mean_P.astype(x_NP.dtype)
    z_NP /= scale_P.astype(x_NP.dtype)
    return np.clip(z_NP, -FEATURE_LIMIT, FEATURE_LIMIT, out=z_NP)
