"""Beam search: the likeliest texts, a few of each prompt kept at each step.

It looks for probability, not for reward. In open-ended writing the likeliest text is often dull or
repeats itself (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751); where one text is right,
as in translation, it is what is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from textenv import mdp
from textenv_agents.search.texts import Array, Found, open_to, setup_of


def beam_search(
    env: Any,
    policy: Any,
    width: int,
    *,
    prompt_index: Sequence[int] | None = None,
    length_normalisation: float = 0.0,
) -> Found:
    """Find the likeliest texts of each prompt: the highest log π(y) / |y|^α.

    At each step every unfinished text is continued by every token, and the `width` highest scores
    of each prompt are kept, finished texts among them. |y| counts the end token too. Where
    `width` is at least the number of texts, nothing is ever dropped, and what comes back is all
    of them in order. All prompts are asked about at once.

    Args:
        env: An environment, single or vector, with all tokens as actions: whose task, suppressed
            tokens and blocklist count. It is not stepped.
        policy: A language model, or Prefixes → probabilities; what may not be written is taken
            out and the rest renormalised. Tokens of probability 0 are never written.
        width: How many texts are kept, ≥ 1; 1 is greedy writing.
        prompt_index: Which of the task's prompts, each once. None: all.
        length_normalisation: α ≥ 0; 0 does not normalise, 1 takes the mean of a token (Wu et al.
            2016, https://arxiv.org/abs/1609.08144, have a like formula).

    Returns:
        At most `width` texts of each prompt, the best first; scores as above. The order of
        equal scores is always the same.

    Raises:
        ValueError: a number is out of range, the environment is another, or nothing may be
            written.
    """
    setup = setup_of(env)
    task, rules = setup.task, setup.rules
    chosen = np.arange(len(task.prompts)) if prompt_index is None else np.asarray(prompt_index)
    if width < 1 or not 0 <= length_normalisation < np.inf:
        raise ValueError(
            "expected width ≥ 1 and a finite length_normalisation ≥ 0, got "
            f"{width} and {length_normalisation}"
        )
    inside = chosen.ndim == 1 and bool(((chosen >= 0) & (chosen < len(task.prompts))).all())
    if not inside or not len(chosen) or len(np.unique(chosen)) < len(chosen):
        raise ValueError(
            f"expected prompt_index to hold different numbers in 0 … {len(task.prompts) - 1}, got "
            f"{prompt_index!r}"
        )
    # Rows are in the order of the prompts throughout, and in that of the scores within each.
    state = mdp.initial(rules, task.prompt_table[chosen], None, chosen)
    found = Found(state, np.zeros(len(chosen)))
    log_probs, over = found.scores, np.zeros(len(chosen), dtype=np.bool_)
    owner = np.arange(len(chosen))
    while not over.all():
        live = np.flatnonzero(~over)
        probabilities = open_to(setup, policy, found.rows(live).state)
        parents, tokens = _likeliest(probabilities, width)
        following = mdp.transition(rules, found.rows(live[parents]).state, tokens)
        longer = log_probs[live[parents]] + np.log(probabilities[parents, tokens])

        # Texts that have ended come first among equals.
        done = np.flatnonzero(over)
        state = _joined(found.rows(done).state, following)
        log_probs = np.concatenate([log_probs[done], longer])
        owner = np.concatenate([owner[done], owner[live[parents]]])
        scores = log_probs / state.length**length_normalisation
        order = np.lexsort((-scores, owner))
        place = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
        kept = order[place < width]
        found = Found(state, scores).rows(kept)
        log_probs, owner = log_probs[kept], owner[kept]
        over = np.asarray(mdp.terminal(rules, found.state))
    return found


def _likeliest(probabilities: Array, width: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Rows and ids of the tokens that may matter: no more than `width` of each row, none of 0."""
    size = probabilities.shape[1]
    if width < size:  # else a large vocabulary would make as many texts as it has tokens
        kept = np.zeros(probabilities.shape, dtype=np.bool_)
        likeliest = np.argpartition(probabilities, size - width, axis=1)[:, size - width :]
        np.put_along_axis(kept, likeliest, True, axis=1)
        probabilities = np.where(kept, probabilities, 0.0)
    return np.nonzero(probabilities)


def _joined(first: mdp.State, second: mdp.State) -> mdp.State:
    tokens, length, prompt_index = (
        np.concatenate([getattr(state, name) for state in (first, second)])
        for name in ("tokens", "length", "prompt_index")
    )
    return mdp.State(tokens, length, prompt_index)
