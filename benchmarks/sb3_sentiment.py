"""Sentiment-v0 for `sb3_stock`: ordinary networks on the language model's last hidden state.

They choose one of its 32 likeliest tokens; the settings were chosen on seeds 100 to 102.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from benchmarks.sb3_agents import make
from textenv.metrics import Interval, mean_interval
from textenv.models import load
from textenv_agents import evaluate
from textenv_agents.sb3 import SB3VecEnv

ID, K, ROWS = "textenv/Sentiment-v0", 32, 32
T = 24  # tokens of a text at most
# What is seen, and which rows begin, bool [B] → actions, int [B].
Choose = Callable[[np.ndarray, np.ndarray], np.ndarray]
# How a policy writes when it is measured: as it was trained, or the choice of highest value.
WRITES = {
    "PPO": "drawn", "A2C": "drawn", "DQN": "greedy", "MaskablePPO": "drawn", "QRDQN": "greedy",
    "TRPO": "drawn", "RecurrentPPO": "drawn",
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
    # It reads each step once, so its steps are large: of whole texts, with advantages of one scale.
    "A2C": {"n_steps": T, "learning_rate": 5e-3, "gamma": 1.0, "normalize_advantage": True},
    "DQN": _DQN,
    "MaskablePPO": _PPO,
    "QRDQN": _DQN | {"policy_kwargs": {"n_quantiles": 25}},
    "TRPO": {
        "n_steps": T, "batch_size": 128, "gamma": 1.0, "gae_lambda": 1.0, "target_kl": 0.05,
    },
    # Its default LSTMs, 256 wide and one more for V, would take most of the time.
    "RecurrentPPO": _PPO | {
        "n_steps": T, "n_epochs": 4, "learning_rate": 2e-3,
        "policy_kwargs": {"lstm_hidden_size": 64, "enable_critic_lstm": False},
    },
}  # fmt: skip


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
    return float(np.mean(_rewards(fresh, writer(agent, WRITES[name] == "greedy"), texts)))


def writer(agent: BaseAlgorithm, greedy: bool) -> Choose:
    """Let an agent choose; RecurrentPPO keeps the memory of each row until its text ends."""
    memory: Any = None

    def choose(seen: np.ndarray, begins: np.ndarray) -> np.ndarray:
        nonlocal memory
        actions, memory = agent.predict(
            seen, state=memory, episode_start=begins, deterministic=greedy
        )
        return actions

    return choose


def baselines(texts: int, seed: int) -> tuple[Interval, Interval]:
    """What a uniform choice among the candidates is paid, and what the language model is."""
    envs, generator = environment(64), np.random.default_rng(seed)
    envs.seed(20_000 + seed)
    uniform = _rewards(envs, lambda _, begins: generator.integers(K, size=len(begins)), texts)
    model = load("reviews")
    unchanged = evaluate(model, ID, reference=model, texts=texts, seed=30_000 + seed)
    return mean_interval(uniform), unchanged.reward


def _rewards(envs: Any, choose: Choose, texts: int) -> list[float]:
    """The rewards of the first texts of each row, as many in each: short ones are not preferred."""
    each = -(-texts // envs.num_envs)
    rewards: list[list[float]] = [[] for _ in range(envs.num_envs)]
    seen, dones = envs.reset(), np.ones(envs.num_envs, dtype=np.bool_)
    while min(map(len, rewards)) < each:
        seen, _, dones, infos = envs.step(choose(seen, dones))
        for row in np.flatnonzero(dones).tolist():
            rewards[row].append(infos[row]["episode"]["r"])
    return [reward for row in rewards for reward in row[:each]]
