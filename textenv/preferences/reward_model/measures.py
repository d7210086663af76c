"""How well scores say what people said: accuracy, calibration, correlation, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textenv.metrics import Interval, mean_interval

Float64 = npt.NDArray[np.float64]
BINS = 10
RESAMPLES = 1000


class Bin(NamedTuple):
    """Rows for which the model said about the same.

    rows: how many.
    predicted: the mean of what it said.
    observed: the mean of what people said.
    """

    rows: int
    predicted: float
    observed: float


class Calibration(NamedTuple):
    """How far what is said is from what is seen.

    error: Σ rows·|predicted − observed| / n over the bins, the expected calibration error. It is
        never 0 where bins are small: chance alone moves observed from predicted.
    bins: those that are not empty, in order.
    """

    error: Interval
    bins: tuple[Bin, ...]


def accuracy(probabilities: Float64, labels: Float64, groups: npt.NDArray[np.int64]) -> Interval:
    """How often the text that the model puts first is the one that was preferred.

    Ties are left out; equal scores count ½. Each group counts once, by the mean of its rows,
    because rows of one prompt belong together.

    Args:
        probabilities: [m], P(the first is preferred).
        labels: [m], 1, 0, or anything between.
        groups: [m], the number of each row's prompt.

    Raises:
        ValueError: all are ties.
    """
    decided = labels != 0.5
    if not decided.any():
        raise ValueError(f"expected comparisons that are no ties, got {len(labels)} ties")
    right = np.where(probabilities == 0.5, 0.5, (probabilities > 0.5) == (labels > 0.5))[decided]
    _, group = np.unique(groups[decided], return_inverse=True)
    return mean_interval(np.bincount(group, right) / np.bincount(group))


def calibration(
    probabilities: Float64, labels: Float64, groups: npt.NDArray[np.int64]
) -> Calibration:
    """Whether of the pairs that are said to be p-sure a share of p is right; ties count ½.

    The ten bins are of the confidence, ½ … 1, in the text that the model prefers: which of the two
    stands first plays no part.

    Args:
        probabilities: [m], P(the first is preferred).
        labels: [m], 1, 0, or anything between.
        groups: [m], the number of each row's prompt; the interval is over them.
    """
    confidence = np.maximum(probabilities, 1 - probabilities)
    observed = np.where(probabilities > 0.5, labels, 1 - labels)
    observed[probabilities == 0.5] = 0.5  # it prefers neither
    number = np.minimum(((confidence - 0.5) * 2 * BINS).astype(np.int64), BINS - 1)
    return _binned(confidence, observed, number, groups)


def rating_calibration(
    predicted: Float64, ratings: Float64, groups: npt.NDArray[np.int64]
) -> Calibration:
    """Whether texts that are said to be rated r are so on average; the bins are tenths of the rows.

    Args:
        predicted: [m], in the ratings' units.
        ratings: [m].
        groups: [m], the number of each row's prompt or text.
    """
    ranks = np.argsort(np.argsort(predicted, kind="stable"), kind="stable")
    return _binned(predicted, ratings, ranks * BINS // len(ranks), groups)


def correlation(
    predicted: Float64, ratings: Float64, groups: npt.NDArray[np.int64] | None = None
) -> Interval:
    """Pearson's correlation with its bootstrap interval; 0 where either side is constant.

    Args:
        predicted: [m].
        ratings: [m].
        groups: [m], the number of each row's prompt or text. None: each row is its own.
    """
    x, y = predicted - predicted.mean(), ratings - ratings.mean()  # against cancellation
    moments = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)  # [m, 6]
    rows = np.arange(len(x)) if groups is None else groups
    return _over_groups(_summed(moments, rows), _pearson)


def _pearson(sums: Float64) -> float:
    n, x, y, xx, yy, xy = sums
    spread = (n * xx - x * x) * (n * yy - y * y)
    return float((n * xy - x * y) / np.sqrt(spread)) if spread > 1e-20 * n**4 else 0.0


def _binned(
    predicted: Float64,
    observed: Float64,
    number: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
) -> Calibration:
    """Compare means in bins, given each row's bin."""
    member = np.eye(BINS)[number]  # [m, BINS]
    parts = [member, member * predicted[:, None], member * observed[:, None]]
    table = _summed(np.concatenate(parts, axis=1), groups)  # [groups, 3 · BINS]

    def error(sums: Float64) -> float:
        counts, said, seen = sums.reshape(3, BINS)
        return float(np.abs(said - seen).sum() / counts.sum())

    counts, said, seen = table.sum(axis=0).reshape(3, BINS)
    bins = (
        Bin(int(counts[i]), float(said[i] / counts[i]), float(seen[i] / counts[i]))
        for i in np.flatnonzero(counts)
    )
    return Calibration(_over_groups(table, error), tuple(bins))


def _summed(table: Float64, groups: npt.NDArray[np.int64]) -> Float64:
    """Add up the rows of each group: [groups, columns]."""
    _, group = np.unique(groups, return_inverse=True)
    return np.stack([np.bincount(group, column) for column in table.T], axis=1)


def _over_groups(table: Float64, statistic: Callable[[Float64], float]) -> Interval:
    """The statistic of the column sums of [groups, columns], over bootstrap samples of groups."""
    count, generator = len(table), np.random.default_rng(0)
    draws = (generator.integers(count, size=count) for _ in range(RESAMPLES))
    samples = [statistic(np.bincount(drawn, minlength=count) @ table) for drawn in draws]
    low, high = np.quantile(samples, [0.025, 0.975])
    return Interval(statistic(table.sum(axis=0)), float(low), float(high))


def to_json(value: Any) -> Any:
    """Return measures as dicts and lists."""
    if hasattr(value, "_asdict"):
        return {name: to_json(part) for name, part in value._asdict().items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_json(part) for part in value]
    return value
