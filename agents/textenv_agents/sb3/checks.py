"""What `SB3VecEnv` takes: an id, or a vector environment from which SB3 learns rightly."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from textenv import TextVectorEnv
from textenv_agents.environments import check_id
from textenv_agents.memory import machine_memory

_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
_ROLLOUT = 2048  # the steps that PPO stores unless told otherwise
MUCH = 4e9  # bytes


def made(env: str | VectorEnv, num_envs: int | None, keywords: dict[str, Any]) -> VectorEnv:
    """Make the environment of an id, or return the one that was handed in.

    Raises:
        ValueError: it is neither, or keywords were given where nothing is made.
    """
    if isinstance(env, str):
        check_id(env, keywords)
        mode = AutoresetMode.SAME_STEP
        rows = 1 if num_envs is None else num_envs
        return gym.make_vec(env, num_envs=rows, autoreset_mode=mode, **keywords)
    if not isinstance(env, VectorEnv):
        raise ValueError(
            "expected an id such as 'textenv/GoodBad-v0' or a vector environment, as gym.make_vec "
            f"makes it, got {env!r}. A single environment needs none of this: SB3 takes it as it is"
        )
    if num_envs is not None or keywords:
        given = sorted(keywords) + (["num_envs"] if num_envs is not None else [])
        raise ValueError(f"{given} are for an id: give them to gym.make_vec instead")
    return env


def check(env: VectorEnv) -> None:
    """Refuse what SB3 would learn wrongly from, in silence, or stumble over later.

    Raises:
        ValueError: see `SB3VecEnv`.
    """
    mode = env.metadata.get("autoreset_mode")
    if mode != AutoresetMode.SAME_STEP:
        raise ValueError(
            f"SB3 expects that a row begins anew in the step in which it ends, got {mode}. "
            f"Make the environment by\n{_right_line(env)}"
        )
    inner = env.unwrapped
    if getattr(inner, "scoring", "step") == "deferred":
        raise ValueError('SB3 reads the reward of each step: leave scoring="deferred" out')
    if getattr(inner, "copy", True) is False:
        raise ValueError(
            "SB3 stores an observation after the next step, which overwrites it: leave copy=False "
            "out"
        )
    for what, space in (
        ("observation", env.single_observation_space),
        ("action", env.single_action_space),
    ):
        inside = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
        if not all(isinstance(each, _SPACES) for each in inside):
            kinds = '"tokens" or "hidden"' if what == "observation" else '"all_tokens"'
            raise ValueError(
                f"SB3 has no policy for the {what} space {space}: make the environment with "
                f"{what}= such as {kinds}"
            )


def _right_line(env: VectorEnv) -> str:
    name = repr(env.spec.id) if env.spec else "id"
    mode = "gymnasium.vector.AutoresetMode.SAME_STEP"
    if isinstance(env.unwrapped, TextVectorEnv):
        return f"gym.make_vec({name}, num_envs={env.num_envs}, autoreset_mode={mode})"
    return (
        f'gym.make_vec({name}, num_envs={env.num_envs}, vectorization_mode="sync", '
        f'vector_kwargs={{"autoreset_mode": {mode}}})'
    )


def warn_of_memory(env: VectorEnv) -> None:
    """Warn where PPO's usual rollout would not fit: masks over a whole vocabulary.

    What an algorithm takes says `check_algorithm`; here it is not known which it will be.

    Raises:
        ValueError: not even one step fits.
    """
    inner, each = env.unwrapped, bytes_of(env.single_observation_space)
    if isinstance(inner, TextVectorEnv) and inner.setup.mask == "method":
        each += 4 * spaces.flatdim(env.single_action_space)  # MaskablePPO stores them as float32
    has = machine_memory(torch.device("cpu"))
    if each * env.num_envs > has:
        raise ValueError(
            f"one step of {env.num_envs} rows takes {each * env.num_envs / 1e9:.1f} GB, the "
            f"machine has {has / 1e9:.1f}: write fewer rows at once (num_envs=), or choose among "
            'few tokens: action="candidates:32"'
        )
    total = each * env.num_envs * _ROLLOUT
    if total > MUCH:
        warnings.warn(
            f"each step of each row stores {each:,} bytes: {total / 1e9:.1f} GB in a rollout of "
            f"PPO's {_ROLLOUT} steps of {env.num_envs} rows. Give it fewer (n_steps=), or choose "
            'among few tokens: action="candidates:32"',
            stacklevel=3,
        )


def bytes_of(space: spaces.Space) -> int:
    """What SB3 stores of one observation."""
    inside = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return sum(int(np.prod(one.shape or ())) * np.dtype(one.dtype).itemsize for one in inside)


def empty_mask(masks: Sequence[Any], space: spaces.Space) -> int | None:
    """Find the first mask that leaves nothing to choose; None: there is none.

    Args:
        masks: bool [size] each.
        space: Of one action; a MultiDiscrete has a mask for each of its numbers, side by side.
    """
    sizes = space.nvec if isinstance(space, spaces.MultiDiscrete) else [0]
    cuts = np.cumsum(sizes)[:-1]
    for row, mask in enumerate(masks):
        if not all(part.any() for part in np.split(np.asarray(mask), cuts)):
            return row
    return None
