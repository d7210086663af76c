"""Weighted sums of rewards."""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from textenv.rewards.base import Reward
from textenv.rewards.convert import RewardLike, as_reward
from textenv.rewards.registry import register

if TYPE_CHECKING:
    from textenv.vocabulary import Vocabulary


@register("sum")
class Combined(Reward):
    """A weighted sum: Σ weight · reward, where a term that answers None is left out.

    It pays each token if any term does. Environments pay such a sum step by step and report
    each term (see `Scorer`); called as a plain function it returns one number a text, with the
    terms that pay each token by their sum.

    Args:
        terms: Pairs (weight, reward); a sum among them is taken apart.

    Attributes:
        terms: The pairs, flat.
        names: A name for each term, unique: "length", "length_2", …

    Raises:
        ValueError: no terms, or a weight that is not a finite number.

    >>> combined = 0.5 * as_reward("length") - as_reward({"name": "length", "unit": "words"})
    >>> combined.names, combined([""], ["one two"], completion_ids=[[4, 5, 6, 7]])
    (('length', 'length_2'), [0.0])
    """

    def __init__(self, terms: Iterable[tuple[float, RewardLike] | Sequence[Any]]) -> None:
        flat: list[tuple[float, Reward]] = []
        for term in terms:
            if not isinstance(term, (list, tuple)) or len(term) != 2:
                raise ValueError(f"a term of a sum must be a pair (weight, reward), got {term!r}")
            weight, reward = _finite(term[0]), as_reward(term[1])
            inner = reward.terms if isinstance(reward, Combined) else ((1.0, reward),)
            flat += [(weight * factor, part) for factor, part in inner]
        if not flat:
            raise ValueError("a sum of rewards needs at least one term")
        self.terms: tuple[tuple[float, Reward], ...] = tuple(flat)
        self.names = _unique_names([reward.name for _, reward in flat])
        self.name = " + ".join(self.names)
        rewards = [reward for _, reward in flat]
        self.pays = "token" if any(reward.pays == "token" for reward in rewards) else "end"
        self.columns = tuple(dict.fromkeys(name for r in rewards for name in r.columns))
        self.range = self._range()

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> list[float | None]:
        """Add up the terms, text by text; None where every term says None."""
        totals: list[float | None] = [None] * len(completions)
        for weight, reward in self.terms:
            payments = reward.total(prompts, completions, **columns)
            for row, payment in enumerate(payments):
                if payment is not None:
                    totals[row] = (totals[row] or 0.0) + weight * payment
        return totals

    def total(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> list[float | None]:
        """Return the same as a call."""
        return self(prompts, completions, **columns)

    def with_vocabulary(self, vocabulary: Vocabulary) -> Combined:
        """Hand the vocabulary to each term."""
        bound = copy.copy(self)
        bound.terms = tuple(
            (weight, part.with_vocabulary(vocabulary)) for weight, part in self.terms
        )
        return bound

    def token_table(self, vocabulary: Vocabulary) -> npt.NDArray[np.float64] | None:
        """Add up the terms' tables, if all of them have one."""
        tables = [(weight, reward.token_table(vocabulary)) for weight, reward in self.terms]
        if any(table is None for _, table in tables):
            return None
        return np.asarray(sum(weight * table for weight, table in tables if table is not None))

    def spec(self) -> str | dict[str, Any]:
        """Return {"name": "sum", "terms": [[weight, spec], …]}."""
        return {"name": "sum", "terms": [[weight, reward.spec()] for weight, reward in self.terms]}

    def __repr__(self) -> str:
        terms = zip(self.terms, self.names, strict=True)
        return f"<reward {' + '.join(f'{weight:g} * {name}' for (weight, _), name in terms)}>"

    def _range(self) -> tuple[float, float]:
        low, high = 0.0, 0.0
        for weight, reward in self.terms:
            # 0 · ∞ would be NaN.
            ends = [weight * end for end in reward.range] if weight else [0.0]
            if self.pays == "token":
                ends.append(0.0)  # at each step some terms pay nothing
            low, high = low + min(ends), high + max(ends)
        return low, high


def _finite(weight: Any) -> float:
    # A weight of NaN or ∞ would make every text's reward a fault, far from where it was written.
    if not isinstance(weight, numbers.Real) or not math.isfinite(weight):
        raise ValueError(f"a reward's weight must be a finite number, got {weight!r}")
    return float(weight)


def _unique_names(names: list[str]) -> tuple[str, ...]:
    unique: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in unique:
            number += 1
            candidate = f"{name}_{number}"
        unique.append(candidate)
    return tuple(unique)
