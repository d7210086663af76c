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
        ValueError: a column is missing or has another length; the reward leaves all texts out.

    >>> mean_score("exact_match", ["yes", "no", "?"], reference=["yes", "yes", None]).mean
    0.5
    """
    scorer = as_reward(reward)
    starts = [""] * len(texts) if prompts is None else list(prompts)
    for name, column in {"prompts": starts, **columns}.items():
        if len(column) != len(texts):
            raise ValueError(f"{len(texts)} texts, but {len(column)} {name}")
    lists = {name: list(column) for name, column in columns.items()}
    scores = scorer.total(starts, list(texts), **lists)
    kept = [score for score in scores if score is not None]
    if not kept:
        raise ValueError(
            f"the reward {scorer.name!r} leaves out all {len(texts)} texts, so they have no mean: "
            f"give at least one of them what it reads ({', '.join(scorer.columns) or 'a text'})"
        )
    return mean_interval(kept, confidence=confidence, resamples=resamples, seed=seed)
