"""Rewards that compare, measure or search the text: zero, exact match, length, expressions."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from textenv.rewards.base import Reward
from textenv.rewards.references import references_in
from textenv.rewards.registry import register

if TYPE_CHECKING:
    from textenv.vocabulary import Vocabulary


@register("zero")
class Zero(Reward):
    """Nothing for any text. Range: 0.

    It is decided token by token, so that environments need not make texts for it.

    >>> Zero().total(["", ""], ["a hit", "or a miss"])
    [0.0, 0.0]
    """

    name = "zero"
    pays = "token"
    range = (0.0, 0.0)

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> list[list[float]]:
        """Pay 0 for each id."""
        return [[0.0] * len(ids) for ids in columns["completion_ids"]]

    def total(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> list[float | None]:
        """Pay 0 for each text."""
        return [0.0] * len(completions)

    def token_table(self, vocabulary: Vocabulary) -> npt.NDArray[np.float64]:
        """Return zeros, float64 [V]."""
        return np.zeros(vocabulary.size)


@register("exact_match")
class ExactMatch(Reward):
    """1 for exactly the right text, blanks included, else 0. Range: 0 or 1.

    Args:
        target: The right text for every prompt. None: each prompt's own, from the column.
        column: The column with the right texts: a text, a list of texts each of which is right, or
            None, which leaves that prompt out.

    >>> ExactMatch("我爱你。")(["", ""], ["我爱你。", "我爱你"])
    [1.0, 0.0]
    """

    name = "exact_match"
    range = (0.0, 1.0)

    def __init__(self, target: str | None = None, *, column: str = "reference") -> None:
        if target is not None and not isinstance(target, str):
            raise ValueError(f"target must be a text or None, got {target!r}")
        self.target = target
        self.column = column
        self.columns = () if target is not None else (column,)

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> list[float | None]:
        """Compare each text."""
        if self.target is not None:
            return [float(text == self.target) for text in completions]
        rights = references_in(self.name, self.column, columns)
        return [
            None if right is None else float(text in right)
            for text, right in zip(completions, rights, strict=True)
        ]


@register("length")
class Length(Reward):
    """The number of units of a text, or minus the distance to a wished number.

    Range: 0 … ∞; with a target −∞ … 0.

    Args:
        target: The wished number, or None.
        unit: "tokens" (an end token is none), "characters", or "words" between blanks.

    >>> Length(2, unit="words")(["", ""], ["two words", "one"])
    [0.0, -1.0]
    """

    name = "length"

    def __init__(
        self,
        target: int | None = None,
        *,
        unit: Literal["tokens", "characters", "words"] = "tokens",
    ) -> None:
        if unit not in ("tokens", "characters", "words"):
            raise ValueError(f'unit must be "tokens", "characters" or "words", got {unit!r}')
        if target is not None and not 0 <= target < math.inf:
            raise ValueError(f"target must be a number of {unit}, 0 or more, got {target!r}")
        self.target = target
        self.unit = unit
        self.range = (0.0, math.inf) if target is None else (-math.inf, 0.0)

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        """Count."""
        if self.unit == "tokens":
            if "completion_ids" not in columns:
                raise ValueError('length in tokens needs completion_ids; or take unit="words"')
            counts = [len(ids) for ids in columns["completion_ids"]]
        elif self.unit == "characters":
            counts = [len(text) for text in completions]
        else:
            counts = [len(text.split()) for text in completions]
        if self.target is None:
            return [float(count) for count in counts]
        return [-abs(float(count - self.target)) + 0.0 for count in counts]


@register("regular_expression")
class RegularExpression(Reward):
    r"""1 where the pattern matches, else 0. Range: 0 or 1.

    Args:
        pattern: Python's syntax; flags stand inside, as in "(?i)good".
        full: The whole text must match, not just some part of it.

    Raises:
        ValueError: the pattern is not one.

    >>> RegularExpression(r"\d+ stars")(["", ""], ["I give it 5 stars", "no stars"])
    [1.0, 0.0]
    """

    name = "regular_expression"
    range = (0.0, 1.0)

    def __init__(self, pattern: str, *, full: bool = False) -> None:
        if not isinstance(pattern, str):
            raise ValueError(f"pattern must be a text, got {pattern!r}")
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        self.pattern = pattern
        self.full = full
        self._matches = compiled.fullmatch if full else compiled.search

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        """Search each text."""
        return [float(self._matches(text) is not None) for text in completions]


zero, exact_match, length, regular_expression = Zero, ExactMatch, Length, RegularExpression
