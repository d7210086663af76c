"""The database of ratings: who is asked what, what is kept, old and new files, a full disk."""

import re
import threading
import time

import pytest

from textenv.preferences.comparisons import Comparison, RatedText
from textenv.preferences.database import (
    AlreadyRatedError,
    Database,
    NewPair,
    NewText,
    rate_all,
)
from textenv.preferences.scripted import ScriptedRater


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def database(tmp_path, clock):
    with Database(tmp_path / "ratings.sqlite", clock=clock) as database:
        database.add_round(1)
        yield database


def pairs(n, **more):
    return [NewPair("p", f"a{i}", f"b{i}", "new", "old", **more) for i in range(n)]


def asked(database, rater, raters_per_pair=1, answer="better"):
    """Answer until nothing is left; return the numbers in their order."""
    numbers = []
    while (pair := database.next_pair(rater, raters_per_pair)) is not None:
        numbers.append(pair.id)
        database.rate_pair(pair, rater, answer)
    return numbers


# What is kept


def test_what_was_rated_comes_out_again(database):
    columns = {"reference": "我爱你。", "label": 1}
    new = [NewPair("مرحبا", "<b>\0", "我", "new", "old", columns=columns), *pairs(2)]
    first, second, third = database.add_pairs(1, new)
    database.rate_pair(first, "ann", "worse")
    database.rate_pair(second, "ann", "tie")
    database.rate_pair(third, "ann", "skip")
    database.rate_pair(third, "bob", "better")
    (text,) = database.add_texts(1, [NewText("p", "t", "new")])
    database.rate_text(text, "ann", -2)
    assert database.comparisons() == [
        Comparison(prompt="مرحبا", first="<b>\0", second="我", label=0.0, rater="ann",
                   columns=columns),
        Comparison(prompt="p", first="a0", second="b0", label=0.5, rater="ann"),
        Comparison(prompt="p", first="a1", second="b1", label=1.0, rater="bob"),
    ]  # fmt: skip
    assert database.ratings() == [RatedText(prompt="p", text="t", rating=-2.0, rater="ann")]
    assert [pair.policy_second for pair in database.pairs()] == ["old"] * 3
    database.add_round(2)
    assert database.comparisons(2) == database.ratings(2) == database.pairs(2) == []
    assert len(database.comparisons(1)) == 3


def test_a_round_keeps_what_is_said_of_it(database):
    database.add_round(2, lm="reviews", beta=0.1)
    database.add_round(2, beta=0.2)
    assert database.rounds() == {1: {}, 2: {"lm": "reviews", "beta": 0.2}}


def test_the_same_two_texts_are_one_pair_in_a_round(database):
    first, second = database.add_pairs(1, pairs(2))
    turned = NewPair("p", "b0", "a0", "old", "new")
    other_policy = NewPair("p", "a0", "b0", "new", "older")
    alone = database.add_texts(1, [NewText("p", "a0", "new")])
    again = database.add_pairs(1, [*pairs(2), turned, other_policy, *[NewPair("p", "x", "x")] * 2])
    assert again[:3] == [first, second, first]
    assert len({*again, *alone}) == 5
    database.add_round(2)
    assert not set(database.add_pairs(2, pairs(1))) & set(again)


def test_all_pairs_are_added_or_none(database):
    for wrong in (NewPair("p", 1, "b"), NewPair("p", "\ud800", "b"), NewPair("p", "a", "b", None)):
        with pytest.raises(ValueError, match="expected"):
            database.add_pairs(1, [NewPair("p", "a", "b"), wrong])
    with pytest.raises(ValueError, match=re.escape("add_round(7)")):
        database.add_pairs(7, pairs(1))
    assert database.pairs() == []


def test_answers_that_are_none_are_refused(database):
    (pair,) = database.add_pairs(1, pairs(1))
    (text,) = database.add_texts(1, [NewText("p", "t")])
    with pytest.raises(ValueError, match="'left'"):
        database.rate_pair(pair, "ann", "left")
    with pytest.raises(ValueError, match="no pair to rate has the number 99"):
        database.rate_pair(99, "ann", "tie")
    with pytest.raises(ValueError, match="no pair"):
        database.rate_pair(text, "ann", "tie")
    with pytest.raises(ValueError, match="no text"):
        database.rate_text(pair, "ann", 1)
    for wrong in ("better", float("nan"), float("inf")):
        with pytest.raises(ValueError, match="expected a"):
            database.rate_text(text, "ann", wrong)
    assert database.answers() == []


