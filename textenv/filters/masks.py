"""Which tokens a state of the automaton forbids: those that complete a pattern.

V = vocabulary. A state is what was read of the patterns (`Automaton`) and of a character (`Place`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from textenv.filters.blocklist import ANY, Automaton, Pattern
from textenv.filters.pieces import Pieces, Place

Mask = npt.NDArray[np.bool_]

_LAST = "\U0010ffff"  # no character of a normal form: it sorts behind all of them
_BYTES_KEPT = 64 << 20  # of masks that were worked out; then they are forgotten


class Masks:
    """Masks of the tokens that complete no pattern, worked out when a state is first asked about.

    A token completes one either by itself, or because it begins with what an open pattern still
    needs; all tokens that begin alike stand side by side in alphabetical order.

    Args:
        automaton: Of the patterns.
        pieces: Of the vocabulary.
        end: The end token, which is allowed in every state; None: there is none.
    """

    def __init__(self, automaton: Automaton, pieces: Pieces, end: int | None) -> None:
        self._automaton, self._pieces, self._end = automaton, pieces, end
        texts = pieces.texts
        order = sorted((i for i, text in enumerate(texts) if text), key=texts.__getitem__)
        self._order = np.array(order, dtype=np.int64)
        self._sorted = [texts[token] for token in order]
        self._fresh = np.array([automaton.read(0, text).found is None for text in texts])
        self._kept: dict[Place[int], Mask] = {}
        self._limit = max(64, _BYTES_KEPT // len(texts))

    def follow(self, place: Place[int], token: int) -> Place[int] | None:
        """Return the state after a token; None where that completes a pattern."""
        return self._pieces.follow(place, token, self._extend)

    def mask(self, place: Place[int]) -> Mask:
        """Return the tokens that complete no pattern, bool [V]; not to be written to."""
        mask = self._kept.get(place)
        if mask is None:
            if len(self._kept) >= self._limit:
                self._kept.clear()
            mask = self._kept[place] = self._worked_out(place)
        return mask

    def _worked_out(self, place: Place[int]) -> Mask:
        mask = self._fresh.copy()
        for rest in self._automaton.rests(self._pieces.settled(place)):
            for first, behind in self._beginning(rest, "", 0, len(self._sorted)):
                mask[self._order[first:behind]] = False
        if place.tail or self._pieces.falls_back:
            for token in self._pieces.loose.tolist():
                mask[token] = self.follow(place, token) is not None
        if self._end is not None:
            mask[self._end] = True
        return mask

    def _beginning(
        self, rest: Pattern, start: str, first: int, behind: int
    ) -> Iterator[tuple[int, int]]:
        """The runs of sorted tokens that go on, after `start`, with the rest of a pattern."""
        if ANY not in rest:
            whole = start + "".join(rest)
            first = bisect_left(self._sorted, whole, first, behind)
            yield first, bisect_left(self._sorted, whole + _LAST, first, behind)
            return
        place = rest.index(ANY)
        start += "".join(rest[:place])
        first = bisect_right(self._sorted, start, bisect_left(self._sorted, start, first, behind))
        behind = bisect_left(self._sorted, start + _LAST, first, behind)
        while first < behind:
            longer = self._sorted[first][: len(start) + 1]
            after = bisect_left(self._sorted, longer + _LAST, first, behind)
            if len(rest) == place + 1:
                yield first, after
            else:
                yield from self._beginning(rest[place + 1 :], longer, first, after)
            first = after

    def _extend(self, state: int, text: str) -> int | None:
        state, found = self._automaton.read(state, text)
        return state if found is None else None
