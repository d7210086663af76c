"""Choosing actions for the checkers, and what tokens they must write. B = rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from textenv import mdp
from textenv.actions import AllTokens, Candidates, Completion, Fragments, Strings
from textenv.env import TextEnv
from textenv.task import Task
from textenv.testing.compare import choose
from textenv.vector_env import TextVectorEnv

UNREAD = -1  # no action of any kind: a row that is being reset must not read it


def choose_action(env: TextEnv, generator: np.random.Generator) -> Any:
    """Choose an action that makes sense; one that ends the text more often than chance would."""
    kind, task = env.setup.action, env.task
    if isinstance(kind, AllTokens):
        token = choose(task.rules, generator)
        return token if env.setup.guard is None else _allowed(token, env.action_masks(), generator)
    if isinstance(kind, Candidates):
        return int(generator.choice(np.flatnonzero(env.action_masks())))
    if isinstance(kind, Fragments):
        return np.array([choose(task.rules, generator) for _ in range(kind.n)])
    if isinstance(kind, Strings):
        return choose_text(task, generator)
    env.action_space.seed(int(generator.integers(2**31)))
    return env.action_space.sample()


def choose_actions(envs: TextVectorEnv, generator: np.random.Generator) -> Any:
    """Choose an action for each row, batched as Gymnasium batches the space."""
    kind, task, rows = envs.setup.action, envs.task, range(envs.num_envs)
    if isinstance(kind, AllTokens):
        tokens = [choose(task.rules, generator) for _ in rows]
        if envs.setup.guard is not None:
            masks = envs.action_masks()
            tokens = [_allowed(tokens[row], masks[row], generator) for row in rows]
        return np.array(tokens)
    if isinstance(kind, Candidates):
        masks = envs.action_masks()
        return np.array([generator.choice(np.flatnonzero(mask)) for mask in masks])
    if isinstance(kind, Fragments):
        each = range(kind.n)
        return np.array([[choose(task.rules, generator) for _ in each] for _ in rows])
    if isinstance(kind, Strings):
        return tuple(choose_text(task, generator) for _ in rows)
    envs.action_space.seed(int(generator.integers(2**31)))
    return envs.action_space.sample()


def choose_text(task: Task, generator: np.random.Generator) -> str:
    """Choose a text of some tokens that the task's vocabulary can encode, or the end."""
    if task.rules.end_token is not None and generator.random() < 0.15:
        return ""
    while True:
        ids = generator.integers(task.rules.vocabulary_size, size=generator.integers(1, 4))
        text = task.vocabulary.decode(ids.tolist())
        try:
            if task.vocabulary.encode(text):
                return text
        except ValueError:
            continue


def unread(actions: Any, rows: npt.NDArray[np.bool_]) -> Any:
    """Replace the actions of some rows, bool [B], by what is no action; integers as int32."""
    if isinstance(actions, np.ndarray):
        where = rows.reshape(-1, *[1] * (actions.ndim - 1))
        return np.where(where, UNREAD, actions).astype(np.int32)
    return [UNREAD if skip else action for skip, action in zip(rows, actions, strict=True)]


def written_by(env: TextEnv, action: Any, info: dict[str, Any]) -> list[int]:
    """Work out which tokens an action must write in the present state.

    Args:
        env: The environment, before the step.
        action: The action.
        info: What the last reset or step said.
    """
    rules, state = env.task.rules, env.state
    kept: list[int] = []
    for token in _meant(env, action, info):
        state = mdp.transition(rules, state, token)
        kept.append(token)
        if mdp.terminal(rules, state):
            break
    return kept


def _allowed(token: int, mask: npt.NDArray[np.bool_], generator: np.random.Generator) -> int:
    """The token, or another one where a blocklist forbids it."""
    return token if mask[token] else int(generator.choice(np.flatnonzero(mask)))


def _meant(env: TextEnv, action: Any, info: dict[str, Any]) -> Sequence[int]:
    kind, task = env.setup.action, env.task
    if isinstance(kind, Candidates):
        return [int(info["candidates"][action])]
    if isinstance(kind, Fragments):
        return np.asarray(action).tolist()
    if isinstance(kind, Strings):
        end = [int(task.rules.end_token or 0)]
        written = task.vocabulary.encode(action) if action else []
        return written + end if isinstance(kind, Completion) or not action else written
    if isinstance(kind, AllTokens):
        return [int(action)]
    read = kind.read(task, action, env.state, None)  # a kind that is not ours says it itself
    return list(read) if kind.several else [int(read)]
