"""The best of n texts of a policy: written, and as an exact distribution on small tasks.

The best of n is a policy too, without any training: it pays n texts for one, and moves away from
the policy by at most log n − (n − 1)/n nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium.vector import VectorEnv

from textenv import exact, mdp
from textenv.models import LanguageModel, Prefixes
from textenv.models.sampling import Sampling
from textenv.plugins import is_count
from textenv.rewards import as_reward
from textenv.rewards.convert import RewardLike
from textenv.task import Task
from textenv_agents.rollout import PLAIN, Episodes, collect, texts_of
from textenv_agents.search.texts import Array, Found, writes

# Rewards that agree to so many decimals are the same: sums of floats differ in the last ones.
_DIGITS = 12


class BestOfN(NamedTuple):
    """What was kept of n texts for each of N prompts.

    found: The N texts that were kept, in the order of the queue, with the reward that chose them.
    chosen: int64 [N], which of the `episodes` they are.
    episodes: All N·n texts, the n of one prompt beside each other, with what they were paid.
    """

    found: Found
    chosen: npt.NDArray[np.int64]
    episodes: Episodes


def best_of_n(
    envs: VectorEnv,
    policy: LanguageModel,
    n: int,
    prompt_index: npt.ArrayLike,
    generator: np.random.Generator,
    *,
    reward: RewardLike | None = None,
    sampling: Sampling = PLAIN,
) -> BestOfN:
    """Write n texts for each prompt and keep the one of the highest reward.

    Of several that are worth the same the first is kept. Texts whose reward failed and was
    skipped are kept only where there is no other.

    Args:
        envs: A `TextVectorEnv` whose actions are tokens, as for `collect`.
        policy: Writes the texts.
        n: How many, ≥ 1.
        prompt_index: int64 [N], the queue of prompts; one may come several times.
        generator: Draws the texts.
        reward: Chooses among them, in any form that `reward=` takes; it reads the task's columns.
            None: what the environment paid.
        sampling: Temperature and cuts.

    Raises:
        ValueError: n < 1, a single environment, what `collect` refuses, or a reward that is not a
            finite number.
    """
    _check(n)
    texts = texts_of(envs)
    queue = np.repeat(np.asarray(prompt_index), n)
    uniforms = generator.random((len(queue), texts.task.rules.max_tokens))
    episodes = collect(envs, policy, queue, uniforms, sampling=sampling)
    state = episodes.prefixes.state(queue)
    scores = _ranked(texts.task, state, episodes.rewards, reward)
    counted = np.where(episodes.faults, -np.inf, scores) if reward is None else scores
    chosen = np.arange(0, len(queue), n) + counted.reshape(-1, n).argmax(axis=1)
    return BestOfN(Found(state, scores).rows(chosen), chosen, episodes)


def best_of_n_probabilities(
    task: Task,
    policy: Any,
    n: int,
    *,
    reward: RewardLike | None = None,
    limit: int = exact.LIMIT,
) -> tuple[exact.Enumeration, Array]:
    """List every text with the probability that it is the best of n.

    π_n(y) = π(y)·Σ_{k < n} F(r)^k·F₋(r)^{n−1−k}, r = r(y), F(r) = P(a text is worth r or less),
    F₋(r) = P(it is worth less): y is the first that is worth r, after n − 1 − k texts that are
    worth less and before k that are not worth more. Where all rewards of a prompt differ that is
    F(r)^n − F₋(r)^n; where all are alike, π(y).

    Args:
        task: A small task.
        policy: π, a language model or Prefixes → probabilities.
        n: ≥ 1.
        reward: As for `best_of_n`. None: the task's.
        limit: The largest number of texts.

    Returns:
        The texts as `exact.enumerate_texts` lists them under π, and π_n of each, with the choice
        of the prompt in it: they sum to 1.

    Raises:
        ValueError: n < 1, or a reward that is not a finite number.
        TooLargeError: the task has more than `limit` texts.
    """
    _check(n)
    texts = exact.enumerate_texts(task, policy, limit=limit)
    scores = _ranked(task, texts.state, texts.rewards, reward)
    result = np.zeros_like(texts.probabilities)
    for prompt in range(len(task.prompts)):
        rows = np.flatnonzero(texts.state.prompt_index == prompt)
        probabilities = texts.probabilities[rows] / texts.probabilities[rows].sum()
        _, level = np.unique(scores[rows], return_inverse=True)
        up_to = np.minimum(np.bincount(level, probabilities).cumsum(), 1.0)
        below = np.concatenate([[0.0], up_to[:-1]])
        factor = sum(up_to**k * below ** (n - 1 - k) for k in range(n))
        best = probabilities * np.asarray(factor)[level]
        result[rows] = best / best.sum() / len(task.prompts)
    return texts, result


def best_of_n_policy(
    task: Task,
    policy: Any,
    n: int,
    *,
    reward: RewardLike | None = None,
    limit: int = exact.LIMIT,
) -> Callable[[Prefixes], Array]:
    """Return the policy that writes token by token what the best of n is, for `textenv.exact`.

    `exact.value(task, best_of_n_policy(task, π, n))` is the mean reward of the best of n, and
    `exact.kl(task, best_of_n_policy(task, π, n), π)` its price, at most `kl_bound(n)`. Arguments
    and errors are those of `best_of_n_probabilities`.
    """
    texts, probabilities = best_of_n_probabilities(task, policy, n, reward=reward, limit=limit)
    return writes(task, texts.state, probabilities, policy)


def kl_bound(n: int) -> float:
    """Log n − (n − 1)/n, which KL(π_n‖π) never exceeds.

    It is often quoted as the KL itself, which it is only in the limit where no text has a
    probability worth mentioning and no two are worth the same (Beirami et al. 2024,
    https://arxiv.org/abs/2401.01879).

    >>> kl_bound(1), round(kl_bound(4), 3)
    (0.0, 0.636)

    Raises:
        ValueError: n < 1.
    """
    _check(n)
    return math.log(n) - (n - 1) / n


def _check(n: int) -> None:
    if not is_count(n):
        raise ValueError(f"expected n to be an integer ≥ 1, got {n!r}")


def _ranked(task: Task, state: mdp.State, paid: Array, reward: RewardLike | None) -> Array:
    """What each text is worth, float64 [N], rounded so that equal sums are equal."""
    if reward is None:
        return np.asarray(paid.sum(axis=1).round(_DIGITS))
    own = as_reward(reward).with_vocabulary(task.vocabulary)
    texts = task.texts(state, range(len(paid)))
    columns = {**texts.columns, "completion_ids": texts.completion_ids}
    totals = own.total(texts.prompts, texts.completions, **columns)
    worth = np.array([0.0 if total is None else total for total in totals], dtype=np.float64)
    if worth.shape != (len(paid),) or not np.isfinite(worth).all():
        raise ValueError(
            f"the reward {own.name!r} must say one finite number for each of {len(paid)} texts, "
            f"got {totals!r:.200}"
        )
    return worth.round(_DIGITS)
