"""What a policy is worth: fresh texts, at temperature 1 and uncut unless said, with intervals."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import AutoresetMode

from textenv import mdp
from textenv.metrics import Interval, distinct_n, mean_interval
from textenv.models import LanguageModel, Prefixes
from textenv.models.base import divergences
from textenv.models.sampling import Kept, Sampling
from textenv.task import Task
from textenv_agents.rollout import PLAIN, Episodes, collect

ROWS = 250  # texts that are written at once


class Evaluation(NamedTuple):
    """A policy on a task.

    reward: mean over texts, with its 95 % interval.
    kl: mean over texts of Σ_t KL(π(·|s_t)‖ρ(·|s_t)), exact at each state, in nats a text.
    length: mean number of tokens, the end token included.
    distinct_2: share of different bigrams.
    perplexity: exp(−mean log ρ) of what was written, ρ the reference.
    texts: (prompt, text, reward) of each.
    """

    reward: Interval
    kl: Interval
    length: float
    distinct_2: float
    perplexity: float
    texts: list[tuple[str, str, float]]

    def summary(self) -> dict[str, Any]:
        """Everything but the texts, for JSON."""
        return {
            "reward": list(self.reward),
            "kl": list(self.kl),
            "length": self.length,
            "distinct_2": self.distinct_2,
            "perplexity": self.perplexity,
            "number_of_texts": len(self.texts),
        }

    def to_json(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return self._asdict()

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Evaluation:
        """Read what `to_json` wrote."""
        intervals = {name: Interval(*fields[name]) for name in ("reward", "kl")}
        texts = [(prompt, text, reward) for prompt, text, reward in fields["texts"]]
        return cls(**{**fields, **intervals, "texts": texts})


def evaluate(
    policy: LanguageModel,
    env: str,
    *,
    reference: LanguageModel,
    texts: int = 1000,
    seed: int = 12345,
    prompt_index: int | None = None,
    sampling: Sampling = PLAIN,
    **keywords: Any,
) -> Evaluation:
    """Write fresh texts and measure them.

    Args:
        policy: π.
        env: An environment's id.
        reference: ρ, usually the policy before training.
        texts: How many, ≥ 1.
        seed: Of prompts and tokens; the same for policies that are to be compared.
        prompt_index: Continue this prompt only; None: prompts drawn uniformly.
        sampling: Temperature and cuts, which are then part of policy and reference.
        **keywords: For the environment.
    """
    envs = environments(env, texts, **keywords)
    task = envs.unwrapped.task
    prompts, uniforms = drawn(task, texts, seed)
    if prompt_index is not None:
        prompts[:] = prompt_index
    fresh = write(envs, policy, reference, prompts, uniforms, sampling=sampling)
    envs.close()
    written = fresh.episodes.prefixes.written
    reward = fresh.episodes.rewards.sum(axis=1)
    ids = [mdp.text_ids(task.rules, row) for row in fresh.episodes.prefixes.tokens]
    return Evaluation(
        reward=mean_interval(reward),
        kl=mean_interval(fresh.kl),
        length=float(written.mean()),
        distinct_2=distinct_n(ids),
        perplexity=math.exp(-fresh.log_probs.sum() / written.sum()),
        texts=[
            (task.prompts[prompt], task.vocabulary.decode(text), float(value))
            for prompt, text, value in zip(prompts, ids, reward, strict=True)
        ],
    )


class Fresh(NamedTuple):
    """N texts, and what two models say of them.

    episodes: The texts and what they were paid.
    kl: float64 [N], Σ_t KL(π(·|s_t)‖ρ(·|s_t)), of what sampling left of both.
    log_probs: float64 [N], Σ_t log ρ(a_t|s_t), likewise.
    """

    episodes: Episodes
    kl: npt.NDArray[np.float64]
    log_probs: npt.NDArray[np.float64]


def environments(env: str, texts: int, **keywords: Any) -> Any:
    """Make the vector environment in which so many texts are written, and scored at the end."""
    return gym.make_vec(
        env,
        num_envs=min(ROWS, texts),
        autoreset_mode=AutoresetMode.SAME_STEP,
        scoring="deferred",
        **keywords,
    )


def write(
    envs: Any,
    policy: LanguageModel,
    reference: LanguageModel,
    prompts: npt.NDArray[np.int64],
    uniforms: npt.NDArray[np.float64],
    *,
    sampling: Sampling = PLAIN,
) -> Fresh:
    """Write one text for each prompt, and ask both models about them.

    Args:
        envs: As `environments` makes it.
        policy: π.
        reference: ρ.
        prompts: int64 [N], which prompt each text continues.
        uniforms: float64 [N, T], what chooses its tokens.
        sampling: Temperature and cuts.
    """
    texts = len(prompts)
    episodes = collect(envs, policy, prompts, uniforms, sampling=sampling)
    kl, log_probs = np.concatenate(
        [
            divergence(policy, reference, episodes.prefixes.rows(part), episodes.kept.rows(part))
            for part in np.split(np.arange(texts), np.arange(ROWS, texts, ROWS))
        ],
        axis=1,
    )
    return Fresh(episodes, kl, log_probs)


def drawn(
    task: Task, texts: int, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Draw which prompt each text continues, [N], and the numbers that choose its tokens, [N, T].

    They are drawn in blocks of one size: a longer evaluation begins with the texts of a shorter
    one, if that has whole blocks.
    """
    generator = np.random.default_rng(seed)
    prompts, uniforms = [], []
    for start in range(0, texts, ROWS):
        number = min(ROWS, texts - start)
        prompts.append(generator.integers(len(task.prompts), size=number))
        uniforms.append(generator.random((number, task.rules.max_tokens)))
    return np.concatenate(prompts), np.concatenate(uniforms)


@torch.no_grad()
def divergence(
    policy: LanguageModel, reference: LanguageModel, prefixes: Prefixes, kept: Kept
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Σ_t KL(π(·|s_t)‖ρ(·|s_t)) of each text, and Σ_t log ρ(a_t|s_t): float64 [N] each.

    π and ρ are what sampling left of them, `kept`.
    """
    ours = policy.score(prefixes, sampling=kept, distributions=True)
    theirs = reference.score(prefixes, sampling=kept, distributions=True)
    return (
        divergences(ours, theirs).sum(dim=1).double().cpu().numpy(),
        theirs.log_probs.sum(dim=1).double().cpu().numpy(),
    )
