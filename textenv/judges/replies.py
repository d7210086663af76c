"""What an OpenAI-compatible endpoint replied, as log-probabilities of the answers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from textenv.judges.backend import AnswerError, Float64, shorten

_AROUND = " \t\r\n\"'`*.()[]"  # what may stand around an answer and changes nothing of it


def log_probs_of(body: bytes, answers: Sequence[str]) -> Float64:
    """Read a reply: the log-probability of each answer, float64 [A].

    The text must be one of the answers. Where the reply gives the likeliest tokens in its place,
    those that are answers count with their probabilities, others with 0; else the answer that was
    given has probability 1.

    Raises:
        AnswerError: it is no JSON of the right form, or the text is no answer.
    """
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"replied {_shown(body)}, expected JSON") from error
    choice = _only_choice(reply)
    given = _answer(choice, answers)
    found = _among_the_likeliest(choice, answers)
    if found is None or found[given] == -np.inf:
        found = np.full(len(answers), -np.inf)
        found[given] = 0.0
    return found


def parse(text: str, answers: Sequence[str]) -> int | None:
    """Return which answer a text is, or None: blanks, quotes and a full stop around it apart.

    >>> parse(" B.", ["A", "B"]), parse("A or B", ["A", "B"])
    (1, None)
    """
    bare = text.strip(_AROUND)
    if bare in answers:
        return list(answers).index(bare)
    folded = [answer.casefold() for answer in answers]
    if folded.count(bare.casefold()) == 1:
        return folded.index(bare.casefold())
    return None


def _only_choice(reply: Any) -> dict[str, Any]:
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list):
        raise AnswerError(f"replied {_shown(reply)}, expected an object with a list of choices")
    if len(choices) != 1 or not isinstance(choices[0], dict):
        raise AnswerError(f"gave {len(choices)} choices, expected 1")
    return choices[0]


def _answer(choice: dict[str, Any], answers: Sequence[str]) -> int:
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, str):
        reason = choice.get("finish_reason")
        raise AnswerError(
            f"gave no text (finish_reason {reason!r:.60}), expected one of {_list(answers)}"
        )
    given = parse(content, answers)
    if given is None:
        raise AnswerError(f"answered {shorten(content)}, expected one of {_list(answers)}")
    return given


def _among_the_likeliest(choice: dict[str, Any], answers: Sequence[str]) -> Float64 | None:
    """Add up the first token's alternatives that are answers ("4" and " 4"); None: not given."""
    try:
        tokens = choice["logprobs"]["content"]
        # The first that is not only blanks or quotes: there the answer begins.
        first = next(token for token in tokens if token["token"].strip(_AROUND))
        likeliest = [
            (each["token"].strip(_AROUND), float(each["logprob"])) for each in first["top_logprobs"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, StopIteration):
        return None
    found = np.full(len(answers), -np.inf)
    for bare, log_prob in likeliest:
        if bare in answers and math.isfinite(log_prob) and log_prob <= 1e-6:
            place = list(answers).index(bare)
            found[place] = np.logaddexp(found[place], log_prob)
    return found


def _list(answers: Sequence[str]) -> str:
    return ", ".join(map(repr, answers[:12]))


def _shown(reply: Any) -> str:
    if isinstance(reply, bytes):
        reply = reply.decode("utf-8", "replace")
    return shorten(reply if isinstance(reply, str) else json.dumps(reply), 120)
