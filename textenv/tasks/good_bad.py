"""The toy: one word, "good" or "bad"."""

from __future__ import annotations

from functools import partial
from typing import Any

from textenv.rewards import word_preference
from textenv.task import Task
from textenv.vocabulary import WordVocabulary


def good_bad() -> Task:
    """Write one word; +1 for "good", −1 for "bad".

    V = 2, P = 0, T = 1. The starting policy gives each word probability ½, so that
    J = p(good) − p(bad) = 0. The gradient in the two logits is
    ∇J = Σ_y p(y)·r(y)·∇log p(y) = ½·(+1)·[½, −½] + ½·(−1)·[−½, ½] = [+½, −½].
    (The article that the toy comes from prints −0.5 for a sum of the same two terms.) One ascent
    step of size 1 gives p(good) = σ(1) ≈ 0.7311.
    """
    vocabulary = WordVocabulary(["good", "bad"])
    return Task(
        name="GoodBad",
        vocabulary=vocabulary,
        max_tokens=1,
        reward=word_preference({"good": 1.0, "bad": -1.0}),
        starting_policy=partial(_starting_policy, vocabulary),
    )


def _starting_policy(vocabulary: WordVocabulary) -> Any:
    from textenv.models import TabularLM

    return TabularLM.from_probabilities([[0.5, 0.5]], order=0, vocabulary=vocabulary)
