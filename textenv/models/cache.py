"""A key-value cache in which all rows share one clock and any row can begin anew.

Columns are steps of the clock; the last token of every row that is being read stands in the newest
one. A row that begins anew is written into the columns just before it, and what that row had there
is hidden by the attention mask; positions are the row's own. Attention reads one contiguous window
of columns, so that the library builds causal masks, sliding windows and ALiBi itself from the
two-dimensional mask. When the buffer is full the window moves to its left end.

The other layout, which scatters each row's keys at its own position under a four-dimensional mask,
drops sliding windows in silence; `python -m benchmarks cache` compares the two.

R = rows, C = columns of the buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

Numbers = npt.NDArray[np.int64]

SPARE = 8


@dataclass
class _Window:
    """Columns first … clock − 1 are read; the next token is written into column `clock`."""

    first: int
    clock: int
    capacity: int


class _Layer(CacheLayerMixin):
    """Keys and values of one layer, [R, heads, C, width], in a buffer that is made once."""

    is_sliding = False  # everything is kept; the mask hides what lies outside a sliding window

    def __init__(self, window: _Window) -> None:
        super().__init__()
        self.window = window

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.allocate(key_states, value_states, len(key_states))

    def allocate(self, keys: Tensor, values: Tensor, rows: int) -> None:
        """Make buffers for that many rows of keys and values like these."""
        self.dtype, self.device = keys.dtype, keys.device
        self.keys = _buffer(keys, rows, self.window.capacity, self.window.clock)
        self.values = _buffer(values, rows, self.window.capacity, self.window.clock)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new columns and return the window, the new ones included."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self.window.clock, self.window.clock + key_states.shape[2]
        self.keys[:, :, start:end] = key_states
        self.values[:, :, start:end] = value_states
        first = self.window.first
        return self.keys[:, :, first:end], self.values[:, :, first:end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self.window.clock - self.window.first

    def get_max_length(self) -> int:
        return -1


class ColumnCache(Cache):
    """The cache of R rows.

    Args:
        rows: R.
        capacity: C.
        clock: Where the first column is written; there is room for longer rows before it.

    Attributes:
        spare: How many columns are made room for at least, when there is none left. Few, because
            attention is slower over rows that lie far from one another; many where moving is dear.
        begin: int64 [R], the column of each row's first token.
        end: int64 [R], one past that of its last.
    """

    def __init__(self, rows: int, capacity: int, clock: int = 0) -> None:
        super().__init__(layers=[])
        self.window = _Window(clock, clock, capacity)
        self.spare = SPARE
        self.begin: Numbers = np.full(rows, clock)
        self.end: Numbers = np.full(rows, clock)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """As the library's `Cache.update`."""
        while len(self.layers) <= layer_idx:
            self.layers.append(_Layer(self.window))
        return self.layers[layer_idx].update(key_states, value_states)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def clock(self) -> int:
        """The column that is written next."""
        return self.window.clock

    @property
    def length(self) -> Numbers:
        """How many tokens of each row are here, int64 [R]."""
        return self.end - self.begin

    def nbytes(self) -> int:
        """Memory of the buffers, in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors())

    def tensors(self) -> list[Tensor]:
        """All buffers, [R, heads, C, width] each."""
        return [part for layer in self._ready() for part in (layer.keys, layer.values)]

    def written(self, length: Numbers) -> None:
        """Note that the first columns hold rows of that many tokens, left-aligned, int64 [R]."""
        self.window.clock = int(length.max())
        self.begin, self.end = np.zeros_like(length), length.copy()

    def open(self, active: npt.NDArray[np.bool_], wide: int) -> tuple[Numbers, Numbers]:
        """Open the window for the next columns; return what each row sees, and its positions.

        Args:
            active: bool [R], the rows that go on; the others see themselves alone.
            wide: w, how many columns come.

        Returns:
            The mask, int64 [R, columns of the window + w], and the positions, int64 [R, w].
        """
        begin = np.where(active & (self.length > 0), self.begin, self.clock)
        self.window.first = int(begin.min())
        column = np.arange(self.window.first, self.clock + wide)
        seen = (column >= begin[:, None]).astype(np.int64)
        return seen, column[-wide:] - begin[:, None]

    def close(self, active: npt.NDArray[np.bool_], wide: int) -> None:
        """Note that the columns that `open` spoke of are written."""
        self.begin[active & (self.length == 0)] = self.clock
        self.window.clock += wide
        self.end[active] = self.clock

    def select(self, rows: Numbers, known: Numbers, *, after: int = 0) -> Any:
        """Copy the beginnings of some rows, moved to end at one column.

        Args:
            rows: int64 [n].
            known: int64 [n], how many leading tokens of each are copied.
            after: Columns to leave free behind them.
        """
        clock = int(known.max())
        copy = type(self)(len(rows), clock + after, clock)
        copy.spare = self.spare
        copy.begin = clock - known
        start = self.begin[rows] + known - clock
        taken = torch.as_tensor(rows)
        for layer in self._ready():
            own = _Layer(copy.window)
            own.allocate(layer.keys, layer.values, len(rows))
            taken = taken.to(layer.device)
            if (start == start[0]).all() and start[0] >= 0:  # they end at one column already
                columns = slice(int(start[0]), int(start[0]) + clock)
                own.keys[:, :, :clock] = layer.keys[:, :, columns][taken]
                own.values[:, :, :clock] = layer.values[:, :, columns][taken]
            else:
                places = np.maximum(start[:, None] + np.arange(clock), 0)  # [n, clock]
                column = torch.as_tensor(places, device=layer.device)
                for mine, theirs in ((own.keys, layer.keys), (own.values, layer.values)):
                    moved = theirs.transpose(1, 2)[
                        taken[:, None], column
                    ]  # [n, clock, heads, width]
                    mine[:, :, :clock] = moved.transpose(1, 2)
            copy.layers.append(own)
        return copy

    def place(self, slots: Numbers, source: ColumnCache) -> None:
        """Let these rows hold those of another cache instead, just before the clock.

        Args:
            slots: int64 [n].
            source: A cache of n rows that end at one column, none of them longer than there are
                columns before the clock.
        """
        length = source.length
        # What stands before a shorter row is copied with it: one copy for all, and nobody sees it.
        wide, end = int(length.max()), int(source.end[0])
        assert (source.end == end).all()
        here, there = slice(self.clock - wide, self.clock), slice(end - wide, end)
        slot = torch.as_tensor(slots)
        for number, other in enumerate(source._ready()):
            if number >= len(self.layers):
                self.layers.append(_Layer(self.window))
                self.layers[number].allocate(other.keys, other.values, len(self.begin))
            layer = self.layers[number]
            slot = slot.to(layer.device)
            layer.keys[slot, :, here] = other.keys[:, :, there]
            layer.values[slot, :, here] = other.values[:, :, there]
        self.begin[slots], self.end[slots] = self.clock - length, self.clock

    def make_room(self, before: int, after: int, wanted: npt.NDArray[np.bool_]) -> None:
        """See to it that a row of that many tokens fits before the clock, and columns behind it.

        Args:
            before: Tokens of the longest row that is to be placed.
            after: Columns that are written next.
            wanted: bool [R]; when the buffer is full other rows become empty.
        """
        window = self.window
        if before <= window.clock and window.clock + after <= window.capacity:
            return
        self.begin[~wanted] = self.end[~wanted] = window.clock
        first = int(self.begin.min())
        clock = max(before, window.clock - first)
        capacity = clock + after + max(self.spare, clock // 8)
        start = clock - (window.clock - first)
        for layer in self._ready():
            layer.keys = _moved(layer.keys[:, :, first : window.clock], capacity, start)
            layer.values = _moved(layer.values[:, :, first : window.clock], capacity, start)
        shift = clock - window.clock
        self.begin, self.end = self.begin + shift, self.end + shift
        window.first, window.clock, window.capacity = start, clock, capacity

    def empty(self, slots: Numbers) -> None:
        """Let these rows hold nothing."""
        self.begin[slots] = self.end[slots] = self.clock

    def _ready(self) -> list[_Layer]:
        return [layer for layer in self.layers if layer.is_initialized]


def _buffer(like: Tensor, rows: int, columns: int, before: int) -> Tensor:
    """Room for [R, heads, C, width].

    The first columns are zeros: rows that begin later have them hidden, and what is hidden must
    still be finite. Those behind are written before they are read.
    """
    _, heads, _, width = like.shape
    buffer = like.new_empty(rows, heads, columns, width)
    buffer[:, :, :before].zero_()
    return buffer


def _moved(columns: Tensor, capacity: int, start: int) -> Tensor:
    """A new buffer that holds these columns from `start`."""
    buffer = _buffer(columns, len(columns), capacity, start)
    buffer[:, :, start : start + columns.shape[2]] = columns
    return buffer
