"""What a set of texts looks like, whatever it says: means of the rewards of the same names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from textenv import rewards
from textenv.metrics.intervals import Interval
from textenv.metrics.scores import mean_score


def length(
    texts: Sequence[str], *, unit: Literal["words", "characters"] = "words", **interval: Any
) -> Interval:
    """The mean number of words between blanks, or of characters.

    Args:
        texts: n texts.
        unit: What is counted.
        **interval: `confidence`, `resamples` and `seed` of `mean_interval`.

    >>> length(["two words", "one"]).mean
    1.5
    """
    return mean_score(rewards.length(unit=unit), texts, **interval)


def regular_expression(
    texts: Sequence[str], pattern: str, *, full: bool = False, **interval: Any
) -> Interval:
    """The share of texts that match: see the reward `regular_expression`.

    Args:
        texts: n texts.
        pattern: Python's syntax.
        full: The whole text must match.
        **interval: As of `length`.

    >>> regular_expression(["5 stars", "no stars"], "[0-9]").mean
    0.5
    """
    return mean_score(rewards.regular_expression(pattern, full=full), texts, **interval)


def readability(texts: Sequence[str], **interval: Any) -> Interval:
    """The mean of Flesch's reading ease, −∞ … 121.22: see the reward, and what it is worth.

    Args:
        texts: n texts.
        **interval: As of `length`.

    >>> round(readability(["The cat sat on the mat."]).mean, 3)
    116.145
    """
    return mean_score("readability", texts, **interval)
