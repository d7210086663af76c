"""What a language model says of states, once for all plug-ins and all rows, and what is likeliest.

The only place where an environment asks its model. No torch is imported here: the tensors come
from the model. B = states, m = those of them that go on, V = vocabulary, H = hidden width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textenv.errors import TextenvError
from textenv.mdp import Rules, State
from textenv.prefixes import Prefixes
from textenv.task import Task

SPARE = 8  # how many more than k are looked at first, for ties with the k-th
DECIMALS = 4  # to which log-probabilities are rounded before they are compared


class Answer(NamedTuple):
    """What a model says of those of B states that go on; at terminated ones it is not asked.

    batch: B.
    width: H.
    rows: int64 [m], which go on.
    logits: a tensor [m, V]; None where m = 0.
    hidden: a tensor [m, H]; None where m = 0.
    allowed: bool [m, V], the tokens that may be written; None: all may.
    """

    batch: int
    width: int
    rows: npt.NDArray[np.int64]
    logits: Any
    hidden: Any
    allowed: npt.NDArray[np.bool_] | None = None


class Choices(NamedTuple):
    """The k likeliest tokens of B states, the likeliest first.

    ids: int64 [B, k]; V where there is none.
    log_probs: float64 [B, k]; 0 where there is none.
    """

    ids: npt.NDArray[np.int64]
    log_probs: npt.NDArray[np.float64]

    def rows(self, chosen: Any) -> Choices:
        """Take some rows."""
        return Choices(self.ids[chosen], self.log_probs[chosen])


def ask(model: Any, rules: Rules, state: State, over: npt.NDArray[np.bool_]) -> Answer:
    """Ask a language model about B states, in one call.

    Args:
        model: A `textenv.models.LanguageModel`.
        rules: The task's rules.
        state: B states.
        over: bool [B], the terminated ones.
    """
    rows, width = np.flatnonzero(~over), model.hidden_size
    if not len(rows):
        return Answer(len(over), width, rows, None, None)
    # rows() copies: the vector environment writes into its state, and models remember prefixes.
    said = model.next(Prefixes.of(rules, state).rows(rows))
    return Answer(len(over), width, rows, said.logits, said.hidden)


def likeliest(
    answer: Answer,
    vocabulary_size: int,
    k: int,
    end: int | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> Choices:
    """Return the k likeliest tokens of B states, by (−log-probability rounded to 1e-4, id).

    Tokens of probability 0 are left out; where fewer than k are left, and at terminated states,
    the id is V and the log-probability 0.

    Args:
        answer: What the model says.
        vocabulary_size: V.
        k: 1 … V.
        end: A token that is always among them, in the place of the last one if it is not likely
            enough; left out only where its logit is −∞.
        allowed: bool [m, V], the tokens that are ranked; None: all are.

    Raises:
        TextenvError: the logits hold NaN or +∞, or are all −∞.
    """
    ids = np.full((answer.batch, k), vocabulary_size, dtype=np.int64)
    log_probs = np.zeros((answer.batch, k))
    if answer.logits is not None:
        found = _ranked(answer.logits, k, end, allowed)
        ids[answer.rows], log_probs[answer.rows] = found
    return Choices(ids, log_probs)


def rank(
    ids: npt.NDArray[np.int64], log_probs: npt.NDArray[np.float64], k: int, nothing: int
) -> Choices:
    """Order tokens by (−log-probability rounded to 1e-4, id) and keep the first k.

    Args:
        ids: int64 [m, n ≥ k].
        log_probs: float64 [m, n].
        k: How many are kept.
        nothing: V, the id in place of tokens of probability 0.
    """
    order = np.lexsort((ids, -np.round(log_probs, DECIMALS)), axis=-1)[:, :k]
    ids = np.take_along_axis(ids, order, axis=1)
    log_probs = np.take_along_axis(log_probs, order, axis=1)
    possible = np.exp(log_probs) > 0
    return Choices(np.where(possible, ids, nothing), np.where(possible, log_probs, 0.0))


def with_end(
    choices: Choices, end: int, log_probs: npt.NDArray[np.float64], nothing: int
) -> Choices:
    """Put the end token in where it is missing: in the first free place, else in the last one.

    Args:
        choices: k tokens of m states.
        end: The end token.
        log_probs: float64 [m], its log-probabilities; where they are −∞ it is not put in.
        nothing: V.
    """
    ids, own = choices.ids.copy(), choices.log_probs.copy()
    rows = np.flatnonzero(~(ids == end).any(axis=1) & (log_probs > -np.inf))
    place = np.minimum((ids[rows] != nothing).sum(axis=1), ids.shape[1] - 1)
    ids[rows, place], own[rows, place] = end, log_probs[rows]
    return Choices(ids, own)


def check_size(what: str, k: int, task: Task) -> None:
    """Refuse a vocabulary of fewer than k tokens.

    Raises:
        ValueError: it has fewer.
    """
    size = task.rules.vocabulary_size
    if k > size:
        raise ValueError(
            f"{what} needs at least {k} tokens, the vocabulary of {task.name} has {size}: "
            f"expected 1 ≤ k ≤ {size}"
        )


def _ranked(
    logits: Any, k: int, end: int | None, allowed: npt.NDArray[np.bool_] | None = None
) -> Choices:
    """Rank [m, V] logits on the model's device, but for the last few, which NumPy orders."""
    size = logits.shape[1]
    floats = logits if logits.element_size() == 8 else logits.float()  # float64 is slow for large V
    totals = floats.logsumexp(-1, keepdim=True).double()  # [m, 1]
    if not bool(totals.isfinite().all()):
        raise TextenvError(
            "the language model's logits are no distribution: they hold NaN or +∞, or are all −∞"
        )
    if allowed is not None:
        logits = logits.masked_fill(logits.new_tensor(~allowed).bool(), -np.inf)
    taken = k + SPARE
    while True:
        values, tokens = logits.topk(min(size, taken))
        log_probs = _array(values.double() - totals)
        rounded = np.round(log_probs, DECIMALS)
        tied = (rounded[:, k - 1] == rounded[:, -1]) & (np.exp(log_probs[:, -1]) > 0)
        if taken >= size or not tied.any():
            break
        taken *= SPARE  # smaller ids may not have been looked at
    choices = rank(_array(tokens), log_probs, k, size)
    if end is None:
        return choices
    return with_end(choices, end, _array(logits[:, end].double() - totals[:, 0]), size)


def _array(tensor: Any) -> Any:
    return tensor.detach().cpu().numpy()
