"""Whether an algorithm of SB3 can write what an environment takes, and in how much memory.

SB3 tells an environment nothing of who will use it, so this is asked before the algorithm is made.
Counted are the arrays that grow with the vocabulary or with the steps that are stored.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from textenv_agents.memory import machine_memory
from textenv_agents.sb3.checks import MUCH, bytes_of

# By name, for sb3-contrib need not be installed.
_CONTINUOUS = {"SAC", "TD3", "DDPG", "TQC", "CrossQ", "ARS"}
_ONE_NUMBER = {"DQN", "QRDQN"}
_LAYER = 64  # the width of SB3's last hidden layer unless policy_kwargs say otherwise
_COPIES = 5  # of a weight: the network's, the target's, its gradient, Adam's two moments


def check_algorithm(
    algorithm: type[BaseAlgorithm], env: gym.Env | VecEnv, **settings: Any
) -> dict[str, int]:
    """Refuse what `algorithm(policy, env, **settings)` could not write, or not fit into memory.

    Args:
        algorithm: A class of SB3 or sb3-contrib, such as `stable_baselines3.DQN`.
        env: What it would be given.
        **settings: What else it would be given: `n_steps`, `batch_size`, `buffer_size`,
            `policy_kwargs`; what is left out is the algorithm's own default.

    Returns:
        Bytes by what they hold, with SB3's own networks and buffers: "steps" (or "replay buffer"),
        "masks", "memories" (RecurrentPPO's), "last layer", "batch" (about).

    Raises:
        ValueError: it chooses real numbers, or one number where several are needed, or needs more
            memory than the machine has. Above 4 GB it is a warning. Or `env` is not what the
            algorithm would be given.
        TypeError: it has no setting of that name.
    """
    inspect.signature(algorithm).bind("policy", env, **settings)
    if not isinstance(env, gym.Env | VecEnv):
        raise ValueError(
            "expected what the algorithm would be given, a single environment or "
            f"SB3VecEnv(id, 64), got {env!r}"
        )
    kinds = {kind.__name__ for kind in algorithm.__mro__}
    actions, name = env.action_space, algorithm.__name__
    if kinds & _CONTINUOUS and not isinstance(actions, spaces.Box):
        raise ValueError(
            f"{name} chooses real numbers, and a token is none: the actions are {actions}. "
            "Take PPO, A2C, DQN, or MaskablePPO, QRDQN, TRPO, RecurrentPPO of sb3-contrib"
        )
    if kinds & _ONE_NUMBER and not isinstance(actions, spaces.Discrete):
        raise ValueError(
            f"{name} chooses one number a step, and the actions are {actions}: make the "
            'environment with action="all_tokens" or "candidates:32", or take PPO or A2C'
        )
    needed = _bytes(algorithm, kinds, env, settings)
    total, has = sum(needed.values()), machine_memory(torch.device("cpu"))
    if total > min(has, MUCH):
        parts = ", ".join(f"{each / 1e9:.1f} GB for the {what}" for what, each in needed.items())
        few = sum(_bytes(algorithm, kinds, env, settings, choices=32).values())
        message = (
            f"{name} would take {total / 1e9:.1f} GB ({parts}), the machine has {has / 1e9:.1f}: "
            f'choose among few tokens, action="candidates:32", which needs {few / 1e9:.1f} GB; or '
            "give it smaller settings"
        )
        if total > has:
            raise ValueError(message)
        warnings.warn(message, stacklevel=2)
    return needed


def _bytes(
    algorithm: type[BaseAlgorithm],
    kinds: set[str],
    env: gym.Env | VecEnv,
    settings: dict[str, Any],
    choices: int | None = None,
) -> dict[str, int]:
    defaults = inspect.signature(algorithm).parameters

    def setting(key: str, otherwise: Any) -> Any:
        own = defaults[key].default if key in defaults else otherwise
        return settings.get(key, own)

    rows = getattr(env, "num_envs", 1)
    outputs = choices or int(spaces.flatdim(env.action_space))
    more = setting("policy_kwargs", None) or {}
    if "QRDQN" in kinds:
        outputs *= more.get("n_quantiles", 200)
    seen = bytes_of(env.observation_space)
    numbers = int(np.prod(env.action_space.shape or (1,)))
    needed: dict[str, int] = {}
    if issubclass(algorithm, OffPolicyAlgorithm):
        steps = max(setting("buffer_size", 1_000_000) // rows, 1) * rows
        views = 1 if setting("optimize_memory_usage", False) else 2
        needed["replay buffer"] = steps * (views * seen + 8 * numbers + 12)
    else:
        steps = setting("n_steps", 2048) * rows
        needed["steps"] = steps * (seen + 8 * numbers + 24)
        if "MaskablePPO" in kinds:  # it stores them as float32
            needed["masks"] = 4 * steps * (choices or int(spaces.flatdim(env.action_space)))
    width = int(spaces.flatdim(env.observation_space))
    if "RecurrentPPO" in kinds:
        width = more.get("lstm_hidden_size", 256)
        # The hidden and the cell state of the policy's LSTM and of V's, before each step.
        needed["memories"] = 4 * 4 * steps * more.get("n_lstm_layers", 1) * width
    needed["last layer"] = 4 * _COPIES * (_width(more.get("net_arch"), width) + 1) * outputs
    # Of each state of a batch: what the network says, the same after it, and the gradient.
    batch = min(setting("batch_size", None) or steps, steps)
    needed["batch"] = 4 * 3 * batch * outputs
    return needed


def _width(layers: Any, seen: int) -> int:
    """The last hidden layer's, of SB3's `net_arch`; that of what is seen, where there is none."""
    if layers is None:
        return _LAYER
    if isinstance(layers, dict):
        layers = layers.get("pi", [])
    return int(layers[-1]) if layers else seen
