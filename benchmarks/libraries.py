"""Other libraries train on our environments, unpatched: `python -m benchmarks libraries`.

A row is a line of `ROWS`: to add a library, write a function (id, seed) → `Training` and its line.
What is not installed here says so, so that a library with an environment of its own has the row
that it prints there: `python -m benchmarks libraries --only NAME`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from importlib import import_module, metadata
from typing import NamedTuple

import numpy as np
import tyro

from benchmarks.libraries_training import Training
from textenv.metrics import mean_interval

IDS = ("textenv/GoodBad-v0", "textenv/ILoveYou-v0")
LEARNED = 0.9  # J of the greedy policy from which on a run counts as learned; 1 is the best


class Row(NamedTuple):
    """A library's algorithm.

    library: What to call it.
    package: Whose version is printed.
    algorithm: What trains.
    function: "module:function", (id, seed) → Training.
    ids: The environments; None: those asked for.
    """

    library: str
    package: str
    algorithm: str
    function: str
    ids: tuple[str, ...] | None = None


WORDS, REASONING = ("textenv/WordPreference-v0",), ("textenv/ReasoningGym-v0",)
ROWS = (
    Row("textenv", "textenv", "PolicyGradient", "benchmarks.libraries_own:policy_gradient"),
    Row("textenv", "textenv", "PPO in one file", "benchmarks.libraries_own:single_file"),
    Row("Stable-Baselines3", "stable-baselines3", "PPO", "benchmarks.libraries_sb3:ppo"),
    Row("Stable-Baselines3", "stable-baselines3", "DQN", "benchmarks.libraries_sb3:dqn"),
    Row(
        "Stable-Baselines3",
        "stable-baselines3",
        "PPO, LMPolicy, SequenceRolloutBuffer",
        "benchmarks.libraries_sb3:lm_policy",
    ),
    Row(
        "sb3-contrib",
        "sb3-contrib",
        "MaskablePPO, a blocklist",
        "benchmarks.libraries_sb3:maskable",
        ("textenv/ILoveYou-v0",),
    ),
    Row("TorchRL", "torchrl", "ClipPPOLoss, GAE", "benchmarks.libraries_torchrl:ppo"),
    Row("Tianshou", "tianshou", "PPO", "benchmarks.libraries_tianshou:ppo"),
    Row("Tianshou", "tianshou", "DQN", "benchmarks.libraries_tianshou:dqn"),
    Row("RLlib", "ray", "PPO, new API stack", "benchmarks.libraries_rllib:ppo"),
    Row("TRL", "trl", "GRPOTrainer", "benchmarks.libraries_trl:grpo", WORDS),
    Row("TRL", "trl", "RLOOTrainer", "benchmarks.libraries_trl:rloo", WORDS),
    Row("OpenEnv", "openenv", "TRL's GRPOTrainer", "benchmarks.libraries_trl:served", WORDS),
    Row(
        "reasoning-gym",
        "reasoning-gym",
        "OpenEnv, TRL's GRPOTrainer",
        "benchmarks.libraries_trl:reasoning",
        REASONING,
    ),
)


@dataclass(frozen=True, kw_only=True)
class LibrariesBenchmark:
    """The benchmark."""

    ids: tuple[str, ...] = IDS
    """The environments, of the rows that have none of their own."""
    seeds: int = 5
    """How many runs of each."""
    only: tuple[str, ...] = ()
    """Names of libraries; none: all."""


def version_of(package: str) -> str | None:
    """Return the installed version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def measured(row: Row, environment_id: str, seeds: int) -> str:
    """Train over the seeds; return the cells of a line of the table."""
    module, name = row.function.split(":")
    train: Callable[[str, int], Training] = getattr(import_module(module), name)
    start = time.process_time()
    runs = [train(environment_id, seed) for seed in range(seeds)]
    seconds = (time.process_time() - start) / seeds
    before = mean_interval([run.before for run in runs])
    after = mean_interval([run.after for run in runs])
    learned = sum(run.greedy >= LEARNED for run in runs)
    steps = round(np.mean([run.steps for run in runs]))
    return f"{before} → {after} | {learned} of {seeds} | {steps:,} | {seconds:.1f} s"


def table(config: LibrariesBenchmark) -> Iterator[str]:
    """Yield the lines of the table.

    Raises:
        ValueError: a name of `only` is no library's.
    """
    known = sorted({row.library for row in ROWS})
    if wrong := sorted(set(config.only) - set(known)):
        raise ValueError(f"expected --only to name some of {', '.join(known)}; got {wrong[0]!r}")
    yield "| library | version | algorithm | id | J before → after | learned | steps | CPU time |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in ROWS:
        if config.only and row.library not in config.only:
            continue
        version = version_of(row.package)
        for environment_id in row.ids or config.ids:
            name = environment_id.removeprefix("textenv/")
            start = f"| {row.library} | {version or '–'} | {row.algorithm} | {name} |"
            found = (
                measured(row, environment_id, config.seeds) if version else "not installed | | |"
            )
            yield f"{start} {found} |"


def main() -> None:
    """Print the table, one line for each library, algorithm and environment."""
    config = tyro.cli(LibrariesBenchmark, prog="python -m benchmarks libraries")
    versions = f"Gymnasium {metadata.version('gymnasium')}, torch {metadata.version('torch')}"
    print(f"{date.today()}, {platform.machine()}, {versions}, {config.seeds} seeds\n")
    for line in table(config):
        print(line, flush=True)
