"""Actions that may write several tokens: n of them, or a text.

B = rows of a vector environment, V = vocabulary, T = the longest completion in tokens.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from textenv.actions.base import Action, Ids, Ignored, integers
from textenv.actions.single import AllTokens
from textenv.asking import Choices
from textenv.errors import InvalidActionError, TextenvError
from textenv.mdp import State
from textenv.plugins import check_count
from textenv.spaces import UnicodeText
from textenv.task import Task


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
        return integers(action, None, (self.n,), size, "place").tolist()

    def read_batch(
        self, task: Task, actions: Any, ignored: Ignored, state: State, choices: Choices | None
    ) -> Ids:
        """Return the tokens, int64 [B, n].

        Raises:
            InvalidActionError: the shape, the type or a number is wrong.
        """
        shape = (len(state.tokens), self.n)
        return integers(actions, ignored, shape, task.rules.vocabulary_size)

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
        raise TextenvError(
            'actions that are texts have no mask: where one is needed, use action="all_tokens", '
            '"candidates:k" or "fragments:n"'
        )

    def _ids(self, task: Task, action: Any, length: int, where: str) -> list[int]:
        return self._encoded(task, action, where)[: task.rules.max_tokens - length]

    def _encoded(self, task: Task, action: Any, where: str) -> list[int]:
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
        return list(ids)


class Completion(Strings):
    """The whole text in one action: the end token is written after it, so that one step ends it.

    What does not fit into T is cut off; T ends the text then.
    """

    name: ClassVar[str] = "completion"

    def check(self, task: Task) -> None:
        """Refuse a task without an end token.

        Raises:
            ValueError: it has none.
        """
        if task.rules.end_token is None:
            raise ValueError(
                f'action="completion" writes the end token after each text, and {task.name} has '
                'none (or end=False): use action="strings"'
            )

    def _encoded(self, task: Task, action: Any, where: str) -> list[int]:
        ids, end = super()._encoded(task, action, where), task.rules.end_token
        return ids if end is None or not action else [*ids, end]
