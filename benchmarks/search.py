"""What search finds, and what the best of n costs: `python -m benchmarks search`.

The first table is exact, by enumeration. The second compares as many texts of a tree search with
those of the policy that guides it, over tasks made of random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import tyro

from textenv import Task, TextEnv, TextVectorEnv, exact
from textenv.models import TabularLM
from textenv.vocabulary import WordVocabulary
from textenv_agents.search import best_of_n, best_of_n_policy, kl_bound, tree_search

WORDS, LENGTH = 6, 4  # of the tasks of the tables, but for ILoveYou


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The benchmark."""

    numbers: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """n of the best of n."""
    texts: tuple[int, ...] = (10, 30, 100)
    """How many texts a search may write."""
    seeds: int = 20
    """Tasks of random numbers."""


def untied_task() -> Task:
    """All 6⁴ = 1,296 texts of four words, each worth its place in the alphabet."""

    def place(
        prompts: list[str], completions: list[str], completion_ids: list[list[int]], **columns: Any
    ) -> list[float]:
        powers = WORDS ** np.arange(LENGTH)
        return [float(powers @ np.array(ids)) for ids in completion_ids]

    return _task("untied", place)


def pairs_task(seed: int) -> Task:
    """The same texts, each worth the sum of random numbers of its neighbouring words."""
    worth = np.random.default_rng(seed).normal(size=(LENGTH, WORDS, WORDS))

    def pairs(
        prompts: list[str], completions: list[str], completion_ids: list[list[int]], **columns: Any
    ) -> list[float]:
        ids = np.array(completion_ids)
        found = worth[np.arange(1, LENGTH), ids[:, :-1], ids[:, 1:]].sum(axis=1)
        return [float(number) for number in found + worth[0, 0, ids[:, 0]]]

    return _task("pairs", pairs)


def print_best_of_n(config: SearchConfig) -> None:
    """Print reward, KL and its bound for each n."""
    toy: Any = gym.make("textenv/ILoveYou-v0").unwrapped
    tasks = [(toy.task, toy.lm), (untied_task(), TabularLM(WORDS, order=0))]
    print("| n | J of ILoveYou | KL | KL of 1,296 texts without ties | log n − (n − 1)/n |")
    print("|---|---|---|---|---|")
    for n in config.numbers:
        (task, policy), (untied, alike) = tasks
        best = best_of_n_policy(task, policy, n)
        numbers = [
            exact.value(task, best),
            exact.kl(task, best, policy),
            exact.kl(untied, best_of_n_policy(untied, alike, n), alike),
            kl_bound(n),
        ]
        print(f"| {n} | " + " | ".join(f"{abs(number):.4f}" for number in numbers) + " |")


def print_search(config: SearchConfig) -> None:
    """Print what share of the best possible reward each search reaches."""
    print("\n| texts | tree search | the best of as many | tree search finds the best text |")
    print("|---|---|---|---|")
    tasks = [pairs_task(seed) for seed in range(config.seeds)]
    optima = np.array([exact.optimum(task).V[()] for task in tasks])
    for number in config.texts:
        ours, theirs = [], []
        for seed, task in enumerate(tasks):
            env, policy = TextEnv(task), TabularLM(WORDS, order=0)
            env.reset()
            seen = tree_search(
                env, policy, simulations=number, generator=np.random.default_rng(seed)
            )
            ours.append(seen.found.scores[0])
            envs = TextVectorEnv(number, task, autoreset_mode="same_step")
            drawn = best_of_n(envs, policy, number, [0], np.random.default_rng(seed))
            theirs.append(drawn.found.scores[0])
        shares = [np.mean(np.array(found) / optima) for found in (ours, theirs)]
        hits = int(np.isclose(ours, optima).sum())
        print(f"| {number} | {shares[0]:.2f} | {shares[1]:.2f} | {hits} of {config.seeds} |")


def main() -> None:
    """Print both tables."""
    config = tyro.cli(SearchConfig, prog="python -m benchmarks search")
    print_best_of_n(config)
    print_search(config)


def _task(name: str, reward: Any) -> Task:
    words = WordVocabulary([chr(ord("a") + number) for number in range(WORDS)])
    return Task(name=name, vocabulary=words, max_tokens=LENGTH, reward=reward)
