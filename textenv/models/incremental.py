"""`next`, reading only what is new: rows go on, begin anew, come back, swap places or drop out.

A question is B rows of token ids. Each row goes on from what is known of it (`memory`), in a cache
in which all rows share one clock (`cache`):

1. Rows that are not one token short of their question are *prepared*: what is known is copied, the
   rest is read in a pass of their own, without the last token.
2. They are placed just before the clock, and all rows read their last token in one pass.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from textenv.models.cache import ColumnCache
from textenv.models.memory import Ids, Match, Memory, Next, ReadingKey, Stream
from textenv.models.room import explained

FILL = -1  # stands behind the end of a row in arrays of ids


@runtime_checkable
class Reader(Protocol):
    """How a model reads; n rows. The last token of each answers.

    model: The library's model.
    """

    model: Any

    def new_cache(self, rows: int, capacity: int, clock: int = 0) -> ColumnCache:
        """Return an empty cache."""

    def read_whole(self, ids: Ids, length: Ids, cache: ColumnCache | None = None) -> Next:
        """Read left-aligned rows, int64 [n, L], in one pass, into an empty cache if there is one.

        `FILL` stands behind the end of a row.
        """

    def read_on(self, ids: Ids, cache: ColumnCache, seen: Ids, positions: Ids) -> Next:
        """Read w more columns, int64 [n, w], after those that the cache holds.

        Args:
            ids: The tokens, without gaps.
            cache: Of n rows.
            seen: The attention mask, int64 [n, columns before + w].
            positions: Of the new tokens in their rows, int64 [n, w].
        """


class _Plan(NamedTuple):
    """How rows of a question become rows of a stream.

    stream: The stream that goes on.
    slots: int64 [B], its row for each row of the question.
    own: bool [B], whether that row holds what is known of it.
    """

    stream: Stream
    slots: Ids
    own: npt.NDArray[np.bool_]


class Incremental:
    """Answers questions for one model.

    Args:
        reader: Reads.

    Attributes:
        refills: Whether rows may begin at different steps of the clock. Where they may not, rows
            that are not in step are read in whole.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.refills = True
        self.memory = Memory()
        self._whole: Stream | None = None  # rows that were read in whole last, for the next caller

    def forget(self) -> None:
        """Drop everything that was read."""
        self.memory.forget()
        self._whole = None

    def next(self, key: ReadingKey, ids: Ids, length: Ids) -> Next:
        """Return what comes after each row.

        Args:
            key: What the answer is valid for.
            ids: int64 [B, L], left-aligned, `FILL` behind the end.
            length: int64 [B], ≥ 1.

        Raises:
            TextenvError: the rows do not fit in memory together.
        """
        with explained(self.reader.model, len(ids), ids.shape[1], self.forget):
            return self._next(key, ids, length)

    def _next(self, key: ReadingKey, ids: Ids, length: Ids) -> Next:
        self.memory.keep_valid(key)
        match = self._worth(self.memory.find(ids, length), length)
        answer = self._answered(match, length)
        if answer is not None:
            return answer
        if not self.refills and (_several(length) or _several(match.known)):
            return self._read_whole(key, ids, length)
        if not match.known.any():
            return self._afresh(key, ids, length)
        plan = self._in_place(match, len(ids)) or self._new_stream(key, ids, length, match)
        self._go_on(plan, match, ids, length)
        self.memory.used(plan.stream)
        return _rows(plan.stream.answer, plan.slots)

    def _read_whole(self, key: ReadingKey, ids: Ids, length: Ids) -> Next:
        """Rows that no cache can hold together; several callers of one question pay once."""
        last = self._whole
        if last is not None and last.key == key and np.array_equal(last.ids, ids):
            last.check_answer()
            if last.answered.all():
                return last.answer
        answer = self.reader.read_whole(ids, length)
        everything = np.ones(len(ids), dtype=np.bool_)
        nothing = self.reader.new_cache(len(ids), 0)
        self._whole = Stream(key, ids.copy(), length.copy(), answer, everything, nothing)
        return answer

    # What is known.

    def _worth(self, match: Match, length: Ids) -> Match:
        """Leave out what is known of beginnings that would still have to be read on from."""
        known = np.where(match.whole | (match.known >= length - 1), match.known, 0)
        return match._replace(known=known, stream=np.where(known > 0, match.stream, -1))

    def _answered(self, match: Match, length: Ids) -> Next | None:
        """The answers, where all of them are known."""
        if (match.known != length).any() or not match.whole.all():
            return None
        numbers = sorted(set(match.stream.tolist()))
        streams = [self.memory.valid[number] for number in numbers]
        for number, stream in zip(numbers, streams, strict=True):
            if not stream.answered[match.slot[match.stream == number]].all():
                return None
        if len(streams) == 1:
            return _rows(streams[0].answer, match.slot)
        parts = [_rows(self.memory.valid[s].answer, match.slot[i : i + 1])
                 for i, s in enumerate(match.stream.tolist())]  # fmt: skip
        return Next(torch.cat([p.logits for p in parts]), torch.cat([p.hidden for p in parts]))

    # Which stream goes on.

    def _in_place(self, match: Match, batch: int) -> _Plan | None:
        """Go on in the stream that most rows go on from, unless it is too large or too small."""
        if not match.whole.any():
            return None
        home = int(np.bincount(match.stream[match.whole]).argmax())
        stream = self.memory.valid[home]
        own = match.whole & (match.stream == home)
        first = np.zeros(batch, dtype=np.bool_)
        first[np.unique(np.where(own, match.slot, -1), return_index=True)[1]] = True
        own &= first  # each row of the stream goes on once
        if 2 * own.sum() < batch or not 3 * len(stream) <= 4 * batch <= 4 * len(stream):
            return None
        slots = np.where(own, match.slot, -1)
        free = np.setdiff1d(np.arange(len(stream)), slots[own])
        slots[~own] = free[: (~own).sum()]
        return _Plan(stream, slots, own)

    def _new_stream(self, key: ReadingKey, ids: Ids, length: Ids, match: Match) -> _Plan:
        """Begin a stream without columns, into which every row will be placed."""
        batch, clock = len(ids), int(length.max()) - 1
        known = self.memory.valid[int(match.stream.max())].answer
        answer = Next(*(part.new_zeros(batch, part.shape[1]) for part in known))
        cache = self.reader.new_cache(batch, clock, clock)
        cache.window.capacity += cache.spare  # it has no buffers yet
        empty = np.zeros(batch, dtype=np.int64)
        none = np.zeros(batch, dtype=np.bool_)
        stream = Stream(key, np.full_like(ids, FILL), empty, answer, none, cache)
        return _Plan(stream, np.arange(batch), none)

    # Reading.

    def _afresh(self, key: ReadingKey, ids: Ids, length: Ids) -> Next:
        """Read all rows; each text that several rows share is read once."""
        texts, own, row = _unique(ids, length)
        cache = self.reader.new_cache(len(texts), ids.shape[1])
        answer = _rows(self.reader.read_whole(texts, own, cache), row)
        cache.written(own)
        cache = cache.select(row, length, after=cache.spare)
        everything = np.ones(len(ids), dtype=np.bool_)
        stream = Stream(key, ids.copy(), length.copy(), answer, everything, cache)
        self.memory.used(stream)
        return answer

    def _go_on(self, plan: _Plan, match: Match, ids: Ids, length: Ids) -> None:
        """Let the rows of a plan read what is new."""
        stream, slots, own = plan
        cache: ColumnCache = stream.cache
        done = own & (match.known == length) & stream.answered[slots]
        step = ~done
        in_step = own & (cache.end[slots] == cache.clock)
        in_step &= cache.length[slots] == match.known
        new = length - match.known
        wide = int(new[step].max())
        prepare = np.zeros_like(step)  # where all go on as far, there is nothing to prepare
        if not wide or not (in_step[step].all() and (new[step] == wide).all()):
            wide = 1
            prepare = step & ~(in_step & (new == 1))
        prepared = self._prepare(np.flatnonzero(prepare), match, ids, length - 1)
        wanted, active = np.zeros((2, len(stream)), dtype=np.bool_)
        wanted[slots], active[slots[step]] = True, True
        cache.empty(slots[prepare])
        cache.make_room(max([part.clock for _, part in prepared], default=0), wide, wanted)
        for rows, part in prepared:
            cache.place(slots[rows], part)
        self._step(stream, active, slots[step], ids[step], length[step], wide)

    def _prepare(
        self, rows: Ids, match: Match, ids: Ids, need: Ids
    ) -> list[tuple[Ids, ColumnCache]]:
        """Read the first `need` tokens of some rows, going on from what is known of them.

        Returns:
            Groups of rows, each with the cache that holds them.
        """
        known = np.minimum(match.known, need)
        groups: dict[tuple[int, int], list[int]] = {}
        for row in rows.tolist():
            if need[row] > 0:
                fresh = known[row] == 0
                group = (-1, 0) if fresh else (int(match.stream[row]), int(need[row] - known[row]))
                groups.setdefault(group, []).append(row)
        prepared = []
        for (number, new), members in groups.items():
            chosen = np.array(members)
            if number < 0:
                part = self._read_beginnings(ids[chosen], need[chosen])
            else:
                source: ColumnCache = self.memory.valid[number].cache
                part = source.select(match.slot[chosen], known[chosen], after=new)
                if new:
                    everything = np.ones(len(chosen), dtype=np.bool_)
                    self._read_on(part, everything, ids[chosen], need[chosen], new)
            prepared.append((chosen, part))
        return prepared

    def _read_beginnings(self, ids: Ids, need: Ids) -> ColumnCache:
        """Read the first `need` tokens of rows of which nothing is known, equal ones once."""
        width = int(need.max())
        beginnings = np.where(np.arange(width) < need[:, None], ids[:, :width], FILL)
        texts, own, row = _unique(beginnings, need)
        cache = self.reader.new_cache(len(texts), width)
        self.reader.read_whole(texts, own, cache)
        cache.written(own)
        return cache.select(row, need)

    def _step(
        self,
        stream: Stream,
        active: npt.NDArray[np.bool_],
        slots: Ids,
        ids: Ids,
        length: Ids,
        wide: int,
    ) -> None:
        """Let the active rows of a stream read their last `wide` tokens together."""
        old, kept = stream.answer, stream.answered & ~active & (stream.cache.length > 0)
        texts = np.zeros((len(stream), ids.shape[1]), dtype=np.int64)
        lengths = np.full(len(stream), wide)
        texts[slots], lengths[slots] = ids, length
        answer = self._read_on(stream.cache, active, texts, lengths, wide)
        if kept.any():  # rows that did not go on keep their answers
            rows = torch.as_tensor(np.flatnonzero(kept), device=answer.logits.device)
            answer.logits[rows], answer.hidden[rows] = old.logits[rows], old.hidden[rows]
        stream.length[stream.cache.length == 0] = 0
        stream.remember(slots, ids, length)
        stream.answer, stream.answered = answer, active | kept

    def _read_on(
        self, cache: ColumnCache, active: npt.NDArray[np.bool_], ids: Ids, length: Ids, wide: int
    ) -> Next:
        """Read the last `wide` of each row's first `length` tokens."""
        seen, positions = cache.open(active, wide)
        new = np.take_along_axis(ids, (length - wide)[:, None] + np.arange(wide), axis=1)  # [n, w]
        answer = self.reader.read_on(new, cache, seen, positions)
        cache.close(active, wide)
        return answer


def _unique(ids: Ids, length: Ids) -> tuple[Ids, Ids, Ids]:
    """Each row once, their lengths, and which of them each row is."""
    texts, first, row = np.unique(ids, axis=0, return_index=True, return_inverse=True)
    return texts, length[first], row.reshape(-1)


def _several(numbers: Ids) -> bool:
    return bool((numbers != numbers[0]).any())


def _rows(answer: Next, rows: Ids) -> Next:
    """Rows of an answer; the answer itself when these are all, in order."""
    if len(rows) == len(answer.logits) and (rows == np.arange(len(rows))).all():
        return answer
    return answer.rows(torch.as_tensor(rows, device=answer.logits.device))
