"""Longer texts of preferred, unwanted and indifferent words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from textenv.rewards import word_preference as word_preference_reward
from textenv.task import Task
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
    """Write up to `max_tokens` words; each preferred word pays +1 at once, each unwanted one −1.

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
    if vocabulary is None:
        vocabulary = WordVocabulary(
            words or [*PREFERRED, *UNWANTED, *INDIFFERENT], separator=separator, end=END
        )
    if prompts is None:
        special = [vocabulary.end_token, vocabulary.start_token, *vocabulary.suppressed_tokens]
        ordinary = [token for token in range(vocabulary.size) if token not in special]
        shape = (PROMPTS if prompt_length else 1, prompt_length)
        ids = np.random.default_rng(0).choice(ordinary, size=shape)
        prompts = [vocabulary.decode(row.tolist()) for row in ids]
    if weights is None:
        weights = {**dict.fromkeys(preferred, 1.0), **dict.fromkeys(unwanted, -1.0)}
    return Task(
        name="WordPreference",
        vocabulary=vocabulary,
        max_tokens=max_tokens,
        reward=word_preference_reward(weights, pays="token"),
        prompts=prompts,
        prompt_length=prompt_length or None,
    )
