"""How fast the bare environments step, on one core: `python -m benchmarks speed`.

Each rate is measured beside its reference in the same run, several times in turn, and the best of
each is compared: other work on the machine only ever slows a run down.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import gymnasium as gym
import numpy as np

import textenv  # noqa: F401  (registers the ids)

ROWS, PROMPT, TOKENS = 1024, 64, 48
VECTOR_ID = "textenv/WordPreference-v0"
REPEATS = 5


def main() -> None:
    """Print the tables."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, NumPy "
          f"{np.__version__}, Gymnasium {gym.__version__}, one core\n")  # fmt: skip
    vector()
    single()
    growth()


def vector() -> None:
    """Vector environments beside a bare NumPy loop of the same bookkeeping."""
    runs: dict[str, Callable[[], float]] = {
        "bare NumPy loop, fresh": lambda: bare_loop(fresh=True),
        "fresh observations": lambda: vector_rate(end=False, reward="zero"),
        "bare NumPy loop, copy=False": lambda: bare_loop(fresh=False),
        "copy=False": lambda: vector_rate(end=False, reward="zero", copy=False),
        "fresh, end token": lambda: vector_rate(reward="zero"),
        "fresh, per-word reward": lambda: vector_rate(end=False),
        "fresh, end token and per-word reward": lambda: vector_rate(),
    }
    aims = {"fresh observations": 10, "copy=False": 20}
    best = best_of(runs)
    print(f"{VECTOR_ID}, {ROWS} episodes, prompt {PROMPT}, {TOKENS} tokens")
    print(f"{'':40}{'million tokens/s':>18}{'of the bare loop':>18}{'aim':>6}")
    for name, rate in best.items():
        reference = best["bare NumPy loop, " + ("copy=False" if "copy" in name else "fresh")]
        aim = f"≥ {aims[name]}" if name in aims else ""
        print(f"{name:40}{rate / 1e6:18.1f}{rate / reference:18.2f}{aim:>6}")


def single() -> None:
    """The single environment beside CartPole-v1."""
    keywords = {"prompt_length": PROMPT, "max_tokens": TOKENS}
    runs = {
        "CartPole-v1": lambda: single_rate("CartPole-v1"),
        "WordPreference-v0, zero reward": lambda: single_rate(
            VECTOR_ID, end=False, reward="zero", **keywords
        ),
        "WordPreference-v0, per-word reward": lambda: single_rate(VECTOR_ID, **keywords),
    }
    best = best_of(runs)
    print(f"\n{'single environments by gym.make':40}{'steps/s':>18}{'of CartPole':>18}{'aim':>6}")
    for name, rate in best.items():
        aim = "" if name == "CartPole-v1" else "≥ 0.8"
        print(f"{name:40}{rate:18,.0f}{rate / best['CartPole-v1']:18.2f}{aim:>6}")


def growth() -> None:
    """The cost of one step late in a text beside one early in it."""
    env = gym.make(VECTOR_ID, max_tokens=4096, end=False)
    times: dict[str, list[float]] = {"first 500 of 4,096 tokens": [], "last 500": []}
    for _ in range(REPEATS):
        env.reset(seed=0)
        for part, steps in [("first 500 of 4,096 tokens", 500), ("", 3000), ("last 500", 500)]:
            start = time.perf_counter()
            for _ in range(steps):
                env.step(1)
            if part:
                times[part].append((time.perf_counter() - start) / steps)
    best = {name: min(values) for name, values in times.items()}
    print(f"\n{'one step of a long text':40}{'microseconds':>18}{'of the first':>18}")
    for name, seconds in best.items():
        ratio = seconds / best["first 500 of 4,096 tokens"]
        print(f"{name:40}{seconds * 1e6:18.2f}{ratio:18.2f}")


def best_of(runs: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The best rate of each, the runs taking turns."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPEATS):
        for name, run in runs.items():
            rates[name].append(run())
    return {name: max(values) for name, values in rates.items()}


def vector_rate(steps: int = 480, **keywords: Any) -> float:
    """Token steps a second of a vector environment."""
    envs = gym.make_vec(
        VECTOR_ID, num_envs=ROWS, prompt_length=PROMPT, max_tokens=TOKENS, **keywords
    )
    size = envs.single_action_space.n  # type: ignore[attr-defined]
    actions = np.random.default_rng(0).integers(size, size=(64, ROWS))
    envs.reset(seed=0)
    for step in range(TOKENS + 2):
        envs.step(actions[step % 64])
    start = time.perf_counter()
    for step in range(steps):
        envs.step(actions[step % 64])
    return steps * ROWS / (time.perf_counter() - start)


def single_rate(environment_id: str, steps: int = 20_000, **keywords: Any) -> float:
    """Steps a second of a single environment, resets included."""
    env = gym.make(environment_id, **keywords)
    env.reset(seed=0)
    start = time.perf_counter()
    for step in range(steps):
        _, _, terminated, truncated, _ = env.step(step & 1)
        if terminated or truncated:
            env.reset()
    return steps / (time.perf_counter() - start)


def bare_loop(*, fresh: bool, steps: int = 480) -> float:
    """The same bookkeeping without classes, checks or spaces: one clock, no end token.

    A generator for each row draws its prompts in blocks, as the environment does.
    """
    size, block = 17, 64
    width = PROMPT + TOKENS
    prompts = np.random.default_rng(0).integers(size, size=(256, PROMPT))
    generators = [np.random.default_rng(row) for row in range(ROWS)]
    drawn = np.stack([generator.integers(256, size=block) for generator in generators])
    actions = np.random.default_rng(0).integers(size, size=(64, ROWS))
    tokens = np.full((ROWS, width), size)
    flat, rows = tokens.reshape(-1), np.arange(ROWS) * width
    length = np.zeros(ROWS, dtype=np.int64)
    episode, resetting = 0, True
    start = time.perf_counter()
    for step in range(steps):
        if resetting:
            if episode % block == 0 and episode:
                drawn = np.stack([generator.integers(256, size=block) for generator in generators])
            tokens[:, :PROMPT] = prompts[drawn[:, episode % block]]
            tokens[:, PROMPT:] = size
            length[:] = 0
            episode += 1
            terminated = np.zeros(ROWS, dtype=bool)
        else:
            flat[rows + PROMPT + length] = actions[step % 64]
            length += 1
            terminated = length >= TOKENS
        resetting = bool(terminated.any())
        _ = tokens.copy() if fresh else tokens, np.zeros(ROWS), terminated, np.zeros(ROWS, bool)
    return steps * ROWS / (time.perf_counter() - start)
