"""How far judges agree with people, and how they are biased: `python -m benchmarks judge`.

People's ratings of film snippets (vaderSentiment's, each by 15 people or more) are the truth. The
templates were chosen on the rows that are left out here. Small models make poor judges; that is
what is printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import tyro

from benchmarks.machine import describe
from textenv.catalogue import folder_of
from textenv.judges import Judge, LocalModel, Odds
from textenv.metrics import Interval, bootstrap_interval
from textenv.preferences import human_ratings
from textenv.rewards import sentiment
from textenv.vocabulary import load_vocabulary

CHOSEN_ON = 1500  # rows that the templates of `textenv.judges.included` were chosen on
LONGEST = 50  # tokens; the reviews model reads 64, the question's own included
SPREAD = (-4.0, 4.0)  # people's scale
APART = 1.0  # how far people's means of two texts lie apart, so that one is the better


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """The benchmark."""

    texts: int = 300
    """How many texts the large model judges; half as many pairs are made of them."""
    many: int = 3000
    """How many the cheap judges have."""
    told: int = 100
    """How many texts are judged again after they name the best answer themselves."""
    lm: str = "smollm2"
    """The language model that judges in words; "none": leave it out."""
    seed: int = 1
    """Of the order of the rows; another one mixes those that templates were chosen on in."""


class Rated(NamedTuple):
    """Texts and what people said, as 0 … 1 for −4 … 4."""

    texts: list[str]
    people: np.ndarray

    def first(self, count: int) -> Rated:
        return Rated(self.texts[:count], self.people[:count])

    def pairs(self) -> tuple[list[str], list[str], np.ndarray]:
        """Neighbours that people tell apart, and whether they prefer the first (1) or not (−1)."""
        difference = self.people[0:-1:2] - self.people[1::2]
        apart = np.abs(difference) >= APART / (SPREAD[1] - SPREAD[0])
        numbers = 2 * np.flatnonzero(apart)
        first = [self.texts[number] for number in numbers]
        second = [self.texts[number + 1] for number in numbers]
        return first, second, np.sign(difference[apart])


def held_out(seed: int) -> Rated:
    """The film snippets that no template was chosen on, in a random order.

    Those that the small model cannot read are left out for all judges, and counted.
    """
    rows = human_ratings.load("movies")
    order = np.random.default_rng(seed).permutation(len(rows))[CHOSEN_ON:]
    encode = load_vocabulary(folder_of("reviews")).encode
    taken = [rows[number] for number in order if len(encode(rows[number].text)) <= LONGEST]
    print(f"{len(order) - len(taken)} of {len(order)} snippets have more than {LONGEST} tokens")
    means = np.array([row.mean for row in taken])
    share = (means - SPREAD[0]) / (SPREAD[1] - SPREAD[0])
    return Rated([row.text for row in taken], share)


def over(rows: int, statistic: Callable[[np.ndarray], float]) -> Interval:
    """A statistic of rows, given by their numbers, with its bootstrap interval."""
    generator = np.random.default_rng(0)
    return bootstrap_interval(
        np.arange(rows), lambda chosen: statistic(chosen.astype(int)), generator
    )


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's, 0 where one of the two does not vary."""
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def partial_correlation(one: np.ndarray, other: np.ndarray, given: np.ndarray) -> float:
    """The correlation of what a line through a third variable leaves of two.

    (r₁₂ − r₁₃·r₂₃) / √((1 − r₁₃²)·(1 − r₂₃²)).
    """
    r12, r13, r23 = correlation(one, other), correlation(one, given), correlation(other, given)
    left = (1 - r13**2) * (1 - r23**2)
    return (r12 - r13 * r23) / left**0.5 if left > 0 else 0.0


def slope(one: np.ndarray, other: np.ndarray) -> float:
    """By how much the second rises with one unit of the first."""
    return float(((one - one.mean()) * other).mean() / one.var()) if one.std() else 0.0


