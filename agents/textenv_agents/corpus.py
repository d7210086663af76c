"""A text file as training data: its lines, which of them are set aside, and batches of ids.

B = batch, L = length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from textenv.errors import TextenvError
from textenv.vocabulary import TokenizerVocabulary

FEWEST_LINES = 10
PADDING = -1  # behind a text's end in a batch: never read, never predicted


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file that are not blank.

    Raises:
        TextenvError: there is no such file, it is not UTF-8, or it has fewer than 10 such lines.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TextenvError(f"cannot read the text file {str(path)!r}: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextenvError(
            f"{str(path)!r} is not UTF-8: byte {content[error.start]:#04x} at offset "
            f"{error.start}; save it as UTF-8"
        ) from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) < FEWEST_LINES:
        raise TextenvError(
            f"expected at least {FEWEST_LINES} lines of text, one text a line, in {str(path)!r}, "
            f"got {len(lines)}"
        )
    return lines


def split(lines: Sequence[str], validation_share: float, seed: int) -> tuple[list[str], list[str]]:
    """Set a share of the lines aside, at least one and not all; return the others first.

    >>> split(["a", "b", "c", "d"], 0.25, seed=0)
    (['a', 'b', 'd'], ['c'])
    """
    aside = min(max(1, round(len(lines) * validation_share)), len(lines) - 1)
    chosen = set(np.random.default_rng(seed).permutation(len(lines))[:aside].tolist())
    rest = [line for number, line in enumerate(lines) if number not in chosen]
    return rest, [lines[number] for number in sorted(chosen)]


def encode(vocabulary: TokenizerVocabulary, lines: Sequence[str], longest: int) -> list[list[int]]:
    """Turn each line into start token, ids and end token, in pieces that a model can read.

    A piece has at most `longest` + 1 ids and begins with the last id of the piece before it: every
    id but the start is predicted exactly once.
    """
    assert vocabulary.end_token is not None
    pieces = []
    for line in lines:
        ids = [*vocabulary.encode_prompt(line), vocabulary.end_token]
        pieces += [ids[i : i + longest + 1] for i in range(0, len(ids) - 1, longest)]
    return pieces


def batches(
    texts: Sequence[Sequence[int]], size: int, generator: np.random.Generator | None = None
) -> Iterator[Int[Tensor, "batch length"]]:
    """Give all texts once, int64 [B, L], those of about the same length together.

    Args:
        texts: Ids.
        size: B at most.
        generator: Draws the order; None: by length.
    """
    length = np.array([len(text) for text in texts], dtype=np.float64)
    if generator is not None:
        length += generator.uniform(0, 4, size=len(texts))
    order = np.argsort(length, kind="stable")
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    if generator is not None:
        generator.shuffle(groups)
    for group in groups:
        rows = [torch.tensor(texts[number]) for number in group]
        yield torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)
