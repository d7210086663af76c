"""Counts of word 1–2-grams: TF-IDF with a learned vocabulary, and hashed without one.

Written here because scikit-learn's would be a large dependency whose models are pickles.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import torch

from textenv.errors import TextenvError
from textenv.files import replace_file
from textenv.preferences.reward_model.features import Features
from textenv.preferences.reward_model.rows import SparseRows

HASHES = 4096
"""Columns of hashed counts. More keep n-grams apart, but noise for privacy grows with them."""

VOCABULARY = "vocabulary.json"

# So that the default price of weights suits rows of a sentence or two: benchmarks/EXPERIMENTS.md.
_SCALE = 3.0

# Scripts that are written without blanks: each letter is a word, so that 2-grams are pairs of them.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003134f"
)
_LETTER = rf"[^\W_{_UNSPACED}]"
_WORD = re.compile(rf"[{_UNSPACED}]|{_LETTER}+(?:['’]{_LETTER}+)*")


def words(text: str) -> list[str]:
    """Split a text into words, after NFKC and lower case; marks are left out.

    Chinese, Japanese and other scripts without blanks give single letters.

    >>> words("Don't miss it: 好电影!")
    ["don't", 'miss', 'it', '好', '电', '影']
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def grams(text: str) -> Counter[str]:
    """Count the words and the pairs of neighbours.

    >>> dict(grams("so so good"))
    {'so': 2, 'good': 1, 'so so': 1, 'so good': 1}
    """
    found = words(text)
    return Counter(found + [f"{one} {two}" for one, two in pairwise(found)])


class TfIdf(Features):
    """(1 + ln count) · idf of each known n-gram, over three times the square root of their length.

    idf = 1 + ln((1 + n) / (1 + df)) for an n-gram in df of n texts; the length is √Σ value². The
    square root is half-way between adding words up and averaging them: in rows of length 1 a word
    that raters like is worth the more the shorter the text, and policies trained on that write less
    and less. A text without any known n-gram is a row of zeros.

    Args:
        idf: By n-gram; their order is the columns'.
        include_prompt: Whether n-grams of the prompt count too; none crosses the boundary.

    >>> features = TfIdf.fitted(["", ""], ["good film", "bad film"])
    >>> features.width, round(features.idf["film"], 3), round(features.idf["good"], 3)
    (5, 1.0, 1.405)
    """

    name = "tfidf"
    sparse = True

    def __init__(self, idf: dict[str, float], *, include_prompt: bool = False) -> None:
        self.idf = idf
        self.include_prompt = include_prompt
        self.width = len(idf)
        self._columns = {gram: column for column, gram in enumerate(idf)}

    @classmethod
    def fitted(
        cls,
        prompts: Sequence[str],
        texts: Sequence[str],
        *,
        include_prompt: bool = False,
        max_features: int = 50_000,
    ) -> Self:
        """Learn the vocabulary and the idf from n texts.

        Args:
            prompts: n texts.
            texts: n texts.
            include_prompt: As in the class.
            max_features: N-grams kept: those in most texts, ties in the order of their letters.
        """
        frequency: Counter[str] = Counter()
        for prompt, text in zip(prompts, texts, strict=True):
            frequency.update(_counted(prompt, text, include_prompt).keys())
        kept = sorted(frequency, key=lambda gram: (-frequency[gram], gram))[:max_features]
        count = len(texts)
        idf = {gram: 1 + math.log((1 + count) / (1 + frequency[gram])) for gram in sorted(kept)}
        return cls(idf, include_prompt=include_prompt)

    @classmethod
    def load(cls, folder: Path, **settings: Any) -> Self:
        """Read what `save` wrote.

        Raises:
            TextenvError: there is no vocabulary, or a damaged one.
        """
        try:
            idf = json.loads((folder / VOCABULARY).read_text("utf-8"))
            if not all(isinstance(value, float) for value in idf.values()):
                raise ValueError("expected a number for each n-gram")
        except (OSError, ValueError, AttributeError) as error:
            raise TextenvError(f"{str(folder)!r} holds no whole reward model: {error}") from error
        return cls(idf, **settings)

    def save(self, folder: Path) -> None:
        """Write the vocabulary."""
        replace_file(folder / VOCABULARY, self._json())

    @property
    def base(self) -> dict[str, str]:
        """The digest of the vocabulary, and of how a row is made of it."""
        found = hashlib.sha256(f"{_SCALE} {self._json()}".encode())
        return {"name": "tfidf", "digest": found.hexdigest()}

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> SparseRows:
        """Weigh the counts of each text."""
        rows = (
            _shortened(
                (
                    (self._columns[gram], (1 + math.log(count)) * self.idf[gram])
                    for gram, count in _counted(prompt, text, self.include_prompt).items()
                    if gram in self.idf
                ),
                power=0.5,
                scale=_SCALE,
            )
            for prompt, text in zip(prompts, texts, strict=True)
        )
        return _sparse(rows, self.width)

    def _json(self) -> str:
        return json.dumps(self.idf, ensure_ascii=False, indent=0)


class HashedCounts(Features):
    """±(1 + ln count) of each n-gram in a column that its hash chooses, in rows of length 1.

    Nothing is learned from any text, which differential privacy asks for: a vocabulary and its idf
    would tell what the private texts say. Two n-grams may share a column; their signs, from the
    hash too, let them cancel on average (Weinberger et al. 2009, https://arxiv.org/abs/0902.2206).

    Args:
        include_prompt: Whether n-grams of the prompt count too.
    """

    name = "hashed"
    sparse = True
    width = HASHES

    def __init__(self, *, include_prompt: bool = False) -> None:
        self.include_prompt = include_prompt

    @property
    def base(self) -> dict[str, str]:
        """The hash and the number of columns."""
        return {"name": "hashed", "digest": f"crc32-{HASHES}"}

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> SparseRows:
        """Hash the counts of each text."""
        rows = []
        for prompt, text in zip(prompts, texts, strict=True):
            row: dict[int, float] = {}
            for gram, count in _counted(prompt, text, self.include_prompt).items():
                code = zlib.crc32(gram.encode("utf-8", "surrogatepass"))
                sign = 1 if code & HASHES else -1  # a bit that the column does not use
                row[code % HASHES] = row.get(code % HASHES, 0.0) + sign * (1 + math.log(count))
            rows.append(_shortened(row.items(), power=1.0, scale=1.0))
        return _sparse(rows, HASHES)


def _counted(prompt: str, text: str, include_prompt: bool) -> Counter[str]:
    return grams(prompt) + grams(text) if include_prompt else grams(text)


def _shortened(
    entries: Iterable[tuple[int, float]], power: float, scale: float
) -> list[tuple[int, float]]:
    """Order a row by column and divide it by scale·length**power."""
    row = sorted(entry for entry in entries if entry[1])
    length = math.sqrt(math.fsum(value * value for _, value in row))
    return [(column, value / (scale * length**power)) for column, value in row]


def _sparse(rows: Iterable[list[tuple[int, float]]], width: int) -> SparseRows:
    columns: list[int] = []
    values: list[float] = []
    starts = [0]
    for row in rows:
        columns += [column for column, _ in row]
        values += [value for _, value in row]
        starts.append(len(columns))
    return SparseRows(
        torch.tensor(columns, dtype=torch.int64),
        torch.tensor(values, dtype=torch.float64),
        torch.tensor(starts, dtype=torch.int64),
        width,
    )
