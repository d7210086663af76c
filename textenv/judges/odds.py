"""Probabilities of answers as odds of texts, and how far a judge looks at places.

n = pairs, A = answers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from textenv.judges.backend import Float64

MOST_ODDS = 20.0  # nats; where an endpoint gives one answer and no probabilities the odds are ∞


class PositionBias(NamedTuple):
    """How far a judge looks at places in place of texts.

    Attributes:
        first: Share of askings in which the text that stands first is preferred; a tie is half.
            ½ without bias.
        changed: Share of pairs whose verdict is another when the texts change places. 0 without.
        pairs: How many pairs this is over.
    """

    first: float
    changed: float
    pairs: int

    @classmethod
    def of(cls, shown_first: Float64, shown_second: Float64) -> PositionBias:
        """Measure it on pairs.

        Args:
            shown_first: float64 [n], log-odds of each first text where it stands first.
            shown_second: float64 [n], the same text's where it stands second.
        """
        if not len(shown_first):
            return cls(float("nan"), float("nan"), 0)
        one, other = np.sign(shown_first), np.sign(shown_second)
        first = (1 + (one - other) / 2) / 2  # of the two askings of a pair
        return cls(float(first.mean()), float((one != other).mean()), len(one))


class Odds(NamedTuple):
    """What a judge says of n pairs in both orders, in nats: log p(first text) − log p(second).

    Attributes:
        shown_first: float64 [n], where the first text stands first.
        shown_second: float64 [n], where it stands second.
        tie: bool [n], a tie is likelier than either text, in the mean of both orders.
    """

    shown_first: Float64
    shown_second: Float64
    tie: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, log_probs: Float64, values: Float64) -> Odds:
        """Read what was answered.

        Args:
            log_probs: float64 [2n, A], of the pairs with the first text first, then second.
            values: float64 [A], what each answer is worth for the text that stands first.
        """
        first, second, tie = (total(log_probs[:, values == value]) for value in (1.0, 0.0, 0.5))
        odds, n = _difference(first, second), len(log_probs) // 2
        won = np.exp(first[:n]) + np.exp(second[n:])
        lost = np.exp(second[:n]) + np.exp(first[n:])
        tied = np.exp(tie[:n]) + np.exp(tie[n:]) > np.maximum(won, lost)
        return cls(odds[:n], -odds[n:], tied)

    @property
    def mean(self) -> Float64:
        """float64 [n], the mean of both orders."""
        return (self.shown_first + self.shown_second) / 2

    @property
    def position_bias(self) -> PositionBias:
        """How far places decide."""
        return PositionBias.of(self.shown_first, self.shown_second)


def shares(log_probs: Float64) -> Float64:
    """Probabilities among the answers, [n, A]."""
    weights = np.exp(log_probs - log_probs.max(axis=1, keepdims=True, initial=-1e300))
    return weights / weights.sum(axis=1, keepdims=True)


def total(log_probs: Float64) -> Float64:
    """Sum: log Σ p over some answers, [n]; −∞ for none."""
    return np.logaddexp.reduce(log_probs, axis=1, initial=-np.inf)


def _difference(one: Float64, other: Float64) -> Float64:
    """Log-odds within ±MOST_ODDS; 0 where both are impossible (a tie was answered)."""
    with np.errstate(invalid="ignore"):
        odds = one - other
    return np.clip(
        np.nan_to_num(odds, nan=0.0, posinf=MOST_ODDS, neginf=-MOST_ODDS), -MOST_ODDS, MOST_ODDS
    )
