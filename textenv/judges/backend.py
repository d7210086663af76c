"""What answers a judge's questions: the protocol, and what can go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from textenv.errors import TextenvError
from textenv.judges.template import Template

Float64 = npt.NDArray[np.float64]


class JudgeError(TextenvError, RuntimeError):
    """A judge cannot say what a text is worth. It is a fault, never a score."""


class AnswerError(JudgeError):
    """The judge was asked about a text, and what came back is no answer."""


class EndpointError(JudgeError):
    """An endpoint cannot be asked at all: it is not there, or refuses whoever asks."""


class NotCachedError(JudgeError):
    """A judge that is offline has never been asked about a text."""


Outcome = Float64 | JudgeError
"""The log-probability of each answer, float64 [A], −∞ where it is 0; or why there is none."""


@runtime_checkable
class Backend(Protocol):
    """What is asked.

    Attributes:
        name: For messages.
    """

    name: str

    def identity(self, template: Template) -> dict[str, Any]:
        """Return what tells its answers from another's, for JSON; nothing secret."""
        ...

    def ask(self, template: Template, questions: Sequence[str]) -> Iterator[dict[int, Outcome]]:
        """Answer some questions after others, each by its number, as soon as they are known.

        A question that fails is an outcome; what is raised is a fault of the set-up.
        """
        ...


def shorten(text: str, length: int = 60) -> str:
    """Show a text in a message."""
    shown = repr(text)
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"


def check_apart(written: Sequence[Sequence[Any]], answers: Sequence[str], name: str) -> None:
    """Refuse answers of which one begins another: its probability would hold the other's.

    Args:
        written: How each answer is written: ids, or the text itself.
        answers: The answers.
        name: Who is asked.

    Raises:
        ValueError: there are such answers.
    """
    for number, one in enumerate(written):
        for place, other in enumerate(written):
            if number != place and other[: len(one)] == one:
                raise ValueError(
                    f"asked of {name}, the answer {answers[number]!r} begins {answers[place]!r}, "
                    "so that its probability would hold the other's: use 1 … 9, letters, or words "
                    "that begin differently"
                )
