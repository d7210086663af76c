"""What goes into a ratings database and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Answer = Literal["better", "worse", "tie", "skip", "flag"]
"""What a rater may say of a pair: a verdict on the first text, or why there is none."""

ANSWERS: tuple[Answer, ...] = ("better", "worse", "tie", "skip", "flag")

Review = Literal["fine", "removed"]
"""What a reviewer says of a question: what is removed is asked of nobody and goes nowhere."""


@dataclass(frozen=True)
class NewPair:
    """Two texts after one prompt that shall be compared.

    Attributes:
        prompt: What both go on from.
        first: One text.
        second: The other.
        policy_first: Who wrote the first; raters are not shown it.
        policy_second: Who wrote the second.
        flagged: Why a filter flags it, or None; what is flagged is asked first.
        columns: What else is known of the prompt, as JSON.
    """

    prompt: str
    first: str
    second: str
    policy_first: str = ""
    policy_second: str = ""
    flagged: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NewText:
    """A text that shall be rated by itself.

    Attributes:
        prompt: What it goes on from.
        text: The text.
        policy: Who wrote it.
        flagged: Why a filter flags it, or None.
        columns: What else is known of the prompt.
    """

    prompt: str
    text: str
    policy: str = ""
    flagged: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PairToRate(NewPair):
    """A pair in the database.

    Attributes:
        id: Its number.
        round: Of the loop.
    """

    id: int
    round: int


@dataclass(frozen=True, kw_only=True)
class TextToRate(NewText):
    """A text in the database that is rated by itself.

    Attributes:
        id: Its number.
        round: Of the loop.
    """

    id: int
    round: int


Question = PairToRate | TextToRate


@dataclass(frozen=True)
class Progress:
    """How far one rater is.

    Attributes:
        done: Pairs and texts that this rater has answered; skipped and flagged ones too.
        left: What can still be asked of them.
        elsewhere: How much of `left` others are at just now.
    """

    done: int
    left: int
    elsewhere: int = 0

    @property
    def total(self) -> int:
        """All that this rater has been or can be asked."""
        return self.done + self.left


@dataclass(frozen=True)
class Answered:
    """One answer of one rater.

    Attributes:
        id: Its number; later answers have higher ones.
        question: The pair's or the text's.
        rater: The rater's pseudonym.
        answer: "better", "worse", "tie", "skip", "flag", or a number for a text by itself.
        first_left: Whether the first text was shown on the left, or first; None: not known.
    """

    id: int
    question: int
    rater: str
    answer: Answer | float
    first_left: bool | None = None


@dataclass(frozen=True)
class Flagged:
    """A pair or a text in the queue for review.

    Attributes:
        question: It.
        reason: Why the filter flagged it; None where only raters did.
        raters: How many raters flagged it.
        review: What a reviewer said; None: nothing yet.
    """

    question: Question
    reason: str | None
    raters: int
    review: Review | None = None
