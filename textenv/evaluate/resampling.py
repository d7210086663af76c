"""Bootstrap and jackknife over the units that were drawn, the same for all that is compared.

A unit is what was drawn by itself: a text, or all texts of one draw of a prompt where several were
written after each. Units are drawn again, never single texts of a unit, so that an interval is not
too short where the texts of a prompt are alike. Both policies of a comparison are drawn again by
the same units: the interval of a difference is then that of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from textenv.metrics import Interval

Array = npt.NDArray[np.float64]
RESAMPLES = 2000
CONFIDENCE = 0.95
_AT_ONCE = 4_000_000  # numbers in a part of the table of weights


class Resampling:
    """Which units each of R bootstrap samples holds, and how often.

    Args:
        units: int [N], the unit of each text, 0 … G − 1.
        resamples: R.
        seed: Of the generator that draws them.

    Raises:
        ValueError: fewer than two units: nothing can be said about their spread.
    """

    def __init__(self, units: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        self.units = np.asarray(units, dtype=np.int64)
        self.count = int(self.units.max(initial=-1)) + 1
        if self.count < 2:
            raise ValueError(
                f"an interval needs at least two texts that were drawn independently, got "
                f"{self.count}: write more texts, or fewer of each prompt"
            )
        self.resamples = resamples
        self.seed = seed

    def sums(self, counts: Array) -> Array:
        """Σ of the counts of each sample's texts: [N, k] → [R, k]; +∞ where it holds one.

        Args:
            counts: [N, k], finite or +∞.
        """
        infinite = np.isposinf(counts)
        finite = self._by_unit(np.where(infinite, 0.0, counts))
        sums = np.concatenate([weights @ finite for weights in self._weights()])
        if infinite.any():
            places = self._by_unit(infinite.astype(np.float64))
            held = np.concatenate([weights @ places for weights in self._weights()])
            sums = np.where(held > 0, np.inf, sums)
        return sums

    def _by_unit(self, counts: Array) -> Array:
        """Add up the texts of each unit, [N, k] → [G, k]."""
        total = np.zeros((self.count, counts.shape[1]))
        np.add.at(total, self.units, counts)
        return total

    def _weights(self) -> list[Array]:
        """How often each sample holds each unit, [R, G] in parts."""
        return self._drawn

    @cached_property
    def _drawn(self) -> list[Array]:
        generator = np.random.default_rng(self.seed)
        rows = max(1, _AT_ONCE // self.count)
        parts = []
        for start in range(0, self.resamples, rows):
            size = min(rows, self.resamples - start)
            drawn = generator.integers(self.count, size=(size, self.count))
            flat = drawn + self.count * np.arange(size)[:, None]
            weights = np.bincount(flat.ravel(), minlength=size * self.count)
            parts.append(weights.reshape(size, self.count).astype(np.float64))
        return parts


@dataclass(frozen=True, eq=False)
class Spread:
    """A statistic, and what it is on other samples.

    value: On the texts themselves.
    draws: [R] on bootstrap samples, or [G] with each unit left out once.
    left_out: Whether it is the latter.
    limits: What the statistic lies in; the interval too.
    """

    value: float
    draws: Array
    left_out: bool = False
    limits: tuple[float, float] = (-math.inf, math.inf)

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """The percentiles of the samples (Efron 1979), or value ± 1.96 jackknife errors."""
        if not np.isfinite(self.value) or not np.isfinite(self.draws).all():
            return self._unbounded(confidence)
        if self.left_out:
            count = len(self.draws)
            squares = np.square(self.draws - self.draws.mean()).sum()
            half = NormalDist().inv_cdf((1 + confidence) / 2) * float(
                np.sqrt((count - 1) / count * squares)
            )
            low, high = self.limits
            ends = max(low, self.value - half), min(high, self.value + half)
            return Interval(self.value, *ends)
        edge = (1 - confidence) / 2
        low, high = np.quantile(self.draws, [edge, 1 - edge])
        return Interval(self.value, float(low), float(high))

    def _unbounded(self, confidence: float) -> Interval:
        """Percentiles that may be infinite; of a difference of infinities nothing is known."""
        if np.isnan(self.value) or np.isnan(self.draws).any():
            return Interval(self.value, -math.inf, math.inf)
        edges = [(1 - confidence) / 2, (1 + confidence) / 2]
        low, high = np.quantile(self.draws, edges, method="nearest")
        return Interval(self.value, float(low), float(high))

    def minus(self, other: Spread) -> Spread:
        """The difference, sample by sample."""
        with np.errstate(invalid="ignore"):
            return Spread(self.value - other.value, self.draws - other.draws, self.left_out)


@dataclass(frozen=True, eq=False)
class Sums:
    """A statistic f(Σ_i counts_i) of texts, such as a mean, a perplexity or corpus BLEU.

    counts: [N, k].
    formula: f, from [..., k] to [...].
    """

    counts: Array
    formula: Callable[[Array], Array]

    def spread(self, resampling: Resampling) -> Spread:
        """Bootstrap: on each sample from the sums of its texts' counts."""
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(self.formula(self.counts.sum(axis=0)))
            return Spread(value, self.formula(resampling.sums(self.counts)))


