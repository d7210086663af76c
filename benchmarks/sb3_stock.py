"""Stock Stable-Baselines3 and sb3-contrib on texts, over seeds: `python -m benchmarks sb3_stock`.

Two tables. Toys: the steps after which J of the greedy policy, which is what its one text is paid,
has come to 0.9 and stayed there. Sentiment-v0: the mean reward of fresh texts, beside those of a
uniform choice among the same candidates and of the unchanged language model.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import tyro

import textenv  # noqa: F401  (its ids)
from benchmarks.machine import describe
from benchmarks.sb3_agents import ALGORITHMS, TOYS, Watch, greedy_reward, make
from benchmarks.sb3_sentiment import ROWS, SETTINGS, WRITES, baselines, environment, trained
from textenv import exact
from textenv.errors import UnknownNameError
from textenv.metrics import mean_interval
from textenv_agents.sb3 import SB3VecEnv, check_algorithm

PARTS = ("toys", "sentiment")
CELLS = (("GoodBad", 0), ("GoodBad", 2), ("ILoveYou", 0), ("ILoveYou", 2), ("ILoveYou", 4))


@dataclass(frozen=True, kw_only=True)
class StockConfig:
    """The benchmark."""

    parts: tuple[str, ...] = PARTS
    """Which tables."""
    algorithms: tuple[str, ...] = tuple(ALGORITHMS)
    """Which rows."""
    seeds: int = 5
    """Runs of each, with the seeds first_seed, first_seed + 1, …"""
    first_seed: int = 0
    """0 for tables, 100 to choose settings."""
    budget: int = 50_000
    """Steps of a toy run at most."""
    every: int = 500
    """Steps between two looks at J."""
    steps: int = 40_000
    """Steps of a run on Sentiment-v0."""
    texts: int = 256
    """Fresh texts of each trained policy; four times as many of what they are compared with."""

    def __post_init__(self) -> None:
        """Refuse rows and tables that there are not; UnknownNameError, a ValueError."""
        for kind, names, known in (
            ("table", self.parts, PARTS),
            ("algorithm", self.algorithms, tuple(ALGORITHMS)),
        ):
            for name in names:
                if name not in known:
                    raise UnknownNameError(kind, name, known)


def main() -> None:
    """Print the tables."""
    config = tyro.cli(StockConfig, prog="python -m benchmarks sb3_stock")
    print(describe(), flush=True)
    if "toys" in config.parts:
        toys(config)
    if "sentiment" in config.parts:
        sentiment(config)


def toys(config: StockConfig) -> None:
    """One line for each algorithm, toy and view, with a number of steps for each seed."""
    start = time.perf_counter()
    print(f"\nJ ≥ 0.9 of the greedy policy, {config.budget:,} steps at most, 8 rows")
    for task, k in CELLS:
        print(f"the best text that can be written, {_view(task, k)}: {best(task, k):g}")
    print(f"\n{'':14}{'':36}{'before':>18}{'after':>18}  steps, seed by seed")
    for name in config.algorithms:
        for task, k in CELLS:
            runs = [toy_run(name, task, k, seed, config) for seed in _seeds(config)]
            befores, afters, steps = zip(*runs, strict=True)
            reached = sum(each is not None for each in steps)
            print(
                f"{name:14}{_view(task, k):36}{_numbers(befores):>18}{_numbers(afters):>18}  "
                f"{' '.join(f'{each:,}' if each else 'never' for each in steps)}"
                f"  ({reached} of {len(steps)})",
                flush=True,
            )
    print(f"{time.perf_counter() - start:.0f} s")


def best(task: str, k: int) -> float:
    """J* where only the k likeliest tokens may be written; 0: all may."""
    env = gym.make(f"textenv/{task}-v0").unwrapped
    allowed = exact.candidates(env.task, env.lm, k) if k else None
    return exact.optimum(env.task, allowed=allowed).V[()]


def toy_run(
    name: str, task: str, k: int, seed: int, config: StockConfig
) -> tuple[float, float, int | None]:
    """J before, J after, and after how many steps it had come to 0.9 for good; None: never."""
    view = {"observation": "hidden", "action": f"candidates:{k}"} if k else {}
    envs, own = (SB3VecEnv(f"textenv/{task}-v0", rows, **view) for rows in (8, 1))
    check_algorithm(ALGORITHMS[name], envs, **TOYS[name])
    agent = make(name, envs, TOYS[name], seed)
    before, watch = greedy_reward(agent, own), Watch(own, config.every)
    agent.learn(config.budget, callback=watch)
    return before, greedy_reward(agent, own), watch.reached


def sentiment(config: StockConfig) -> None:
    """One line a run, then means over seeds beside the two baselines."""
    start = time.perf_counter()
    uniform, unchanged = baselines(4 * config.texts, config.first_seed)
    print(f"\nSentiment-v0, hidden × candidates:32, {config.steps:,} steps; uniform choice among "
          f"the candidates {uniform}, the unchanged language model {unchanged}\n")  # fmt: skip
    for name in config.algorithms:
        check_algorithm(ALGORITHMS[name], environment(ROWS), **SETTINGS[name])
        rewards = [trained(name, seed, config.steps, config.texts) for seed in _seeds(config)]
        over = mean_interval(rewards)
        above = over.low > max(uniform.mean, unchanged.mean)
        print(f"{name:14}{over!s:>22}  {'above both' if above else 'NOT above both'}  "
              f"{WRITES[name]:10}{' '.join(f'{each:.3f}' for each in rewards)}",
              flush=True)  # fmt: skip
    print(f"{time.perf_counter() - start:.0f} s")


def _seeds(config: StockConfig) -> range:
    return range(config.first_seed, config.first_seed + config.seeds)


def _view(task: str, k: int) -> str:
    return f"{task}, hidden × candidates:{k}" if k else f"{task}, tokens"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in np.asarray(values).tolist())
