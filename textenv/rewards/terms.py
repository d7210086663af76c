"""The terms that a reward consists of, and the tables of those that token tables decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from textenv.rewards.base import Reward
from textenv.rewards.combine import Combined
from textenv.rewards.payments import shown

if TYPE_CHECKING:
    from textenv.vocabulary import Vocabulary


class Term(NamedTuple):
    """One reward of a weighted sum.

    name: unique in the sum.
    weight: finite.
    reward: no sum itself.
    table: float64 [V], what each token earns, weighted; None if that depends on more.
    """

    name: str
    weight: float
    reward: Reward
    table: npt.NDArray[np.float64] | None


def terms_of(reward: Reward, vocabulary: Vocabulary, end_token: int | None) -> list[Term]:
    """Take a reward apart; one that is no sum is its only term.

    Raises:
        ValueError: a token table that does not fit the vocabulary, or is not finite.
    """
    reward = reward.with_vocabulary(vocabulary)
    pairs = reward.terms if isinstance(reward, Combined) else ((1.0, reward),)
    names = reward.names if isinstance(reward, Combined) else (reward.name,)
    return [
        Term(name, weight, part, _table(weight, part, vocabulary, end_token))
        for name, (weight, part) in zip(names, pairs, strict=True)
    ]


def _table(
    weight: float, reward: Reward, vocabulary: Vocabulary, end_token: int | None
) -> npt.NDArray[np.float64] | None:
    table = reward.token_table(vocabulary) if reward.pays == "token" else None
    if table is None:
        return None
    table = weight * np.asarray(table, dtype=np.float64)
    if table.shape != (vocabulary.size,) or not np.isfinite(table).all():
        raise ValueError(
            f"token_table of the reward {reward.name!r} must give {vocabulary.size} finite "
            f"numbers, got the shape {table.shape}: {shown(table)}"
        )
    if end_token is not None:
        table[end_token] = 0.0  # an end token is not part of the text
    return table
