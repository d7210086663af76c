"""The ids that `gym.make` knows, one for each task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym

from textenv.tasks import TASKS

if TYPE_CHECKING:
    from textenv.env import TextEnv
    from textenv.vector_env import TextVectorEnv

IDS = tuple(f"textenv/{name}-v0" for name in TASKS)


def register() -> None:
    """Register all ids; those that are registered already stay as they are."""
    for name, environment_id in zip(TASKS, IDS, strict=True):
        if environment_id in gym.registry:
            continue
        if name == "ReasoningGym":  # whose `task=` is the user's, and says which generator
            gym.register(
                environment_id,
                entry_point="textenv.registration:reasoning_env",
                vector_entry_point="textenv.registration:reasoning_vector_env",
            )
            continue
        gym.register(
            environment_id,
            entry_point="textenv.env:TextEnv",
            vector_entry_point="textenv.vector_env:TextVectorEnv",
            kwargs={"task": name},
        )


def reasoning_env(*, task: str = "basic_arithmetic", **keywords: Any) -> TextEnv:
    """Make the environment of one of reasoning-gym's generators."""
    from textenv.env import TextEnv

    return TextEnv({"name": "ReasoningGym", "task": task}, **keywords)


def reasoning_vector_env(
    num_envs: int, *, task: str = "basic_arithmetic", **keywords: Any
) -> TextVectorEnv:
    """Make the vector environment of one of reasoning-gym's generators."""
    from textenv.vector_env import TextVectorEnv

    return TextVectorEnv(num_envs, {"name": "ReasoningGym", "task": task}, **keywords)
