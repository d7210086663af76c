"""`check_reward` catches rewards that are broken, each in one way."""

from __future__ import annotations

import random
from itertools import count

import numpy as np
import pytest

from textenv.rewards import Reward, length
from textenv.testing import (
    CheckError,
    check_reward,
)
from textenv.vocabulary import WordVocabulary


def one_too_many(completions, **columns):
    return [0.0] * (len(completions) + 1)


def not_a_number(completions, **columns):
    return [float("nan")] * len(completions)


def a_text(completions, **columns):
    return "".join("1" for _ in completions)


def centred(completions, **columns):
    mean = sum(map(len, completions)) / max(1, len(completions))
    return [len(text) - mean for text in completions]


def by_place(completions, **columns):
    return [float(place) for place, _ in enumerate(completions)]


def no_empty_batch(completions, **columns):
    return [float(len(text)) / len(completions[0] + "x") for text in completions][:99]


def no_empty_text(completions, **columns):
    return [1.0 / len(text) for text in completions]


def ascii_only(completions, **columns):
    return [float(len(text.encode("ascii"))) for text in completions]


def changes_its_input(completions, **columns):
    completions.sort()
    return [0.0] * len(completions)


def changes_the_ids(completions, completion_ids, **columns):
    for ids in completion_ids:
        ids.append(0)
    return [0.0] * len(completions)


def lottery(completions, **columns):
    return [random.random() for _ in completions]


def hidden_dice(completions, **columns):
    return [0.0 * random.random() for _ in completions]


def out_of_range(completions, **columns):
    return [2.0] * len(completions)


out_of_range.range = (0.0, 1.0)


def one_short(completions, completion_ids, **columns):
    return [[0.0] * max(0, len(ids) - 1) for ids in completion_ids]


one_short.pays = "token"


def counting():
    calls = count()
    return lambda completions, **columns: [float(next(calls)) for _ in completions]


class LosesItsArgument(Reward):
    name = "loses its argument"

    def __init__(self, bonus=0.0):
        self.bonus, self.paid = 0.0, bonus

    def __call__(self, prompts, completions, **columns):
        return [self.paid for _ in completions]


class BadTable(Reward):
    name, pays, range = "bad table", "token", (0.0, 1.0)

    def __call__(self, prompts, completions, *, completion_ids, **columns):
        return [[0.0] * len(ids) for ids in completion_ids]

    def token_table(self, vocabulary):
        return np.full(vocabulary.size, 2.0)


BROKEN_REWARDS = [
    (one_too_many, "payments for"),
    (not_a_number, "finite"),
    (a_text, "expected a list"),
    (centred, "one by one"),
    (by_place, "one by one"),
    (no_empty_batch, "one by one|no texts|IndexError"),
    (no_empty_text, "ZeroDivisionError.*''"),
    (ascii_only, "UnicodeEncodeError.*我爱你。|café"),
    (changes_its_input, "was handed"),
    (changes_the_ids, "was handed"),
    (lottery, "one by one|again"),
    (hidden_dice, "global generator of random"),
    (out_of_range, r"range 0.0 … 1.0 and pays 2.0"),
    (one_short, "numbers for"),
    (counting(), "one by one"),
    (LosesItsArgument(1.0), "made from its JSON"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN_REWARDS)
def test_check_reward_catches(broken, message):
    with pytest.raises(CheckError, match=message):
        check_reward(broken)


def test_check_reward_catches_a_term_of_a_sum():
    with pytest.raises(CheckError, match="'out_of_range' states the range"):
        check_reward(length() + out_of_range)


def test_check_reward_catches_a_wrong_token_table():
    vocabulary = WordVocabulary(["a", "b"])
    with pytest.raises(CheckError, match="token table"):
        check_reward(BadTable(), vocabulary=vocabulary)


def test_check_reward_reports():
    # Two texts of ours and the two that are always asked: 1, 3, 0 and (one piece) 1 tokens.
    report = check_reward("length", ["", "x"], ["one", "two words more"])
    assert (report.texts, report.left_out) == (4, 0)
    assert (report.minimum, report.maximum, report.mean) == (0.0, 3.0, 1.25)
    assert 0 < report.seconds_per_1000 < 1


def test_check_reward_with_columns_and_none():
    # The added texts take the first text's column: two more misses. None leaves one out.
    report = check_reward("exact_match", ["", ""], ["yes", "no"], reference=["yes", None])
    assert (report.texts, report.left_out, report.maximum) == (4, 1, 1.0)
    assert report.mean == pytest.approx(1 / 3)


def test_check_reward_with_ids_and_a_vocabulary():
    vocabulary = WordVocabulary(["我", "爱", "你", "。"], separator="")
    wanted = {"name": "word_preference", "weights": {"我": 1.0}, "separator": "", "pays": "token"}
    assert check_reward("length", vocabulary=vocabulary).maximum == 4.0  # 我爱你。
    with pytest.raises(CheckError, match="words and 4 ids"):
        check_reward(wanted, vocabulary=vocabulary)
    report = check_reward("length", ["", ""], ["我", "爱你"], completion_ids=[[0], [1, 2]])
    assert (report.texts, report.minimum, report.maximum) == (2, 1.0, 2.0)


@pytest.mark.parametrize(
    "keywords",
    [{"prompts": [""]}, {"completions": ["a"], "prompts": ["", ""]}, {"reference": ["a"]}],
)
def test_check_reward_wants_lists_that_fit(keywords):
    with pytest.raises(ValueError, match="completions"):
        check_reward("exact_match", **keywords)
