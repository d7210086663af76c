"""What the agent may do in a state. One class for each kind; `parse` finds it by name."""

from __future__ import annotations

import operator
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from textenv.errors import InvalidActionError
from textenv.mdp import Rules
from textenv.plugins import Plugin


class Action(Plugin):
    """How an action becomes a token."""

    @abstractmethod
    def space(self, rules: Rules) -> spaces.Space:
        """Return the space of one action."""

    @abstractmethod
    def token(self, rules: Rules, action: Any) -> int:
        """Check one action and return its token."""

    @abstractmethod
    def tokens(
        self, rules: Rules, actions: Any, ignored: npt.NDArray[np.bool_] | None, batch: int
    ) -> npt.NDArray[np.int64]:
        """Check B actions and return their tokens, int64 [B]; `ignored` rows are not read."""

    @abstractmethod
    def mask(
        self, rules: Rules, suppressed: tuple[int, ...], batch: int | None
    ) -> npt.NDArray[np.int8]:
        """Return 1 for each action that makes sense, int8 [n] or [B, n], fresh."""


class AllTokens(Action):
    """Any token of the vocabulary: `Discrete(V)`."""

    name: ClassVar[str] = "all_tokens"

    def space(self, rules: Rules) -> spaces.Discrete:
        """Return `Discrete(V)`."""
        return spaces.Discrete(rules.vocabulary_size)

    def token(self, rules: Rules, action: Any) -> int:
        """Return the action as an int.

        Raises:
            InvalidActionError: it is no integer, or not in 0 … V − 1.
        """
        if type(action) is not int:
            action = _integer(action, rules)
        if not 0 <= action < rules.vocabulary_size:
            raise InvalidActionError(
                f"actions lie in 0 … {rules.vocabulary_size - 1}, got {action}"
            )
        return action

    def tokens(
        self, rules: Rules, actions: Any, ignored: npt.NDArray[np.bool_] | None, batch: int
    ) -> npt.NDArray[np.int64]:
        """Return the actions as int64 [B]; rows marked in `ignored` become 0 unread.

        Raises:
            InvalidActionError: the shape, the type or a number is wrong.
        """
        try:
            actions = np.asarray(actions)
        except ValueError as error:
            raise InvalidActionError(f"expected {batch} integers, got {actions!r}") from error
        if actions.shape != (batch,):
            raise InvalidActionError(
                f"expected an integer array of shape ({batch},), got shape {actions.shape}"
            )
        if ignored is not None:
            actions = np.where(ignored, 0, actions)
        if actions.dtype != np.int64:
            if not np.issubdtype(actions.dtype, np.integer):
                raise InvalidActionError(
                    f"expected integers in 0 … {rules.vocabulary_size - 1}, got {actions.dtype}"
                )
            actions = actions.astype(np.int64)
        # As unsigned numbers, negative ids are huge: one comparison checks both ends.
        if actions.view(np.uint64).max() >= rules.vocabulary_size:
            row = int(np.argmax(actions.view(np.uint64) >= rules.vocabulary_size))
            raise InvalidActionError(
                f"actions lie in 0 … {rules.vocabulary_size - 1}, row {row} has {actions[row]}"
            )
        return actions

    def mask(
        self, rules: Rules, suppressed: tuple[int, ...], batch: int | None
    ) -> npt.NDArray[np.int8]:
        """Return ones, and 0 for the tokens that the vocabulary says are not to be written."""
        shape = () if batch is None else (batch,)
        mask = np.ones((*shape, rules.vocabulary_size), dtype=np.int8)
        mask[..., list(suppressed)] = 0
        return mask


ACTIONS: dict[str, type[Action]] = {AllTokens.name: AllTokens}


def parse(value: Any) -> Action:
    """Make an action from `"all_tokens"`, `{"name": "all_tokens"}` or an object."""
    return Action.parse("action", value, ACTIONS)


def _integer(action: Any, rules: Rules) -> int:
    """NumPy and torch integers and 0-d arrays of them; no booleans, no floats, no lists."""
    try:
        if type(action) is bool or "bool" in str(getattr(action, "dtype", "")):
            raise TypeError
        return operator.index(action)
    except TypeError:
        raise InvalidActionError(
            f"expected an integer in 0 … {rules.vocabulary_size - 1} (int, NumPy or torch, "
            f"without axes), got {action!r} of type {type(action).__name__}"
        ) from None
