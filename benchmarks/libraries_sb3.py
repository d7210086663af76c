"""Stable-Baselines3's stock PPO and DQN on a registered environment, through `SB3VecEnv`."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from benchmarks.libraries_training import Scores, Training, greedy, sampled, task_of
from textenv_agents.sb3 import SB3VecEnv


def ppo(environment_id: str, seed: int, *, steps: int = 10_240, num_envs: int = 8) -> Training:
    """Train by PPO with SB3's own MLP on raw ids."""
    agent = PPO(
        "MlpPolicy",
        SB3VecEnv(environment_id, num_envs),
        n_steps=128,
        batch_size=256,
        n_epochs=4,
        gamma=1.0,
        learning_rate=3e-3,
        ent_coef=0.05,
        seed=seed,
        device="cpu",
    )
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