@dataclass(frozen=True, eq=False)
class Distinct:
    """The share of different items among all items of all texts.

    Its interval comes from leaving each unit out once (the jackknife for numbers of species,
    Heltshe & Forrester 1983): a bootstrap sample holds texts twice, and so would always be less
    varied than the texts themselves. What it leaves out: the share falls with the number of texts,
    so that only equal numbers are comparable.

    items: The items of each text, such as its n-grams.
    """

    items: Sequence[Sequence[Hashable]]

    def spread(self, resampling: Resampling) -> Spread:
        """Jackknife: what is lost with a unit is its items that no other unit has."""
        own = np.zeros(resampling.count)  # items that one unit alone has
        size = np.zeros(resampling.count)
        owner: dict[Hashable, int] = {}
        for unit, items in zip(resampling.units.tolist(), self.items, strict=True):
            size[unit] += len(items)
            for item in items:
                owner[item] = unit if owner.get(item, unit) == unit else -1
        owners = np.fromiter(owner.values(), dtype=np.int64, count=len(owner))
        np.add.at(own, owners[owners >= 0], 1.0)
        left = size.sum() - size
        draws = np.where(left > 0, (len(owner) - own) / np.maximum(left, 1), 0.0)
        value = len(owner) / float(size.sum()) if size.sum() else 0.0
        return Spread(value, draws, True, (0.0, 1.0))


Statistic = Sums | Distinct


def mean_of(values: npt.ArrayLike, counted: npt.NDArray[np.bool_] | None = None) -> Sums:
    """The mean of one number a text, of the texts that count.

    >>> float(mean_of([1.0, 3.0]).spread(Resampling([0, 1])).value)
    2.0
    """
    numbers = np.asarray(values, dtype=np.float64)
    ones = np.ones(len(numbers)) if counted is None else counted.astype(np.float64)
    return Sums(np.stack([np.where(ones > 0, numbers, 0.0), ones], axis=1), _ratio)


def perplexity_of(log_probs: npt.ArrayLike, tokens: npt.ArrayLike) -> Sums:
    """exp(−Σ log p / Σ tokens): one number for all tokens of all texts.

    >>> float(perplexity_of(np.log([0.5, 0.5]), [1, 1]).spread(Resampling([0, 1])).value)
    2.0
    """
    surprise = -np.asarray(log_probs, dtype=np.float64)
    counts = np.stack([surprise, np.asarray(tokens, dtype=np.float64)], axis=1)
    return Sums(counts, lambda sums: np.exp(_ratio(sums)))


def _ratio(sums: Array) -> Array:
    return sums[..., 0] / sums[..., 1]
