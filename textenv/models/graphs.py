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
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from textenv.models.arena import Arena, Capture, Forward, Run, Step
from textenv.models.cache import ColumnCache
from textenv.models.memory import Ids

PATIENCE = 8  # steps of a shape that go the usual way first: recording takes as long as many
CHECKED = 2  # answers of a graph that are checked; the second shows whether the clock was fixed
EACH = 2  # arenas of one shape, so that training and evaluation need not take turns in one
MAX_ARENAS = 6  # in all
_TOLERANCE = {2: 0.1, 4: 1e-3, 8: 1e-6}  # relative, by the size of a number in bytes


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
        self._arenas: list[Arena] = []  # the one used last comes first
        self._known: weakref.WeakSet[ColumnCache] = weakref.WeakSet()
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
        if not self.enabled or (self.capture is None and model.device.type != "cuda"):
            return
        if key == self._key:
            return
        self._key, self._layout = key, _layout(model)
        # Those of weights that lie elsewhere now are of no more use; switches may be turned back.
        self._arenas = [a for a in self._arenas if a.kind[0][-1] == self._layout[-1]]

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
            device = ours[0].device
            token, mask, place = (torch.as_tensor(a, device=device) for a in (ids, seen, positions))
            theirs = forward(token, mask, place, cache)
            difference = max(_difference(*pair) for pair in zip(ours, theirs, strict=True))
            if not difference <= _TOLERANCE[theirs[0].element_size()]:
                self._give_up(f"its answer then differs by a share of {difference:.2g}")
            return theirs
        self.replayed += 1
        return ours

    def _applies(self, cache: ColumnCache) -> bool:
        if not self.enabled or self._layout is None:  # None: nobody said which weights
            return False
        if type(cache) is not ColumnCache or not cache.layers:
            return False
        if not all(layer.is_initialized for layer in cache.layers):
            return False
        return self.may_record(cache.layers[0].device)

    def may_record(self, device: torch.device) -> bool:
        """Whether steps on this device are recorded."""
        return self.enabled and (self.capture is not None or device.type == "cuda")

    def _arena(self, cache: ColumnCache) -> Arena | None:
        """The arena that a cache is in; else one that it moves into, if the shape is worth it."""
        layout, arenas = self._layout, self._arenas
        arena = next((a for a in arenas if a.holder is cache and a.kind[0] == layout), None)
        if arena is None:
            if cache not in self._known:  # its first step may be its only one
                self._known.add(cache)
                return None
            shape = rounded_up(len(cache.begin)), rounded_up(cache.window.capacity)
            kind = (layout, shape, cache.layers[0].keys.dtype)
            self._asked[kind] += 1
            if self._asked[kind] <= self.patience:
                return None
            arena = self._place_for(kind) or Arena(kind, cache)
            arena.take(cache)
        self._arenas = [arena, *(a for a in arenas if a is not arena)][:MAX_ARENAS]
        return arena

    def _place_for(self, kind: Any) -> Arena | None:
        """A free arena of that kind; else, if there are enough, the one used longest ago."""
        same = [arena for arena in self._arenas if arena.kind == kind]
        candidates = [arena for arena in same if arena.holder is None] or same[EACH - 1 :]
        return candidates[-1] if candidates else None

    def _give_up(self, reason: str) -> None:
        self.enabled = False
        self.clear()
        warnings.warn(f"decoding goes on without CUDA graphs: {reason}", stacklevel=2)


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


def _layout(model: Any) -> tuple[Any, ...]:
    """What a graph is valid for: where the weights lie, what is switched on, and autocast."""
    tensors = [*model.parameters(), *model.buffers()]
    device = tensors[0].device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    adapters = [
        (bool(part.disable_adapters), tuple(part.active_adapters), bool(part.merged))
        for part in model.modules()
        if hasattr(type(part), "active_adapters") and hasattr(type(part), "merged")
    ]
    places = [(tensor.data_ptr(), tensor.dtype) for tensor in tensors]
    return autocast, tuple(adapters), tuple(places)


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """‖ours − theirs‖ / ‖theirs‖; NaN where either is not finite."""
    ours, theirs = ours.double(), theirs.double()
    return float((ours - theirs).norm() / theirs.norm())
