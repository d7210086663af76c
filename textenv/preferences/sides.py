"""Which text of a pair a rater sees on which side, and what their answer means then."""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

from textenv.preferences.records import Answer

Shown = Literal["left", "right", "tie", "skip", "flag"]
"""What a rater says of two texts in front of them."""


def first_is_left(salt: str, pair: int, rater: str) -> bool:
    """Toss a coin for each pair and rater, which falls the same each time it is asked.

    So a page that is loaded again, and a pair that comes back by undo, look as before.

    Args:
        salt: Of the database.
        pair: The pair's number.
        rater: The rater's pseudonym.
    """
    key = f"{pair} {rater}".encode()
    return bool(hashlib.blake2b(key, key=salt.encode(), digest_size=1).digest()[0] & 1)


def meant(shown: str, first_left: bool) -> Answer:
    """Say what an answer about left and right means for the first text.

    Raises:
        ValueError: it is none.

    >>> meant("left", first_left=True), meant("left", first_left=False), meant("tie", True)
    ('better', 'worse', 'tie')
    """
    if shown not in get_args(Shown):
        raise ValueError(f"expected one of {', '.join(get_args(Shown))}, got {shown!r}")
    if shown in ("left", "right"):
        return "better" if (shown == "left") == first_left else "worse"
    return shown  # type: ignore[return-value]
