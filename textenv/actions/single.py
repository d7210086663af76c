"""Actions that write one token: any, or one of the likeliest.

B = rows of a vector environment, V = vocabulary.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from textenv.actions.base import Action, Ids, Ignored, integer, integers
from textenv.asking import Answer, Choices, check_size, likeliest
from textenv.mdp import State
from textenv.plugins import check_count
from textenv.task import Task


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
        return integer(action, task.rules.vocabulary_size)

    def read_batch(
        self, task: Task, actions: Any, ignored: Ignored, state: State, choices: Choices | None
    ) -> Ids:
        """Return the actions as int64 [B]; rows marked in `ignored` become 0 unread.

        Raises:
            InvalidActionError: the shape, the type or a number is wrong.
        """
        return integers(actions, ignored, (len(state.tokens),), task.rules.vocabulary_size)

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
    never is, nor one that `blocklist=` forbids: where n < k are left the rest are the id V, the
    mask is 0 there, and action a writes candidate a mod n, for most agents read no mask.

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
        size, end = task.rules.vocabulary_size, task.rules.end_token
        return likeliest(answer, size, self.k, end, answer.allowed)

    def space(self, task: Task) -> spaces.Discrete:
        """Return `Discrete(k)`."""
        return spaces.Discrete(self.k)

    def read(self, task: Task, action: Any, state: State, choices: Choices | None) -> int:
        """Return the token of a candidate.

        Raises:
            InvalidActionError: it is no integer in 0 … k − 1.
        """
        assert choices is not None
        number = integer(action, self.k)
        return int(self._tokens(task, np.array([number]), choices)[0])

    def read_batch(
        self, task: Task, actions: Any, ignored: Ignored, state: State, choices: Choices | None
    ) -> Ids:
        """Return the tokens of B candidates, int64 [B].

        Raises:
            InvalidActionError: the shape, the type or a number is wrong.
        """
        assert choices is not None
        numbers = integers(actions, ignored, (len(state.tokens),), self.k)
        tokens = self._tokens(task, numbers, choices)
        if ignored is not None:
            tokens[ignored] = 0
        return tokens

    def mask(self, task: Task, choices: Choices | None, batch: int | None) -> npt.NDArray[np.int8]:
        """Return 1 where there is a candidate; at a terminated state ones, for none is read."""
        assert choices is not None
        mask = (choices.ids != task.rules.nothing).astype(np.int8)
        mask[~mask.any(axis=1)] = 1
        return mask[0] if batch is None else mask

    def _tokens(self, task: Task, numbers: Ids, choices: Choices) -> Ids:
        """Candidate a mod n of each row, of the n that stand there, before any padding."""
        tokens = np.take_along_axis(choices.ids, numbers[:, None], axis=1)[:, 0]
        if (tokens == task.rules.nothing).any():
            there = (choices.ids != task.rules.nothing).sum(axis=1)
            again = numbers % np.maximum(there, 1)  # none: the text has ended, and nobody reads it
            tokens = np.take_along_axis(choices.ids, again[:, None], axis=1)[:, 0]
        return tokens
