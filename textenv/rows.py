"""Where B episodes stand: their states, written in place, and what they begin from.

When they end, are paid and are reset is the business of the vector environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding

from textenv import mdp
from textenv.draws import RowDraws
from textenv.errors import ResetNeededError
from textenv.filters.guard import Guard
from textenv.options import begin
from textenv.task import Task

Numbers = npt.NDArray[np.int64]


class Rows:
    """The states of B episodes; a row's columns are those of the caller of its reset, if any.

    Args:
        task: What is written.
        guard: Says where a text may begin; None: there is no blocklist.
        number: B.

    Attributes:
        draws: Which prompts come next.
        steps: int64 [B], the actions since each row began, as far as somebody counts them.
    """

    def __init__(self, task: Task, guard: Guard | None, number: int) -> None:
        self.draws = RowDraws(len(task.prompts), number)
        self.steps = np.zeros(number, dtype=np.int64)
        self._task, self._guard, self._number = task, guard, number
        self._state: mdp.State | None = None
        self._columns: list[Any] | None = None  # a list of B once a caller has given some

    @property
    def begun(self) -> bool:
        """Whether there are episodes."""
        return self._state is not None

    @property
    def state(self) -> mdp.State:
        """The B states themselves, without columns.

        Raises:
            ResetNeededError: there are no episodes yet.
        """
        if self._state is None:
            raise ResetNeededError("there are no episodes before reset(): call envs.reset() first")
        return self._state

    @property
    def columns(self) -> tuple[Any, ...] | None:
        """The callers' columns, B of them; None where no row has any."""
        return None if self._columns is None or not any(self._columns) else tuple(self._columns)

    @property
    def with_columns(self) -> mdp.State:
        """The B states themselves, with columns."""
        return self.state._replace(columns=self.columns)

    def copied(self) -> mdp.State:
        """Return a copy of the B states, with columns."""
        return _copy(self.with_columns)

    def checked(self, state: mdp.State) -> mdp.State:
        """Return a copy of B states to go on from.

        Raises:
            ValueError: they are those of another task or number of rows, or the blocklist allows
                no such start.
        """
        mdp.check_state(self._task.rules, state, (self._number,))
        for row in range(self._number):
            self._check_start(row_of_state(state, row), row)
        return _copy(state)

    def go_on_from(self, state: mdp.State) -> None:
        """Write into these states from now on; they were `checked`."""
        self._state = state._replace(columns=None)
        self._columns = None if state.columns is None else list(state.columns)

    def seed(self, seed: int | Sequence[int | None] | None, rows: Numbers) -> None:
        """Give rows their generators: those with a seed, and those that have none yet.

        Args:
            seed: s gives row i the seed s + i; or a list of B.
            rows: Which rows.

        Raises:
            ValueError: the list has another length.
        """
        if isinstance(seed, int | np.integer):
            seeds: Sequence[int | None] = [int(seed) + row for row in range(self._number)]
        else:
            seeds = [None] * self._number if seed is None else list(seed)
        if len(seeds) != self._number:
            raise ValueError(f"expected one seed or a list of {self._number}, got {len(seeds)}")
        for row in rows.tolist():
            if seeds[row] is not None or not self.draws.seeded(row):
                self.draws.seed(row, seeding.np_random(seeds[row])[0])

    def start(self, row: int, options: Mapping[str, Any]) -> mdp.State:
        """Return the first state of a row as the options of `reset` want it; it is not begun.

        Raises:
            ValueError: they do not fit.
        """
        start = begin(self._task, options, lambda: int(self.draws.draw(np.array([row]))[0]), row)
        self._check_start(start, row)
        return start

    def begin(self, rows: Numbers, starts: Sequence[mdp.State] | None = None) -> None:
        """Put the given first states into these rows, or fresh ones with prompts drawn."""
        rules, prompts = self._task.rules, self._task.prompt_table
        if self._state is None:
            self._state = mdp.initial(rules, prompts[np.zeros(self._number, dtype=np.int64)])
        tokens, length, prompt_index, _ = self._state
        if starts is None:
            index = self.draws.draw(rows)
            tokens[rows] = mdp.initial(rules, prompts[index]).tokens
            length[rows] = 0
            prompt_index[rows] = index
        else:
            tokens[rows] = [start.tokens for start in starts]
            length[rows] = [start.length for start in starts]
            prompt_index[rows] = [start.prompt_index for start in starts]
        self.steps[rows] = 0
        if starts is not None and self._columns is None and any(s.columns for s in starts):
            self._columns = [None] * self._number
        if self._columns is not None:
            for place, row in enumerate(rows.tolist()):
                self._columns[row] = starts[place].columns if starts else None

    def _check_start(self, state: mdp.State, row: int) -> None:
        if self._guard is not None:
            self._guard.check_start(state, f" (row {row})")


def row_of_state(state: mdp.State, row: int) -> mdp.State:
    """Return one of B states, not batched and without columns."""
    return mdp.State(state.tokens[row], int(state.length[row]), int(state.prompt_index[row]))


def _copy(state: mdp.State) -> mdp.State:
    tokens, length, prompt_index, columns = state
    return mdp.State(np.array(tokens), np.array(length), np.array(prompt_index), columns)
