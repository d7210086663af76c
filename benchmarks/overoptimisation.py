"""Reward over-optimisation: one environment, four rewards: `python -m benchmarks overoptimisation`.

The true reward is VADER's sentiment less three times the share of word pairs that a text repeats:
people like praise, but not the same words again and again (VADER does). A policy is trained on it,
and on three proxies that stand for it: noisy verdicts of a scripted rater against fixed opponents,
a reward model learned from few such verdicts, and a language model as judge. At several moments of
each training fresh texts are measured by the proxy and by the truth, over the KL to the start (as
in Gao et al. 2023, https://arxiv.org/abs/2210.10760). Both rewards are in deviations of the
starting policy's texts, from their mean; what is trained on is the proxy over that deviation, so
that β costs the same everywhere.
"""

from __future__ import annotations

import json
import time
from typing import Any

import tyro

from benchmarks.machine import describe
from benchmarks.overoptimisation_figure import draw, table
from benchmarks.overoptimisation_world import OveroptimisationConfig, World
from textenv.files import replace_file


def main() -> None:
    """Train, measure, print one table and draw one picture."""
    config = tyro.cli(OveroptimisationConfig, prog="python -m benchmarks overoptimisation")
    run(config.quick() if config.fast else config)


def run(config: OveroptimisationConfig) -> dict[str, Any]:
    """Do what is left to do, then write results.json and figure.png.

    Raises:
        ValueError: the folder holds runs with other settings.
    """
    print(describe())
    print(
        f"{config.tokens:,} tokens a run, {config.seeds} seeds, β = {config.beta:g}, "
        f"{config.preferences} preferences, {config.texts} fresh texts at each moment\n"
    )
    config.folder.mkdir(parents=True, exist_ok=True)
    world = World(config)
    runs = {}
    for seed in range(config.seeds):
        for name in config.rewards:
            runs[name, seed] = _kept(config, world, name, seed)
    results = {
        "settings": {**config.of_run(), "seeds": config.seeds, "machine": describe()},
        "runs": {
            name: [runs[name, seed] for seed in range(config.seeds)] for name in config.rewards
        },
    }
    replace_file(config.folder / "results.json", json.dumps(results, indent=1))
    print(table(results["runs"]))
    draw(results["runs"], config.folder / "figure.png")
    print(f"\nthe picture is {config.folder / 'figure.png'}")
    return results


def _kept(config: OveroptimisationConfig, world: World, name: str, seed: int) -> dict[str, Any]:
    """Return a run from its file, or make it and write the file."""
    path = config.folder / f"{name}-{seed}.json"
    if path.exists():
        kept = json.loads(path.read_text("utf-8"))
        if kept["settings"] != config.of_run():
            raise ValueError(
                f"{str(path)!r} was made with other settings, {kept['settings']}: choose another "
                "--folder, or remove it"
            )
        return kept["run"]
    start = time.perf_counter()
    made = {**world.train(name, seed), "seconds": time.perf_counter() - start}
    replace_file(path, json.dumps({"settings": config.of_run(), "run": made}))
    last = made["points"][-1]
    print(f"{name:12} seed {seed}: KL {last['kl']:5.2f}, proxy {last['proxy']:+.2f}, "
          f"true {last['true']:+.2f}, {made['seconds']:.0f} s", flush=True)  # fmt: skip
    return made
