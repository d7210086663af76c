"""The tree of all texts of a small task, level by level: what `exact` computes on.

n = states at one depth, m = those that go on, V = vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textenv import mdp
from textenv.errors import TooLargeError
from textenv.task import Task, check_task

Array = npt.NDArray[np.float64]


class Level(NamedTuple):
    """All states with the same number of written tokens, and what each token leads to.

    state: n states, finished ones included.
    live: [m] which of them go on.
    rewards: [m, V] what each next token pays at once.
    children: [m, V] the states that it leads to, by their place in the next level.
    """

    state: mdp.State
    live: npt.NDArray[np.int64]
    rewards: Array
    children: npt.NDArray[np.int64]


def count_texts(task: Task) -> int:
    """The number of texts, at most: a stop condition may end some of them earlier.

    With E ending tokens, N·(Σ_{t<T} E·(V − E)^{t−1} + V·(V − E)^{T−1}).

    Raises:
        TypeError: it is no task.
    """
    check_task(task)
    rules = task.rules
    ending = len(set(rules.ending_tokens))
    going_on = rules.vocabulary_size - ending
    short = sum(ending * going_on**t for t in range(rules.max_tokens - 1))
    longest = rules.vocabulary_size * going_on ** (rules.max_tokens - 1)
    return len(task.prompts) * (short + longest)


def enumerate_levels(task: Task, limit: int) -> list[Level]:
    """All states, level by level; the last level has no live ones."""
    texts = count_texts(task)
    if texts > limit:
        raise TooLargeError(
            f"{task.name} has up to {texts:,} texts ({len(task.prompts)} prompts, "
            f"{task.rules.vocabulary_size} tokens, up to {task.rules.max_tokens} written), the "
            f"limit is {limit:,}: make the task smaller, or pass limit= if you have the time"
        )
    rules, scorer = task.rules, task.scorer()
    table = task.prompt_table
    state = mdp.initial(rules, table, None, np.arange(len(table)))
    levels: list[Level] = []
    over = np.zeros(len(table), dtype=np.bool_)
    while True:
        live = np.flatnonzero(~over)
        actions = np.tile(np.arange(rules.vocabulary_size), len(live))
        if not len(live):
            empty = np.zeros((0, rules.vocabulary_size))
            return [*levels, Level(state, live, empty, empty.astype(np.int64))]
        parents = take(state, np.repeat(live, rules.vocabulary_size))
        following = mdp.transition(rules, parents, actions)
        over = np.asarray(mdp.terminal(rules, following))
        rewards = edge_rewards(task, scorer, following, over)
        shape = (len(live), rules.vocabulary_size)
        children = np.arange(len(actions)).reshape(shape)
        levels.append(Level(state, live, rewards.reshape(shape), children))
        state = following


def edge_rewards(task: Task, scorer: Any, state: mdp.State, over: npt.NDArray[np.bool_]) -> Array:
    """What the last token of each state paid: exactly what the environments pay."""
    last = np.asarray(mdp.last_token(task.rules, state))
    if scorer.table is not None:
        return scorer.table[last]
    rewards = np.zeros(len(last))
    ended = np.flatnonzero(over)
    closed = last[ended] == task.rules.end_token
    rewards[ended] = scorer.finish(task.texts(state, ended), closed).rewards
    if scorer.pays_tokens:
        going_on = np.flatnonzero(~over)
        rewards[going_on] = scorer.proceed(task.texts(state, going_on)).rewards
    return rewards


def take(state: mdp.State, rows: npt.NDArray[np.int64]) -> mdp.State:
    """Take some rows of a batched state."""
    return mdp.State(state.tokens[rows], state.length[rows], state.prompt_index[rows])
