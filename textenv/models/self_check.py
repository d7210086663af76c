"""The check that a model makes of itself once: is its cache exact when rows begin anew?

The library's models are many, and some compute positions or masks from one clock for all rows. Such
a model gives wrong answers in silence, so each is asked a few questions both ways.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from textenv.errors import TextenvError
from textenv.limits import max_positions
from textenv.models.incremental import FILL, Incremental
from textenv.models.memory import ReadingKey
from textenv.models.modules import dropout_off, without_gradient

if TYPE_CHECKING:
    from textenv.models.incremental import Reader

_ROWS, _STEPS = 3, 6
_LONGEST = 100  # longer than any row of the check


@without_gradient()
def cache_is_exact(reader: Reader, vocabulary_size: int) -> bool:
    """Whether rows that begin anew at different steps get the answers of a full pass.

    The difference allowed is ten times that of the library's own cache of rows in step (float
    arithmetic itself), and a little for its chance.

    Args:
        reader: A model.
        vocabulary_size: V.

    Warns:
        UserWarning: they do not, or the model cannot be asked so.
    """
    model = reader.model
    try:
        with dropout_off(model):
            noise = _difference(reader, vocabulary_size, refills=False)
            error = _difference(reader, vocabulary_size, refills=True)
    except Exception as problem:  # whatever a model of another kind raises
        reason = f"asking it raised {type(problem).__name__}: {problem}"
    else:
        if error <= 10 * noise + _chance(model):
            return True
        reason = f"its log-probabilities then differ by {error:.2g} from those of a full pass"
    warnings.warn(
        f"{type(model).__name__} is read in whole wherever its rows are not in step, which is "
        f"slow: its cache does not bear rows that begin anew while others go on ({reason})",
        stacklevel=3,
    )
    return False


def _difference(reader: Reader, vocabulary_size: int, *, refills: bool) -> float:
    """The largest difference of log-probabilities, over a few steps of a few rows."""
    incremental = Incremental(reader)
    generator = np.random.default_rng(0)
    largest = 0.0
    positions = max_positions(reader.model.config) or _LONGEST
    begins = [min(2 + 2 * row * refills, positions) for row in range(_ROWS)]
    rows = [_prompt(generator, vocabulary_size, begun) for begun in begins]
    for step in range(_STEPS):
        if refills and step:
            begun = min(1 + step % 4, positions)
            rows[step % _ROWS] = _prompt(generator, vocabulary_size, begun)
        if max(len(row) for row in rows) > positions:
            break
        length = np.array([len(row) for row in rows])
        ids = np.full((_ROWS, length.max()), FILL)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
        ours = incremental.next(ReadingKey((), ()), ids, length).logits.log_softmax(-1)
        if not incremental.memory.streams[0].cache.tensors():
            raise TextenvError("it keeps no key-value cache")
        theirs = reader.read_whole(ids, length).logits.log_softmax(-1)
        known = theirs > -torch.inf
        difference = (ours - theirs)[known].abs().max()
        largest = max(largest, float(torch.nan_to_num(difference, nan=torch.inf)))
        rows = [[*row, int(generator.integers(vocabulary_size))] for row in rows]
    return largest


def _prompt(generator: np.random.Generator, vocabulary_size: int, length: int) -> list[int]:
    return generator.integers(vocabulary_size, size=length).tolist()


def _chance(model: torch.nn.Module) -> float:
    precision = torch.finfo(next(model.parameters()).dtype).eps
    return 100 * precision
