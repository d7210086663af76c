"""What the agent sees of a state. One class for each kind; `parse` finds it by name."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from textenv.mdp import Rules, State
from textenv.plugins import Plugin


class Observation(Plugin):
    """A view of the state; the same code serves one state and a batch."""

    @abstractmethod
    def space(self, rules: Rules) -> spaces.Space:
        """Return the space of one observation."""

    @abstractmethod
    def observe(self, rules: Rules, state: State) -> Any:
        """Return a fresh observation of one state, or of B states with a leading axis."""


class Tokens(Observation):
    """The state itself: `Box(0, V, (P + T,), int64)`.

    The prompt is right-aligned before column P, what is written left-aligned from column P; the
    id V, one past the vocabulary, means "nothing here".
    """

    name: ClassVar[str] = "tokens"

    def space(self, rules: Rules) -> spaces.Box:
        """Return `Box(0, V, (P + T,), int64)`."""
        return spaces.Box(0, rules.nothing, (rules.width,), np.int64)

    def observe(self, rules: Rules, state: State) -> npt.NDArray[np.int64]:
        """Return a copy of the tokens, int64 [..., P + T]."""
        return state.tokens.copy()


OBSERVATIONS: dict[str, type[Observation]] = {Tokens.name: Tokens}


def parse(value: Any) -> Observation:
    """Make an observation from `"tokens"`, `{"name": "tokens"}` or an object."""
    return Observation.parse("observation", value, OBSERVATIONS)
