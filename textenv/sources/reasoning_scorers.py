"""Scorers of reasoning-gym that pay wrong answers in full, mended; the others are its own.

With one of these left alone, an agent learns the text that is always paid, and no answer.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

_Score = Callable[[str | None, Mapping[str, Any]], float]


def mend(dataset: Any) -> None:
    """Put the mended scorers into a data set, or into the parts of "composite"."""
    for part in (dataset, *getattr(dataset, "datasets", {}).values()):
        mended = _MENDED.get(type(part).__name__)
        if mended is not None:
            part.score_answer = functools.partial(mended, part, part.score_answer)


def _halting(part: Any, own: _Score, answer: str | None, entry: Mapping[str, Any]) -> float:
    """By the stored answer, as most: its own compares bool("True") with bool("False")."""
    usual = importlib.import_module("reasoning_gym.dataset").ProceduralDataset.score_answer
    return float(usual(part, answer, entry))


def _backward(part: Any, own: _Score, answer: str | None, entry: Mapping[str, Any]) -> float:
    """0.8 for the answer and more after it: its own misses that where a sum rounds to no 1."""
    score = own(answer, entry)
    right = answer is not None and answer.lower() == entry["answer"].lower()
    return score if right or score < 1 - 1e-9 else 0.8


def _coin(part: Any, own: _Score, answer: str | None, entry: Mapping[str, Any]) -> float:
    """Common first digits out of the longer number: out of the shorter, as its own, "0" gets 1."""
    score = own(answer, entry)
    if not score or answer is None:
        return score
    fraction = importlib.import_module("fractions").Fraction
    given, right = (float(fraction(text.replace(",", ""))) for text in (answer, entry["answer"]))
    if abs(given - right) <= 1e-4:
        return score
    lengths = [len(f"{number:.10g}") for number in (given, right)]
    return score * min(lengths) / max(lengths)


def _twenty_four(part: Any, own: _Score, answer: str | None, entry: Mapping[str, Any]) -> float:
    """Full marks for the question's four numbers alone: its own takes any four that make 24."""
    score = own(answer, entry)
    written = Counter(int(number) for number in re.findall(r"\b\d+\b", answer or ""))
    return score if written == Counter(entry["metadata"]["numbers"]) else min(score, 0.01)


_MENDED: dict[str, Callable[..., float]] = {
    "CoinFlipDataset": _coin,
    "GameOfLifeHaltingDataset": _halting,
    "Puzzle24Dataset": _twenty_four,
    "SpellBackwardDataset": _backward,
}
