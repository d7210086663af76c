"""What `exact` computes along the levels of a small task: probabilities, values, best texts.

m = live states at one depth, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from textenv import mdp
from textenv.enumeration import Array, Level, take
from textenv.prefixes import Prefixes
from textenv.task import Task

Key = tuple[Any, ...]


def probabilities_of(task: Task, levels: list[Level], policy: Any) -> list[Array]:
    """π(·|s) of the live states of each level, [m, V]."""
    answers = []
    for level in levels:
        if not len(level.live):
            answers.append(level.rewards)
            continue
        answer = ask_policy(policy, prefixes_of(task, level))
        shape = (len(level.live), task.rules.vocabulary_size)
        if answer.shape != shape or not (answer >= 0).all():
            raise ValueError(f"expected probabilities of shape {shape}, ≥ 0, got {answer!r}")
        if np.abs(answer.sum(axis=1) - 1).max() > 1e-4:
            raise ValueError("the policy's probabilities do not sum to 1")
        answers.append(answer)
    return answers


def ask_policy(policy: Any, prefixes: Prefixes) -> Array:
    """A policy's probabilities, float64 [B, V], unchecked.

    Raises:
        TypeError: it is no policy.
    """
    if not hasattr(policy, "next"):
        if not callable(policy):
            raise TypeError(
                "expected a policy, which is a language model (textenv.models.load finds one by "
                f"its name) or a function Prefixes → probabilities [B, V], got {policy!r:.80}"
            )
        return np.asarray(policy(prefixes), dtype=np.float64)
    logits = policy.next(prefixes).logits
    logits = np.asarray(logits.detach().cpu().numpy(), dtype=np.float64)
    logits = np.exp(logits - logits.max(axis=1, keepdims=True))
    return logits / logits.sum(axis=1, keepdims=True)


def evaluate(levels: list[Level], probabilities: list[Array]) -> tuple[list[Array], list[Array]]:
    """V and Q of a policy, as `backward` returns them."""
    return backward(levels, lambda q, depth: (probabilities[depth] * q).sum(axis=1))


def backward(
    levels: list[Level], backup: Callable[[Array, int], Array]
) -> tuple[list[Array], list[Array]]:
    """V of all and Q of the live states of each level, from the end to the start."""
    state_values: list[Array] = [np.zeros(len(level.state.tokens)) for level in levels]
    action_values: list[Array] = [level.rewards for level in levels]
    for depth in range(len(levels) - 2, -1, -1):
        level = levels[depth]
        action_values[depth] = level.rewards + state_values[depth + 1][level.children]
        state_values[depth][level.live] = backup(action_values[depth], depth)
    return state_values, action_values


def reached_by(levels: list[Level], probabilities: list[Array]) -> list[Array]:
    """d(s), the probability to pass through each state."""
    roots = len(levels[0].state.tokens)
    reached = [np.full(roots, 1 / roots)]
    for depth, level in enumerate(levels[:-1]):
        reached.append((reached[depth][level.live, None] * probabilities[depth]).reshape(-1))
    return reached


def prefixes_of(task: Task, level: Level) -> Prefixes:
    """The live states of a level, as a question to a policy."""
    return Prefixes.of(task.rules, take(level.state, level.live))


def by_prefix(
    task: Task, levels: list[Level], state_values: list[Array], action_values: list[Array]
) -> tuple[dict[Key, float], dict[Key, Array]]:
    """V and Q by prefix; where a task has several prompts, by (its number, prefix)."""
    by_state: dict[Key, float] = {}
    by_action: dict[Key, Array] = {}
    for depth, level in enumerate(levels):
        for place, row in enumerate(level.live.tolist()):
            start = task.rules.prompt_length
            written = tuple(level.state.tokens[row, start : start + depth].tolist())
            index = int(level.state.prompt_index[row])
            key = written if len(task.prompts) == 1 else (index, written)
            by_state[key] = float(state_values[depth][row])
            by_action[key] = action_values[depth][place]
    return by_state, by_action


def best_texts(
    task: Task, levels: list[Level], state_values: list[Array], forbidden: list[Array], root: int
) -> list[str]:
    """All texts that reach V* from one root."""
    reached, texts = np.array([root]), []
    for depth, level in enumerate(levels):
        place = {row: number for number, row in enumerate(level.live.tolist())}
        following: list[int] = []
        for row in reached.tolist():
            if row not in place:
                ids = mdp.text_ids(task.rules, level.state.tokens[row])
                texts.append(task.vocabulary.decode(ids))
                continue
            children = level.children[place[row]]
            q = level.rewards[place[row]] + state_values[depth + 1][children]
            q = q + forbidden[depth][place[row]]
            following += children[q >= state_values[depth][row] - 1e-12].tolist()
        reached = np.array(following, dtype=np.int64)
    return texts