def test_a_key_is_kept_once_and_a_second_answer_is_refused(database):
    first, second = database.add_pairs(1, pairs(2))
    rating = database.rate_pair(first, "ann", "better", key="k1")
    assert database.rate_pair(first, "ann", "better", key="k1") == rating
    with pytest.raises(AlreadyRatedError, match="'ann' has answered the pair 1"):
        database.rate_pair(first, "ann", "worse", key="k2")
    database.rate_pair(second, "bob", "tie", key="k1")  # a key is its rater's own
    assert [each.answer for each in database.answers()] == ["better", "tie"]
    with pytest.raises(ValueError, match="'k1' names another answer of 'ann'"):
        database.rate_pair(second, "ann", "tie", key="k1")
    database.undo("ann")
    # A message that was under way all the time does not bring back what was undone.
    assert database.rate_pair(first, "ann", "better", key="k1") == rating
    assert [each.answer for each in database.answers()] == ["tie"]


# Who is asked what


def test_flagged_pairs_come_first_then_those_with_the_fewest_verdicts(database):
    one, two, three = database.add_pairs(1, pairs(3))
    (flagged,) = database.add_pairs(1, [NewPair("q", "a", "b", flagged="toxicity 0.93")])
    database.rate_pair(one, "ann", "tie")
    assert asked(database, "bob", 2) == [flagged, two, three, one]
    database.rate_pair(three, "ann", "flag")
    assert asked(database, "cy", 3) == [three, flagged, two, one]  # bob gave each a verdict


def test_nobody_is_asked_twice_and_no_pair_too_often(database):
    numbers = database.add_pairs(1, pairs(5))
    assert asked(database, "ann", 2) == numbers
    assert asked(database, "bob", 2) == numbers
    assert asked(database, "cy", 2) == []
    assert asked(database, "ann", 3) == []
    assert asked(database, "cy", 3) == numbers


@pytest.mark.parametrize("answer", ["skip", "flag"])
def test_skips_and_flags_leave_a_pair_to_others(database, answer):
    numbers = database.add_pairs(1, pairs(2))
    assert asked(database, "ann", answer=answer) == numbers
    assert asked(database, "bob") == numbers


def test_raters_at_once_share_the_places(database, clock):
    one, two = database.add_pairs(1, pairs(2))
    assert database.next_pair("ann").id == one
    assert database.next_pair("ann").id == one  # the same until it is answered
    assert database.next_pair("bob").id == two
    assert database.next_pair("cy") is None
    progress = database.progress("cy")
    assert (progress.done, progress.left, progress.elsewhere) == (0, 2, 2)
    clock.now += 601  # ann and bob went away
    assert database.next_pair("cy").id == one
    database.rate_pair(one, "ann", "tie")  # a late answer is kept all the same
    database.rate_pair(one, "cy", "better")
    assert len(database.comparisons()) == 2
    assert asked(database, "cy") == [two]


def test_a_clock_that_was_turned_back_blocks_nobody(database, clock):
    """As where the machine was started again: leases count the seconds since then."""
    (pair,) = database.add_pairs(1, pairs(1))
    database.next_pair("ann")
    clock.now -= 500
    assert database.next_pair("bob").id == pair
    leases = database._connection.execute("SELECT count(*), max(until) FROM leases").fetchone()
    assert tuple(leases) == (1, clock.now + 600)


def test_no_time_of_day_is_written(tmp_path):
    with Database(tmp_path / "ratings.sqlite") as database:
        database.add_round(1)
        database.add_pairs(1, pairs(1))
        database.next_pair("ann")
        until = database._connection.execute("SELECT until FROM leases").fetchone()[0]
    assert abs(until - 600 - time.monotonic()) < 60


