"""Rating in the terminal: the same questions and answers as on the page, with plain lines."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

from textenv.preferences.database import AlreadyRatedError, Database
from textenv.preferences.records import PairToRate, Question
from textenv.preferences.sides import first_is_left, meant

_PAIR_KEYS = {"1": "left", "2": "right", "0": "tie", "=": "tie", "s": "skip", "f": "flag"}
_HELP = """\
1, 2   this text is better          s   skip: you cannot say
0, =   both are equal               f   flag for review
u      undo your last answer        q   stop; all that you answered is kept
A text that stands alone is given a number of the scale."""


def rate_in_terminal(
    database: Database,
    *,
    rater: str | None = None,
    raters_per_pair: int = 1,
    scale: tuple[int, int] = (-4, 4),
    input: Callable[[str], str] = input,
    output: Callable[[str], Any] = print,
) -> int:
    """Ask a person until nothing is left; q, the end of the input or Ctrl-C stop quietly.

    Args:
        database: What is rated.
        rater: The code of somebody who has rated here before; None: somebody new.
        raters_per_pair: How many verdicts each pair and text needs.
        scale: The least and the greatest whole number that a text can be given.
        input: Asks for a line.
        output: Shows a text.

    Returns:
        How many answers there are more than before: each that was undone counts one less.

    Raises:
        ValueError: nobody has this code.
        RatingsError: an answer could not be written.
    """
    if rater is not None and not database.has_rater(rater):
        raise ValueError(f"nobody has the code {rater!r} here: look at its spelling, or give none")
    who = database.add_rater() if rater is None else rater
    output(f"You are {who}; --rater {who} goes on as the same. h shows the keys, q stops.")
    kept = 0
    try:
        while (asked := database.next_question(who, raters_per_pair)) is not None:
            progress = database.progress(who, raters_per_pair)
            output(_shown(asked, database, who, f"{progress.done + 1} of {progress.total}"))
            change = _turn(asked, database, who, scale, input, output)
            if change is None:
                break
            kept += change
        else:
            left = database.progress(who, raters_per_pair).elsewhere
            output("The last ones are with other raters." if left else "All done. Thank you.")
    except (EOFError, KeyboardInterrupt):
        output("")
    database.let_go(who)  # so that nobody waits for what was shown last
    return kept


def _turn(
    asked: Question,
    database: Database,
    who: str,
    scale: tuple[int, int],
    input: Callable[[str], str],
    output: Callable[[str], Any],
) -> int | None:
    """Ask until there is one answer more (1) or less (−1), or the person stops (None)."""
    pair = isinstance(asked, PairToRate)
    question = "1, 2, 0 or h: " if pair else f"{scale[0]} … {scale[1]} or h: "
    while True:
        typed = input(question).strip().lower().replace("−", "-")
        if typed == "q":
            return None
        if typed == "u":
            if database.undo(who) is not None:
                return -1
            output("there is nothing to undo")
        elif typed == "h":
            output(_HELP)
        elif pair and typed in _PAIR_KEYS:
            return _kept(asked, database, who, _PAIR_KEYS[typed], output)
        elif not pair and (number := _number(typed, scale)) is not None:
            return _kept(asked, database, who, number, output)
        else:
            output(f"type {question.removesuffix(': ')}, not {typed!r:.40}")


def _kept(
    asked: Question, database: Database, who: str, said: str | float, output: Callable[[str], Any]
) -> int:
    """Keep an answer: 1, or 0 where this person has answered it elsewhere meanwhile."""
    try:
        if isinstance(asked, PairToRate):
            left = first_is_left(database.salt, asked.id, who)
            database.rate_pair(asked, who, meant(str(said), left), first_left=left)
        else:
            database.rate_text(asked, who, said)
    except AlreadyRatedError as error:
        output(str(error))
        return 0
    return 1


def _number(typed: str, scale: tuple[int, int]) -> float | str | None:
    if typed in ("s", "f"):
        return {"s": "skip", "f": "flag"}[typed]
    if not typed.removeprefix("-").isdecimal() or len(typed) > 9:
        return None
    return float(typed) if scale[0] <= int(typed) <= scale[1] else None


def _shown(asked: Question, database: Database, who: str, count: str) -> str:
    lines = ["", f"── {count} " + "─" * 40]
    if asked.flagged is not None:
        lines.append(f"flagged for review: {harmless(asked.flagged)}")
    if asked.prompt:
        lines += ["prompt:", _indented(asked.prompt)]
    if not isinstance(asked, PairToRate):
        return "\n".join([*lines, "text:", _indented(asked.text)])
    texts = [asked.first, asked.second]
    if not first_is_left(database.salt, asked.id, who):
        texts.reverse()
    return "\n".join([*lines, "1:", _indented(texts[0]), "2:", _indented(texts[1])])


def _indented(text: str) -> str:
    lines = harmless(text).split("\n")
    return "\n".join(f"    {line}" for line in lines) if text.strip() else "    (no text)"


def harmless(text: str) -> str:
    r"""Show control characters as themselves: a text must not move the cursor or turn the line.

    >>> harmless("a\x1b[31mb\n\u202ec")
    'a␛[31mb\n�c'
    """
    return "".join(map(_harmless, text))


def _harmless(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs"):
        return character
    if character < " ":
        return chr(0x2400 + ord(character))  # the pictures of control characters
    if character in "\u200c\u200d\u200e\u200f":  # joiners and marks that scripts need
        return character
    return "�"
