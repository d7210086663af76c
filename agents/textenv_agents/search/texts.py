"""What the searches share: the texts that they find, the policy that writes these, what is allowed.

N = texts, B = states, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import textenv
from textenv import mdp
from textenv.levels import ask_policy
from textenv.prefixes import Prefixes
from textenv.setup import Setup
from textenv.task import Task

Array = npt.NDArray[np.float64]


class Found(NamedTuple):
    """N finished texts, those of one prompt beside each other, the best of each prompt first.

    state: N finished states.
    scores: float64 [N], what the search wanted to be high: a reward, or a log-probability.
    """

    state: mdp.State
    scores: Array

    def texts(self, task: Task) -> list[str]:
        """Decode them."""
        return task.texts(self.state, range(len(self.scores))).completions

    def rows(self, chosen: npt.NDArray[Any]) -> Found:
        """Take some of them, by index or by mask."""
        tokens, length, prompt_index, columns = self.state
        if columns is not None:
            columns = tuple(columns[row] for row in np.arange(len(tokens))[chosen])
        state = mdp.State(tokens[chosen], length[chosen], prompt_index[chosen], columns)
        return Found(state, self.scores[chosen])

    def first(self, rules: mdp.Rules) -> Found:
        """Take the best one of each prompt."""
        prompts = np.column_stack(
            [self.state.prompt_index, self.state.tokens[:, : rules.prompt_length]]
        )
        return self.rows(np.sort(np.unique(prompts, axis=0, return_index=True)[1]))


def writes(
    task: Task, state: mdp.State, probabilities: Array | None = None, otherwise: Any = None
) -> Callable[[Prefixes], Array]:
    """Turn a distribution over finished texts into the policy that writes it token by token.

    π(a|s) = Σ_{y begins with s, a} p(y) / Σ_{y begins with s} p(y).

    Args:
        task: Whose texts they are.
        state: N finished texts.
        probabilities: float64 [N], p(y), ≥ 0, up to a factor of each prompt. None: all alike.
        otherwise: A policy for the prefixes of none of these texts, where this one never comes.
            None: all tokens alike.

    Returns:
        Prefixes → probabilities [B, V], for `textenv.exact`.

    Raises:
        ValueError: not one number ≥ 0 for each text, or a text is unfinished.
    """
    rules, number = task.rules, len(state.tokens)
    weights = np.ones(number) if probabilities is None else np.asarray(probabilities, dtype=float)
    if weights.shape != (number,) or not (weights >= 0).all():
        raise ValueError(f"expected probabilities ≥ 0 of shape {(number,)}, got {weights!r:.80}")
    if not np.all(mdp.terminal(rules, state)):
        raise ValueError("expected finished texts: write them to their end first")
    known: dict[bytes, Array] = {}
    for step in range(rules.max_tokens):
        going_on = (state.length > step) & (weights > 0)
        before = state.tokens[going_on].copy()
        chosen = before[:, rules.prompt_length + step].copy()
        before[:, rules.prompt_length + step :] = rules.nothing
        prefixes, owner = np.unique(before, axis=0, return_inverse=True)
        masses = np.zeros((len(prefixes), rules.vocabulary_size))
        np.add.at(masses, (owner.reshape(-1), chosen), weights[going_on])
        masses /= masses.sum(axis=1, keepdims=True)
        known |= {row.tobytes(): mass for row, mass in zip(prefixes, masses, strict=True)}

    def policy(prefixes: Prefixes) -> Array:
        found = [known.get(row.tobytes()) for row in prefixes.tokens]
        lost = np.array([row is None for row in found], dtype=np.bool_)
        answer = np.full((len(found), rules.vocabulary_size), 1 / rules.vocabulary_size)
        if otherwise is not None and lost.any():
            answer[lost] = ask_policy(otherwise, prefixes.rows(lost))
        for place, row in enumerate(found):
            if row is not None:
                answer[place] = row
        return answer

    return policy


def setup_of(env: Any) -> Setup:
    """Return the parts of an environment whose actions are tokens.

    Raises:
        ValueError: it is none of ours, or its actions are others.
    """
    own = getattr(env, "unwrapped", None)
    if not isinstance(own, textenv.TextEnv | textenv.TextVectorEnv):
        raise ValueError(
            "expected an environment of textenv, as gym.make or gym.make_vec makes it from an id "
            f"of `textenv list`, got {env!r:.80}"
        )
    if own.setup.action != textenv.AllTokens():
        raise ValueError(
            f"texts are searched token by token, but the actions are {own.setup.action!r}: make "
            'the environment with action="all_tokens"'
        )
    return own.setup


def open_to(setup: Setup, policy: Any, state: mdp.State) -> Array:
    """π(a|s) over what may be written: what suppressed tokens and the blocklist leave of it.

    Args:
        setup: The environment's parts.
        policy: A language model, or Prefixes → probabilities. None: all that may be is alike.
        state: B states that go on.

    Returns:
        float64 [B, V], each row sums to 1.

    Raises:
        ValueError: the policy's answer has another shape, or leaves nothing to write in a row.
    """
    mask = setup.action_mask(len(state.tokens), None, state).astype(np.float64)
    if policy is not None:
        answer = ask_policy(policy, Prefixes.of(setup.rules, state))
        if answer.shape != mask.shape:
            raise ValueError(
                f"expected probabilities of shape {mask.shape}, got {answer.shape}: the policy has "
                "another vocabulary than the task"
            )
        mask *= answer
    total = mask.sum(axis=1, keepdims=True)
    wrong = np.flatnonzero(~((total[:, 0] > 0) & (mask >= 0).all(axis=1)))
    if len(wrong):
        ids = mdp.text_ids(setup.rules, state.tokens[wrong[0]])
        raise ValueError(
            f"after {setup.task.vocabulary.decode(ids)!r} the policy gives probability to nothing "
            "that may be written: it needs some for a token that the mask and the blocklist allow"
        )
    return mask / total
