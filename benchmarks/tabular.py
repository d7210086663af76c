"""How fast tabular learning comes to the exact values: `python -m benchmarks tabular`.

max |Q − Q*| over all prefixes and tokens, and J* − J of the greedy policy, after so many texts;
means over seeds with 95 % bootstrap intervals. The maximum is the hardest number there is: a
prefix that was not met counts with what its table began with. The curves are drawn too.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.tabular_figure import MEASURES, draw
from textenv import Task, TextEnv, exact
from textenv.metrics import mean_interval
from textenv.rewards import word_preference
from textenv.tasks import builder
from textenv.vocabulary import WordVocabulary
from textenv_agents.q_learning import Tabular
from textenv_agents.tabular import Table

# Q-learning may explore as it likes; SARSA must come to explore less, or it learns another policy.
METHODS: dict[str, dict[str, Any]] = {
    "Q-learning, α = 1": {"step_size": 1.0, "epsilon": 1.0},
    "Q-learning, α = n^-0.75": {"epsilon": 1.0},
    "Q-learning, α = 1/n": {"step_power": 1.0, "epsilon": 1.0},
    "SARSA, ε = n^-0.5": {"method": "sarsa", "epsilon": 1.0, "epsilon_power": 0.5},
    "SARSA, exploring starts": {
        "method": "sarsa",
        "step_size": 1.0,
        "epsilon": 0.0,
        "exploring_starts": True,
    },
    "SARSA, ε = 0.1": {"method": "sarsa", "epsilon": 0.1},
}


@dataclass(frozen=True, kw_only=True)
class TabularBenchmark:
    """The benchmark."""

    seeds: int = 5
    """How many runs of each method."""
    episodes: tuple[int, ...] = (10, 30, 100, 300, 1_000, 3_000, 10_000)
    """After how many texts to look, in rising order."""
    picture: Path = Path("runs/tabular.png")
    """The curves."""


def tasks() -> dict[str, Task]:
    """S1, S2, and texts of 1 to 3 words that are paid word by word after one of two prompts."""
    words = WordVocabulary(["a", "b", "c"], end="$")
    reward = word_preference({"a": 1.0, "b": -0.3}, pays="token")
    ragged = Task(name="ragged", vocabulary=words, prompts=["a", "b"], max_tokens=3, reward=reward)
    return {"GoodBad": builder("GoodBad")(), "ILoveYou": builder("ILoveYou")(), "ragged": ragged}


def curve(
    task: Task, settings: dict[str, Any], episodes: tuple[int, ...], seed: int
) -> list[tuple[float, float]]:
    """Max |Q − Q*| and J* − J(greedy) of one run after so many texts each."""
    best = exact.optimum(task)
    truth = Table.from_values(task, best.Q)
    prompts = range(len(task.prompts))
    top = np.mean([best.V[()] if len(prompts) == 1 else best.V[index, ()] for index in prompts])
    agent = Tabular(TextEnv(task), seed=seed, **settings)
    found = []
    for number in episodes:
        agent.learn(number - agent.episodes)
        gap = float(top) - exact.value(task, agent.policy())
        found.append((agent.table.distance(truth), gap))
    return found


def main() -> None:
    """Print a table for each task: the two measures by method and number of texts."""
    config = tyro.cli(TabularBenchmark, prog="python -m benchmarks tabular")
    start = time.perf_counter()
    print(f"{date.today()}, {platform.machine()}, NumPy {np.__version__}, {config.seeds} seeds")
    runs = {
        name: {
            method: np.array(
                [curve(task, settings, config.episodes, seed) for seed in range(config.seeds)]
            )  # [seeds, looks, measures]
            for method, settings in METHODS.items()
        }
        for name, task in tasks().items()
    }
    for name, methods in runs.items():
        for measure, title in enumerate(MEASURES):
            columns = "".join(f"{number:>24,}" for number in config.episodes)
            print(f"\n{name + ': ' + title:26}{columns}  texts")
            for method, found in methods.items():
                looks = found[:, :, measure].T  # [looks, seeds]
                print(f"{method:26}" + "".join(f"{mean_interval(row)!s:>24}" for row in looks))
    draw(runs, config.episodes, config.picture)
    print(f"\n{config.picture}, {time.perf_counter() - start:.0f} s")
