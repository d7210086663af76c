"""What the agent may do in a state. One class for each kind; `parse` finds it by name.

B = rows of a vector environment, n = tokens that an action may write, V = vocabulary.
"""

from __future__ import annotations

import operator
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from textenv.asking import Answer, Choices, check_size, likeliest
from textenv.errors import InvalidActionError, TextenvError
from textenv.mdp import State
from textenv.plugins import Plugin, check_count
from textenv.spaces import UnicodeText
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


class AllTokens(Action):
    """Any token of the vocabulary: `Discrete(V)`."""

    name: ClassVar[str] = "all_tokens"

    def space(self, task: Task) -> spaces.Discrete:
        """Return `Discrete(V)`."""
        return spaces.Discrete(task.rules.vocabulary_size)

    def read(self, task: Task, action: Any, state: State, choices: Choices | None) -> int:
        """Return the action as an int.

        Raises:
            InvalidActionError: it is no integer, or not in 0 … V − 1.
        """
        if type(action) is int and 0 <= action < task.rules.vocabulary_size:
            return action
        return _integer(action, task.rules.vocabulary_size)

    def read_batch(
        self, task: Task, actions: Any, ignored: Ignored, state: State, choices: Choices | None
    ) -> Ids:
        """Return the actions as int64 [B]; rows marked in `ignored` become 0 unread.

        Raises:
            InvalidActionError: the shape, the type or a number is wrong.
        """
        return _integers(actions, ignored, (len(state.tokens),), task.rules.vocabulary_size)

    def mask(self, task: Task, choices: Choices | None, batch: int | None) -> npt.NDArray[np.int8]:
        """Return ones, and 0 for the tokens that the vocabulary says are not to be written."""
        shape = () if batch is None else (batch,)
        mask = np.ones((*shape, task.rules.vocabulary_size), dtype=np.int8)
        mask[..., list(task.vocabulary.suppressed_tokens)] = 0
        return mask


class Candidates(Action):
    """One of the k likeliest tokens under the language model: `Discrete(k)`.

    The i-th action writes the i-th token by (−log-probability rounded to 1e-4, id); the infos say
    which these are (`candidates`, `candidate_log_probs`). The end token, where the task has one,
    is always among them, in the last place if it is not likely enough. A token of probability 0
    never is: where fewer than k are left the rest are the id V, and choosing one is an error.

    Args:
        k: 1 … V; at least 2 in a task with an end token.
    """

    name: ClassVar[str] = "candidates"
    asks_model: ClassVar[bool] = True

    def __init__(self, k: int) -> None:
        self.k = check_count("Candidates(k)", k)

    def check(self, task: Task) -> None:
        """Refuse a vocabulary of fewer than k tokens, and k = 1 beside an end token; ValueError."""
        check_size(f"Candidates({self.k})", self.k, task)
        if self.k == 1 and task.rules.end_token is not None and task.rules.vocabulary_size > 1:
            raise ValueError(
                f"Candidates(1) would leave nothing but the end token, which {task.name} always "
                "offers: expected k ≥ 2, or end=False"
            )

    def choices(self, task: Task, answer: Answer) -> Choices:
        """Return the candidates of B states."""
        return likeliest(answer, task.rules.vocabulary_size, self.k, task.rules.end_token)

    def space(self, task: Task) -> spaces.Discrete:
        """Return `Discrete(k)`."""
        return spaces.Discrete(self.k)

    def read(self, task: Task, action: Any, state: State, choices: Choices | None) -> int:
        """Return the token of a candidate.

        Raises:
            InvalidActionError: it is no integer in 0 … k − 1, or no token stands there.
        """
        assert choices is not None
        number = _integer(action, self.k)
        self._refuse_padding(task, choices.ids[:, number], np.array([number]), None)
        return int(choices.ids[0, number])

    def read_batch(
        self, task: Task, actions: Any, ignored: Ignored, state: State, choices: Choices | None
    ) -> Ids:
        """Return the tokens of B candidates, int64 [B].

        Raises:
            InvalidActionError: the shape, the type or a number is wrong, or no token stands there.
        """
        assert choices is not None
        numbers = _integers(actions, ignored, (len(state.tokens),), self.k)
        tokens = np.take_along_axis(choices.ids, numbers[:, None], axis=1)[:, 0]
        if ignored is not None:
            tokens[ignored] = 0
        self._refuse_padding(task, tokens, numbers, choices)
        return tokens

    def mask(self, task: Task, choices: Choices | None, batch: int | None) -> npt.NDArray[np.int8]:
        """Return 1 where there is a candidate; at a terminated state ones, for none is read."""
        assert choices is not None
        mask = (choices.ids != task.rules.nothing).astype(np.int8)
        mask[~mask.any(axis=1)] = 1
        return mask[0] if batch is None else mask

    def _refuse_padding(self, task: Task, tokens: Ids, numbers: Ids, batch: Choices | None) -> None:
        wrong = np.flatnonzero(tokens == task.rules.nothing)
        if len(wrong):
            where = f" of row {wrong[0]}" if batch is not None else ""
            raise InvalidActionError(
                f"candidate {numbers[wrong[0]]}{where} is no token: fewer than {self.k} can be "
                "written here; choose where the action mask is 1"
            )


