"""Means and other statistics of independent values, with intervals. NumPy only."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Interval(NamedTuple):
    """A mean, or another statistic in its place, and the ends of its interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(
    values: npt.ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean of independent values with its percentile-bootstrap interval (Efron 1979).

    Chosen because rewards are far from normal (many texts score exactly 0). What it leaves out:
    values that belong together, such as texts of one prompt or of one training run: average those
    first.

    Args:
        values: [n], n ≥ 1, finite.
        confidence: Of the interval, between 0 and 1.
        resamples: How many bootstrap samples.
        seed: Of their generator.

    Raises:
        ValueError: no values, one that is not finite, or a setting out of range.

    >>> mean_interval([1.0, 1.0, 1.0])
    Interval(mean=1.0, low=1.0, high=1.0)
    """
    generator = np.random.default_rng(seed)
    return bootstrap_interval(
        values, np.mean, generator, confidence=confidence, resamples=resamples
    )


def interquartile_mean(values: npt.ArrayLike) -> float:
    """The mean of the middle half: the least and the greatest ⌊n/4⌋ values are left out.

    Chosen for scores of training runs: one run that collapsed moves it little, and it needs fewer
    runs than a median for an interval of the same length (Agarwal et al. 2021,
    https://arxiv.org/abs/2108.13264). What it leaves out: how bad the worst runs are.

    Args:
        values: [n], n ≥ 1, finite.

    >>> interquartile_mean([0.0, 1.0, 2.0, 100.0])
    1.5
    """
    array = np.sort(_finite(values))
    cut = len(array) // 4
    return float(array[cut : len(array) - cut].mean())


def bootstrap_interval(
    values: npt.ArrayLike,
    statistic: Callable[[npt.NDArray[np.float64]], float],
    generator: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Any statistic of independent values with its percentile-bootstrap interval (Efron 1979).

    Args:
        values: [n], n ≥ 1, finite.
        statistic: Of an array of n values, such as `interquartile_mean`.
        generator: Draws the bootstrap samples.
        confidence: Of the interval, between 0 and 1.
        resamples: How many bootstrap samples.

    Raises:
        ValueError: as of `mean_interval`.

    >>> bootstrap_interval([2.0, 2.0], interquartile_mean, np.random.default_rng(0))
    Interval(mean=2.0, low=2.0, high=2.0)
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(
            f"expected 0 < confidence < 1, as in 0.95, and resamples ≥ 1, got {confidence!r} and "
            f"{resamples!r}"
        )
    array = _finite(values)
    size = len(array)
    drawn = [statistic(array[generator.integers(size, size=size)]) for _ in range(resamples)]
    edge = (1 - confidence) / 2
    low, high = np.quantile(drawn, [edge, 1 - edge])
    return Interval(float(statistic(array)), float(low), float(high))


def _finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"expected one axis of at least one finite number, got {values!r}")
    return array
