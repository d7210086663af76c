"""Results of ratings, against values worked out by hand."""

import json
import math

import pytest

from textenv.preferences.database import Database, NewPair, NewText
from textenv.preferences.results import results


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "ratings.sqlite") as database:
        database.add_round(1)
        yield database


def test_win_rates_by_hand(database):
    new = [
        NewPair("p", "1", "x", "new", "old"),
        NewPair("p", "2", "x", "new", "old"),
        NewPair("p", "x", "3", "old", "new"),  # the other way round
        NewPair("p", "y", "4", "", "new"),
        NewPair("p", "5", "6", "new", "new"),  # one policy: no win
        NewPair("p", "7", "8", "new", "old"),  # skipped
    ]
    numbers = database.add_pairs(1, new)
    for number, answer in zip(numbers, ["better", "tie", "better", "worse", "better", "skip"]):
        database.rate_pair(number, "ann", answer)
    database.rate_pair(numbers[0], "bob", "worse")
    found = results(database)
    rates = {(each.policy, each.against): each for each in found.win_rates}
    # New against old: pair 1: (1 + 0)/2 = ½, pair 2: ½, pair 3: old won: 0. Mean 1/3.
    assert rates["new", "old"].rate.mean == pytest.approx(1 / 3)
    assert rates["new", "old"].pairs == 3
    assert 0 <= rates["new", "old"].rate.low <= 1 / 3 <= rates["new", "old"].rate.high <= 0.5
    assert rates["(no name)", "new"].rate == (0.0, 0.0, 0.0)
    assert len(rates) == 2
    assert found.counts == {"better": 3, "tie": 1, "worse": 2, "number": 0, "skip": 1, "flag": 0}
    assert found.raters == [6, 1]


def test_numbers_are_averaged_by_text_then_by_policy(database):
    one, two, three = database.add_texts(
        1, [NewText("p", "a", "new"), NewText("p", "b", "new"), NewText("p", "c", "old")]
    )
    for text, rater, number in [(one, "a", 4), (one, "b", 0), (two, "a", -1), (three, "a", 3)]:
        database.rate_text(text, rater, number)
    new, old = results(database).ratings
    assert (new.policy, new.texts, new.mean.mean) == ("new", 2, 0.5)  # (2 − 1) / 2
    assert (old.policy, old.texts, old.mean) == ("old", 1, (3.0, 3.0, 3.0))


def test_how_often_the_left_side_won(database):
    numbers = database.add_pairs(1, [NewPair("p", f"{n}", "x") for n in range(6)])
    shown = [("better", True), ("worse", True), ("worse", False), ("better", False), ("tie", True)]
    for number, (answer, left) in zip(numbers, shown):
        database.rate_pair(number, "ann", answer, first_left=left)
    database.rate_pair(numbers[5], "ann", "better")  # by a script: no side
    assert results(database).left == (0.5, 4)  # 1 and 3 of 1 … 4


def test_nothing_is_rated_yet(database):
    found = results(database)
    assert found.win_rates == found.ratings == found.flagged == found.raters == []
    assert math.isnan(found.left[0])
    assert math.isnan(found.agreement.alpha)
    json.dumps(found.to_json(), allow_nan=False)


def test_a_round_by_itself_and_nobody_named(database):
    database.add_round(2)
    for number in (1, 2):
        (pair,) = database.add_pairs(number, [NewPair("p", "a", "b", "new", "old", "listed word")])
        for rater in ("ann", "bob"):
            database.rate_pair(pair, rater, "better" if number == 1 else "flag")
    assert results(database, 1).win_rates[0].rate.mean == 1.0
    assert results(database, 2).win_rates == []
    assert results(database, 2).flagged[0].raters == 2
    shown = json.dumps(results(database).to_json())
    assert "ann" not in shown
    assert "bob" not in shown
    assert '"raters": ["rater 1", "rater 2"]' in shown