def test_threads_at_once_take_each_place_once(database):
    database.add_pairs(1, pairs(60))
    taken, start = [], threading.Barrier(6)

    def work(rater):
        start.wait()
        taken.extend(asked(database, rater))

    threads = [threading.Thread(target=work, args=(f"rater {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted({pair.id for pair in database.pairs()})


def test_texts_are_queued_beside_pairs(database):
    database.add_pairs(1, pairs(1))
    one, two = database.add_texts(1, [NewText("p", "t"), NewText("p", "u", flagged="listed word")])
    assert database.next_text("ann").id == two
    assert database.progress("ann").left == 3
    database.rate_text(two, "ann", "flag")
    database.rate_text(one, "ann", 4)
    assert database.next_text("ann") is None
    progress = database.progress("ann")
    assert (progress.done, progress.left, progress.total) == (2, 1, 3)
    assert [(each.question.text, each.reason, each.raters) for each in database.flagged()] == [
        ("u", "listed word", 1)
    ]


# What is reviewed


def test_a_reviewer_says_fine_or_removes(database):
    (plain,) = database.add_pairs(1, pairs(1))
    flagged = [NewPair("q", f"x{i}", "y", "new", "old", flagged="listed word") for i in range(2)]
    one, two = database.add_pairs(1, flagged)
    (text,) = database.add_texts(1, [NewText("q", "x1", "new")])
    database.rate_pair(one, "ann", "better")
    database.rate_text(text, "ann", "flag")
    database.rate_text(text, "bob", 3)
    assert [(f.question.id, f.review) for f in database.flagged()] == [
        (one, None), (two, None), (text, None)]  # fmt: skip
    database.review(two, "fine")  # is asked like any other now
    assert asked(database, "cy", 2) == [one, plain, two]
    database.review(one, "removed")
    database.review(text, "removed")
    assert [(f.question.id, f.raters, f.review) for f in database.flagged()] == [
        (one, 0, "removed"), (two, 0, "fine"), (text, 1, "removed")]  # fmt: skip
    assert asked(database, "dee", 3) == [plain, two]
    assert database.next_text("dee") is None
    assert [pair.id for pair in database.pairs()] == [plain, two]
    assert {each.question for each in database.answers()} == {plain, two}
    assert database.texts() == database.ratings() == []
    assert len(database.comparisons()) == 4
    assert rate_all(database, ScriptedRater("repetition")) == 2
    assert database.add_pairs(1, [NewPair("q", "x0", "y", "new", "old")]) == [one]  # it stays so
    database.review(one, None)  # all is there again
    assert [each.rater for each in database.comparisons() if each.first == "x0"] == ["ann", "cy"]


def test_reviews_that_are_none_are_refused(database):
    with pytest.raises(ValueError, match="nothing to rate has the number 9"):
        database.review(9, "fine")
    (pair,) = database.add_pairs(1, pairs(1))
    with pytest.raises(ValueError, match='expected "fine", "removed" or None, got \'bad\''):
        database.review(pair, "bad")


def test_a_round_can_be_asked_alone(database):
    database.add_pairs(1, pairs(1))
    database.add_round(2)
    (number,) = database.add_pairs(2, pairs(1))
    assert database.next_pair("ann", round=2).id == number
    assert database.progress("ann", round=2).left == 1


def test_raters_per_pair_is_at_least_one(database):
    with pytest.raises(ValueError, match="≥ 1, got 0"):
        database.next_pair("ann", 0)


# Undo


def test_undo_takes_back_one_answer_after_another(database):
    one, two = database.add_pairs(1, pairs(2))
    asked(database, "ann")
    assert database.undo("ann").id == two
    assert database.next_pair("bob") is None  # it is ann's again
    assert database.undo("ann").id == one
    assert database.undo("ann") is None
    assert database.undo("nobody") is None
    assert database.comparisons() == []
    assert database.next_pair("bob").id == two  # she has one place only
    database.rate_pair(one, "ann", "worse")
    assert [each.label for each in database.comparisons()] == [0.0]


def test_undo_can_name_the_answer_that_is_meant(database):
    one, two = database.add_pairs(1, pairs(2))
    first = database.rate_pair(one, "ann", "tie")
    second = database.rate_pair(two, "ann", "tie")
    assert database.last_rating("ann") == second
    assert database.undo("ann", first) is None
    assert database.undo("ann", second).id == two
    assert database.undo("ann", second) is None  # sent again
    assert database.last_rating("ann") == first
    assert database.last_rating("bob") is None


# Scripts as raters


def test_a_script_rates_all_and_goes_on_where_it_was(database):
    rater = ScriptedRater("exact_match", scale=float("inf"))
    new = [NewPair("p", "yes", "no", columns={"reference": word}) for word in ("yes", "no")]
    new[1] = NewPair("p", "yes", "nope", columns={"reference": "nope"})
    database.add_pairs(1, new)
    assert rate_all(database, rater) == 2
    assert rate_all(database, rater) == 0
    database.add_round(2)
    database.add_pairs(2, new[:1])
    assert rate_all(database, rater, round=1) == 0
    assert rate_all(database, rater, round=2, pseudonym="script", batch=1) == 1
    assert [(each.label, each.rater) for each in database.comparisons()] == [
        (1.0, rater.name), (0.0, rater.name), (1.0, "script"),
    ]  # fmt: skip


def test_raters_are_pseudonyms_from_the_start(database):
    names = {database.add_rater() for _ in range(50)}
    assert len(names) == 50
    assert all(re.fullmatch(r"[a-z]+-[a-z]+-\d{4}", name) for name in names)
    assert database.has_rater(min(names))
    assert not database.has_rater("ann")
