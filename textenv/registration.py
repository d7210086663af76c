"""The ids that `gym.make` knows, one for each task."""

from __future__ import annotations

import gymnasium as gym

from textenv.tasks import TASKS

IDS = tuple(f"textenv/{name}-v0" for name in TASKS)


def register() -> None:
    """Register all ids; those that are registered already stay as they are."""
    for name, environment_id in zip(TASKS, IDS, strict=True):
        if environment_id in gym.registry:
            continue
        gym.register(
            environment_id,
            entry_point="textenv.env:TextEnv",
            vector_entry_point="textenv.vector_env:TextVectorEnv",
            kwargs={"task": name},
        )
