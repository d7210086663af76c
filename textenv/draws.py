"""Which prompt comes next: the only randomness of an environment.

Prompts are drawn in blocks of one size, from a generator for each row, so that row i of a vector
environment seeded s draws what a single environment seeded s + i draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding

BLOCK = 64


class PromptDraws:
    """The draws of a single environment, from its own `np_random`."""

    def __init__(self, prompts: int) -> None:
        self._prompts = prompts
        self._drawn: list[int] = []

    def draw(self, generator: np.random.Generator) -> int:
        """Return the index of the next prompt."""
        if self._prompts == 1:
            return 0
        if not self._drawn:
            self._drawn = generator.integers(self._prompts, size=BLOCK).tolist()[::-1]
        return self._drawn.pop()

    def clear(self) -> None:
        """Forget what is drawn ahead: the generator has been seeded."""
        self._drawn.clear()


class RowDraws:
    """The draws of B rows, each from a generator of its own."""

    def __init__(self, prompts: int, rows: int) -> None:
        self._prompts = prompts
        self._drawn = np.zeros((rows, BLOCK), dtype=np.int64)
        self._used = np.full(rows, BLOCK)
        self._generators: list[np.random.Generator | None] = [None] * rows

    def seed(self, row: int, generator: np.random.Generator) -> None:
        """Give a row its generator and forget what is drawn ahead."""
        self._generators[row] = generator
        self._used[row] = BLOCK

    def seeded(self, row: int) -> bool:
        """Say whether a row has a generator."""
        return self._generators[row] is not None

    def draw(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the index of the next prompt of each row, int64 [len(rows)]."""
        if self._prompts == 1:
            return np.zeros(len(rows), dtype=np.int64)
        used = self._used[rows]
        for row in rows[used == BLOCK]:
            generator = self._generators[row]
            assert generator is not None  # the environment seeds every row at its first reset
            self._drawn[row] = generator.integers(self._prompts, size=BLOCK)
            self._used[row] = 0
        drawn = self._drawn[rows, self._used[rows]]
        self._used[rows] += 1
        return drawn

    @property
    def state(self) -> dict[str, Any]:
        """A copy of all that decides which prompts come.

        `generators`: a list of B states, None where a row has no generator yet; `drawn`, int64
        [B, 64], and `used`, int64 [B]: what is drawn ahead, and how much of it is used.
        """
        states = [own and own.bit_generator.state for own in self._generators]
        return {"generators": states, "drawn": self._drawn.copy(), "used": self._used.copy()}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        rows = len(self._generators)
        if len(state["generators"]) != rows:
            raise ValueError(f"expected the draws of {rows} rows, got {len(state['generators'])}")
        generators = [own and seeding.np_random()[0] for own in state["generators"]]
        for generator, own in zip(generators, state["generators"], strict=True):
            if generator is not None:
                generator.bit_generator.state = own
        self._generators = generators
        self._drawn[:], self._used[:] = state["drawn"], state["used"]
