"""How much of the right texts is in a set of texts: means of the rewards of the same names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from textenv import rewards
from textenv.metrics.intervals import Interval
from textenv.metrics.scores import References, mean_score
from textenv.rewards.units import Unit


def rouge(
    texts: Sequence[str],
    references: References,
    *,
    variant: Literal["1", "2", "L"] = "L",
    unit: Unit = "words",
    **interval: Any,
) -> Interval:
    """The mean F1 of ROUGE-1, ROUGE-2 or ROUGE-L, 0 … 1: see the reward `rouge`.

    It says how many words agree, not whether the text is true or good: in summaries that people
    preferred it was seen to fall.

    Args:
        texts: n texts.
        references: The right text of each, several, or None, which leaves the text out.
        variant: "1", "2" or "L".
        unit: What is counted.
        **interval: `confidence`, `resamples` and `seed` of `mean_interval`.

    >>> rouge(["the cat sat"], ["The cat sat down."]).mean
    0.8571428571428571
    """
    reward = rewards.rouge(variant, unit=unit)
    return mean_score(reward, texts, reference=references, **interval)


def token_f1(
    texts: Sequence[str], references: References, *, unit: Unit = "words", **interval: Any
) -> Interval:
    """The mean F1 of common words, 0 … 1, as in SQuAD: see the reward `token_f1`.

    Args:
        texts: n answers.
        references: As of `rouge`.
        unit: What is counted.
        **interval: As of `rouge`.

    >>> token_f1(["The Eiffel Tower!", "1889"], ["Eiffel tower", ["1889", "in 1889"]]).mean
    1.0
    """
    return mean_score(rewards.token_f1(unit=unit), texts, reference=references, **interval)


def exact_match(texts: Sequence[str], references: References, **interval: Any) -> Interval:
    """The share of texts that are exactly right, blanks included: see the reward `exact_match`.

    Args:
        texts: n texts.
        references: As of `rouge`.
        **interval: As of `rouge`.

    >>> exact_match(["yes", "no"], ["yes", "yes"]).mean
    0.5
    """
    return mean_score("exact_match", texts, reference=references, **interval)


def edit_distance(
    texts: Sequence[str],
    references: References,
    *,
    unit: Literal["characters", "words"] = "characters",
    **interval: Any,
) -> Interval:
    """The mean number of edits to the right text, 0 … ∞: see the reward `edit_distance`.

    It grows with the length of the texts; `edit_similarity` does not.

    Args:
        texts: n texts.
        references: As of `rouge`.
        unit: What is inserted, deleted or replaced.
        **interval: As of `rouge`.

    >>> edit_distance(["kitten", "cat"], ["sitting", "cat"]).mean
    1.5
    """
    return mean_score(rewards.edit_distance(unit=unit), texts, reference=references, **interval)


def edit_similarity(
    texts: Sequence[str],
    references: References,
    *,
    unit: Literal["characters", "words"] = "characters",
    **interval: Any,
) -> Interval:
    """The mean of 1 − edits/length, 0 … 1: see the reward `edit_similarity`.

    Args:
        texts: n texts.
        references: As of `rouge`.
        unit: What is inserted, deleted or replaced.
        **interval: As of `rouge`.

    >>> edit_similarity(["我你", "我爱你。"], ["我爱你。", "我爱你。"]).mean
    0.75
    """
    return mean_score(rewards.edit_similarity(unit=unit), texts, reference=references, **interval)
