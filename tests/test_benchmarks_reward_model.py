"""The parts of the reward models' benchmark that decide what is held out and what is right."""

from __future__ import annotations

import pytest
import torch

from benchmarks.reward_model import Remembering, by_scores, divided, held_out, one_person
from textenv.preferences import Comparison
from textenv.preferences.human_ratings import HumanRating, load


def test_no_text_is_on_both_sides():
    rows = load("amazon")  # eleven of its texts are there again
    known, unknown = divided(rows, seed=0)
    assert len(known) + len(unknown) == len(rows)
    assert not {row.text for row in known} & {row.text for row in unknown}
    assert len(unknown) == pytest.approx(len(rows) / 5, rel=0.01)
    assert held_out(rows, 0) != held_out(rows, 1)


def test_each_pair_counts_once():
    """a > b: two of three people agree, ⅔; c = d: ½; the tie is left out."""
    said = [("a", "b", 1), ("a", "b", 1), ("a", "b", 0), ("a", "b", 0.5), ("c", "d", 1)]
    verdicts = [Comparison(prompt="", first=x, second=y, label=label) for x, y, label in said]
    scores = {"a": 2.0, "b": 1.0, "c": 0.0, "d": 0.0}
    assert by_scores(verdicts, scores.__getitem__) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_one_person_among_people_who_agree():
    rows = [HumanRating(str(n), float(n), (n,) * 15) for n in range(-4, 5)]
    assert one_person(rows, seed=0) == pytest.approx(1)


def test_remembered_features_are_the_features():
    features = Remembering("hidden:reviews")
    texts = ["a good film", "a bad film", "a good film"]
    first = features([""] * 3, texts)
    assert torch.equal(features([""], texts[1:2])[0], first[1])
    assert torch.equal(first[0], first[2])
    assert features.name == "hidden:reviews"
