"""Film reviews that shall end well: the opening of a real snippet, and a language model goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textenv.rewards import sentiment as sentiment_reward
from textenv.task import Task
from textenv.vocabulary import load_vocabulary

OPENINGS = Path(__file__).parent.parent / "data" / "film_snippets" / "prompts.txt"


def sentiment(
    *,
    vocabulary: Any = None,
    prompts: Sequence[str] | None = None,
    prompt_words: int = 4,
    max_tokens: int = 24,
) -> Task:
    """Continue the opening of a film review; VADER's compound score of what was written.

    Args:
        vocabulary: The language model's. None: that of the shipped model "reviews".
        prompts: Openings. None: the first words of real film snippets (Hutto & Gilbert 2014).
        prompt_words: How many words of a snippet are its opening, 1 … 8.
        max_tokens: T.
    """
    if not 1 <= prompt_words <= 8:
        raise ValueError(f"prompt_words lies in 1 … 8, got {prompt_words}")
    if vocabulary is None:
        from textenv.catalogue import folder_of

        vocabulary = load_vocabulary(folder_of("reviews"))
    if prompts is None:
        lines = OPENINGS.read_text("utf-8").splitlines()
        openings = (" ".join(line.split()[:prompt_words]) for line in lines)
        prompts = list(dict.fromkeys(openings))  # without those that stand there twice
    return Task(
        name="Sentiment",
        vocabulary=vocabulary,
        max_tokens=max_tokens,
        reward=sentiment_reward(),
        prompts=prompts,
        starting_policy=_starting_policy,
    )


def _starting_policy() -> Any:
    from textenv.models import load

    return load("reviews")
