"""Fixed ground for decoding steps: buffers of one shape, and what is recorded over them.

See `textenv.models.graphs`. R = rows, C = columns, n = rows that a question has, at most R.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from textenv.models.cache import ColumnCache
from textenv.models.memory import Ids

Step = tuple[Tensor, Tensor]  # logits [n, V], hidden [n, H]
Forward = Callable[[Tensor, Tensor, Tensor, Cache], Step]  # of ids, seen, positions and a cache
Run = Callable[[], Step]
Capture = Callable[[Run], tuple[Callable[[], Any], Step]]


class Arena:
    """Fixed buffers for one shape, and the graph of a step over them.

    Args:
        kind: What it is for: the weights' layout, (R, C), and the type of keys.
        cache: One whose layers' form the buffers get.

    Attributes:
        checked: How many answers were compared with those of the usual step.
    """

    def __init__(self, kind: Any, cache: ColumnCache) -> None:
        self.kind = kind
        self.rows, self.columns = kind[1]
        device = cache.layers[0].keys.device
        self.checked = 0
        self._inputs = torch.zeros(2 * self.rows + 1, dtype=torch.int64, device=device)
        self._column = torch.arange(self.columns, device=device)
        clock = self._inputs[-1:]
        self._cache = Cache(layers=[_layer(layer, self.rows, self.columns, clock)
                                    for layer in cache.layers])  # fmt: skip
        self._replay: Callable[[], Any] | None = None
        self._answer: Step | None = None
        self._holder: weakref.ref[ColumnCache] | None = None
        self._view: Tensor | None = None  # the first layer's keys, as the holder has them

    @property
    def holder(self) -> ColumnCache | None:
        """The cache that lives here; it leaves when its buffers are made anew."""
        holder = None if self._holder is None else self._holder()
        return holder if holder is not None and holder.layers[0].keys is self._view else None

    def take(self, cache: ColumnCache) -> None:
        """Let a cache move in: its buffers become views of the first rows.

        One that lives here gets buffers of its own again.
        """
        before = self.holder
        for layer in [] if before is None else before.layers:
            layer.keys, layer.values = layer.keys.clone(), layer.values.clone()
        rows = len(cache.begin)
        for mine, theirs in zip(self._cache.layers, cache.layers, strict=True):
            for name in ("keys", "values"):
                buffer, old = getattr(mine, name), getattr(theirs, name)
                buffer.zero_()  # what is hidden must still be finite
                buffer[:rows, :, : cache.clock] = old[:, :, : cache.clock]
                setattr(theirs, name, buffer[:rows])
        cache.window.capacity = self.columns
        self._holder, self._view = weakref.ref(cache), cache.layers[0].keys

    def step(self, forward: Forward, capture: Capture, ids: Ids, begin: Ids, clock: int) -> Step:
        """Read one token of n rows; the others read a token that nobody sees."""
        number, rows = len(ids), self.rows
        inputs = np.zeros(2 * rows + 1, dtype=np.int64)
        inputs[rows:] = clock
        inputs[:number], inputs[rows : rows + number] = ids, begin
        self._inputs.copy_(torch.from_numpy(inputs))
        if self._replay is None:
            with _casting_inside(), torch.cuda.device_of(self._inputs):
                self._replay, self._answer = capture(lambda: self._run(forward))
        self._replay()
        assert self._answer is not None
        logits, hidden = self._answer
        return logits[:number].clone(), hidden[:number].clone()  # the next replay overwrites them

    def _run(self, forward: Forward) -> Step:
        """What is recorded: it reads no number but those in the buffers."""
        ids, begin, clock = self._inputs.split([self.rows, self.rows, 1])
        seen = (self._column >= begin[:, None]) & (self._column <= clock)
        return forward(ids[:, None], seen.long(), (clock - begin)[:, None], self._cache)


class _FixedLayer(CacheLayerMixin):
    """Keys and values of one layer, [R, heads, C, width], all of which are always handed out.

    Args:
        keys: The keys' buffer.
        values: The values'.
        clock: int64 [1], the column that is written next.
    """

    is_compileable = True  # so that the library reads no number of a mask
    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor, clock: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.clock = keys, values, clock
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        raise AssertionError("its buffers are there from the beginning")

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one column, and return all."""
        self.keys.index_copy_(2, self.clock, key_states)
        self.values.index_copy_(2, self.clock, value_states)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2], 0

    def get_seq_length(self) -> Any:
        return self.clock[0]

    def get_max_length(self) -> int:
        return self.keys.shape[2]


def _layer(like: Any, rows: int, columns: int, clock: Tensor) -> _FixedLayer:
    """An empty layer in the form of one of a `ColumnCache`."""
    keys, values = (
        part.new_zeros(rows, part.shape[1], columns, part.shape[3])
        for part in (like.keys, like.values)
    )
    return _FixedLayer(keys, values, clock)


@contextmanager
def _casting_inside() -> Iterator[None]:
    """Let autocast convert weights inside the graph: what it keeps elsewhere is soon gone."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
