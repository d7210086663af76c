"""What logged texts must keep to be texts of a task: its sizes, its ids and its ends.

N = texts, P = the longest prompt, T = the columns for writing, V = vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from textenv import mdp
from textenv.errors import TextenvError
from textenv.prefixes import Prefixes
from textenv.task import Task

Mask = npt.NDArray[np.bool_]
HIGHEST_LOG_PROB = 1e-3  # 0, but for what float32 and half precision make of it


class BadTextError(TextenvError, ValueError):
    """A logged text is none of its task.

    Attributes:
        text: Its number.
    """

    def __init__(self, text: int, token: int | None, message: str, place: str = "token") -> None:
        """Name the text and the token."""
        self.text = text
        where = "" if token is None else f", {place} {token}"
        super().__init__(f"text {text}{where}: {message}")


def check_texts(task: Task, prefixes: Prefixes, terminated: Mask) -> None:
    """Refuse texts that a task's rules do not allow.

    Args:
        task: The task.
        prefixes: N texts.
        terminated: bool [N], whether the rules are said to have ended them.

    Raises:
        ValueError: V, P or T is another.
        BadTextError: an id is none, a text goes on behind its end, or its end is not what
            `terminated` says.
    """
    _check_sizes(task, prefixes)
    _check_tokens(prefixes)
    _check_ends(task, prefixes, terminated)


def refuse(
    wrong: Mask, message: str, values: npt.NDArray[Any] | None = None, *, place: str = "token"
) -> None:
    """Raise a BadTextError at the first text, and token, where something is wrong.

    Args:
        wrong: bool [N], or [N, K].
        message: What was expected; {} becomes what came.
        values: What came, shaped like `wrong`.
        place: What the second axis counts.
    """
    places = np.argwhere(wrong)
    if not len(places):
        return
    first = tuple(places[0].tolist())
    said = message.format("" if values is None else values[first])
    raise BadTextError(first[0], first[1] if len(first) > 1 else None, said, place)


def _check_sizes(task: Task, prefixes: Prefixes) -> None:
    rules = task.rules
    columns = prefixes.tokens.shape[1] - prefixes.start
    names = ("tokens in the vocabulary", "columns for the prompt", "columns for the text")
    ours = (prefixes.nothing, prefixes.start, columns)
    theirs = (rules.vocabulary_size, rules.prompt_length, rules.max_tokens)
    wrong = [
        f"{came:,} {name} where {task.name} has {expected:,}"
        for name, came, expected in zip(names, ours, theirs, strict=True)
        if came != expected
    ]
    if wrong:
        raise ValueError(
            f"these texts are another task's: they have {' and '.join(wrong)}. Make the task with "
            "the keywords of the environment that they were written in"
        )


def _check_tokens(prefixes: Prefixes) -> None:
    """Refuse ids outside the vocabulary, and gaps in a prompt or in what is written."""
    tokens, nothing, start = prefixes.tokens, prefixes.nothing, prefixes.start
    wrong = (tokens < 0) | (tokens > nothing)
    refuse(wrong, f"ids lie in 0 … {nothing - 1}, got {{}}", tokens, place="column")
    prompt, text = tokens[:, :start] != nothing, tokens[:, start:] != nothing
    gaps = ~prompt & (np.cumsum(prompt, axis=1) > 0)
    refuse(gaps, "nothing stands there, in the middle of the prompt", place="column")
    written = prefixes.written_mask
    refuse(written & ~text, "nothing stands there, in the middle of the text")
    refuse(~written & text, "a token stands there, behind the text's end")


def _check_ends(task: Task, prefixes: Prefixes, terminated: Mask) -> None:
    rules = task.rules
    state = mdp.initial(rules, prefixes.tokens[:, : rules.prompt_length])
    for step in range(rules.max_tokens):  # write them again, all texts at once
        over = np.broadcast_to(np.asarray(mdp.terminal(rules, state)), len(prefixes))
        late = np.flatnonzero(over & (prefixes.written > step))
        if len(late):
            row = int(late[0])
            shown = _shown(task, prefixes, row)
            raise BadTextError(row, step, f"{task.name} ends before it, and it goes on: {shown}")
        going_on = prefixes.written > step
        column = rules.prompt_length + step
        mdp.transition_in_place(rules, state, prefixes.tokens[:, column], going_on)
    ended = np.broadcast_to(np.asarray(mdp.terminal(rules, state)), len(prefixes))
    for row in np.flatnonzero(ended != terminated)[:1].tolist():
        said = "have been ended by the rules" if terminated[row] else "have been cut off"
        does = "does not end" if terminated[row] else "ends"
        raise BadTextError(
            row,
            int(prefixes.written[row]) - 1,
            f"it is said to {said} there, but {task.name} {does} it there: "
            f"{_shown(task, prefixes, row)}",
        )


def _shown(task: Task, prefixes: Prefixes, row: int) -> str:
    ids = prefixes.tokens[row, prefixes.start : prefixes.start + prefixes.written[row]].tolist()
    return f"{task.vocabulary.decode(ids)!r}, the tokens {ids}"
