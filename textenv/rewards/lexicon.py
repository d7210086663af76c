"""Sentiment by VADER's lexicon and rules, from the package vaderSentiment.

Hutto & Gilbert (2014), "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
Media Text", https://ojs.aaai.org/index.php/ICWSM/article/view/14550. English only.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

from textenv.errors import MissingExtraError
from textenv.rewards.base import Reward
from textenv.rewards.registry import register


@register("sentiment")
class Sentiment(Reward):
    """VADER's compound score of the text: positive words, negations, emphasis. Range: −1 … 1.

    The score is rounded to four places by VADER itself. A text without any word of the lexicon,
    the empty one too, scores 0.

    Args:
        include_prompt: Score the prompt and the completion as one text.
        separator: What stands between the two; "" where completions bring their own blank.

    Raises:
        MissingExtraError: vaderSentiment is not installed.

    >>> Sentiment()(["", ""], ["a wonderful film", "a film"])
    [0.5719, 0.0]
    """

    name = "sentiment"
    range = (-1.0, 1.0)

    def __init__(self, *, include_prompt: bool = False, separator: str = " ") -> None:
        # Only looked for, not imported: that costs time, and happens at the first text.
        if importlib.util.find_spec("vaderSentiment") is None:
            raise MissingExtraError("vaderSentiment", "the reward 'sentiment'")
        self.include_prompt = include_prompt
        self.separator = separator

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        """Score each text."""
        polarity = _polarity()
        if not self.include_prompt:
            return [polarity(text)["compound"] for text in completions]
        pairs = zip(prompts, completions, strict=True)
        texts = [self.separator.join(filter(None, pair)) for pair in pairs]
        return [polarity(text)["compound"] for text in texts]


@functools.cache
def _polarity() -> Callable[[str], dict[str, float]]:
    """Read the lexicon once a process."""
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise MissingExtraError("vaderSentiment", "the reward 'sentiment'") from error
    polarity: Callable[[str], dict[str, float]] = SentimentIntensityAnalyzer().polarity_scores
    return polarity


sentiment = Sentiment
