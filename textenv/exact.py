"""Small tasks solved exactly, by enumerating every text: NumPy, float64, no sampling.

A policy is a language model (anything with `next`) or any callable Prefixes → probabilities
[B, V]. What is reported is the mean over the task's prompts, each equally likely. Left out on
purpose: discounting (a text is worth what it is worth) and the KL term of an agent's objective,
which `kl_optimum` and `kl` treat by themselves. An environment in the place of a task is a
TypeError.

n = states at one depth, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from textenv import mdp
from textenv.actions import Candidates
from textenv.asking import rank, with_end
from textenv.enumeration import Array, enumerate_levels, take
from textenv.levels import (
    Key,
    ask_policy,
    backward,
    best_texts,
    by_prefix,
    evaluate,
    prefixes_of,
    probabilities_of,
    reached_by,
)
from textenv.prefixes import Prefixes
from textenv.task import Task, check_task

LIMIT = 200_000  # texts; a task of this size takes a few seconds


class Values(NamedTuple):
    """V: prefix → expected reward from there on; Q: prefix → [V], after each next token.

    A prefix is the tuple of the ids written so far, `()` at the start. Where a task has several
    prompts it is (number of the prompt, that tuple).
    """

    V: dict[Key, float]
    Q: dict[Key, Array]


class Optimum(NamedTuple):
    """V* and Q* by prefix as in `Values`, and all texts of the highest reward.

    texts: decoded; where a task has several prompts, a list of such lists, one a prompt.
    """

    V: dict[Key, float]
    Q: dict[Key, Array]
    texts: list[Any]


class Enumeration(NamedTuple):
    """Every text: state (a batch of n finished states), probabilities [n], rewards [n, T].

    The probabilities hold the choice of the prompt too, so that they sum to 1.
    """

    state: mdp.State
    probabilities: Array
    rewards: Array


class EnumeratedPolicy:
    """A policy known at every prefix of a task; callable as any other policy."""

    def __init__(self, rows: dict[bytes, Array]) -> None:
        self._rows = rows

    def __call__(self, prefixes: Prefixes) -> Array:
        """Return the probabilities after each prefix, [B, V]."""
        try:
            return np.stack([self._rows[row.tobytes()] for row in prefixes.tokens])
        except KeyError:
            raise ValueError("this policy knows the unfinished prefixes of its task only") from None


def value(task: Task, policy: Any, *, limit: int = LIMIT) -> float:
    """J = Σ_y π(y)·r(y), the expected reward of a text.

    Raises:
        TooLargeError: the task has more than `limit` texts.
    """
    levels = enumerate_levels(task, limit)
    state_values, _ = evaluate(levels, probabilities_of(task, levels, policy))
    return float(state_values[0].mean())


def values(task: Task, policy: Any, *, limit: int = LIMIT) -> Values:
    """V^π(s) = Σ_a π(a|s)·Q^π(s, a) and Q^π(s, a) = r(s, a) + V^π(s′), by prefix.

    Raises:
        TooLargeError: the task has more than `limit` texts.
    """
    levels = enumerate_levels(task, limit)
    state_values, action_values = evaluate(levels, probabilities_of(task, levels, policy))
    return Values(*by_prefix(task, levels, state_values, action_values))


def optimum(task: Task, *, allowed: Any = None, limit: int = LIMIT) -> Optimum:
    """V*(s) = max_a Q*(s, a), Q*(s, a) = r(s, a) + V*(s′), and the texts that reach it.

    With `allowed` the maximum is taken over the tokens a with allowed(a|s) > 0 only; then
    V*(start) of `optimum(task)` less that of `optimum(task, allowed=candidates(task, policy, k))`
    is what the best agent loses where it may only write the k likeliest tokens. Q* is that of all
    tokens, the others included.

    Args:
        task: A small task.
        allowed: A policy that gives probability 0 to what may not be written. None: all may.
        limit: The largest number of texts.

    Raises:
        TooLargeError: the task has more than `limit` texts.
    """
    levels = enumerate_levels(task, limit)
    forbidden = [np.zeros_like(level.rewards) for level in levels]
    if allowed is not None:
        open_to_it = probabilities_of(task, levels, allowed)
        forbidden = [np.where(row > 0, 0.0, -np.inf) for row in open_to_it]
    state_values, action_values = backward(levels, lambda q, depth: (q + forbidden[depth]).max(1))
    best = [
        best_texts(task, levels, state_values, forbidden, root)
        for root in range(len(state_values[0]))
    ]
    texts = best[0] if len(best) == 1 else best
    return Optimum(*by_prefix(task, levels, state_values, action_values), texts)


def candidates(task: Task, policy: Any, k: int) -> Callable[[Prefixes], Array]:
    """π_k(a|s) = π(a|s) / Σ_{b ∈ C(s)} π(b|s) for a in C(s), else 0.

    C(s) is what the action set `Candidates(k)` offers: the k likeliest tokens under π by (−log π
    rounded to 1e-4, id), and the end token in the place of the last one if it is not among them.
    `value(task, candidates(task, policy, k))` − `value(task, policy)` is the bias that the
    candidates bring to a policy that goes on as it did; it vanishes for k = V.

    Args:
        task: Whose tokens they are.
        policy: π.
        k: 1 … V.

    Returns:
        π_k, a policy as any other.

    Raises:
        ValueError: k does not fit the task, as for `Candidates(k)`.
    """
    check_task(task)
    Candidates(k).check(task)
    end, nothing = task.rules.end_token, task.rules.nothing

    def restricted(prefixes: Prefixes) -> Array:
        probabilities = ask_policy(policy, prefixes)
        with np.errstate(divide="ignore"):
            log_probs = np.log(probabilities)
        chosen = rank(np.tile(np.arange(nothing), (len(prefixes), 1)), log_probs, k, nothing)
        if end is not None:
            chosen = with_end(chosen, end, log_probs[:, end], nothing)
        kept = np.zeros((len(prefixes), nothing + 1), dtype=np.bool_)  # the last column is none
        np.put_along_axis(kept, chosen.ids, True, axis=1)
        probabilities = np.where(kept[:, :nothing], probabilities, 0.0)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    return restricted


def gradient(task: Task, policy: Any, *, limit: int = LIMIT) -> Array:
    """∇J in the logits θ of a tabular softmax policy, [contexts, V].

    ∂J/∂θ(c, a) = Σ_{s in context c} d(s)·π(a|s)·(Q(s, a) − V(s)), d(s) the probability to pass
    through s (the policy-gradient theorem, Sutton et al. 2000, written out for the softmax).
    Where a logit is −∞ the derivative is 0.

    Args:
        task: A small task.
        policy: A `TabularLM`: something with `logits` [contexts, V] and `contexts(prefixes)`.
        limit: The largest number of texts.

    Raises:
        TypeError: the policy has no table.
        TooLargeError: the task has more than `limit` texts.
    """
    if not hasattr(policy, "contexts"):
        raise TypeError(
            "the gradient is that of a table's logits: expected a textenv.models.TabularLM, got "
            f"{type(policy).__name__}"
        )
    levels = enumerate_levels(task, limit)
    probabilities = probabilities_of(task, levels, policy)
    state_values, action_values = evaluate(levels, probabilities)
    reached = reached_by(levels, probabilities)
    result = np.zeros(tuple(policy.logits.shape))
    for depth, level in enumerate(levels):
        advantages = action_values[depth] - state_values[depth][level.live, None]
        terms = reached[depth][level.live, None] * probabilities[depth] * advantages
        np.add.at(result, policy.contexts(prefixes_of(task, level)), terms)
    return result


def kl_optimum(
    task: Task, reference: Any, beta: float, *, limit: int = LIMIT
) -> tuple[EnumeratedPolicy, float]:
    """π* = argmax_π E_π[r] − β·KL(π‖ρ), and its value.

    π*(y) ∝ ρ(y)·exp(r(y)/β), the value is β·log Σ_y ρ(y)·exp(r(y)/β); computed from the end by
    V(s) = β·log Σ_a ρ(a|s)·exp(Q(s, a)/β), π*(a|s) = ρ(a|s)·exp((Q(s, a) − V(s))/β)
    (Ziebart 2010; for language models Korbak et al. 2022, https://arxiv.org/abs/2205.11275).

    Args:
        task: A small task.
        reference: ρ.
        beta: β > 0.
        limit: The largest number of texts.

    Raises:
        ValueError: β ≤ 0.
        TooLargeError: the task has more than `limit` texts.
    """
    if not beta > 0:
        raise ValueError(f"expected beta > 0, got {beta}")
    levels = enumerate_levels(task, limit)
    prior = probabilities_of(task, levels, reference)
    with np.errstate(divide="ignore"):
        log_prior = [np.log(rows) for rows in prior]

    def soft(q: Array, depth: int) -> Array:
        return beta * np.logaddexp.reduce(log_prior[depth] + q / beta, axis=1)

    state_values, action_values = backward(levels, soft)
    rows: dict[bytes, Array] = {}
    for depth, level in enumerate(levels):
        gain = (action_values[depth] - state_values[depth][level.live, None]) / beta
        policy = np.exp(log_prior[depth] + gain)
        policy /= policy.sum(axis=1, keepdims=True)
        tokens = level.state.tokens[level.live]
        rows |= {row.tobytes(): probs for row, probs in zip(tokens, policy, strict=True)}
    return EnumeratedPolicy(rows), float(state_values[0].mean())


def kl(task: Task, policy: Any, reference: Any, *, limit: int = LIMIT) -> float:
    """KL(π‖ρ) = Σ_y π(y)·log(π(y)/ρ(y)) in nats a text; 0·(−∞) counts as 0.

    Raises:
        TooLargeError: the task has more than `limit` texts.
    """
    levels = enumerate_levels(task, limit)
    probabilities = probabilities_of(task, levels, policy)
    prior = probabilities_of(task, levels, reference)
    reached = reached_by(levels, probabilities)
    total = 0.0
    for depth, level in enumerate(levels):
        p, q = probabilities[depth], prior[depth]
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0).sum(axis=1)
        passed = reached[depth][level.live]
        total += float(np.where(passed > 0, passed * terms, 0.0).sum())
    return total


def enumerate_texts(task: Task, policy: Any, *, limit: int = LIMIT) -> Enumeration:
    """List every finished text with its probability under a policy and its rewards.

    Raises:
        TooLargeError: the task has more than `limit` texts.
    """
    levels = enumerate_levels(task, limit)
    reached = reached_by(levels, probabilities_of(task, levels, policy))
    rewards = np.zeros((len(levels[0].state.tokens), task.rules.max_tokens))
    found: list[tuple[mdp.State, Array, Array]] = []
    for depth, level in enumerate(levels):
        ended = np.setdiff1d(np.arange(len(level.state.tokens)), level.live)
        found.append((take(level.state, ended), reached[depth][ended], rewards[ended]))
        rewards = np.repeat(rewards[level.live], task.rules.vocabulary_size, axis=0)
        rewards[:, min(depth, task.rules.max_tokens - 1)] += level.rewards.reshape(-1)
    states = [entry[0] for entry in found]
    state = mdp.State(
        np.concatenate([entry.tokens for entry in states]),
        np.concatenate([entry.length for entry in states]),
        np.concatenate([entry.prompt_index for entry in states]),
    )
    return Enumeration(
        state,
        np.concatenate([entry[1] for entry in found]),
        np.concatenate([entry[2] for entry in found]),
    )
