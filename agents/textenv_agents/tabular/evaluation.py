"""V of a policy from its texts: TD(0), and one exact sweep. NumPy only."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from textenv.levels import ask_policy
from textenv.prefixes import Prefixes
from textenv.task import Task
from textenv_agents.tabular.choosing import Array, draw
from textenv_agents.tabular.environments import is_skipped, tokens_as_actions, tokens_of
from textenv_agents.tabular.table import Table


def evaluate_policy(
    env: str | gym.Env,
    policy: Any,
    episodes: int,
    *,
    gamma: float = 1.0,
    step_size: float | None = None,
    step_power: float = 1.0,
    seed: int = 0,
) -> Table:
    """V^π of the states that a policy comes through, by TD(0).

    V(s) ← V(s) + α·(r + γ·V(s′) − V(s)), s′ after a ~ π(·|s) (Sutton 1988). A step whose reward
    failed (`reward_fault="skip"`) teaches nothing.

    Args:
        env: As for `Tabular`, all tokens being actions.
        policy: A language model, or Prefixes → probabilities [B, V].
        episodes: How many texts it writes.
        gamma: γ.
        step_size: α; None: 1/n(s)^ω.
        step_power: ω.
        seed: Of the prompts and of the policy's draws.

    Returns:
        V, a table with one column.
    """
    env, task = tokens_as_actions(env)
    table, generator = Table(task, columns=1), np.random.default_rng(seed)
    answers: dict[bytes, Array] = {}
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed if episode == 0 else None)
        over = False
        while not over:
            tokens = tokens_of(observation)
            action = draw(_answer(policy, task, tokens, answers), generator)
            observation, reward, terminated, truncated, info = env.step(action)
            following = 0.0
            if not terminated:
                row = table.row(tokens_of(observation))  # before `values`: it may make it longer
                following = float(table.values[row, 0])
            if not is_skipped(env, info):
                table.update(table.row(tokens), 0, float(reward) + gamma * following,
                             step_size=step_size, step_power=step_power)  # fmt: skip
            over = terminated or truncated
    return table


def sweep_policy(env: str | gym.Env, policy: Any, *, gamma: float = 1.0) -> Table:
    """V^π exactly, by one sweep from the ends of all texts: V(s) = Σ_a π(a|s)·(r + γ·V(s′)).

    Each (s, a) with π(a|s) > 0 is tried once in the environment, by `reset(options={"prefix": …})`
    and `step`: for small tasks.

    Args:
        env: As for `evaluate_policy`.
        policy: As there.
        gamma: γ.

    Returns:
        V, a table with one column.

    Raises:
        ValueError: a reward failed and was skipped, so that V is not known.
    """
    env, task = tokens_as_actions(env)
    table = Table(task, columns=1)

    def value(prompt: int, written: list[int]) -> float:
        start = {"prompt_index": prompt, "prefix": written}
        tokens = tokens_of(env.reset(options=start)[0])
        probabilities, total = _answer(policy, task, tokens, {}), 0.0
        for action in np.flatnonzero(probabilities).tolist():
            env.reset(options=start)
            _, reward, terminated, _, info = env.step(action)
            if is_skipped(env, info):
                raise ValueError(
                    f"the reward of {task.vocabulary.decode([*written, action])!r} failed and was "
                    "skipped, so its value is not known: make the environment with "
                    'reward_fault="raise" to see why, or take evaluate_policy'
                )
            following = 0.0 if terminated else value(prompt, [*written, action])
            total += probabilities[action] * (float(reward) + gamma * following)
        row = table.row(tokens)  # before `values`: it may make it longer
        table.values[row, 0] = total
        return total

    for prompt in range(len(task.prompts)):
        value(prompt, [])
    return table


def _answer(
    policy: Any, task: Task, tokens: npt.NDArray[np.int64], answers: dict[bytes, Array]
) -> Array:
    """π(·|s) [V] of one prefix, asked once."""
    key = tokens.tobytes()
    if key not in answers:
        rules = task.rules
        prefixes = Prefixes.from_observations(tokens, rules.prompt_length, rules.nothing)
        answers[key] = ask_policy(policy, prefixes)[0]
    return answers[key]
