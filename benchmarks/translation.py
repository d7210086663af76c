"""ToyTranslation-v0 before and after training, over seeds: `python -m benchmarks translation`.

A T5 that a careless translator taught learns to translate well. Measured on sentences that it was
never trained on, at temperature 1 without cutting; the KL is the mean over texts of the sum of the
exact per-step KL, in nats.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import torch
import tyro

from textenv.metrics import mean_interval
from textenv_agents import PolicyGradient, PolicyGradientConfig, evaluate

ID = "textenv/ToyTranslation-v0"
TRANSLATOR = PolicyGradientConfig(episodes=128, learning_rate=5e-4, schedule="linear")
SHOWN = 4  # translations of the last seed that are printed


@dataclass(frozen=True, kw_only=True)
class TranslationConfig:
    """The benchmark."""

    seeds: int = 3
    """How many training runs."""
    tokens: int = 300_000
    """Tokens written in each."""
    texts: int = 1000
    """Sentences translated before and after, of the 500 set aside."""


def main() -> None:
    """Print one line a seed, then the means with their intervals over seeds."""
    config = tyro.cli(TranslationConfig, prog="python -m benchmarks translation")
    print(f"{date.today()}, {platform.machine()}, torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads\n{config.tokens:,} tokens\n")  # fmt: skip
    print(f"{'seed':>5}{'reward before':>24}{'reward after':>24}{'right before':>14}"
          f"{'right after':>13}{'KL':>24}{'seconds':>9}")  # fmt: skip
    rows: list[dict[str, float]] = []
    for seed in range(config.seeds):
        agent = PolicyGradient(None, ID, replace(TRANSLATOR, seed=seed))
        measure: dict[str, Any] = {
            "reference": agent.reference,
            "texts": config.texts,
            "seed": 1000 + seed,
            "split": "test",
        }
        before = evaluate(agent.policy, ID, **measure)
        start = time.perf_counter()
        agent.learn(config.tokens)
        seconds = time.perf_counter() - start
        after = evaluate(agent.policy, ID, **measure)
        print(f"{seed:5}{before.reward!s:>24}{after.reward!s:>24}{_right(before):14.3f}"
              f"{_right(after):13.3f}{after.kl!s:>24}{seconds:9.0f}")  # fmt: skip
        rows.append({
            "reward before": before.reward.mean,
            "reward after": after.reward.mean,
            "rise": after.reward.mean - before.reward.mean,
            "right before": _right(before),
            "right after": _right(after),
            "KL": after.kl.mean,
        })  # fmt: skip
    print(f"\nmean over {config.seeds} seeds, 95 % bootstrap interval over seeds")
    for name in rows[0]:
        print(f"  {name:20}{mean_interval([row[name] for row in rows])}")
    print()
    for (prompt, old, _), (_, new, _) in list(zip(before.texts, after.texts, strict=True))[:SHOWN]:
        print(f"  {prompt}\n    {old} → {new}")


def _right(measured: Any) -> float:
    """The share of sentences without any mistake."""
    return sum(reward == 1 for *_, reward in measured.texts) / len(measured.texts)
