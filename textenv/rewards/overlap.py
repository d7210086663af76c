"""How much of the right text is in a text: ROUGE, and the F1 of question answering."""

from __future__ import annotations

import functools
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from textenv.rewards.edits import places_of
from textenv.rewards.references import ReferenceReward
from textenv.rewards.registry import register
from textenv.rewards.units import ALONE, Unit, check_unit, ngrams, units

Variant = Literal["1", "2", "L"]

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_ASCII_PUNCTUATION = frozenset(string.punctuation)  # signs like $ and + too, as in SQuAD


@register("rouge")
class Rouge(ReferenceReward):
    """ROUGE-1, ROUGE-2 or ROUGE-L (Lin 2004), as the harmonic mean of precision and recall.

    With m common units, F1 = 2·m/(|y| + |y*|). ROUGE-1 and ROUGE-2 count common words and common
    pairs of neighbours, ROUGE-L the longest common subsequence of the whole texts. Range: 0 … 1,
    higher is better; 1 for texts of the same words; 0 where one of the two has none. Of several
    right texts the best counts. https://aclanthology.org/W04-1013

    Words are lower-cased runs of letters and digits, and each Chinese or Japanese character: see
    `textenv.rewards.units.words`. There is no stemming. For ASCII the numbers are those of the
    package rouge-score; its ROUGE-Lsum, sentence by sentence, is left out.

    Args:
        variant: "1", "2" or "L".
        unit: "words", or "characters" for other text without blanks (Thai) or for spelling.
        column: The column with the right texts; a prompt whose right text is None is left out.

    >>> Rouge()(["", ""], ["the cat sat", "dogs"], reference=["The cat sat down.", "a cat"])
    [0.8571428571428571, 0.0]
    """

    name = "rouge"
    range = (0.0, 1.0)

    def __init__(
        self, variant: Variant = "L", *, unit: Unit = "words", column: str = "reference"
    ) -> None:
        if variant not in ("1", "2", "L"):
            raise ValueError(f'variant must be "1", "2" or "L", got {variant!r}')
        check_unit(unit)
        super().__init__(column)
        self.variant = variant
        self.unit = unit

    def compare(self, text: str, references: list[str]) -> float:
        """Return the best F1."""
        ours = units(text, self.unit)
        return max(self._f1(ours, units(right, self.unit)) for right in references)

    def _f1(self, ours: list[str], right: list[str]) -> float:
        if self.variant == "L":
            return f1(common_subsequence(ours, right), len(ours), len(right))
        n = int(self.variant)
        one, other = ngrams(ours, n), ngrams(right, n)
        return f1((one & other).total(), one.total(), other.total())


@register("token_f1")
class TokenF1(ReferenceReward):
    """The F1 of answers: common words, in whatever order (Rajpurkar et al. 2016, SQuAD).

    F1 = 2·m/(|y| + |y*|) with m common words, each counted as often as both have it, after
    lower-casing and without punctuation and the articles a, an, the. Range: 0 … 1, higher is
    better; 1 for the same words; where one of the two has no word: 1 if the other has none
    either, else 0. Of several right texts the best counts. https://arxiv.org/abs/1606.05250

    Words are pieces between blanks, as in SQuAD's own script, whose numbers these are; each
    Chinese or Japanese character is a word by itself, and punctuation is that of all scripts.

    Args:
        unit: "words", or "characters".
        column: The column with the right texts; a prompt whose right text is None is left out.

    >>> TokenF1()([""] * 2, ["The Eiffel Tower!", "1889"], reference=["an Eiffel tower", "1890"])
    [1.0, 0.0]
    """

    name = "token_f1"
    range = (0.0, 1.0)

    def __init__(self, *, unit: Unit = "words", column: str = "reference") -> None:
        check_unit(unit)
        super().__init__(column)
        self.unit = unit

    def compare(self, text: str, references: list[str]) -> float:
        """Return the best F1."""
        ours = self._units(text)
        return max(self._f1(ours, self._units(right)) for right in references)

    def _units(self, text: str) -> Counter[str]:
        kept = "".join(map(_without_punctuation, text.lower()))
        pieces = ALONE.sub(r" \g<0> ", _ARTICLES.sub(" ", kept)).split()
        return Counter("".join(pieces) if self.unit == "characters" else pieces)

    def _f1(self, ours: Counter[str], right: Counter[str]) -> float:
        if not ours or not right:
            return float(ours == right)
        return f1((ours & right).total(), ours.total(), right.total())


def f1(common: int, ours: int, right: int) -> float:
    """Return 2·common/(ours + right); 0 for two empty texts."""
    return 2 * common / (ours + right) if ours + right else 0.0


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence.

    A row of the usual table at a time, as the bits of an integer, 0 where it grows (Hyyrö 2004,
    "Bit-parallel LCS-length computation revisited").

    >>> common_subsequence("abcbd", "bcd")
    3
    """
    places = places_of(one)
    every = row = (1 << len(one)) - 1
    for unit in other:
        same = row & places.get(unit, 0)
        row = every & (row + same | row - same)
    return len(one) - row.bit_count()


@functools.lru_cache(maxsize=1 << 16)
def _without_punctuation(character: str) -> str:
    is_mark = character in _ASCII_PUNCTUATION or unicodedata.category(character)[0] == "P"
    return "" if is_mark else character


rouge, token_f1 = Rouge, TokenF1
