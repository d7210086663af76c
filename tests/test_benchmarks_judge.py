"""The statistics of `python -m benchmarks judge`, and its table for the cheap judges."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks import judge
from textenv.judges import Odds


def test_a_partial_correlation_is_that_of_what_is_left():
    generator = np.random.default_rng(0)
    people, length, noise = generator.normal(size=(3, 4000))
    score = people + 2 * length + noise
    longer = length + people
    # Of score and longer, given people: 2·length + noise and length: 2 / √5.
    assert judge.partial_correlation(score, longer, people) == pytest.approx(2 / 5**0.5, abs=0.02)
    assert judge.partial_correlation(people + noise, longer, people) == pytest.approx(0, abs=0.05)
    assert judge.correlation(np.ones(3), np.arange(3.0)) == 0.0
    assert judge.slope(people, 3 * people + 1) == pytest.approx(3)


def test_only_pairs_that_people_tell_apart_count():
    rated = judge.Rated(list("abcdefg"), np.array([0.9, 0.1, 0.5, 0.51, 0.2, 0.4, 0.9]))
    first, second, preferred = rated.pairs()
    assert (first, second, preferred.tolist()) == (["a", "e"], ["b", "f"], [1.0, -1.0])


def test_a_comparing_judge_that_takes_what_stands_first(capsys):
    odds = Odds(np.array([2.0, 1.0, 3.0]), np.array([-1.0, -2.0, 1.0]), np.zeros(3, dtype=bool))
    judge.report_pairs("someone", odds, np.array([1.0, 1.0, -1.0]), 0.5, 0.0)
    shown = _figures(capsys.readouterr().out)
    # Means: 0.5, −0.5 and 2: right, wrong, wrong. First alone: right, right, wrong.
    assert shown["pairs right"] == 0.333
    assert shown["in one order"] == 0.667
    # What stands first wins 2 of 2, 2 of 2 and 1 of 2 askings; two of three pairs change.
    assert shown["first place"] == 0.833
    assert shown["order decides"] == 0.667


def test_the_table_of_the_cheap_judges(monkeypatch, capsys):
    arguments = ["judge", "--lm", "none", "--many", "400", "--texts", "100", "--told", "20"]
    monkeypatch.setattr(sys, "argv", arguments)
    judge.main()
    blocks = capsys.readouterr().out.split("\n\n")
    assert [block.split(":")[0] for block in blocks[1:]] == [
        "VADER's lexicon", "VADER's lexicon, on fewer", "continuation by reviews",
    ]  # fmt: skip
    lexicon, _, reviews = (_figures(block) for block in blocks[1:])
    assert lexicon["correlation"] > reviews["correlation"] > 0
    assert lexicon["pairs right"] > 0.5


def _figures(block):
    rows = [line for line in block.split("\n") if line.startswith("  ") and "[" in line]
    return {line[2:16].strip(): float(line[16:].split()[0]) for line in rows}
