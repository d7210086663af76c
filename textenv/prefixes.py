"""Token prefixes: the question that a language model answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from textenv.mdp import Rules, State


@dataclass(frozen=True, eq=False)
class Prefixes:
    """B beginnings of texts. Treat it as immutable.

    tokens: int64 [B, P + T]; prompts right-aligned before column `start`, written tokens
        left-aligned from it, `nothing` elsewhere.
    start: P, the column where writing starts.
    nothing: The id V that fills the empty places.
    written: int64 [B]; how many tokens of each row are written, 0 … T.
    """

    tokens: npt.NDArray[np.int64]
    start: int
    nothing: int
    written: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rules: Rules, state: State) -> Prefixes:
        """Take the prefixes of a state, or of a batch of states."""
        tokens = np.atleast_2d(state.tokens)
        return cls(tokens, rules.prompt_length, rules.nothing, np.atleast_1d(state.length))

    @classmethod
    def from_observations(cls, observations: npt.ArrayLike, start: int, nothing: int) -> Prefixes:
        """Read `"tokens"` observations, int64 [B, P + T] or [P + T]."""
        tokens = np.atleast_2d(np.asarray(observations, dtype=np.int64))
        return cls(tokens, start, nothing, (tokens[:, start:] != nothing).sum(axis=1))

    @property
    def begin(self) -> npt.NDArray[np.int64]:
        """int64 [B]; the column of each row's first prompt token, P where there is no prompt."""
        return self.start - (self.tokens[:, : self.start] != self.nothing).sum(axis=1)

    @property
    def end(self) -> npt.NDArray[np.int64]:
        """int64 [B]; one past the column of each row's last token."""
        return self.start + self.written

    @property
    def written_mask(self) -> npt.NDArray[np.bool_]:
        """Bool [B, T]; where a token is written."""
        columns = self.tokens.shape[1] - self.start
        return np.arange(columns) < self.written[:, None]

    def state(self, prompt_index: npt.NDArray[np.int64] | None = None) -> State:
        """Return them as a batch of states.

        Args:
            prompt_index: int64 [B], which of the task's prompts they are; None: nobody knows (−1).
        """
        unknown = np.full(len(self), -1)
        return State(self.tokens, self.written, unknown if prompt_index is None else prompt_index)

    def rows(self, chosen: npt.NDArray) -> Prefixes:
        """Take some rows, by index or by mask."""
        return replace(self, tokens=self.tokens[chosen], written=self.written[chosen])

    def __len__(self) -> int:
        return len(self.tokens)
