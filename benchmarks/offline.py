"""Learning from logged texts alone, over seeds: `python -m benchmarks offline`.

The log: texts that the shipped language model wrote on Sentiment-v0 at temperature 1, with what
they were paid. Implicit Q-learning at several β, and behaviour cloning of all texts and of the best
of them, are measured on fresh texts against the log's average.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import torch
import tyro

from textenv.logged import LoggedTexts
from textenv.metrics import mean_interval
from textenv.models import LanguageModel, load
from textenv.models.sampling import Sampling
from textenv_agents.behaviour_cloning import behaviour_cloning
from textenv_agents.evaluation import drawn, environments, evaluate
from textenv_agents.offline import ImplicitQConfig, ImplicitQLearning
from textenv_agents.rollout import collect

ID = "textenv/Sentiment-v0"
TOGETHER = "values, the model learns too"
ONE_STEP = "one step (λ = 0)"
VALUES = ImplicitQConfig()


@dataclass(frozen=True, kw_only=True)
class OfflineBenchmark:
    """The benchmark."""

    seeds: int = 5
    """How many logs, and learners of each."""
    first_seed: int = 0
    """The first of them; the settings were chosen on seeds from 100 on."""
    logged: int = 3_000
    """Texts in a log."""
    temperature: float = 1.0
    """At which they are written."""
    updates: int = 800
    """Of implicit Q-learning."""
    betas: tuple[float, ...] = (2.0, 4.0, 8.0)
    """How strongly the values steer."""
    one_step_beta: float = 8.0
    """Likewise, where Q follows r + γ·V(s′) as published."""
    lm_learning_rate: float = 1e-5
    """Of the language model, where it learns together with the values."""
    lm_beta: float = 4.0
    """β there."""
    epochs: int = 4
    """Of behaviour cloning, which like the values learns from all the log: none is held out."""
    best: float = 0.25
    """Which share of the texts is cloned, beside all of them."""
    texts: int = 400
    """Fresh texts that measure a policy."""


def log(lm: LanguageModel, config: OfflineBenchmark, seed: int) -> LoggedTexts:
    """Write the texts that are learned from."""
    envs = environments(ID, config.logged)
    task = envs.unwrapped.task
    draws = drawn(task, config.logged, 1_000 + seed)
    episodes = collect(envs, lm, *draws, sampling=Sampling(temperature=config.temperature))
    envs.close()
    return LoggedTexts.from_episodes(episodes, task)


def policies(
    lm: LanguageModel, texts: LoggedTexts, config: OfflineBenchmark, seed: int
) -> Iterator[tuple[str, LanguageModel, float]]:
    """Learn each policy; with its name and the processor's seconds that learning took."""
    yield "the language model", lm, 0.0
    for share in (1.0, config.best):
        start = time.process_time()
        policy = behaviour_cloning(
            lm, texts, ID, top=share, held_out=0.0, epochs=config.epochs, seed=seed
        ).policy
        name = "cloning, all texts" if share == 1 else f"cloning, the best {share:.0%}"
        yield name, policy, time.process_time() - start
    for name, changes, betas in (
        ("values", {}, config.betas),
        (TOGETHER, {"lm_learning_rate": config.lm_learning_rate}, (config.lm_beta,)),
        (ONE_STEP, {"trace": 0.0}, (config.one_step_beta,)),
    ):
        start = time.process_time()
        learner = ImplicitQLearning(lm, texts, VALUES, **changes, seed=seed)
        learner.learn(config.updates)
        seconds = time.process_time() - start
        for beta in betas:
            yield f"{name}, β = {beta:g}", learner.policy(beta), seconds


def main() -> None:
    """Print each measurement, then a row for each policy: means over seeds, 95 % intervals."""
    config = tyro.cli(OfflineBenchmark, prog="python -m benchmarks offline")
    start = time.perf_counter()
    lm = load("reviews")
    threads = torch.get_num_threads()
    print(f"{date.today()}, {platform.machine()}, torch {torch.__version__}, {threads} threads")
    print(f"{config.seeds} logs of {config.logged:,} texts, {VALUES}\n")
    averages: list[float] = []
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        texts = log(lm, config, seed)
        averages.append(float(texts.returns().mean()))
        for name, policy, seconds in policies(lm, texts, config, seed):
            measured = evaluate(policy, ID, reference=lm, texts=config.texts, seed=2_000 + seed)
            print(
                f"seed {seed}: {averages[-1]:.3f} logged, {name}: {measured.summary()}", flush=True
            )
            found.setdefault(name, []).append({
                "reward": measured.reward.mean,
                "above the log": measured.reward.mean - averages[-1],
                "KL": measured.kl.mean,
                "length": measured.length,
                "distinct-2": measured.distinct_2,
                "perplexity": measured.perplexity,
                "seconds": seconds,
            })  # fmt: skip
    print(f"\nthe log's average reward: {mean_interval(averages)}\n")
    columns = list(next(iter(found.values()))[0])
    print("| | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for name, rows in found.items():
        cells = [f"{mean_interval([row[column] for row in rows])}" for column in columns[:3]]
        for column, digits in zip(columns[3:], (1, 3, 1, 0), strict=True):
            cells.append(f"{sum(row[column] for row in rows) / len(rows):.{digits}f}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(f"\n{time.perf_counter() - start:.0f} s")
