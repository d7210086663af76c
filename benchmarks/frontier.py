"""The best trade between reward and KL on Sentiment-v0: `python -m benchmarks frontier`.

Among all policies with the same mean reward, p*(y) ∝ ρ(y)·exp(r(y)/β) is the nearest to the
starting policy ρ. For each of some prompts, ρ's own texts are weighted by exp(r/β): a consistent
estimate that cannot exceed log(number of texts) nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tyro

from textenv.models import load
from textenv_agents import evaluate


@dataclass(frozen=True, kw_only=True)
class FrontierConfig:
    """The benchmark."""

    prompts: int = 8
    """How many prompts."""
    texts: int = 1500
    """Texts of each."""
    betas: tuple[float, ...] = (0.5, 0.2, 0.1, 0.05, 0.03, 0.02)
    """Prices of a nat."""


def main() -> None:
    """Print reward and KL for each β, means over prompts."""
    config = tyro.cli(FrontierConfig, prog="python -m benchmarks frontier")
    reviews = load("reviews")
    rewards = []
    for prompt in range(config.prompts):
        measured = evaluate(
            reviews,
            "textenv/Sentiment-v0",
            reference=reviews,
            texts=config.texts,
            prompt_index=37 * prompt,
            seed=prompt,
        )
        rewards.append([reward for _, _, reward in measured.texts])
    table = np.array(rewards)  # [prompts, texts]
    print(f"{'β':>6}{'reward':>9}{'KL':>7}")
    for beta in config.betas:
        weights = np.exp((table - table.max()) / beta)
        weights /= weights.sum(axis=1, keepdims=True)
        relative = np.log(np.maximum(weights * table.shape[1], 1e-300))
        kl = (weights * relative).sum(axis=1).mean()
        print(f"{beta:6.2f}{(weights * table).sum(axis=1).mean():9.3f}{kl:7.2f}")
