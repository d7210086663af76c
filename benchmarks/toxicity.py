"""How fast texts are judged toxic, beside the library: `python -m benchmarks toxicity`.

Both judge the same sentences of a newspaper in the same run, taking turns; the best of each counts.
"""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np

from textenv.filters.toxicity import shipped
from textenv.tasks.sentiment import OPENINGS

TEXTS, REPEATS = 20_000, 7


def main() -> None:
    """Print the table."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn, about pickles of another version
        from profanity_check import predict_prob
    texts = sentences()
    ours = shipped().probabilities
    runs: dict[str, Callable[[list[str]], Any]] = {"library": predict_prob, "textenv": ours}
    difference = np.abs(predict_prob(texts) - ours(texts)).max()
    batched = {name: max(rate(run, texts) for _ in range(REPEATS)) for name, run in runs.items()}
    few = texts[:300]
    single = {name: max(rate_single(run, few) for _ in range(3)) for name, run in runs.items()}
    words = np.mean([len(text.split()) for text in texts])
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, NumPy "
          f"{np.__version__}, one core; {len(texts):,} texts of {words:.1f} words\n")  # fmt: skip
    print(f"{'texts/s':20}{'library':>12}{'textenv':>12}{'ratio':>8}")
    for name, rates in (("all at once", batched), ("one by one", single)):
        print(f"{name:20}{rates['library']:12,.0f}{rates['textenv']:12,.0f}"
              f"{rates['textenv'] / rates['library']:8.2f}")  # fmt: skip
    print(f"\nlargest difference of two probabilities: {difference:.1e}")


def sentences() -> list[str]:
    """Real film snippets, over and over, each time with another one behind it."""
    prompts = OPENINGS.read_text("utf-8").splitlines()
    count = len(prompts)
    return [f"{prompts[i % count]} {prompts[(i * 7 + i // count) % count]}" for i in range(TEXTS)]


def rate(run: Callable[[list[str]], Any], texts: list[str]) -> float:
    """Texts a second, all at once."""
    start = time.perf_counter()
    run(texts)
    return len(texts) / (time.perf_counter() - start)


def rate_single(run: Callable[[list[str]], Any], texts: list[str]) -> float:
    """Texts a second, one by one."""
    start = time.perf_counter()
    for text in texts:
        run([text])
    return len(texts) / (time.perf_counter() - start)
