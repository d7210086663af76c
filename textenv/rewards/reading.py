"""Readability: Flesch's reading ease, on syllables by hyphenation."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Callable
from typing import Any

from textenv.errors import MissingExtraError
from textenv.rewards.base import Reward
from textenv.rewards.registry import register

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$|[\"'”’)\]])|[。！？]+")
EASIEST = 206.835 - 1.015 - 84.6  # one-word sentences of one-syllable words: 121.22


@register("readability")
class Readability(Reward):
    """Flesch's reading ease (1948): 206.835 − 1.015·words/sentence − 84.6·syllables/word.

    Range: −∞ … 121.22, higher is easier: plain English has 60 to 70, a scientific paper below 30.
    A text without a word has 0. English only.

    What it is worth: little beyond a rough ordering of ordinary prose. It knows nothing of
    meaning, order or rare words, and is meant for passages of 100 words: on one line it jumps
    with each sentence end, and a policy that is paid by it alone learns to write "a. a. a.", which
    has the best score there is. Take it as one term of a sum, or to report.

    Words are runs of letters, apostrophes inside; sentences end at . ! ? … before a blank. The
    syllables are one more than pyphen's points of hyphenation, which are made for printers: right
    for 73 of the 100 common words in our test, and 10 % too few in all.

    Raises:
        MissingExtraError: pyphen is not installed.

    >>> easy, none = Readability()(["", ""], ["The cat sat on the mat.", ""])
    >>> round(easy, 3), none
    (116.145, 0.0)
    """

    name = "readability"
    range = (float("-inf"), EASIEST)

    def __init__(self) -> None:
        if importlib.util.find_spec("pyphen") is None:
            raise MissingExtraError("pyphen", "the reward 'readability'")

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        """Measure each text."""
        return [_reading_ease(text) for text in completions]


def _reading_ease(text: str) -> float:
    found = _WORD.findall(text)
    if not found:
        return 0.0
    # What follows the last sentence end is a sentence too, if there is a word in it.
    sentences = sum(1 for part in _SENTENCE_END.split(text) if _WORD.search(part))
    per_word = sum(map(syllables, found)) / len(found)
    return min(206.835 - 1.015 * len(found) / sentences - 84.6 * per_word, EASIEST)


@functools.lru_cache(maxsize=1 << 16)
def syllables(word: str) -> int:
    """Estimate the syllables of an English word, at least 1."""
    word = word.lower()
    # A printer leaves no single letter at a line's end; a vowel is a syllable all the same.
    starts_with_vowel = word[0] in "aeiou"
    return sum(place > 1 or starts_with_vowel for place in _hyphenation()(word)) + 1


@functools.cache
def _hyphenation() -> Callable[[str], list[int]]:
    """Read the patterns once a process."""
    try:
        from pyphen import Pyphen
    except ImportError as error:
        raise MissingExtraError("pyphen", "the reward 'readability'") from error
    positions: Callable[[str], list[int]] = Pyphen(lang="en_US", left=1, right=2).positions
    return positions


readability = Readability
