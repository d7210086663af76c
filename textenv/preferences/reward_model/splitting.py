"""Training and validation rows that share no prompt; where there are no prompts, no text."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from textenv.preferences.comparisons import Comparison, RatedText

Row = Comparison | RatedText
_LARGEST = 0.5  # of the rows; a group that is larger is taken apart


class Split(NamedTuple):
    """Row numbers.

    train: int64 [n].
    validation: int64 [m].
    left_out: int64 [k]; comparisons with one text on each side.
    groups: int64 [n + m + k], by row: rows of one prompt have one number; where texts are divided,
        rows of one text, or of one pair.
    """

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    left_out: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]


def split(data: Sequence[Row], share: float, seed: int) -> Split:
    """Set whole prompts aside, about this share of the rows; whole texts where there are none.

    Comparisons without prompts that hang together through their texts stay on one side. Where more
    than half of all rows hang together so, or all rows have one prompt, the texts are divided
    instead, and comparisons that have one text on each side are left out, and counted. A text that
    stands after several prompts may be on both sides.

    Args:
        data: The rows.
        share: 0 … 1; 0 sets none aside.
        seed: Of the choice.

    Raises:
        ValueError: there is only one prompt, or one text, so nothing can be set aside.
    """
    generator = np.random.default_rng(seed)
    groups = _groups(data)
    everything = np.arange(len(data))
    if not share:
        return Split(everything, everything[:0], everything[:0], groups)
    sizes = np.bincount(groups)
    by_prompt = all(row.prompt for row in data)
    if len(sizes) > 1 and (by_prompt or sizes.max() <= _LARGEST * len(data)):
        aside = _aside(sizes, share, generator)[groups]
        return Split(everything[~aside], everything[aside], everything[:0], groups)
    return _by_texts(data, share, generator)


def _groups(data: Sequence[Row]) -> npt.NDArray[np.int64]:
    """Number each row's group: its prompt, or all texts that comparisons join."""
    parent: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for row in data:
        nodes = _nodes(row)
        for node in nodes:
            parent[root(node)] = root(nodes[0])
    numbers: dict[Hashable, int] = {}
    found = [numbers.setdefault(root(_nodes(row)[0]), len(numbers)) for row in data]
    return np.array(found, dtype=np.int64)


def _nodes(row: Row) -> list[tuple[str, str]]:
    if row.prompt:
        return [("prompt", row.prompt)]
    return [("text", text) for text in _texts(row)]


def _texts(row: Row) -> tuple[str, ...]:
    return (row.first, row.second) if isinstance(row, Comparison) else (row.text,)


def _aside(
    sizes: npt.NDArray[np.int64], share: float, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Mark groups, drawn at random, that come nearest to a share of the rows; never all or none."""
    order = generator.permutation(len(sizes))
    before = np.concatenate([[0], np.cumsum(sizes[order])])
    count = int(np.abs(before - share * sizes.sum()).argmin())
    aside = np.zeros(len(sizes), dtype=np.bool_)
    aside[order[: min(max(count, 1), len(sizes) - 1)]] = True
    return aside


def _by_texts(data: Sequence[Row], share: float, generator: np.random.Generator) -> Split:
    known: dict[str, int] = {}
    rows = [[known.setdefault(text, len(known)) for text in _texts(row)] for row in data]
    aside = np.zeros(len(known), dtype=np.bool_)
    if len(known) > 1:
        aside = _aside(np.ones(len(known), dtype=np.int64), share, generator)
        if aside.sum() == 1 and len(rows[0]) == 2:  # a comparison needs two
            aside[generator.choice(np.flatnonzero(~aside))] = True
    set_aside = np.array([aside[row].all() for row in rows])
    kept = np.array([not aside[row].any() for row in rows])
    if not set_aside.any() or not kept.any():
        raise ValueError(
            f"no {share:.0%} of these {len(data)} rows of {len(known)} texts can be set aside "
            "without a text on both sides: give more rows, or validation=0"
        )
    asked: dict[frozenset[int], int] = {}  # several people may have been asked about one pair
    groups = np.array([asked.setdefault(frozenset(row), len(asked)) for row in rows])
    numbers = np.arange(len(data))
    return Split(numbers[kept], numbers[set_aside], numbers[~kept & ~set_aside], groups)
