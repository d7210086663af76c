"""A softmax policy over preferences θ(s, a), and its policy gradient: the gradient bandit in text.

    π(a|s) = exp θ(s, a) / Σ_b exp θ(s, b)
    θ(s_t, ·) ← θ(s_t, ·) + α·(R_t − b)·(e(a_t) − π(·|s_t))      (Williams 1992; Sutton, Barto 2.8)

n = rows, V = vocabulary, N = texts, P = longest prompt, T = longest completion.
"""

from __future__ import annotations

from typing import Any, Self

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from textenv.exact import LIMIT
from textenv.prefixes import Prefixes
from textenv.task import Task
from textenv_agents.tabular.choosing import Array, draw, softmax
from textenv_agents.tabular.environments import (
    is_skipped,
    masks_after,
    tokens_as_actions,
    tokens_of,
)
from textenv_agents.tabular.saving import identity
from textenv_agents.tabular.table import Table


class SoftmaxPreferences:
    """A preference for each token after each unfinished prefix of a small task.

    A policy, Prefixes → probabilities [B, V], and a table as `exact.gradient` takes it.

    Args:
        task: The task.
        limit: The largest number of texts.

    Raises:
        TooLargeError: the task has more texts.
    """

    def __init__(self, task: Task, *, limit: int = LIMIT) -> None:
        self.task = task
        self.table = Table.complete(task, limit=limit)

    @property
    def logits(self) -> Array:
        """θ [n, V], a copy; −∞ where a token is suppressed."""
        return np.where(self.table.allowed, self.table.values, -np.inf)

    def contexts(self, prefixes: Prefixes) -> npt.NDArray[np.int64]:
        """Return the row of each prefix, int64 [B].

        Raises:
            ValueError: a prefix is finished, or another task's.
        """
        rows = [self.table.find(tokens) for tokens in prefixes.tokens]
        if None in rows:
            raise ValueError(
                "expected unfinished prefixes of this task, got "
                f"{prefixes.tokens[rows.index(None)].tolist()}"
            )
        return np.array(rows, dtype=np.int64)

    def __call__(self, prefixes: Prefixes) -> Array:
        """Return the probabilities after each prefix, [B, V]."""
        rows = self.contexts(prefixes)
        return softmax(self.table.values[rows], self.table.allowed[rows])

    def gradient(self, prefixes: Prefixes, returns: Array) -> Array:
        """Σ_i Σ_t R_it·∇log π(a_it|s_it), [n, V]; ∂log π(a|s)/∂θ(s, b) = 1[a = b] − π(b|s).

        The mean over texts drawn from π is an unbiased estimate of ∇J.

        Args:
            prefixes: N texts, tokens [N, P + T].
            returns: R_it [N, T], the reward from t on (less a baseline, and times a weight, if
                there is one); what stands behind the end is not read.
        """
        result = np.zeros(self.table.values.shape)
        for place in range(returns.shape[1]):
            going = np.flatnonzero(prefixes.written > place)
            if not len(going):
                break
            tokens = prefixes.tokens[going].copy()
            chosen = tokens[:, prefixes.start + place].copy()
            tokens[:, prefixes.start + place :] = prefixes.nothing
            written = np.full(len(going), place)
            before = Prefixes(tokens, prefixes.start, prefixes.nothing, written)
            rows = self.contexts(before)
            terms = -softmax(self.table.values[rows], self.table.allowed[rows])
            terms[np.arange(len(going)), chosen] += 1
            np.add.at(result, rows, returns[going, place, None] * terms)
        return result

    def learn(
        self, env: str | gym.Env, episodes: int, *, learning_rate: float = 0.1, seed: int = 0
    ) -> Self:
        """Write texts in an environment of the task; after each, one step of ascent.

        The baseline is the mean reward of the texts before. What the environment's masks forbid
        gets probability 0 from then on. A text whose reward failed (`reward_fault="skip"`)
        teaches nothing.

        Args:
            env: An id, or an environment with "tokens" observations and tokens as actions.
            episodes: How many texts.
            learning_rate: α.
            seed: Of the prompts and of the draws.

        Raises:
            ValueError: the environment has another vocabulary or other limits than the task.
        """
        made, task = tokens_as_actions(env)
        if identity(task, None) != identity(self.task, None):
            raise ValueError(
                f"these preferences are of {self.task.name}; the environment writes {task.name}, "
                "in another vocabulary or with other limits"
            )
        self.table.allowed[:] &= masks_after(made, self.table.prefixes)
        generator, mean, learned = np.random.default_rng(seed), 0.0, 0
        for episode in range(episodes):
            observation, _ = made.reset(seed=seed if episode == 0 else None)
            rewards: list[float] = []
            over = skipped = False
            while not over:
                action = draw(self(self._prefix(observation))[0], generator)
                observation, reward, terminated, truncated, info = made.step(action)
                rewards.append(float(reward))
                skipped = skipped or is_skipped(made, info)
                over = terminated or truncated
            if skipped:
                continue
            total = sum(rewards)
            returns = np.cumsum(rewards[::-1])[::-1] - (mean if learned else total)
            step = self.gradient(self._prefix(observation), returns[None])
            self.table.values[:] += learning_rate * step
            learned += 1
            mean += (total - mean) / learned
        return self

    def _prefix(self, observation: Any) -> Prefixes:
        rules = self.task.rules
        return Prefixes.from_observations(
            tokens_of(observation), rules.prompt_length, rules.nothing
        )
