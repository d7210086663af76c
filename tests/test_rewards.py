"""Rewards as objects: functions with TRL's signature, and sums."""

import functools

import numpy as np
import pytest

import textenv.rewards as rewards
from textenv.rewards import Combined, Reward, as_reward, get, length

TEXTS = {"completion_ids": [[0, 1], [0]]}


def accuracy(completions, reference, **kwargs):
    return [1.0 if c == r else 0.0 for c, r in zip(completions, reference, strict=True)]


def ones(prompts, completions, **columns):
    return [1.0] * len(completions)


def each_token(completions, completion_ids):
    return [[0.5] * len(ids) for ids in completion_ids]


each_token.pays = "token"


class Constant(Reward):
    def __init__(self, value):
        self.value = value

    def __call__(self, prompts, completions, **columns):
        return [self.value] * len(completions)


# Functions


def test_trl_function_gets_its_columns():
    reward = as_reward(accuracy)
    assert (reward.name, reward.pays, reward.columns) == ("accuracy", "end", ("reference",))
    columns = {"reference": ["a", "x"], "unused": [1, 2], **TEXTS}
    assert reward(["", ""], ["a", "b"], **columns) == [1.0, 0.0]


def test_function_gets_only_what_it_takes():
    reward = as_reward(lambda completion_ids: [len(ids) for ids in completion_ids])
    assert reward(["", ""], ["a b", "a"], label=[1, 2], **TEXTS) == [2, 1]
    assert as_reward(each_token).pays == "token"


def test_function_with_keywords_gets_all_columns_and_only_columns():
    seen = {}

    def spy(**columns):
        seen.update(columns)
        return [0.0]

    as_reward(spy)(["p"], ["c"], completion_ids=[[3]], label=[1])
    assert seen == {"prompts": ["p"], "completions": ["c"], "completion_ids": [[3]], "label": [1]}


def test_trainer_arguments_are_stood_in_for():
    def logs(completions, trainer_state, log_extra, log_metric, scale=2.0):
        log_extra("text", completions)
        log_metric("n", len(completions))
        return [scale if trainer_state is None else 0.0]

    reward = as_reward(logs)
    assert reward.columns == ()
    assert reward([""], ["a"]) == [2.0]


def test_function_may_be_a_partial_or_an_object():
    class Judge:
        def __call__(self, completions):
            return [3.0] * len(completions)

    assert as_reward(Judge()).name == "Judge"
    partial = as_reward(functools.partial(accuracy, reference=["a"]))
    assert (partial.name, partial([""], ["a"]), partial.columns) == ("accuracy", [1.0], ())


def test_functions_that_cannot_be_rewards():
    async def slow(completions):
        return [0.0]

    def positional(completions, /):
        return [0.0]

    def sometimes(completions):
        return [0.0]

    sometimes.pays = "sometimes"
    with pytest.raises(TypeError, match="'slow' is asynchronous"):
        as_reward(slow)
    with pytest.raises(TypeError, match="by keyword"):
        as_reward(positional)
    with pytest.raises(ValueError, match="'sometimes'"):
        as_reward(sometimes)
    with pytest.raises(TypeError, match=r"write Constant\(\) instead of Constant"):
        as_reward(Constant)
    for nothing in (3, None, [], ()):
        with pytest.raises(TypeError, match="must be a Reward, a function, a name"):
            as_reward(nothing)


# Sums


def test_sum_is_weighted_and_flat():
    words = length(unit="words")
    reward = 2 * (ones + 0.5 * words) - as_reward(ones)
    # weights 2·1, 2·0.5, −1; "a b": 2 + 1·2 − 1 = 3; "a": 2 + 1·1 − 1 = 2
    assert [weight for weight, _ in reward.terms] == [2.0, 1.0, -1.0]
    assert reward.names == ("ones", "length", "ones_2")
    assert reward(["", ""], ["a b", "a"]) == [3.0, 2.0]
    assert (-words)([""], ["a b"]) == [-2.0]
    assert (np.float64(0.5) * words)([""], ["a b"]) == [1.0]
    assert repr(0.5 * words + ones) == "<reward 0.5 * length + 1 * ones>"


def test_sum_of_a_list():
    words = length(unit="words")
    assert sum([words, as_reward(ones)])([""], ["a b"]) == [3.0]
    assert as_reward([words, ones, "zero"]).names == ("length", "ones", "zero")
    assert sum([words]) is words
    assert (ones - words)([""], ["a b"]) == [-1.0]


def test_names_of_terms_stay_unique():
    assert as_reward([Constant(1.0), Constant(2.0)]).names == ("Constant", "Constant_2")

    def a_2(completions):
        return [0.0]

    def a(completions):
        return [0.0]

    assert as_reward([a, a_2, a]).names == ("a", "a_2", "a_3")


def test_sum_pays_tokens_if_a_term_does_but_is_called_for_totals():
    reward = 2 * as_reward(each_token) + ones
    assert reward.pays == "token"
    # 2 tokens: 2·(0.5 + 0.5) + 1 = 3; 1 token: 2·0.5 + 1 = 2
    assert reward(["", ""], ["a b", "a"], **TEXTS) == reward.total(["", ""], ["a b", "a"], **TEXTS)
    assert reward(["", ""], ["a b", "a"], **TEXTS) == [3.0, 2.0]
    assert as_reward(each_token).total(["", ""], ["a b", "a"], **TEXTS) == [1.0, 0.5]


def test_none_leaves_a_term_out():
    def maybe(completions):
        return [None if text == "skip" else 1.0 for text in completions]

    assert (2 * as_reward(maybe) + ones)(["", ""], ["skip", "go"]) == [1.0, 3.0]
    assert (2 * as_reward(maybe))(["", ""], ["skip", "go"]) == [None, 2.0]


def test_range_of_a_sum():
    assert (get("exact_match") - 2 * get("sentiment")).range == (-2.0, 3.0)
    assert (0 * length()).range == (0.0, 0.0)
    paid = rewards.word_preference(pays="token")  # −1 … 1 a token, before the end nothing else
    assert (paid + get("exact_match")).range == (-1.0, 2.0)


def test_columns_of_a_sum():
    assert (as_reward(accuracy) + get("exact_match")).columns == ("reference",)


def test_token_table_of_a_sum():
    vocabulary = FakeVocabulary()
    tokens = rewards.word_preference(pays="token")
    assert (2 * tokens + get("zero")).token_table(vocabulary).tolist() == [2.0, -2.0]
    assert (2 * tokens + ones).token_table(vocabulary) is None


def test_senseless_sums_are_refused():
    for weight in (float("nan"), float("inf"), "2"):
        with pytest.raises(ValueError, match="finite number"):
            Combined([(weight, "length")])
    with pytest.raises(ValueError, match="at least one term"):
        Combined([])
    with pytest.raises(ValueError, match=r"pair \(weight, reward\)"):
        Combined(["length"])
    for senseless in (lambda r: r + 1, lambda r: r * "a", lambda r: 1 + r, lambda r: r - 1):
        with pytest.raises(TypeError):
            senseless(length())


class FakeVocabulary:
    size = 2

    def decode(self, ids):
        return " ".join(["good", "bad"][token] for token in ids)
