"""From prefixes, whose prompts end at one column, to what sequence models read.

A model that is asked about an empty prompt reads its start token in place of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from textenv.errors import TextenvError
from textenv.prefixes import Prefixes


def with_start(
    prefixes: Prefixes, start_token: int | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the tokens with one more column in front, and where each row begins in them.

    Returns:
        tokens int64 [B, 1 + P + T]; begin int64 [B]. Rows without a prompt hold the start token in
        column P, just before what is written.

    Raises:
        TextenvError: a prompt is empty and there is no start token.
    """
    batch = len(prefixes)
    front = np.full((batch, 1), prefixes.nothing)
    tokens = np.concatenate([front, prefixes.tokens], axis=1)
    begin = prefixes.begin + 1
    empty = begin == prefixes.start + 1
    if empty.any():
        if start_token is None:
            raise TextenvError(
                "the prompt is empty and the language model has no start token to read instead: "
                "give prompts="
            )
        tokens[empty, prefixes.start] = start_token
        begin = np.where(empty, prefixes.start, begin)
    return tokens, begin


def left_aligned(
    tokens: npt.NDArray[np.int64],
    begin: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    fill: int = 0,
) -> npt.NDArray[np.int64]:
    """Move tokens[i, begin[i]:end[i]] to column 0, int64 [B, max(end − begin)]; `fill` behind."""
    length = end - begin
    column = begin[:, None] + np.arange(max(int(length.max()), 1))
    inside = column < end[:, None]
    taken = np.take_along_axis(tokens, np.where(inside, column, 0), axis=1)
    return np.where(inside, taken, fill)
