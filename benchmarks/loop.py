"""`textenv loop` over seeds: the true reward round by round: `python -m benchmarks loop`.

Everything at the command's defaults: a scripted rater, Sentiment-v0, the reviews model. The true
reward is VADER's score of 1,000 fresh texts; nothing is trained on it but through the comparisons.
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
import tyro

from textenv.metrics import mean_interval
from textenv_agents.loop import LoopConfig, loop

COLUMNS = {
    "true reward": "true_reward",
    "learned reward's rise": "learned_rise",
    "KL, nats": "kl",
    "length": "length",
    "distinct-2": "distinct_2",
    "win rate": "win_rate",
    "held-out accuracy": "accuracy",
}


@dataclass(frozen=True, kw_only=True)
class LoopBenchmark:
    """The benchmark."""

    seeds: int = 5
    """How many loops."""
    first_seed: int = 0
    """The first one's seed."""
    folder: Path | None = None
    """Where the loops' folders are kept; None: they are thrown away."""
    loop: LoopConfig = field(default_factory=LoopConfig)
    """The loop; its seed and folder are the benchmark's to choose."""


def main() -> None:
    """Print one line a loop, then each round's numbers with their intervals over seeds."""
    config = tyro.cli(LoopBenchmark, prog="python -m benchmarks loop")
    print(f"{date.today()}, {platform.machine()}, torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads\n{_changed(config.loop)}\n")  # fmt: skip
    rounds = range(config.loop.rounds + 1)
    heads = ["start", *(f"round {n}" for n in rounds[1:]), "seconds"]
    print(f"true reward\n{'seed':>5}" + "".join(f"{head:>9}" for head in heads))
    base = Path(tempfile.mkdtemp()) if config.folder is None else config.folder
    loops = []
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        begun = time.perf_counter()
        settings = replace(config.loop, seed=seed, folder=base / f"seed-{seed}")
        loops.append([_flat(numbers) for numbers in loop(settings).rounds])
        rewards = "".join(f"{numbers['true_reward']:9.3f}" for numbers in loops[-1])
        print(f"{seed:5}{rewards}{time.perf_counter() - begun:9.0f}", flush=True)
    if config.folder is None:
        shutil.rmtree(base)
    _report(loops, rounds)


def _report(loops: Sequence[Sequence[dict[str, Any]]], rounds: range) -> None:
    """Means over seeds, and how much the true reward rose in each round."""
    print(f"\nmeans over {len(loops)} seeds, 95 % bootstrap interval over seeds")
    print(f"{'':24}{'start':>24}" + "".join(f"{f'round {n}':>24}" for n in rounds[1:]))
    for label, key in COLUMNS.items():
        cells = []
        for n in rounds:
            values = [numbers[n][key] for numbers in loops if key in numbers[n]]
            cells.append(str(mean_interval(values)) if values else "–")
        print(f"{label:24}" + "".join(f"{cell:>24}" for cell in cells))
    rises = []
    for n in rounds[1:]:
        rise = [one[n]["true_reward"] - one[n - 1]["true_reward"] for one in loops]
        rises.append(f"{mean_interval(rise)!s:>24}")
        print(f"rose in round {n}: in {sum(r > 0 for r in rise)} of {len(rise)} loops")
    print(f"{'rise of the true reward':24}{'':24}" + "".join(rises))


def _flat(numbers: dict[str, Any]) -> dict[str, float]:
    """A round's numbers, the means of those with an interval."""
    flat = {
        key: value[0] if isinstance(value, list) else value
        for key, value in numbers.items()
        if key in COLUMNS.values() and value is not None
    }
    accuracy = numbers.get("reward_model", {}).get("accuracy")
    return flat if accuracy is None else {**flat, "accuracy": accuracy["mean"]}


def _changed(config: LoopConfig) -> str:
    """The settings that are not the defaults."""
    usual = LoopConfig().to_json()
    changed = {key: value for key, value in config.to_json().items() if value != usual[key]}
    return f"settings: {json.dumps(changed) if changed else 'the defaults'}"
