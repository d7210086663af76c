"""A table of numbers by (prefix, action), and the policies that are read off it: NumPy only.

It holds Q, V (with one column) or preferences θ. A prefix gets its row when it is first met; its
mask is kept beside it, so that what may not be written is never chosen nor taken as a maximum.
How the numbers are learned is in `q_learning.py`, `evaluation.py` and `preferences.py`.

n = rows, A = actions, B = batch, V = vocabulary, P = longest prompt, T = longest completion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from textenv import mdp
from textenv.enumeration import enumerate_levels
from textenv.exact import LIMIT
from textenv.levels import prefixes_of
from textenv.prefixes import Prefixes
from textenv.task import Task, check_task
from textenv_agents.tabular.choosing import Array, Mask, chooser
from textenv_agents.tabular.saving import fill, write


class Table:
    """Numbers by prefix and action. Rows are added, never taken away.

    Attributes:
        task: What is written.
        columns: A, where actions are no tokens; None: they are, A = V.
        actions: A.
        initial: What a number is before it is learned.
        values: float64 [n, A], a view; write through `update`, or into it.
        visits: int64 [n, A], how often each was updated.
        allowed: bool [n, A], which actions may be taken.
        tokens: int64 [n, P + T], the prefix of each row.

    Args:
        task: What is written.
        columns: A, the number of candidates, or 1 for V(s); None: V, one for each token.
        initial: What a number is before it is learned.
    """

    def __init__(self, task: Task, *, columns: int | None = None, initial: float = 0.0) -> None:
        check_task(task)
        rules = task.rules
        self.task, self.columns, self.initial = task, columns, initial
        self.actions = rules.vocabulary_size if columns is None else columns
        self._start, self._nothing, self._width = rules.prompt_length, rules.nothing, rules.width
        self._open = np.ones(self.actions, dtype=np.bool_)  # where nothing else is known
        if columns is None:
            self._open[list(task.vocabulary.suppressed_tokens)] = False
        self._number = 0
        self._places: dict[bytes, int] = {}
        self._values = np.empty((0, self.actions))
        self._visits = np.empty((0, self.actions), dtype=np.int64)
        self._allowed = np.empty((0, self.actions), dtype=np.bool_)
        self._tokens = np.empty((0, self._width), dtype=np.int64)

    @classmethod
    def complete(cls, task: Task, *, initial: float = 0.0, limit: int = LIMIT) -> Self:
        """Make a table with a row for each unfinished prefix of a small task, in levels' order.

        Raises:
            TooLargeError: the task has more than `limit` texts.
        """
        table = cls(task, initial=initial)
        for level in enumerate_levels(task.with_changes(reward="zero"), limit):
            if len(level.live):
                for tokens in prefixes_of(task, level).tokens:
                    table.row(tokens)
        return table

    @classmethod
    def from_values(
        cls, task: Task, values: Mapping[Any, Any], *, columns: int | None = None
    ) -> Self:
        """Make a table of what `exact.values(…).Q` says, or `.V` with columns=1.

        Args:
            task: The task of which they are.
            values: [A] or a number, by prefix as `exact.Values` names it.
            columns: As for the class.
        """
        table = cls(task, columns=columns)
        for key, value in values.items():
            index, written = (0, key) if len(task.prompts) == 1 else key
            aligned = mdp.align_written(task.rules, [written])[0]
            row = table.row(np.concatenate([task.prompt_table[index], aligned]))
            table.values[row] = value
        return table

    @property
    def values(self) -> Array:  # noqa: D102 - attributes of the class
        return self._values[: self._number]

    @property
    def visits(self) -> npt.NDArray[np.int64]:  # noqa: D102
        return self._visits[: self._number]

    @property
    def allowed(self) -> Mask:  # noqa: D102
        return self._allowed[: self._number]

    @property
    def tokens(self) -> npt.NDArray[np.int64]:  # noqa: D102
        return self._tokens[: self._number]

    @property
    def prefixes(self) -> Prefixes:
        """The prefixes of all rows, as a question to a policy."""
        return Prefixes.from_observations(self.tokens.copy(), self._start, self._nothing)

    def __len__(self) -> int:
        return self._number

    def find(self, tokens: npt.NDArray[np.int64]) -> int | None:
        """Return the row of a prefix [P + T]; None where there is none."""
        return self._places.get(np.ascontiguousarray(tokens, dtype=np.int64).tobytes())

    def row(self, tokens: npt.NDArray[np.int64], allowed: Mask | None = None) -> int:
        """Return the row of a prefix, a new one if it is met for the first time.

        Args:
            tokens: int64 [P + T].
            allowed: bool [A], for a new row; None: all but suppressed tokens.

        Raises:
            ValueError: the prefix has another shape, or nothing is allowed after it.
        """
        known = self.find(tokens)
        if known is not None:
            return known
        allowed = self._open if allowed is None else np.asarray(allowed, dtype=np.bool_)
        if np.shape(tokens) != (self._width,) or allowed.shape != (self.actions,):
            raise ValueError(
                f"expected tokens of shape ({self._width},) and a mask of ({self.actions},), got "
                f"{np.shape(tokens)} and {allowed.shape}: is this another task's prefix?"
            )
        if not allowed.any():
            raise ValueError(
                f"the mask forbids all {self.actions} actions after the prefix "
                f"{np.asarray(tokens).tolist()}: give a mask that leaves one, or end the text "
                "before"
            )
        if self._number == len(self._values):
            self._grow(max(16, 2 * self._number))
        place, self._number = self._number, self._number + 1
        self._values[place], self._visits[place] = self.initial, 0
        self._allowed[place], self._tokens[place] = allowed, tokens
        self._places[self._tokens[place].tobytes()] = place
        return place

    def update(
        self, row: int, action: int, target: float, *, step_size: float | None, step_power: float
    ) -> None:
        """Q(s, a) ← Q(s, a) + α·(target − Q(s, a)).

        Args:
            row: s.
            action: a.
            target: A rating or reward, or r + γ·(what follows).
            step_size: α; None: α = 1/n(s, a)^ω, the n-th update being this one.
            step_power: ω. With ω = 1 the number is the mean of its targets.
        """
        self._visits[row, action] += 1
        alpha = self._visits[row, action] ** -float(step_power) if step_size is None else step_size
        self._values[row, action] += alpha * (target - self._values[row, action])

    def read(self, prefixes: Prefixes) -> tuple[Array, Mask]:
        """Return numbers and masks after prefixes, [B, A] each; those of a fresh row if unknown."""
        values = np.full((len(prefixes), self.actions), self.initial)
        allowed = np.tile(self._open, (len(prefixes), 1))
        for place, tokens in enumerate(prefixes.tokens):
            row = self.find(tokens)
            if row is not None:
                values[place], allowed[place] = self._values[row], self._allowed[row]
        return values, allowed

    def policy(
        self,
        kind: str = "greedy",
        *,
        epsilon: float = 0.1,
        temperature: float = 1.0,
        allow: Callable[[Prefixes], Mask] | None = None,
    ) -> Callable[[Prefixes], Array]:
        """Return a policy, Prefixes → probabilities [B, V], for `exact`; it follows learning.

        Args:
            kind: "greedy" (ties share), "epsilon_greedy" or "softmax".
            epsilon: Share of uniform choice among what is allowed.
            temperature: Of the softmax.
            allow: Masks [B, V] of prefixes without a row, where a blocklist says more than the
                vocabulary (`Tabular.policy` hands it in).

        Raises:
            ValueError: the actions are no tokens, or the kind is unknown.
        """
        if self.columns is not None:
            raise ValueError(
                f"a policy over tokens needs a column for each of the {self._nothing} tokens, this "
                f'table has {self.actions} for candidates: learn with action="all_tokens"'
            )
        choose = chooser(kind, epsilon, temperature)

        def probabilities(prefixes: Prefixes) -> Array:
            values, allowed = self.read(prefixes)
            if allow is not None:
                unknown = np.array([self.find(tokens) is None for tokens in prefixes.tokens])
                if unknown.any():
                    allowed[unknown] &= allow(prefixes.rows(unknown))
            return choose(values, allowed)

        return probabilities

    def distance(self, other: Table) -> float:
        """Return max |Q − Q′| over the other table's rows and what may be written there."""
        values, allowed = self.read(other.prefixes)
        return float(np.abs(values - other.values)[allowed & other.allowed].max())

    def save(self, path: str | Path) -> None:
        """Write the table into one .npz file, whole or not at all."""
        write(self, path)

    @classmethod
    def load(cls, path: str | Path, task: Task) -> Self:
        """Read what `save` wrote.

        Args:
            path: The file.
            task: The task that it was learned on.

        Raises:
            TextenvError: the file is no table, is damaged, or is one of another task.
        """
        return fill(cls, path, task)

    def _grow(self, rows: int) -> None:
        for name in ("_values", "_visits", "_allowed", "_tokens"):
            old = getattr(self, name)
            new = np.empty((rows, old.shape[1]), dtype=old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
