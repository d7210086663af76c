"""What an action is, and the integers that actions are made of.

B = rows of a vector environment, n = tokens that an action may write.
"""

from __future__ import annotations

import operator
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from textenv.asking import Answer, Choices
from textenv.errors import InvalidActionError
from textenv.mdp import State
from textenv.plugins import Plugin
from textenv.task import Task

Ids = npt.NDArray[np.int64]
Ignored = npt.NDArray[np.bool_] | None


class Action(Plugin):
    """How an action becomes a token, or several.

    Attributes:
        asks_model: Whether it needs what the language model says.
        several: Whether an action may write more than one token.
    """

    asks_model: ClassVar[bool] = False
    several: ClassVar[bool] = False

    def check(self, task: Task) -> None:
        """Refuse a task that it does not fit; ValueError."""

    def choices(self, task: Task, answer: Answer) -> Choices | None:
        """Return the tokens that B states offer, if it offers some in particular."""
        return None

    @abstractmethod
    def space(self, task: Task) -> spaces.Space:
        """Return the space of one action."""

    @abstractmethod
    def read(self, task: Task, action: Any, state: State, choices: Choices | None) -> Any:
        """Check one action and return its token, or, if `several`, a list of tokens.

        Args:
            task: The task.
            action: What the agent did.
            state: The state, not batched.
            choices: What the state offers, B = 1.
        """

    @abstractmethod
    def read_batch(
        self, task: Task, actions: Any, ignored: Ignored, state: State, choices: Choices | None
    ) -> Ids:
        """Check B actions and return their tokens, int64 [B] or, if `several`, [B, n].

        Args:
            task: The task.
            actions: What the agent did.
            ignored: bool [B], rows that are not read; None: all are.
            state: B states.
            choices: What these offer.

        Returns:
            The tokens; in [B, n] the id V stands behind the last one.
        """

    @abstractmethod
    def mask(self, task: Task, choices: Choices | None, batch: int | None) -> npt.NDArray[np.int8]:
        """Return 1 for each action that makes sense, int8 [size] or [B, size], fresh."""


def integer(action: Any, size: int) -> int:
    """NumPy and torch integers and 0-d arrays of them; no booleans, no floats, no lists."""
    if type(action) is not int:
        try:
            if type(action) is bool or "bool" in str(getattr(action, "dtype", "")):
                raise TypeError
            action = operator.index(action)
        except TypeError:
            raise InvalidActionError(
                f"expected an integer in 0 … {size - 1} (int, NumPy or torch, without axes), got "
                f"{action!r} of type {type(action).__name__}"
            ) from None
    if not 0 <= action < size:
        raise InvalidActionError(f"actions lie in 0 … {size - 1}, got {action}")
    return action


def integers(
    actions: Any, ignored: Ignored, shape: tuple[int, ...], size: int, axis: str = "row"
) -> Ids:
    """Integers in 0 … size − 1 of this shape, as int64; `ignored` rows become 0 unread."""
    try:
        actions = np.asarray(actions)
    except ValueError as error:
        raise InvalidActionError(f"expected integers of shape {shape}, got {actions!r}") from error
    if actions.shape != shape:
        raise InvalidActionError(
            f"expected an integer array of shape {shape}, got shape {actions.shape}"
        )
    if ignored is not None:
        actions = np.where(ignored if actions.ndim == 1 else ignored[:, None], 0, actions)
    if actions.dtype != np.int64:
        if not np.issubdtype(actions.dtype, np.integer):
            raise InvalidActionError(f"expected integers in 0 … {size - 1}, got {actions.dtype}")
        actions = actions.astype(np.int64)
    # As unsigned numbers, negative ids are huge: one comparison checks both ends.
    if actions.view(np.uint64).max() >= size:
        row = int(np.argwhere(actions.view(np.uint64) >= size)[0, 0])
        raise InvalidActionError(f"actions lie in 0 … {size - 1}, {axis} {row} has {actions[row]}")
    return actions
