"""log-probabilities of whole texts under a language model: what perplexities are made of.

N texts, P = the longest prompt, T = the longest text, in tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

TOKENS_AT_ONCE = 4096  # of a batch, padding included: its logits are [TOKENS_AT_ONCE, V]


def log_likelihoods(
    lm: Any, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]
) -> npt.NDArray[np.float64]:
    """Return Σ_t log ρ(y_t | x, y_<t) of N texts, in batches of texts of similar length.

    Args:
        lm: ρ, a `LanguageModel`.
        prompts: N lists of ids, x; an empty one is read as the model's start token.
        texts: N lists of ids, y; an empty one has 0.
    """
    import torch

    sums = np.zeros(len(texts))
    with torch.no_grad():
        for rows in _batches(prompts, texts):
            prefixes = _prefixes(
                [prompts[row] for row in rows], [texts[row] for row in rows], lm.vocabulary_size
            )
            log_probs = lm.score(prefixes).log_probs
            sums[rows] = log_probs.double().sum(dim=1).cpu().numpy()
    return sums


def _batches(prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Sort the rows by length and cut them into batches; rows without a token need no model."""
    lengths = [
        len(prompt) + len(text) if len(text) else 0
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    batches: list[list[int]] = []
    for row in sorted(np.flatnonzero(lengths).tolist(), key=lengths.__getitem__):
        if not batches or lengths[row] * (len(batches[-1]) + 1) > TOKENS_AT_ONCE:
            batches.append([])
        batches[-1].append(row)
    return batches


def _prefixes(
    prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]], vocabulary_size: int
) -> Any:
    from textenv.mdp import Rules, align_prompts, align_written, initial
    from textenv.prefixes import Prefixes

    rules = Rules(
        vocabulary_size=vocabulary_size,
        prompt_length=max(map(len, prompts)),
        max_tokens=max(map(len, texts)),
    )
    state = initial(rules, align_prompts(rules, prompts), align_written(rules, texts))
    return Prefixes.of(rules, state)