class Fragments(Action):
    """n tokens an action: `MultiDiscrete([V] * n)`; what comes after the end is ignored.

    The step pays the sum of what its tokens earn. The mask is that of `AllTokens`, n times in a
    row, as sb3-contrib's MaskablePPO takes it.

    Args:
        n: At least 1.
    """

    name: ClassVar[str] = "fragments"
    several: ClassVar[bool] = True

    def __init__(self, n: int) -> None:
        self.n = check_count("Fragments(n)", n)

    def space(self, task: Task) -> spaces.MultiDiscrete:
        """Return `MultiDiscrete([V] * n)`."""
        return spaces.MultiDiscrete([task.rules.vocabulary_size] * self.n)

    def read(self, task: Task, action: Any, state: State, choices: Choices | None) -> list[int]:
        """Return the n tokens.

        Raises:
            InvalidActionError: they are no n integers in 0 … V − 1.
        """
        size = task.rules.vocabulary_size
        return _integers(action, None, (self.n,), size, "place").tolist()

    def read_batch(
        self, task: Task, actions: Any, ignored: Ignored, state: State, choices: Choices | None
    ) -> Ids:
        """Return the tokens, int64 [B, n].

        Raises:
            InvalidActionError: the shape, the type or a number is wrong.
        """
        shape = (len(state.tokens), self.n)
        return _integers(actions, ignored, shape, task.rules.vocabulary_size)

    def mask(self, task: Task, choices: Choices | None, batch: int | None) -> npt.NDArray[np.int8]:
        """Return the mask of `AllTokens` n times in a row, int8 [n·V] or [B, n·V]."""
        mask = AllTokens().mask(task, None, batch)
        return np.tile(mask, self.n) if batch is None else np.tile(mask, (1, self.n))


class Strings(Action):
    """A text an action; the task's vocabulary encodes it, and its tokens are written.

    The empty text writes the end token. What comes after the end, or does not fit into T, is
    ignored. The step pays the sum of what its tokens earn. There is no mask.
    """

    name: ClassVar[str] = "strings"
    several: ClassVar[bool] = True

    def space(self, task: Task) -> UnicodeText:
        """Return the space of all texts; its samples consist of the task's tokens."""
        return UnicodeText(task.vocabulary)

    def read(self, task: Task, action: Any, state: State, choices: Choices | None) -> list[int]:
        """Return the tokens of the text.

        Raises:
            InvalidActionError: it is no text, cannot be encoded, or is empty (or blank) where
                that means nothing.
        """
        return self._ids(task, action, int(state.length), "")

    def read_batch(
        self, task: Task, actions: Any, ignored: Ignored, state: State, choices: Choices | None
    ) -> Ids:
        """Return the tokens of B texts, int64 [B, n], n those of the longest.

        Raises:
            InvalidActionError: they are no B texts, or one of them cannot be written.
        """
        batch = len(state.tokens)
        if isinstance(actions, str) or not hasattr(actions, "__len__") or len(actions) != batch:
            raise InvalidActionError(f"expected a list of {batch} texts, got {actions!r:.80}")
        rows = [
            []
            if ignored is not None and ignored[row]
            else self._ids(task, actions[row], int(state.length[row]), f" (row {row})")
            for row in range(batch)
        ]
        ids = np.full((batch, max(map(len, rows))), task.rules.nothing, dtype=np.int64)
        for row, own in enumerate(rows):
            ids[row, : len(own)] = own
        return ids

    def mask(self, task: Task, choices: Choices | None, batch: int | None) -> npt.NDArray[np.int8]:
        """Texts have none.

        Raises:
            TextenvError: always.
        """
        raise TextenvError("actions that are texts have no mask: leave mask= out")

    def _ids(self, task: Task, action: Any, length: int, where: str) -> list[int]:
        if not isinstance(action, str):
            raise InvalidActionError(
                f"expected a text{where}, got {action!r} of type {type(action).__name__}"
            )
        end = task.rules.end_token
        if not action and end is not None:
            return [end]
        try:
            ids = task.vocabulary.encode(action)
        except ValueError as error:
            raise InvalidActionError(f"the action{where} cannot be written: {error}") from error
        if not ids:
            means = "has no tokens" if action else "is empty"
            instead = "has no end token" if end is None else 'ends with ""'
            raise InvalidActionError(
                f"the action{where} {action!r} {means}, and {task.name} {instead}: write a token"
            )
        return list(ids[: task.rules.max_tokens - length])


ACTIONS: dict[str, type[Action]] = {
    kind.name: kind for kind in (AllTokens, Candidates, Fragments, Strings)
}


def parse(value: Any) -> Action:
    """Make an action from `"candidates:32"`, `{"name": "candidates", "k": 32}` or an object."""
    return Action.parse("action", value, ACTIONS)


def _integer(action: Any, size: int) -> int:
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


def _integers(
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
