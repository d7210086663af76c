"""BLEU of a text against a whole set of texts, without counting the set again for each text."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from textenv.rewards.translation import Tokenize, bleu_of, cutting, share
from textenv.rewards.units import ngrams

Gram = tuple[object, ...]


class _Most(NamedTuple):
    """Which text has an n-gram most often, how often, and how often the next best has it."""

    first: int
    row: int
    second: int


class Pool:
    """A fixed set of texts, each of which is a right one: sacrebleu's numbers, 0 … 1.

    Args:
        texts: The set.
        tokenize: As in the reward `bleu`; "auto" looks at all texts.
        order: The longest n-grams.

    >>> Pool(["a b c d", "x y"], "13a", 4).bleu("a b c d")
    1.0
    """

    def __init__(self, texts: Sequence[str], tokenize: Tokenize, order: int) -> None:
        self._cut = bleu_of(cutting(tokenize, texts), False, order).tokenizer
        self._score = type(bleu_of("none", False, order)).compute_bleu
        self._order = order
        self._most: dict[Gram, _Most] = {}
        self._counted = [self._count(text) for text in texts]
        for row, (grams, _) in enumerate(self._counted):
            for gram, count in grams.items():
                self._most[gram] = _with(self._most.get(gram), count, row)
        self._lengths = Counter(length for _, length in self._counted)

    def bleu(self, text: str) -> float:
        """Return the BLEU of a text, all texts of the set being right."""
        grams, length = self._count(text)
        return self._bleu(grams, length, sorted(self._lengths), without=-1)

    def each_against_the_others(self) -> list[float]:
        """Return the BLEU of each text of the set, all others being right."""
        scores = []
        for row, (grams, length) in enumerate(self._counted):
            lengths = [n for n, texts in self._lengths.items() if texts > (n == length)]
            scores.append(self._bleu(grams, length, sorted(lengths), without=row))
        return scores

    def _bleu(
        self, grams: Counter[Gram], length: int, lengths: Sequence[int], *, without: int
    ) -> float:
        correct, total = [0] * self._order, [0] * self._order
        for gram, count in grams.items():
            total[len(gram) - 1] += count
            most = self._most.get(gram)
            if most is not None:
                found = most.second if most.row == without else most.first
                correct[len(gram) - 1] += min(count, found)
        return share(
            self._score(
                correct,
                total,
                length,
                _nearest(length, lengths),
                smooth_method="exp",
                effective_order=True,
                max_ngram_order=self._order,
            ).score
        )

    def _count(self, text: str) -> tuple[Counter[Gram], int]:
        pieces = self._cut(text.rstrip()).split()
        counts: Counter[Gram] = Counter()
        for n in range(1, self._order + 1):
            counts.update(ngrams(pieces, n))
        return counts, len(pieces)


def _with(most: _Most | None, count: int, row: int) -> _Most:
    if most is None:
        return _Most(count, row, 0)
    if count > most.first:
        return _Most(count, row, most.first)
    return most._replace(second=max(most.second, count))


def _nearest(length: int, lengths: Sequence[int]) -> int:
    """Return the nearest of some sorted lengths, the shorter of two that are as near."""
    place = bisect_left(lengths, length)
    return min(lengths[max(place - 1, 0) : place + 1], key=lambda other: abs(other - length))
