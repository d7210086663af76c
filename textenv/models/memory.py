"""What `next` remembers: rows of token ids, and which of them a question goes on from.

A *stream* is a batch of rows that are read together, with whatever the model keeps of them (a
key-value cache, an LSTM's state) and its last answer. A few streams are kept, so that two
environments on one model do not evict each other at every step.

Here is only the bookkeeping, in NumPy. B = rows of a question, L = the longest of them in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

Ids = npt.NDArray[np.int64]

MAX_STREAMS = 64  # as many single environments may share a model; memory is the usual limit


class ReadingKey(NamedTuple):
    """What an answer is valid for.

    weights: Version, place and type of each parameter and buffer; when they change, all is dropped.
    mode: Autocast and adapters; a policy and its reference may be asked in turns.
    """

    weights: tuple[Any, ...]
    mode: tuple[Any, ...]


class Next(NamedTuple):
    """What comes after each prefix.

    logits: [B, V], −∞ for what is never written.
    hidden: [B, H].
    """

    logits: Tensor
    hidden: Tensor

    def rows(self, chosen: Tensor) -> Next:
        """Take some rows, by index."""
        return Next(self.logits[chosen], self.hidden[chosen])


@dataclass(eq=False)
class Stream:
    """Rows that were read together.

    key: What everything here is valid for.
    ids: int64 [R, L], left-aligned; what lies behind `length` means nothing.
    length: int64 [R], how many tokens of each row are read.
    answer: What was answered at the end of each row.
    answered: bool [R], the rows whose answer is still that of their end.
    cache: What the model keeps of these rows.
    """

    key: ReadingKey
    ids: Ids
    length: Ids
    answer: Next
    answered: npt.NDArray[np.bool_]
    cache: Any

    def __post_init__(self) -> None:
        self.size = self.nbytes()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "answer":
            self._versions = [part._version for part in value]

    def __len__(self) -> int:
        return len(self.ids)

    def check_answer(self) -> None:
        """Drop an answer that its reader has written into."""
        if [part._version for part in self.answer] != self._versions:
            self.answered[:] = False
            self._versions = [part._version for part in self.answer]

    def continued(self, ids: Ids, length: Ids) -> npt.NDArray[np.bool_]:
        """Say for each row of a question whether it begins with all that the row here has read."""
        rows = min(len(self), len(ids))
        width = min(self.ids.shape[1], ids.shape[1])
        own = self.length[:rows]
        same = self.ids[:rows, :width] == ids[:rows, :width]
        same |= np.arange(width) >= own[:, None]
        continued = np.zeros(len(ids), dtype=np.bool_)
        continued[:rows] = same.all(axis=1) & (own > 0) & (own <= length[:rows])
        return continued

    def common(self, row: Ids, slots: Ids) -> Ids:
        """How many leading tokens of one row, int64 [n], each of these rows here has read."""
        width = min(self.ids.shape[1], len(row))
        differs = self.ids[slots, :width] != row[:width]
        differs |= np.arange(width) >= self.length[slots, None]
        return np.where(differs.any(axis=1), differs.argmax(axis=1), width)

    def remember(self, slots: Ids, ids: Ids, length: Ids) -> None:
        """Note what these rows have read now."""
        width = ids.shape[1]
        if width > self.ids.shape[1]:
            wider = np.zeros((len(self), width), dtype=np.int64)
            wider[:, : self.ids.shape[1]] = self.ids
            self.ids = wider
        self.ids[slots, :width] = ids
        self.length[slots] = length

    def nbytes(self) -> int:
        """Memory of the cache and the answer, in bytes."""
        return sum(part.nbytes for part in self.answer) + int(self.cache.nbytes())


class Match(NamedTuple):
    """Where what is known of each row of a question was read.

    stream: int64 [B], which of the valid streams, −1 where nothing is known.
    slot: int64 [B], which of its rows.
    known: int64 [B], how many leading tokens of the question it has read.
    whole: bool [B], whether that is all that it has read.
    """

    stream: Ids
    slot: Ids
    known: Ids
    whole: npt.NDArray[np.bool_]


class Memory:
    """A few streams, least recently used first to go.

    Args:
        limit: How much the streams may hold together, in bytes; the newest is always kept.
    """

    def __init__(self, limit: int = 2 << 30) -> None:
        self.limit = limit
        self.streams: list[Stream] = []  # the newest first
        self.valid: list[Stream] = []  # those that the key of the present question fits

    def __reduce__(self) -> Any:
        return Memory, (self.limit,)  # a model that is copied or pickled has read nothing

    def forget(self) -> None:
        """Drop everything."""
        self.streams, self.valid = [], []

    def keep_valid(self, key: ReadingKey) -> None:
        """Drop what was read with other weights; leave aside what was read in another mode."""
        self.streams = [stream for stream in self.streams if stream.key.weights == key.weights]
        self.valid = [stream for stream in self.streams if stream.key == key]
        for stream in self.valid:
            stream.check_answer()

    def used(self, stream: Stream) -> None:
        """Put a stream first, and drop the oldest that there is no more room for."""
        others = [other for other in self.streams if other is not stream]
        self.streams = [stream, *others[: MAX_STREAMS - 1]]
        stream.size = stream.nbytes()
        total = 0
        for number, kept in enumerate(self.streams):
            total += kept.size
            if number and total > self.limit:
                del self.streams[number:]
                break

    def replace(self, match: Match, stream: Stream) -> None:
        """Put a stream in place of the one that most of its rows went on from."""
        went_on = match.stream[match.stream >= 0]
        if len(went_on):
            old = self.valid[int(np.bincount(went_on).argmax())]
            if 3 * len(old) <= 4 * len(stream) <= 4 * len(old):
                self.streams.remove(old)
        self.used(stream)

    def find(self, ids: Ids, length: Ids) -> Match:
        """Find what is known of each row: first in the same row of a stream, then anywhere.

        Args:
            ids: int64 [B, L], left-aligned.
            length: int64 [B].
        """
        batch = len(ids)
        slot, known = np.zeros((2, batch), dtype=np.int64)
        match = Match(np.full(batch, -1), slot, known, np.zeros(batch, dtype=np.bool_))
        for number, stream in enumerate(self.valid):
            rows = np.flatnonzero(stream.continued(ids, length))
            rows = rows[stream.length[rows] > match.known[rows]]
            match.stream[rows], match.slot[rows] = number, rows
            match.known[rows], match.whole[rows] = stream.length[rows], True
            if (match.known >= length - 1).all():  # little is new, as nearly always
                return match
        rows = np.flatnonzero(match.known < length - 1)
        for number, stream in enumerate(self.valid):
            # [rows, R]; two tokens tell most rows apart, and what is shorter is soon read again.
            begin = (stream.ids[:, :2] == ids[rows, None, :2]).all(axis=2) & (stream.length > 1)
            for place in np.flatnonzero(begin.any(axis=1)).tolist():
                row, slots = rows[place], np.flatnonzero(begin[place])
                common = stream.common(ids[row, : length[row]], slots)
                best = int(common.argmax())
                if common[best] > match.known[row]:
                    match.stream[row], match.slot[row] = number, slots[best]
                    match.known[row] = common[best]
                    match.whole[row] = common[best] == stream.length[slots[best]]
        return match
