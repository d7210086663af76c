"""The scripted rater: its frequencies, ties, mistakes, and what a verdict depends on."""

import math

import pytest

from textenv.errors import RewardFaultError
from textenv.preferences import Rater
from textenv.preferences.scripted import ScriptedRater

MIRROR = {"better": "worse", "worse": "better", "tie": "tie"}
CHI_SQUARE = 10.83  # the 99.9 % point of χ² with one degree of freedom


def first_number(completions):
    """A text's own number is what it is worth."""
    return [float(text.split()[0]) for text in completions]


def pairs(difference, n=4000):
    prompts = [f"prompt {i}" for i in range(n)]
    return prompts, [f"{difference} first"] * n, ["0 second"] * n


def chi_square(verdicts, probability):
    """Of the counts of "better" and "worse" against their probabilities."""
    n, better = len(verdicts), verdicts.count("better")
    assert better + verdicts.count("worse") == n
    expected = n * probability, n * (1 - probability)
    return sum((got - want) ** 2 / want for got, want in zip((better, n - better), expected))


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("difference", [-1.5, -0.2, 0.2, 1.0])
def test_frequencies_are_bradley_terry(scale, difference):
    rater = ScriptedRater(first_number, scale=scale)
    verdicts = rater.compare(*pairs(difference))
    probability = 1 / (1 + math.exp(-scale * difference))
    assert chi_square(verdicts, probability) < CHI_SQUARE
    assert rater.probability(difference) == pytest.approx(probability)


@pytest.mark.parametrize("mistakes", [0.1, 0.5, 1.0])
def test_mistakes_turn_verdicts_round(mistakes):
    rater = ScriptedRater(first_number, mistakes=mistakes, seed=1)
    probability = (1 - mistakes) * (1 / (1 + math.exp(-1))) + mistakes * (1 / (1 + math.exp(1)))
    assert chi_square(rater.compare(*pairs(1.0)), probability) < CHI_SQUARE
    sure = ScriptedRater(first_number, scale=math.inf, mistakes=mistakes)
    wrong = sure.compare(*pairs(1.0)).count("worse") / 4000
    assert wrong == pytest.approx(mistakes, abs=0.03)


def test_noise_and_mistakes_are_independent():
    with_mistakes = ScriptedRater(first_number, mistakes=0.3).compare(*pairs(1.0))
    without = ScriptedRater(first_number).compare(*pairs(1.0))
    turned = [one != other for one, other in zip(with_mistakes, without)]
    for kind in ("better", "worse"):
        rows = [is_turned for is_turned, verdict in zip(turned, without) if verdict == kind]
        assert sum(rows) / len(rows) == pytest.approx(0.3, abs=0.04)


def test_small_differences_are_ties():
    rater = ScriptedRater(first_number, tie=0.5, scale=math.inf, mistakes=0.0)
    texts = ["1 a", "1.5 a", "1.6 a", "0.5 a", "0.4 a"]
    assert rater.compare([""] * 5, texts, ["1 b"] * 5) == ["tie", "tie", "better", "tie", "worse"]
    assert ScriptedRater(first_number, mistakes=1.0).compare([""], ["1 a"], ["1 b"]) == ["tie"]


def test_without_noise_and_with_nothing_but_noise():
    sure = ScriptedRater(first_number, scale=math.inf)
    assert set(sure.compare(*pairs(1e-9))) == {"better"}
    coin = ScriptedRater(first_number, scale=0.0)
    assert chi_square(coin.compare(*pairs(100.0)), 0.5) < CHI_SQUARE


def test_a_verdict_depends_on_nothing_but_the_pair():
    rater = ScriptedRater(first_number, mistakes=0.2)
    prompts, first, second = pairs(0.3, 200)
    whole = rater.compare(prompts, first, second)
    assert whole == rater.compare(prompts, first, second)
    assert whole[::-1] == rater.compare(prompts[::-1], first, second)
    rows = zip(prompts, first, second)
    assert whole == [rater.compare(*([text] for text in row))[0] for row in rows]


@pytest.mark.parametrize("settings", [{}, {"mistakes": 0.4}, {"scale": math.inf}, {"tie": 0.25}])
def test_turning_a_pair_round_turns_the_verdict_round(settings):
    rater = ScriptedRater(first_number, **settings)
    for difference in (-0.3, -0.1, 0.0, 0.3):
        prompts, first, second = pairs(difference, 300)
        there = rater.compare(prompts, first, second)
        back = rater.compare(prompts, second, first)
        assert back == [MIRROR[verdict] for verdict in there]


def test_seeds_are_independent_raters():
    one, other = (ScriptedRater(first_number, scale=0.0, seed=s).compare(*pairs(1)) for s in (0, 1))
    same = sum(a == b for a, b in zip(one, other)) / len(one)
    assert same == pytest.approx(0.5, abs=0.04)


def test_columns_reach_the_reward():
    rater = ScriptedRater("exact_match", scale=math.inf)
    verdicts = rater.compare(["", ""], ["yes", "yes"], ["no", "no"], reference=["yes", "no"])
    assert verdicts == ["better", "worse"]


def test_it_is_a_rater_with_a_name():
    assert isinstance(ScriptedRater("sentiment"), Rater)
    assert ScriptedRater("sentiment").name == "scripted:sentiment"
    assert ScriptedRater("sentiment", name="critic").name == "critic"
    assert ScriptedRater("sentiment").compare([], [], []) == []


def test_any_text_can_be_compared():
    texts = ["", "\0", "我爱你。", "مرحبا", "\ud800", "a\n\n"]
    rater = ScriptedRater(lambda completions: [float(len(text)) for text in completions])
    assert len(rater.compare(texts, texts, texts[::-1])) == len(texts)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": -1.0}, "scale ≥ 0, got -1.0"),
        ({"scale": math.nan}, "scale ≥ 0, got nan"),
        ({"tie": -0.1}, "tie ≥ 0, got -0.1"),
        ({"tie": math.inf}, "tie ≥ 0, got inf"),
        ({"mistakes": 1.1}, "a rate in 0 … 1, got 1.1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ScriptedRater("sentiment", **settings)


def test_lists_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="'first': 1"):
        ScriptedRater("sentiment").compare(["", ""], [""], ["", ""])
    with pytest.raises(ValueError, match="'label': 2"):
        ScriptedRater("sentiment").compare([""], [""], [""], label=[1, 2])


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda completions: [None] * len(completions), "said None of 'a'"),
        (lambda completions: [math.nan] * len(completions), "said nan of 'a'"),
        (lambda completions: [0.0], "returned 1 numbers for 2 texts"),
    ],
)
def test_a_reward_that_says_nothing_is_an_error(reward, message):
    with pytest.raises(RewardFaultError, match=message):
        ScriptedRater(reward).compare([""], ["a"], ["b"])
