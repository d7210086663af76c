"""Sentiment-v0 for `sb3_stock`: ordinary networks on the language model's last hidden state.

They choose one of its 32 likeliest tokens; the settings were chosen on seed 100.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from benchmarks.sb3_agents import make
from textenv.metrics import Interval, mean_interval
from textenv.models import load
from textenv_agents import evaluate
from textenv_agents.sb3 import SB3VecEnv

ID, K, ROWS = "textenv/Sentiment-v0", 32, 32
T = 24  # tokens of a text at most
# How a policy writes when it is measured: as it was trained, or the choice of highest value.
WRITES = {
    "PPO": "drawn", "A2C": "drawn", "DQN": "greedy", "MaskablePPO": "drawn", "QRDQN": "greedy",
    "TRPO": "drawn",
}  # fmt: skip

# Texts are paid at the end alone, so nothing is bootstrapped: λ = 1, or returns of T steps.
_PPO = {
    "n_steps": 2 * T, "batch_size": 256, "n_epochs": 8, "gamma": 1.0, "gae_lambda": 1.0,
    "learning_rate": 1e-3,
}  # fmt: skip
_DQN = {
    "learning_starts": 2_000, "learning_rate": 5e-4, "train_freq": 1, "gradient_steps": 2,
    "target_update_interval": 1_000, "batch_size": 256, "exploration_fraction": 0.5,
    "gamma": 1.0, "buffer_size": 100_000, "n_steps": T,
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "PPO": _PPO,
    "A2C": {"n_steps": T // 2, "learning_rate": 7e-4, "gamma": 1.0},
    "DQN": _DQN,
    "MaskablePPO": _PPO,
    "QRDQN": _DQN | {"policy_kwargs": {"n_quantiles": 25}},
    "TRPO": {"n_steps": 2 * T, "batch_size": 256, "gamma": 1.0, "gae_lambda": 1.0},
}


def environment(rows: int) -> VecMonitor:
    """Make Sentiment-v0 as it is seen and written here."""
    return VecMonitor(SB3VecEnv(ID, rows, observation="hidden", action=f"candidates:{K}"))


def trained(name: str, seed: int, steps: int, texts: int) -> float:
    """Train, and return the mean reward of fresh texts after prompts of other seeds."""
    envs = VecNormalize(environment(ROWS), norm_reward=False)
    agent = make(name, envs, SETTINGS[name], seed)
    agent.learn(steps)
    fresh = VecNormalize(environment(64), norm_reward=False, training=False)
    fresh.obs_rms = envs.obs_rms
    fresh.seed(10_000 + 64 * seed)
    greedy = WRITES[name] == "greedy"

    def choose(seen: np.ndarray) -> np.ndarray:
        return agent.predict(seen, deterministic=greedy)[0]

    return float(np.mean(_rewards(fresh, choose, texts)))


def baselines(texts: int, seed: int) -> tuple[Interval, Interval]:
    """What a uniform choice among the candidates is paid, and what the language model is."""
    envs, generator = environment(64), np.random.default_rng(seed)
    envs.seed(20_000 + seed)
    uniform = _rewards(envs, lambda seen: generator.integers(K, size=len(seen)), texts)
    model = load("reviews")
    unchanged = evaluate(model, ID, reference=model, texts=texts, seed=30_000 + seed)
    return mean_interval(uniform), unchanged.reward


def _rewards(envs: Any, choose: Any, texts: int) -> list[float]:
    """The rewards of the first texts of each row, as many in each: short ones are not preferred."""
    each = -(-texts // envs.num_envs)
    rewards: list[list[float]] = [[] for _ in range(envs.num_envs)]
    seen = envs.reset()
    while min(map(len, rewards)) < each:
        seen, _, dones, infos = envs.step(choose(seen))
        for row in np.flatnonzero(dones).tolist():
            rewards[row].append(infos[row]["episode"]["r"])
    return [reward for row in rewards for reward in row[:each]]
