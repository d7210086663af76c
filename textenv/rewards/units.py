"""What texts are cut into before they are counted: words or characters, and n-grams of them."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal

Unit = Literal["words", "characters"]
UNITS = ("words", "characters")

_ASCII_WORDS = re.compile(r"[a-z0-9]+")
_CHINESE = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3041-\u30ff\uff66-\uff9f"
# Scripts that put no blank between two words.
CHINESE, KANA = re.compile(f"[{_CHINESE}]"), re.compile(f"[{_KANA}]")
ALONE = re.compile(f"[{_CHINESE}{_KANA}]")


def words(text: str) -> list[str]:
    """Cut a text into words: lower-cased runs of letters and digits, of any script.

    Where a script puts no blank between words (Chinese, Japanese), each character is a word by
    itself. All else, punctuation above all, only separates. For ASCII these are the words of the
    package rouge-score, which drops the letters beyond ASCII.

    >>> words("It's NOT a café!"), words("我爱 cats。")
    (['it', 's', 'not', 'a', 'café'], ['我', '爱', 'cats'])
    """
    text = text.lower()
    if text.isascii():
        return _ASCII_WORDS.findall(text)
    return "".join(map(_spaced, text)).split()


@functools.lru_cache(maxsize=1 << 16)
def _spaced(character: str) -> str:
    if ALONE.match(character):
        return f" {character} "
    # A mark (M…) belongs to the letter before it: many vowels of Hindi or Thai are marks.
    is_of_word = character.isalnum() or unicodedata.category(character).startswith("M")
    return character if is_of_word else " "


def units(text: str, unit: Unit) -> list[str]:
    """Cut a text into words, or into characters (lower-cased, without blanks).

    >>> units("My cat.", "characters")
    ['m', 'y', 'c', 'a', 't', '.']
    """
    return words(text) if unit == "words" else list("".join(text.lower().split()))


def check_unit(unit: str) -> None:
    """Refuse what is no unit.

    Raises:
        ValueError: it is none.
    """
    if unit not in UNITS:
        raise ValueError(f'unit must be "words" or "characters", got {unit!r}')


def check_order(n: int) -> None:
    """Refuse a length of n-grams that is none.

    Raises:
        ValueError: it is no integer of 1 or more.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n, the length of the n-grams, must be an integer ≥ 1, got {n!r}")


def ngrams(sequence: Sequence[Hashable], n: int) -> Counter[tuple[Hashable, ...]]:
    """Count the n-grams of a sequence.

    >>> ngrams("abab", 2)[("a", "b")]
    2
    """
    return Counter(zip(*(sequence[start:] for start in range(n)), strict=False))
