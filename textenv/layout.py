"""Breaking styled text into lines, in terminal cells or in pixels alike.

Blanks and both sides of a wide (Chinese, Japanese, Korean) character are places to break a line; a
closing mark never begins one. Right-to-left text is not reordered.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from textenv.vocabulary import Vocabulary

NEVER_FIRST = frozenset("。，、．：；！？）］｝」』】》〉…～・”’,.;:!?)]}")
NEVER_LAST = frozenset("（［｛「『【《〈“‘([{")


class Piece(NamedTuple):
    """Text of one style: "prompt", "text", "last" (token), "end", "gain", "loss" or "nil"."""

    text: str
    style: str


def wrap(
    pieces: Iterable[Piece], width: float, measure: Callable[[str], float]
) -> list[list[Piece]]:
    """Break styled text into lines; a word that is wider than a line is broken anywhere.

    Args:
        pieces: The text.
        width: How wide a line may be, in the unit of `measure`.
        measure: The width of one cluster, a character with the marks that combine with it.

    >>> wrap([Piece("a good day", "text")], 6, cell_width)
    [[Piece(text='a good', style='text')], [Piece(text='day', style='text')]]
    >>> [line[0].text for line in wrap([Piece("我爱你。", "text")], 6, cell_width)]
    ['我爱', '你。']
    """
    lines: list[list[Piece]] = [[]]
    used = 0.0

    def start_line() -> None:
        nonlocal used
        lines.append([])
        used = 0.0

    for unit in _units(pieces):
        word = sum(measure(cluster) for cluster, _ in unit if not cluster.isspace())
        if used and used + word > width:
            start_line()
        for cluster, style in unit:
            if cluster == "\n":
                start_line()
                continue
            size = measure(cluster)
            if not used or used + size <= width:
                lines[-1].append(Piece(cluster, style))
                used += size
            elif not cluster.isspace():  # a blank that does not fit vanishes
                start_line()
                lines[-1].append(Piece(cluster, style))
                used = size
    return [_without_last_blanks(_merged(line)) for line in lines[:-1]] + [_merged(lines[-1])]


def clusters(text: str) -> Iterator[str]:
    """Split text into characters, each with the marks that combine with it."""
    cluster = ""
    for character in text:
        if cluster and cluster != "\n" and unicodedata.category(character) in _JOINING:
            cluster += character
            continue
        if cluster:
            yield cluster
        cluster = character
    if cluster:
        yield cluster


def cell_width(text: str) -> int:
    """Return how many cells of a terminal a text takes: 2 for a wide character, 0 for a mark.

    >>> cell_width("我 e\u0301")
    4
    """
    return sum(_cells(character) for character in text)


def visible(text: str) -> str:
    r"""Show control characters as symbols, so that a text cannot steer the terminal.

    >>> visible("a\x1b[2J\n")
    'a␛[2J\n'
    """
    return "".join(_visible(character) for character in text)


def label(text: str) -> str:
    r"""Show a token's text in one line: blanks in front as ␣, a new line as ↵.

    >>> label(" good"), label(".\n")
    ('␣good', '.↵')
    """
    text = visible(text).replace("\n", "↵")
    blanks = len(text) - len(text.lstrip(" "))
    return "␣" * blanks + text[blanks:]


def token_label(vocabulary: Vocabulary, token: int) -> str:
    """Show a token in one line; one without a text of its own as the vocabulary stores it."""
    text = vocabulary.decode([token])
    if not text or "\ufffd" in text:  # a special token, or a part of a character
        return visible(vocabulary.token(token))
    return label(text)


_JOINING = ("Mn", "Me", "Mc", "Cf")


def _units(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Clusters that stay on one line if they can: a word, of several tokens perhaps, and blanks."""
    unit: list[Piece] = []
    for text, style in pieces:
        for cluster in clusters(text):
            if unit and _may_break(unit[-1].text, cluster):
                yield unit
                unit = []
            unit.append(Piece(cluster, style))
    if unit:
        yield unit


def _may_break(left: str, right: str) -> bool:
    if "\n" in (left, right):
        return True
    if right.isspace() or left.isspace():
        return left.isspace() and not right.isspace()
    if left[0] in NEVER_LAST or right[0] in NEVER_FIRST:
        return False
    return cell_width(left) == 2 or cell_width(right) == 2


def _merged(line: list[Piece]) -> list[Piece]:
    merged: list[Piece] = []
    for text, style in line:
        if merged and merged[-1].style == style:
            text = merged.pop().text + text
        merged.append(Piece(text, style))
    return merged


def _without_last_blanks(line: list[Piece]) -> list[Piece]:
    if line and line[-1].style != "last":
        text, style = line[-1]
        return [*line[:-1], Piece(text.rstrip(), style)]
    return line


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _visible(character: str) -> str:
    if character in "\u2028\u2029":
        return "\n"
    if character == "\n" or unicodedata.category(character) not in ("Cc", "Cs"):
        return character
    if character == "\t":
        return "    "
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # ␀ … ␟
    return "␡" if code == 0x7F else "\ufffd"
