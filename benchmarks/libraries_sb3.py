"""Stable-Baselines3 on a registered environment, through `SB3VecEnv`.

Stock PPO and DQN, sb3-contrib's MaskablePPO under a blocklist, and PPO with `LMPolicy`.
"""

from __future__ import annotations

from typing import Any

import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from benchmarks.libraries_training import (
    Scores,
    Training,
    allowed_only,
    greedy,
    sampled,
    task_of,
    worth,
)
from textenv_agents.sb3 import LMPolicy, SB3VecEnv, SequenceRolloutBuffer

SETTINGS: dict[str, Any] = {
    "n_steps": 128,
    "batch_size": 256,
    "n_epochs": 4,
    "gamma": 1.0,
    "learning_rate": 3e-3,
    "ent_coef": 0.05,
    "device": "cpu",
}
BLOCKLIST = ("我我", "爱爱")


def ppo(environment_id: str, seed: int, *, steps: int = 10_240, num_envs: int = 8) -> Training:
    """Train by PPO with SB3's own MLP on raw ids."""
    agent = PPO("MlpPolicy", SB3VecEnv(environment_id, num_envs), seed=seed, **SETTINGS)
    return _trained(environment_id, agent, steps, _logits(agent), stochastic=True)


def dqn(environment_id: str, seed: int, *, steps: int = 10_000, num_envs: int = 8) -> Training:
    """Train by DQN with SB3's own MLP on raw ids."""
    agent = DQN(
        "MlpPolicy",
        SB3VecEnv(environment_id, num_envs),
        learning_starts=500,
        learning_rate=2e-3,
        train_freq=1,
        target_update_interval=500,
        batch_size=128,
        exploration_fraction=0.8,
        exploration_final_eps=0.2,
        seed=seed,
        device="cpu",
    )
    return _trained(environment_id, agent, steps, _values(agent), stochastic=False)


def maskable(environment_id: str, seed: int, *, steps: int = 10_240) -> Training:
    """Train by MaskablePPO, which never writes what `BLOCKLIST` forbids."""
    keywords = {"blocklist": list(BLOCKLIST)}
    agent = MaskablePPO(
        "MlpPolicy", SB3VecEnv(environment_id, 8, **keywords), seed=seed, **SETTINGS
    )
    scores = allowed_only(environment_id, keywords, _logits(agent))
    return _trained(environment_id, agent, steps, scores, stochastic=True)


def lm_policy(environment_id: str, seed: int, *, steps: int = 10_240) -> Training:
    """Train the environment's own language model by PPO, on whole texts."""
    agent = PPO(
        LMPolicy,
        SB3VecEnv(environment_id, 64),
        rollout_buffer_class=SequenceRolloutBuffer,
        seed=seed,
        **SETTINGS | {"n_steps": 16, "learning_rate": 0.05, "ent_coef": 0.0},
    )
    task = task_of(environment_id)
    before, _ = worth(task, agent.policy.lm)
    agent.learn(steps)
    after, likeliest = worth(task, agent.policy.lm)
    return Training(before=before, after=after, greedy=likeliest, steps=agent.num_timesteps)


def _trained(
    environment_id: str, agent: BaseAlgorithm, steps: int, scores: Scores, *, stochastic: bool
) -> Training:
    task = task_of(environment_id)
    worth = sampled if stochastic else greedy
    before = worth(task, scores)
    agent.learn(steps)
    return Training(
        before=before,
        after=worth(task, scores),
        greedy=greedy(task, scores),
        steps=agent.num_timesteps,
    )


def _logits(agent: Any) -> Scores:
    return lambda tokens: agent.policy.get_distribution(
        torch.from_numpy(tokens)
    ).distribution.logits.numpy()


def _values(agent: Any) -> Scores:
    return lambda tokens: agent.q_net(torch.from_numpy(tokens)).numpy()
