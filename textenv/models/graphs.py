"""Decoding steps as CUDA graphs: recorded once for each shape, replayed with new numbers.

On a GPU a small model's step is mostly the time in which Python starts a thousand kernels one by
one. A graph starts them all at once, but every shape and every address in it is fixed. So a step
is put on fixed ground, an *arena*: R rows and C columns, both rounded up, whose buffers are made
once. A `ColumnCache` moves into an arena (its tensors become views of the buffers) and goes on as
before. What changes from step to step, the tokens, where each row begins and the clock, is
written into one small tensor, from which masks and positions are computed inside the graph. The
library's own forward pass is what is recorded, sliding windows and ALiBi included.

Weights are read where they lie: an optimizer's step needs no new graph. Graphs outlive `forget`,
and so do their buffers; `Graphs.clear` drops them. A graph's first answers are compared with
those of the usual step; where they differ, or where a model cannot be recorded, a warning says so
and everything goes the usual way. Not here: encoder–decoders, and passes over several tokens.

R = rows, C = columns, n = rows that a question has, at most R.
"""

from __future__ import annotations

import warnings
import weakref
from collections import Counter
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

PATIENCE = 8  # steps of a shape that go the usual way first: recording takes as long as many
CHECKED = 2  # answers of a graph that are checked; the second shows whether the clock was fixed
MAX_ARENAS = 6
_TOLERANCE = {2: 0.05, 4: 1e-3, 8: 1e-6}  # relative, by the size of a number in bytes


class Graphs:
    """The graphs of one model.

    Args:
        capture: Records a function without arguments; returns what replays it, and its answer,
            which every replay overwrites. None: a CUDA graph, and nothing on other devices.
        patience: How many steps of each shape are not recorded.

    Attributes:
        enabled: Set it to False to go the usual way.
        replayed: How many steps were replayed and used.
    """

    def __init__(self, capture: Capture | None = None, patience: int = PATIENCE) -> None:
        self.capture, self.patience = capture, patience
        self.enabled = True
        self.replayed = 0
        self._asked: Counter[Any] = Counter()
        self._arenas: list[_Arena] = []  # the one used last comes first
        self._key: Any = None
        self._layout: Any = None

    def __reduce__(self) -> Any:  # a copied model has recorded nothing
        return Graphs, (self.capture, self.patience)

    def clear(self) -> None:
        """Drop all graphs; their buffers go when the caches inside them do."""
        self._arenas.clear()

    def use(self, key: Any, model: Any) -> None:
        """Say which weights the next steps read.

        Args:
            key: The model's `reading_key`.
            model: The library's model.
        """
        if self.enabled and key != self._key:
            self._key, self._layout = key, _layout(model)

    def step(
        self, forward: Forward, ids: Ids, seen: Ids, positions: Ids, cache: ColumnCache
    ) -> Step | None:
        """Read one token a row; None: this step goes the usual way, nothing has happened.

        Args:
            forward: The model's pass over n rows, w = 1.
            ids: int64 [n, 1].
            seen: The attention mask, int64 [n, columns of the window + 1].
            positions: int64 [n, 1].
            cache: Of n rows; its column `clock` is written.
        """
        if not self._applies(cache):
            return None
        arena = self._arena(cache)
        if arena is None:
            return None
        begin = cache.clock - positions[:, 0]
        try:
            ours = arena.step(forward, self.capture or cuda_capture, ids[:, 0], begin, cache.clock)
        except Exception as problem:  # whatever a model that cannot be recorded raises
            self._give_up(f"recording it raised {type(problem).__name__}: {problem}")
            return None
        if arena.checked < CHECKED:
            arena.checked += 1
            # After the graph, so that the keys that stay are right in any case.
            tensors = (torch.as_tensor(a, device=ours[0].device) for a in (ids, seen, positions))
            theirs = forward(*tensors, cache)
            difference = max(_difference(*pair) for pair in zip(ours, theirs, strict=True))
            if not difference <= _TOLERANCE[theirs[0].element_size()]:
                self._give_up(f"its answer then differs by a share of {difference:.2g}")
            return theirs
        self.replayed += 1
        return ours

    def _applies(self, cache: ColumnCache) -> bool:
        if not self.enabled or type(cache) is not ColumnCache or not cache.layers:
            return False
        if not all(layer.is_initialized for layer in cache.layers):
            return False
        return self.capture is not None or cache.layers[0].device.type == "cuda"

    def _arena(self, cache: ColumnCache) -> _Arena | None:
        """The arena that a cache is in; else one that it moves into, if the shape is worth it."""
        arena = next((a for a in self._arenas if a.holds(cache, self._layout)), None)
        if arena is None:
            shape = rounded_up(len(cache.begin)), rounded_up(cache.window.capacity)
            kind = (self._layout, shape, cache.layers[0].keys.dtype)
            self._asked[kind] += 1
            if self._asked[kind] <= self.patience:
                return None
            arena = next((a for a in self._arenas if a.kind == kind and a.free), None)
            arena = arena or _Arena(kind, cache)
            arena.take(cache)
        self._arenas = [arena, *(a for a in self._arenas if a is not arena)][:MAX_ARENAS]
        return arena

    def _give_up(self, reason: str) -> None:
        self.enabled = False
        self.clear()
        warnings.warn(f"decoding goes on without CUDA graphs: {reason}", stacklevel=2)


