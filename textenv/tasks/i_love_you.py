"""我爱你。 (I love you.): a four-word vocabulary and one right text."""

from __future__ import annotations

from functools import partial
from typing import Any

from textenv.rewards import exact_match
from textenv.task import Task
from textenv.vocabulary import WordVocabulary

WORDS = ("我", "爱", "你", "。")
THIRD = 0.5 / 3  # what the start's row leaves to each other word

# P(next word | last word); one row for each word that was written last, then one for the start.
STARTING_PROBABILITIES = (
    (0.2 / 3, 0.8, 0.2 / 3, 0.2 / 3),  # after 我
    (0.4 / 3, 0.4 / 3, 0.6, 0.4 / 3),  # after 爱
    (0.0, 0.0, 0.0, 1.0),  # after 你
    (0.25, 0.25, 0.25, 0.25),  # after 。: never asked, the text has ended
    (0.5, THIRD, THIRD, THIRD),  # at the start
)


def i_love_you() -> Task:
    """Write up to four words; 1 for exactly 我爱你。, else 0.

    V = 4, P = 0, T = 4; 。 is a stop token: it ends the text and belongs to it. The starting
    policy gives J = 0.5 · 0.8 · 0.6 · 1.0 = 0.24.
    """
    vocabulary = WordVocabulary(WORDS, separator="")
    return Task(
        name="ILoveYou",
        vocabulary=vocabulary,
        max_tokens=4,
        reward=exact_match("我爱你。"),
        stop=["。"],
        starting_policy=partial(_starting_policy, vocabulary),
    )


def _starting_policy(vocabulary: WordVocabulary) -> Any:
    from textenv.models import TabularLM

    return TabularLM.from_probabilities(STARTING_PROBABILITIES, order=1, vocabulary=vocabulary)
