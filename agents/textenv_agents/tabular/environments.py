"""What tabular learning asks of an environment: states as observations, one token an action."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from textenv.errors import TooLargeError
from textenv.prefixes import Prefixes
from textenv.task import Task
from textenv_agents.tabular.choosing import Mask


def tokens_of(observation: Any) -> npt.NDArray[np.int64]:
    """Return the tokens [P + T] of an observation, with or without a mask beside them."""
    return observation["observation"] if isinstance(observation, dict) else observation


def check_environment(env: gym.Env) -> tuple[Task, int | None]:
    """Return an environment's task, and how many candidates its actions are; None: they are tokens.

    Raises:
        ValueError: no table can be learned there.
    """
    texts: Any = env.unwrapped
    task = getattr(texts, "task", None)
    if not isinstance(task, Task):
        raise ValueError(
            f"expected a textenv environment, got {env}: make one, as in "
            'gym.make("textenv/GoodBad-v0")'
        )
    space: Any = env.observation_space
    if isinstance(space, spaces.Dict):
        space = space.spaces.get("observation")
    width = (task.rules.width,)
    if not isinstance(space, spaces.Box) or space.shape != width or space.dtype != np.int64:
        raise ValueError(
            f"a table needs the state itself as observation, int64 of shape {width}, got "
            f'{env.observation_space}: make one environment, with observation="tokens"'
        )
    if not isinstance(env.action_space, spaces.Discrete):
        raise ValueError(
            f"a table needs actions of one token, got {env.action_space}: make the environment "
            'with action="all_tokens" or "candidates:k"'
        )
    return task, int(env.action_space.n) if texts.setup.action.asks_model else None


def tokens_as_actions(env: str | gym.Env) -> tuple[gym.Env, Task]:
    """Return an environment whose actions are tokens, made if it is an id, and its task.

    Raises:
        ValueError: they are none.
    """
    made: gym.Env = gym.make(env) if isinstance(env, str) else env
    task, candidates = check_environment(made)
    if candidates is not None:
        raise ValueError(
            "policies choose tokens, these actions are candidates: make the environment with "
            'action="all_tokens"'
        )
    return made, task


def masks_after(env: gym.Env, prefixes: Prefixes) -> Mask:
    """Return which tokens an environment of tokens allows after prefixes, bool [B, V]."""
    texts: Any = env.unwrapped
    return texts.setup.action_mask(len(prefixes), None, prefixes.state()).astype(np.bool_)


def is_skipped(env: gym.Env, info: dict[str, Any]) -> bool:
    """Whether the reward of a step failed and says nothing (`reward_fault="skip"`)."""
    texts: Any = env.unwrapped
    return texts.setup.is_skipped(info)


def check_memory(task: Task, candidates: int | None, budget: float) -> None:
    """Refuse a task whose full table would take more than `budget`·10⁹ bytes.

    Raises:
        TooLargeError: it would.
    """
    rules = task.rules
    actions = rules.vocabulary_size if candidates is None else candidates
    ending = len(set(rules.ending_tokens)) if candidates is None else 0
    rows = len(task.prompts) * sum((actions - ending) ** t for t in range(rules.max_tokens))
    needed = rows * (actions * 17 + rules.width * 16)  # Q, visits, masks; prefixes, twice
    if needed > budget * 1e9:
        size = f"{needed / 1e9:,.1f}·10⁹" if needed < 10**15 else f"10^{len(str(needed)) - 1}"
        raise TooLargeError(
            f"a table for {task.name} ({len(task.prompts)} prompts, {actions} actions, "
            f"{rules.max_tokens} tokens) could take {size} bytes, memory_budget={budget:g} allows "
            f'{budget:g}·10⁹: choose from fewer tokens (action="candidates:4"), write shorter '
            "texts (max_tokens=6) or take fewer prompts; or use an agent that generalises, "
            "PolicyGradient"
        )
