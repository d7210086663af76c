"""What people, scripts and judges say of texts: verdicts on two texts, ratings of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Verdict = Literal["better", "worse", "tie"]
"""Of the first text beside the second."""

LABELS: Mapping[Verdict, float] = {"better": 1.0, "tie": 0.5, "worse": 0.0}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two texts after one prompt, and which of them somebody preferred.

    Attributes:
        prompt: What both texts go on from.
        first: One text.
        second: The other.
        label: How far the first was preferred, 0 … 1: 1 for "better", 0 for "worse", ½ for a tie.
        rater: A pseudonym, or "" where nobody is named.
        columns: What else is known of the prompt.

    Raises:
        ValueError: a label outside 0 … 1, or what should be text is none.
    """

    prompt: str
    first: str
    second: str
    label: float
    rater: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_texts(prompt=self.prompt, first=self.first, second=self.second, rater=self.rater)
        if not 0 <= self.label <= 1:
            raise ValueError(f"expected a label in 0 … 1, got {self.label!r}")

    @property
    def chosen(self) -> str | None:
        """The text that was preferred; None for a tie."""
        if self.label == 0.5:
            return None
        return self.first if self.label > 0.5 else self.second

    @property
    def rejected(self) -> str | None:
        """The text that was not; None for a tie."""
        if self.label == 0.5:
            return None
        return self.second if self.label > 0.5 else self.first


@dataclass(frozen=True, kw_only=True)
class RatedText:
    """A text and the number that somebody gave it.

    Attributes:
        prompt: What the text goes on from.
        text: The text.
        rating: Any finite number; the scale is that of the whole set.
        rater: A pseudonym, or "".

    Raises:
        ValueError: the rating is not finite, or what should be text is none.
    """

    prompt: str
    text: str
    rating: float
    rater: str = ""

    def __post_init__(self) -> None:
        _check_texts(prompt=self.prompt, text=self.text, rater=self.rater)
        if not -float("inf") < self.rating < float("inf"):
            raise ValueError(f"expected a finite rating, got {self.rating!r}")


@runtime_checkable
class Rater(Protocol):
    """Whoever compares texts: a script, a judge, a reward model."""

    name: str

    def compare(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], **columns: Any
    ) -> list[Verdict]:
        """Say of n pairs how the first text does beside the second.

        Args:
            prompts: n texts.
            first: One completion of each.
            second: Another of each.
            **columns: Lists of n, by name.
        """
        ...


def _check_texts(**texts: object) -> None:
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"expected {name} to be a text, got {text!r}")
