"""Toxicity by a linear model: the one of alt-profanity-check 1.9.1, in NumPy.

Words of two letters or more, lower-cased; tf-idf of length 1; five linear SVMs, each with its own
sigmoid, averaged. `python -m benchmarks convert_toxicity` made the folder `textenv/data/toxicity`
from the pickles of the package, which are not opened here.

n = texts, m = words found in them, V = words known, K = classifiers.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textenv.errors import MissingExtraError, TextenvError

FOLDER = Path(__file__).parents[1] / "data" / "toxicity"
CLASSIFIERS = 5
_END = "\x00"  # stands behind each text while all of them are split into words at once
_WORDS = re.compile(rf"\w\w+|{_END}")

Float64 = npt.NDArray[np.float64]


class LinearModel(NamedTuple):
    """What a folder holds.

    ids: The number of each word; −2 for what stands behind a text.
    idf: [V], what a word counts.
    coefficients: [K, V].
    intercepts: [K].
    slopes: [K], of the sigmoids: p = 1/(1 + exp(slope·margin + offset)).
    offsets: [K].
    """

    ids: dict[str, int]
    idf: Float64
    coefficients: Float64
    intercepts: Float64
    slopes: Float64
    offsets: Float64

    @classmethod
    def load(cls, folder: Path) -> LinearModel:
        """Read a folder.

        Raises:
            MissingExtraError: safetensors is not installed.
            TextenvError: the folder is damaged.
        """
        try:
            from safetensors import SafetensorError
            from safetensors.numpy import load_file
        except ImportError as error:
            raise MissingExtraError("safetensors", "the reward 'toxicity'") from error
        try:
            words = (folder / "words.txt").read_text("utf-8").split("\n")[:-1]
            arrays: dict[str, Any] = load_file(folder / "model.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise TextenvError(f"{str(folder)!r} holds no toxicity model: {error}") from error
        if arrays["coefficients"].shape != (CLASSIFIERS, len(words)):
            raise TextenvError(
                f"{str(folder)!r} is damaged: expected {CLASSIFIERS} × {len(words)} coefficients, "
                f"got {arrays['coefficients'].shape}"
            )
        return cls({word: number for number, word in enumerate(words)} | {_END: -2}, **arrays)

    def probabilities(self, texts: Sequence[str]) -> Float64:
        """Return the probability that each text is toxic, float64 [n].

        1/K·Σ_k σ(−slope_k·(x·w_k + c_k) − offset_k), where x counts each known word times its
        idf, divided by the length of that vector.
        """
        rows, words = self._found(texts)
        size, number = len(self.idf), len(texts)
        key, counts = np.unique(rows * size + words, return_counts=True)
        rows, words = np.divmod(key, size)
        values = counts * self.idf[words]  # [m]
        lengths = np.sqrt(np.bincount(rows, values * values, number))
        values /= lengths[rows]
        sums = [np.bincount(rows, values * own[words], number) for own in self.coefficients]
        margins = np.stack(sums, axis=1) + self.intercepts  # [n, K]
        with np.errstate(over="ignore"):  # 1/(1 + ∞) is the 0 that is meant
            return (1 / (1 + np.exp(self.slopes * margins + self.offsets))).mean(axis=1)

    def _found(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The known words of all texts, int64 [m], and the text that each stands in."""
        whole = _END.join([*(text.replace(_END, " ") for text in texts), ""]).lower()
        found = _WORDS.findall(whole)
        ids = np.fromiter(map(self.ids.get, found, repeat(-1)), np.int64, len(found))
        ends = ids == -2
        rows = np.cumsum(ends)
        known = ids >= 0
        return rows[known], ids[known]


@functools.cache
def shipped() -> LinearModel:
    """Read the model that comes with textenv, once a process."""
    return LinearModel.load(FOLDER)


def probabilities(texts: Sequence[str]) -> list[float]:
    """Return the probability that each text is toxic, 0 … 1.

    >>> harmless, insult = probabilities(["a fine day", "you are an idiot"])
    >>> harmless < 0.1, insult > 0.9
    (True, True)
    """
    return shipped().probabilities(texts).tolist() if len(texts) else []