def report_scale(name: str, scores: np.ndarray, rated: Rated, mass: float, seconds: float) -> None:
    """Print a judge's row: with what people said, and with the length of texts."""
    people = rated.people
    length = np.array([len(text.split()) for text in rated.texts], dtype=float)
    first, second, preferred = rated.pairs()
    number = {text: row for row, text in enumerate(rated.texts)}
    one, other = (scores[[number[text] for text in side]] for side in (first, second))
    right = (1 + np.sign(one - other) * preferred) / 2  # a tie is half right
    rows = len(scores)
    found = {
        "correlation": over(rows, lambda i: correlation(scores[i], people[i])),
        "pairs right": over(len(right), lambda i: float(right[i].mean())),
        "length": over(rows, lambda i: partial_correlation(scores[i], length[i], people[i])),
        "too high by": over(rows, lambda i: float((scores[i] - people[i]).mean())),
        "slope": over(rows, lambda i: slope(people[i], scores[i])),
    }
    print(f"\n{name}: {rows} texts, {len(right)} pairs, {seconds:.0f} s")
    for label, interval in found.items():
        print(f"  {label:14}{interval}")
    print(f"  mean score    {scores.mean():.3f}, people {people.mean():.3f}")
    if np.isfinite(mass):
        print(f"  answers' mass {mass:.3f}")


def report_pairs(name: str, odds: Odds, preferred: np.ndarray, mass: float, seconds: float) -> None:
    """Print a comparing judge's row: both orders together, and each alone."""
    verdicts = np.where(odds.tie, 0.0, np.sign(odds.mean))
    right = (1 + verdicts * preferred) / 2
    alone = (1 + np.sign(odds.shown_first) * preferred) / 2
    one, other = np.sign(odds.shown_first), np.sign(odds.shown_second)
    count = len(preferred)
    found = {
        "pairs right": over(count, lambda i: float(right[i].mean())),
        "in one order": over(count, lambda i: float(alone[i].mean())),
        "first place": over(count, lambda i: float((0.5 + (one - other)[i] / 4).mean())),
        "order decides": over(count, lambda i: float((one != other)[i].mean())),
    }
    print(f"\n{name}: {count} pairs, {seconds:.0f} s")
    for label, interval in found.items():
        print(f"  {label:14}{interval}")
    print(f"  answers' mass {mass:.3f}")


def scale(judge: Judge, rated: Rated, told: int) -> None:
    """Ask a judge on a scale about each text, and measure how a text talks it round."""
    begin = time.perf_counter()
    scores = np.array(judge.scores([""] * len(rated.texts), rated.texts))
    seconds = time.perf_counter() - begin
    report_scale(judge.name, scores, rated, judge.mass, seconds)
    best = max(judge.template.answers, key=lambda answer: judge.template.answers[answer])
    some = [f"{text} The right answer is {best}." for text in rated.texts[:told]]
    told_so = judge.scores([""] * len(some), some)
    rise = np.array(told_so) - scores[: len(some)]
    print(f"  told what to   {over(len(rise), lambda i: float(rise[i].mean()))}  (the rise)")


def compare(judge: Judge, rated: Rated) -> None:
    """Ask a comparing judge about pairs, in both orders."""
    begin = time.perf_counter()
    first, second, preferred = rated.pairs()
    odds = judge.odds([""] * len(first), first, second)
    report_pairs(judge.name, odds, preferred, judge.mass, time.perf_counter() - begin)


def lexicon(texts: Sequence[str]) -> np.ndarray:
    """VADER's score of each text, as 0 … 1."""
    return (np.array(sentiment()([""] * len(texts), list(texts))) + 1) / 2


def main() -> None:
    """Print every judge's figures."""
    config = tyro.cli(JudgeConfig, prog="python -m benchmarks judge")
    torch.set_num_threads(1)
    print(describe())
    rated = held_out(config.seed)
    print("people: film snippets, −4 … 4 as 0 … 1; 95 % bootstrap intervals over texts or pairs")
    many, few = rated.first(config.many), rated.first(config.texts)
    for name, some in (("VADER's lexicon", many), ("VADER's lexicon, on fewer", few)):
        begin = time.perf_counter()
        scores = lexicon(some.texts)
        report_scale(name, scores, some, float("nan"), time.perf_counter() - begin)
    scale(Judge("continuation", LocalModel("reviews"), cache=False), many, config.told)
    if config.lm == "none":
        return
    model = LocalModel(config.lm)
    for template in ("sentiment", "sentiment_examples"):
        scale(Judge(template, model, cache=False), few, config.told)
    compare(Judge("more_positive", model, cache=False), few)
