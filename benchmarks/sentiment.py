"""Sentiment-v0 before and after training, over seeds: `python -m benchmarks sentiment`.

The demo's settings and length. Each policy writes 1,000 fresh texts at temperature 1 without
cutting; the KL is the mean over texts of the sum of the exact per-step KL.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
import tyro

from textenv.metrics import mean_interval
from textenv_agents import PolicyGradient, PolicyGradientConfig, evaluate
from textenv_agents.demo import LAST_PARTS, REVIEWS

ID = "textenv/Sentiment-v0"


@dataclass(frozen=True, kw_only=True)
class SentimentConfig:
    """The benchmark."""

    seeds: int = 5
    """How many training runs."""
    tokens: int = LAST_PARTS["reviews"].tokens
    """Tokens written in each."""
    texts: int = 1000
    """Fresh texts written before and after."""
    samples: Path | None = None
    """A file for 20 texts of each run."""


def main() -> None:
    """Print one line a seed, then the means with their intervals over seeds."""
    config = tyro.cli(SentimentConfig, prog="python -m benchmarks sentiment")
    usual = vars(PolicyGradientConfig())
    settings = {name: value for name, value in vars(REVIEWS).items() if value != usual[name]}
    print(f"{date.today()}, {platform.machine()}, torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads\n{config.tokens:,} tokens, {settings}\n")  # fmt: skip
    print(f"{'seed':>5}{'reward before':>24}{'reward after':>24}{'KL':>24}{'length':>8}"
          f"{'distinct-2':>12}{'perplexity':>12}{'seconds':>9}")  # fmt: skip
    rows: list[dict[str, Any]] = []
    for seed in range(config.seeds):
        agent = PolicyGradient(None, ID, replace(REVIEWS, seed=seed))
        measure = {"reference": agent.reference, "texts": config.texts, "seed": 1000 + seed}
        before = evaluate(agent.policy, ID, **measure)
        start = time.perf_counter()
        agent.learn(config.tokens)
        seconds = time.perf_counter() - start
        after = evaluate(agent.policy, ID, **measure)
        print(f"{seed:5}{before.reward!s:>24}{after.reward!s:>24}{after.kl!s:>24}"
              f"{after.length:8.1f}{after.distinct_2:12.3f}{after.perplexity:12.1f}"
              f"{seconds:9.0f}")  # fmt: skip
        rows.append({
            "reward before": before.reward.mean,
            "reward after": after.reward.mean,
            "rise": after.reward.mean - before.reward.mean,
            "KL": after.kl.mean,
            "length before": before.length,
            "length after": after.length,
            "distinct-2 before": before.distinct_2,
            "distinct-2 after": after.distinct_2,
            "perplexity before": before.perplexity,
            "perplexity after": after.perplexity,
        })  # fmt: skip
        if config.samples:
            lines = [f"{r:+.2f}  {p} | {t}" for p, t, r in after.texts[:20]]
            with config.samples.open("a", encoding="utf-8") as file:
                file.write(f"# seed {seed}\n" + "\n".join(lines) + "\n")
    print(f"\nmean over {config.seeds} seeds, 95 % bootstrap interval over seeds")
    for name in rows[0]:
        print(f"  {name:20}{mean_interval([row[name] for row in rows])}")
