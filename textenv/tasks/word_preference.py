"""Longer texts of preferred, unwanted and indifferent words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from textenv.rewards import word_preference as word_preference_reward
from textenv.task import Task, uniform_policy
from textenv.vocabulary import WordVocabulary

PREFERRED = ("good", "great", "happy", "kind")
UNWANTED = ("bad", "awful", "sad", "cruel")
INDIFFERENT = ("the", "a", "day", "walk", "tree", "is", "was", "and")
END = "</s>"
PROMPTS = 256  # how many prompts a prompt length makes


def word_preference(
    *,
    vocabulary: Any = None,
    words: Sequence[str] | None = None,
    preferred: Sequence[str] = PREFERRED,
    unwanted: Sequence[str] = UNWANTED,
    weights: dict[str, float] | None = None,
    separator: str = " ",
    prompts: Sequence[str] | None = None,
    prompt_length: int = 0,
    max_tokens: int = 16,
) -> Task:
    """Write up to 16 words; each preferred one pays +1 at once, each unwanted one −1.

    The starting policy writes every word, and the end, with the same probability.

    Args:
        vocabulary: A vocabulary object, in place of `words`.
        words: The vocabulary; an end word `</s>` is added. None: 16 English words.
        preferred: Words that pay +1.
        unwanted: Words that pay −1.
        weights: Words with their pay, in place of `preferred` and `unwanted`.
        separator: What stands between two words; "" for Chinese.
        prompts: Texts that may stand at the start.
        prompt_length: P. Without `prompts`, 256 prompts of this many random words are made: they
            are a part of the task and the same in every process.
        max_tokens: T.
    """
    if prompt_length < 0:
        raise ValueError(f"expected prompt_length ≥ 0, got {prompt_length}")
    if weights is None:
        for name, listed in [("preferred", preferred), ("unwanted", unwanted)]:
            if isinstance(listed, str):
                raise ValueError(f"{name} must be a list of words, got the text {listed!r}")
        weights = {**dict.fromkeys(preferred, 1.0), **dict.fromkeys(unwanted, -1.0)}
    if vocabulary is None:
        listed = [*PREFERRED, *UNWANTED, *INDIFFERENT] if words is None else words
        vocabulary = WordVocabulary(listed, separator=separator, end=END)
        _check_weights(weights, vocabulary)
    if prompts is None:
        special = [vocabulary.end_token, vocabulary.start_token, *vocabulary.suppressed_tokens]
        ordinary = [token for token in range(vocabulary.size) if token not in special]
        shape = (PROMPTS if prompt_length else 1, prompt_length)
        ids = np.random.default_rng(0).choice(ordinary, size=shape)
        prompts = [vocabulary.decode(row.tolist()) for row in ids]
    return Task(
        name="WordPreference",
        vocabulary=vocabulary,
        max_tokens=max_tokens,
        reward=word_preference_reward(weights, pays="token"),
        prompts=prompts,
        prompt_length=prompt_length or None,
        starting_policy=partial(uniform_policy, vocabulary),
    )


def _check_weights(weights: dict[str, float], vocabulary: WordVocabulary) -> None:
    """Refuse a task in which no word pays, or one that was meant to is misspelt."""
    unknown = sorted(set(weights) - set(vocabulary.words) - {*PREFERRED, *UNWANTED})
    if unknown:
        raise ValueError(f"{unknown} should pay, but the words are {list(vocabulary.words)}")
    if not set(weights) & set(vocabulary.words):
        raise ValueError(
            f"none of the words {list(vocabulary.words)} pays: give preferred=, unwanted= or "
            "weights= among them"
        )
