"""What a policy is worth: fresh texts at temperature 1, without cutting, with intervals."""

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
from textenv_agents.rollout import collect

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


def evaluate(
    policy: LanguageModel,
    env: str,
    *,
    reference: LanguageModel,
    texts: int = 1000,
    seed: int = 12345,
    prompt_index: int | None = None,
    **keywords: Any,
) -> Evaluation:
    """Write fresh texts and measure them.

    Args:
        policy: π.
        env: An environment's id.
        reference: ρ, usually the policy before training.
        texts: How many.
        seed: Of prompts and tokens; the same for policies that are to be compared.
        prompt_index: Continue this prompt only; None: prompts drawn uniformly.
        **keywords: For the environment.
    """
    generator = np.random.default_rng(seed)
    rewards, kls, references, rows = [], [], [], []
    for start in range(0, texts, ROWS):
        number = min(ROWS, texts - start)
        envs = gym.make_vec(
            env, num_envs=number, autoreset_mode=AutoresetMode.SAME_STEP, **keywords
        )
        task = envs.unwrapped.task  # type: ignore[attr-defined]
        prompts = generator.integers(len(task.prompts), size=number)
        if prompt_index is not None:
            prompts[:] = prompt_index
        uniforms = generator.random((number, task.rules.max_tokens))
        episodes = collect(envs, policy, prompts, uniforms)
        envs.close()
        kl, log_probs = divergence(policy, reference, episodes.prefixes)
        kls.append(kl)
        references.append(log_probs)
        rewards.append(episodes.rewards.sum(axis=1))
        rows += list(zip(prompts, episodes.prefixes.tokens, episodes.prefixes.written, strict=True))
    reward = np.concatenate(rewards)
    lengths = np.array([length for _, _, length in rows])
    ids = [mdp.text_ids(task.rules, tokens) for _, tokens, _ in rows]
    return Evaluation(
        reward=mean_interval(reward),
        kl=mean_interval(np.concatenate(kls)),
        length=float(lengths.mean()),
        distinct_2=distinct_n(ids),
        perplexity=math.exp(-np.concatenate(references).sum() / lengths.sum()),
        texts=[
            (task.prompts[prompt], task.vocabulary.decode(text), float(value))
            for (prompt, _, _), text, value in zip(rows, ids, reward, strict=True)
        ],
    )


@torch.no_grad()
def divergence(
    policy: LanguageModel, reference: LanguageModel, prefixes: Prefixes
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Σ_t KL(π(·|s_t)‖ρ(·|s_t)) of each text, and Σ_t log ρ(a_t|s_t): float64 [N] each."""
    ours = policy.score(prefixes, distributions=True)
    theirs = reference.score(prefixes, distributions=True)
    return (
        divergences(ours, theirs).sum(dim=1).double().cpu().numpy(),
        theirs.log_probs.sum(dim=1).double().cpu().numpy(),
    )
