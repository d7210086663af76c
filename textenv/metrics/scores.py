"""Any reward as a metric: its mean over a set of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textenv.metrics.intervals import Interval, mean_interval
from textenv.rewards import RewardLike, as_reward

# A right text, several of them, or none, as in a column of a task.
References = Sequence[str | Sequence[str] | None]


def mean_score(
    reward: RewardLike,
    texts: Sequence[str],
    *,
    prompts: Sequence[str] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    **columns: Sequence[Any],
) -> Interval:
    """Return the mean of what a reward says of whole texts, with its bootstrap interval.

    Texts that the reward leaves out (no reference, say) are left out of the mean.

    Args:
        reward: A reward, or whatever `textenv.rewards.as_reward` takes.
        texts: n texts.
        prompts: What each of them follows; None: nothing.
        confidence: Of the interval: see `mean_interval`.
        resamples: How many bootstrap samples.
        seed: Of their generator.
        **columns: The columns that the reward reads, n values each.

    Raises:
        ValueError: no texts; a column is missing, no list, or has another length; the reward
            leaves all texts out.

    >>> mean_score("exact_match", ["yes", "no", "?"], reference=["yes", "yes", None]).mean
    0.5
    """
    scorer, written = as_reward(reward), list_of_texts("texts", texts)
    if not written:
        raise ValueError("no texts have no mean: give at least one")
    starts = [""] * len(written) if prompts is None else list_of_texts("prompts", prompts)
    for name, column in columns.items():
        if isinstance(column, str) or not hasattr(column, "__len__"):
            raise ValueError(
                f"expected {name}= to be a list of {len(written)} values, a column that the reward "
                f"{scorer.name!r} reads, got {column!r:.80}"
            )
    for name, column in {"prompts": starts, **columns}.items():
        if len(column) != len(written):
            raise ValueError(f"{len(written)} texts, but {len(column)} {name}")
    lists = {name: list(column) for name, column in columns.items()}
    scores = scorer.total(starts, written, **lists)
    kept = [score for score in scores if score is not None]
    if not kept:
        reads = ", ".join(scorer.columns) or "a text"
        raise ValueError(
            f"the reward {scorer.name!r} leaves out all {len(written)} texts, so they have no "
            f"mean: give at least one of them what it reads ({reads})"
        )
    return mean_interval(kept, confidence=confidence, resamples=resamples, seed=seed)


def list_of_texts(what: str, texts: Sequence[str]) -> list[str]:
    """Return texts as a list.

    Args:
        what: What they are called in messages.
        texts: As a caller gave them.

    Raises:
        ValueError: a single text, whose characters would be taken for texts; or one that is none.
    """
    if isinstance(texts, str):
        raise ValueError(f"expected {what} to be a list of texts, got one: write [{texts!r:.60}]")
    listed = list(texts)
    for number, text in enumerate(listed):
        if not isinstance(text, str):
            raise ValueError(
                f"expected {what} to be a list of texts, but number {number} is {text!r:.80}"
            )
    return listed