class _Arena:
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
    def free(self) -> bool:
        """Whether no cache lives here."""
        holder = None if self._holder is None else self._holder()
        return holder is None or holder.layers[0].keys is not self._view

    def holds(self, cache: ColumnCache, layout: Any) -> bool:
        """Whether that cache lives here; it leaves when its buffers are made anew."""
        held = self._view is not None and cache.layers[0].keys is self._view
        return held and self.kind[0] == layout

    def take(self, cache: ColumnCache) -> None:
        """Let a cache move in: its buffers become views of the first rows."""
        rows = len(cache.begin)
        for mine, theirs in zip(self._cache.layers, cache.layers, strict=True):
            for name in ("keys", "values"):
                buffer, old = getattr(mine, name), getattr(theirs, name)
                buffer.zero_()  # what is hidden must still be finite
                buffer[:rows, :, : old.shape[2]] = old
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
            with _casting_inside():
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


def rounded_up(number: int) -> int:
    """Return the next of 8, 12, 16, 24, 32, 48, …: few shapes, at most half as much again."""
    size = 8
    while size < number:
        if size * 3 // 2 >= number:
            return size * 3 // 2
        size *= 2
    return size


def cuda_capture(run: Run) -> tuple[Callable[[], Any], Step]:
    """Record a function as a CUDA graph; it must read and write the same addresses every time."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries make their workspaces when they are first called
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        answer = run()
    return graph.replay, answer


@contextmanager
def _casting_inside() -> Iterator[None]:
    """Let autocast convert weights inside the graph: what it keeps elsewhere is soon gone."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


def _layer(like: Any, rows: int, columns: int, clock: Tensor) -> _FixedLayer:
    """An empty layer in the form of one of a `ColumnCache`."""
    keys, values = (
        part.new_zeros(rows, part.shape[1], columns, part.shape[3])
        for part in (like.keys, like.values)
    )
    return _FixedLayer(keys, values, clock)


def _layout(model: Any) -> tuple[Any, ...]:
    """What a graph is valid for: where the weights lie, what is switched on, and autocast."""
    tensors = [*model.parameters(), *model.buffers()]
    device = tensors[0].device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    adapters = [
        (bool(part.disable_adapters), tuple(part.active_adapters), bool(part.merged))
        for part in model.modules()
        if hasattr(part, "active_adapters") and hasattr(part, "merged")
    ]
    places = [(tensor.data_ptr(), tensor.dtype) for tensor in tensors]
    return autocast, tuple(adapters), tuple(places)


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """‖ours − theirs‖ / ‖theirs‖; NaN where either is not finite."""
    ours, theirs = ours.double(), theirs.double()
    return float((ours - theirs).norm() / theirs.norm())
