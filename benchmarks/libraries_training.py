"""What the trainings of all libraries share: what a run is, and what a network is worth.

The tests train with the same functions as `python -m benchmarks libraries`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax

from textenv import Task, exact
from textenv.mdp import State
from textenv.models import LanguageModel
from textenv.prefixes import Prefixes

Scores = Callable[[npt.NDArray[np.int64]], npt.NDArray]
"""Observations of tokens, [B, P + T] → logits or action values, [B, V]."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One run: J is the exact expected reward of a text, without any sampling.

    before, after: J of what the library trains: of its stochastic policy, or of the greedy one
        where it learns action values.
    greedy: J of the greedy policy at the end.
    steps: Environment steps that were trained on.
    """

    before: float
    after: float
    greedy: float
    steps: int


def task_of(environment_id: str, **keywords: Any) -> Task:
    """Return the task of an id."""
    with gym.make(environment_id, **keywords) as env:
        return env.unwrapped.task


def sampled(task: Task, scores: Scores) -> float:
    """J of the policy that samples from the softmax of the scores."""
    return exact.value(task, lambda prefixes: softmax(_of(scores, prefixes), axis=1))


def greedy(task: Task, scores: Scores) -> float:
    """J of the policy that takes the highest score."""
    rows = np.eye(task.vocabulary.size)
    return exact.value(task, lambda prefixes: rows[_of(scores, prefixes).argmax(axis=1)])


def worth(task: Task, lm: LanguageModel) -> tuple[float, float]:
    """J of a language model, and of its likeliest tokens."""

    def likeliest(prefixes: Prefixes) -> npt.NDArray[np.float64]:
        with torch.no_grad():
            chosen = lm.next(prefixes).logits.argmax(dim=1)
        return np.eye(task.vocabulary.size)[chosen.numpy()]

    with torch.no_grad():
        return exact.value(task, lm), exact.value(task, likeliest)


def allowed_only(environment_id: str, keywords: dict[str, Any], scores: Scores) -> Scores:
    """The scores, −∞ where the environment's action mask forbids a token."""
    with gym.make(environment_id, **keywords) as env:
        setup = env.unwrapped.setup

    def allowed(tokens: npt.NDArray[np.int64]) -> npt.NDArray:
        written = (tokens[:, setup.rules.prompt_length :] != setup.rules.nothing).sum(axis=1)
        state = State(tokens, written, np.zeros(len(tokens), dtype=np.int64), None)
        mask = setup.action_mask(len(tokens), None, state)
        return np.where(mask == 1, scores(tokens), -np.inf)

    return allowed


def _of(scores: Scores, prefixes: Prefixes) -> npt.NDArray[np.float64]:
    with torch.no_grad():
        return np.asarray(scores(prefixes.tokens), dtype=np.float64)
