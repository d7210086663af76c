"""Which texts are read together: minibatches of a step, and parts of one that fit in memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def minibatches(generator: np.random.Generator, texts: int, number: int) -> list[Rows]:
    """Part texts at random into steps of (nearly) equal size; a text is never cut.

    Args:
        generator: Draws the order; it is not asked where there is one part.
        texts: How many.
        number: Of parts, ≥ 1.
    """
    if number == 1:
        return [np.arange(texts)]
    return [np.sort(part) for part in np.array_split(generator.permutation(texts), number)]


def parts_that_fit(
    rows: Rows,
    read: npt.NDArray[np.int64],
    written: npt.NDArray[np.int64],
    memory: Callable[[int, int, int], float],
    budget: float,
) -> list[Rows]:
    """Part texts, the longest first, so that each part's memory stays within a budget.

    Texts of like length come together: what is read of each is padded to the longest of its part.

    Args:
        rows: Which texts.
        read: int64 [N], how many columns of each of all texts are read.
        written: int64 [N], how many tokens of each count.
        memory: (texts, columns, tokens that count) → bytes, growing in all three.
        budget: Bytes; a text that needs more is read alone.
    """
    parts: list[list[int]] = []
    tokens = 0
    for row in sorted(rows.tolist(), key=lambda row: (-read[row], row)):
        columns = int(read[parts[-1][0]]) if parts else 0
        grown = tokens + int(written[row])
        if parts and memory(len(parts[-1]) + 1, columns, grown) <= budget:
            parts[-1].append(row)
            tokens = grown
            continue
        tokens = int(written[row])
        parts.append([row])
    return [np.sort(part) for part in parts]
