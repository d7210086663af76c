"""Whether a text can be written on: what keeps a mask from leading where nothing is allowed.

V = vocabulary, T = the longest completion in tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from textenv.filters.masks import Mask, Masks
from textenv.filters.pieces import Pieces, Place
from textenv.task import Task


class Endings:
    """How long texts can go on without completing a pattern, from each state.

    Args:
        task: What is written.
        pieces: Of its vocabulary.
        masks: Of its blocklist.

    Attributes:
        threaten: Whether a text may come to a state where nothing is allowed: there is no end
            token, and no token without text of its own, which could always be written.
    """

    def __init__(self, task: Task, pieces: Pieces, masks: Masks) -> None:
        rules, suppressed = task.rules, set(task.vocabulary.suppressed_tokens)
        self._masks = masks
        self._stops = frozenset(rules.stop_tokens)
        self._written = [i for i in range(rules.vocabulary_size) if i not in suppressed]
        self.threaten = rules.end_token is None and not any(
            pieces.adds_nothing(token) for token in self._written
        )
        self._longest: dict[Place[int], float] = {}
        self._lengths: dict[Place[int], npt.NDArray[np.float64]] = {}

    def mask(self, place: Place[int], left: int) -> Mask:
        """Return the tokens after which `left` − 1 more can be written, bool [V]."""
        lengths = self._lengths.get(place)
        if lengths is None:
            mask = self._masks.mask(place)
            lengths = np.full(len(mask), -1.0)
            for token in np.flatnonzero(mask).tolist():
                lengths[token] = self._after(place, token)
            self._lengths[place] = lengths
        return lengths >= left - 1

    def longest(self, place: Place[int]) -> float:
        """Return how many tokens can be written from a state: ∞, or a number.

        It is ∞ where a stop token or a circle of states can be reached; else the longest way.
        """
        if place in self._longest:
            return self._longest[place]
        path = [place]
        best = {place: 0.0}
        ways = [self._ways(place)]
        while path:
            way = next(ways[-1], None)
            if way is None:
                done = path.pop()
                ways.pop()
                self._longest[done] = best.pop(done)
                if path:
                    best[path[-1]] = max(best[path[-1]], 1 + self._longest[done])
                continue
            known = math.inf if way is _STOP or way in best else self._longest.get(way)
            if known == math.inf:
                self._longest |= dict.fromkeys(path, math.inf)
                break
            if known is not None:
                best[path[-1]] = max(best[path[-1]], 1 + known)
                continue
            path.append(way)
            best[way] = 0.0
            ways.append(self._ways(way))
        return self._longest[place]

    def _after(self, place: Place[int], token: int) -> float:
        if token in self._stops:
            return math.inf
        following = self._masks.follow(place, token)
        return -1.0 if following is None else self.longest(following)

    def _ways(self, place: Place[int]) -> Iterator[Place[int]]:
        """The states that can come next, `_STOP` where the text can end."""
        seen: set[Place[int]] = set()
        for token in self._written:
            following = self._masks.follow(place, token)
            if following is None:
                continue
            if token in self._stops:
                following = _STOP
            if following not in seen:
                seen.add(following)
                yield following


_STOP: Place[int] = Place(-1)
