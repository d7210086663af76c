"""Why a text is flagged for the raters, if it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textenv.filters import toxicity as linear
from textenv.filters.blocklist import Blocklist


def flag(
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    toxicity: float | None = 0.5,
    blocklist: Any = None,
) -> list[str | None]:
    """Return for each text the reason why a person should look at it; None: there is none.

    Args:
        prompts: n texts.
        completions: What was written after each; that alone is judged, but for patterns that
            begin in the prompt.
        toxicity: The probability from which on a text is flagged, 0 … 1. None: it is not asked.
        blocklist: In any of the forms of `Blocklist.parse`; it is asked first. None: none.

    Raises:
        ValueError: the lists are of different lengths, or the threshold is no probability.

    >>> flag(["", ""], ["you are an idiot", "a fine day"])
    ['toxicity 1.00', None]
    >>> flag(["b"], ["-A-d"], blocklist=["bad"])
    ["blocklist: 'bad'"]
    """
    if len(prompts) != len(completions):
        raise ValueError(f"got {len(prompts)} prompts and {len(completions)} completions")
    if toxicity is not None and not 0 <= toxicity <= 1:
        raise ValueError(f"expected toxicity= to be a probability or None, got {toxicity!r}")
    patterns = None if blocklist is None else Blocklist.parse(blocklist)
    scores = [0.0] * len(completions)
    if toxicity is not None:
        scores = linear.probabilities(completions)
    reasons: list[str | None] = []
    for prompt, text, score in zip(prompts, completions, scores, strict=True):
        found = None if patterns is None else patterns.find(prompt, text)
        reason = None if found is None else f"blocklist: {found!r}"
        if reason is None and toxicity is not None and score >= toxicity:
            reason = f"toxicity {score:.2f}"
        reasons.append(reason)
    return reasons
