"""The guard around reasoning-gym's scorers, and the same questions for the same seed."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from tests.questions import ID, play
from textenv.errors import RewardFaultError
from textenv.rewards.reasoning import Verdict, answer_in, judge
from textenv.sources import reasoning
from textenv.sources.reasoning import Questions, questions
from textenv.testing.compare import global_generators_untouched

pytest.importorskip("reasoning_gym")


# What a scorer may do wrong. Item 0 of prime_factorization, seed 0: 866 = 2 × 433.


class Scorer(Questions):
    """Questions with a scorer of our own."""

    def __init__(self, says, stored="2"):
        self.task, self.size, self.says = "fake", 1, says
        self._entries = {0: {"question": "1 + 1?", "answer": stored}}

    def score(self, item, answer):
        said = self.says(answer)
        if isinstance(said, Exception):
            raise said
        return said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 × 433", Verdict(1.0, True)),
        (" 2 × 433\n", Verdict(1.0, True)),
        ("866", Verdict(0.5, True)),
        ("2 × 3", Verdict(0.01, True)),
        ("wrong answer", Verdict(0.0, False)),  # its scorer raises a ValueError
        ("", Verdict(0.0, False)),
        ("  ", Verdict(0.0, False)),  # its scorer would pay 0.01
    ],
)
def test_judge(text, expected):
    assert judge(questions("prime_factorization", None, 2, 0), 0, text) == expected


def test_the_scorer_raises_what_judge_catches():
    with pytest.raises(ValueError, match="invalid literal"):
        questions("prime_factorization", None, 2, 0).score(0, "wrong answer")


def test_a_scorer_that_fails_on_its_own_answer_is_an_error():
    broken = Scorer(lambda answer: ZeroDivisionError("oh"))
    with pytest.raises(ValueError, match=r"fake, item 0, raises ZeroDivisionError.*stored answer"):
        judge(broken, 0, "3")
    reads = Scorer(lambda answer: 1.0 if answer == "2" else ZeroDivisionError("oh"))
    assert judge(reads, 0, "3") == Verdict(0.0, False)
    assert judge(reads, 0, "2") == Verdict(1.0, True)


@pytest.mark.parametrize("said", [None, float("nan"), 1.5, -0.1, "1", True, float("inf")])
def test_a_scorer_that_says_no_number_in_its_range_is_an_error(said):
    with pytest.raises(ValueError, match="not a number in 0 … 1"):
        judge(Scorer(lambda answer: said), 0, "3")


def test_rounding_is_no_mistake_of_a_scorer():
    for said, score in ((1.0000000000000002, 1.0), (-1e-17, 0.0)):
        assert judge(Scorer(lambda answer, said=said: said), 0, "3") == Verdict(score, True)


def test_a_broken_scorer_is_a_fault_of_the_environment(monkeypatch):
    monkeypatch.setattr(Questions, "score", lambda self, item, answer: None)
    with gym.make(ID, size=2, action="completion") as env:
        env.reset(seed=0)
        with pytest.raises(RewardFaultError, match="says None"):
            env.step("1")
    keywords = {"reward_fault": "penalise", "fault_reward": -1.0}
    with gym.make(ID, size=2, action="completion", **keywords) as env:
        assert play(env, 0, "1") == (-1.0, {"reward_fault": 1})


def test_nan_is_no_right_answer():
    known = questions("complex_arithmetic", None, 2, 0)
    assert known.score(0, "nan") == 1.0  # the library's: min(1.0, nan)
    assert judge(known, 0, "nan") == Verdict(0.0, False)
    assert judge(known, 0, "NaN + 3i").score == 0.0
    assert judge(Scorer(lambda answer: 1.0, stored="nan"), 0, "nan") == Verdict(1.0, True)
    assert judge(Scorer(lambda answer: 1.0, stored="a"), 0, "banana") == Verdict(1.0, True)


def test_ill_formed_answers_are_counted_and_reported():
    with gym.make(ID, task="prime_factorization", size=2, action="completion") as env:
        rewards = [play(env, 0, text) for text in ("2 × 433", "2 × 3", "wrong", "")]
        assert rewards == [(1.0, {}), (0.01, {}), (0.0, {}), (0.0, {})]
        assert env.unwrapped.task.reward.counts == {"texts": 4, "ill_formed": 2}
    keywords = {"task": "prime_factorization", "size": 2, "format_reward": 0.25}
    with gym.make(ID, action="completion", **keywords) as env:
        reward, info = play(env, 0, "2 × 3")
        assert reward == 0.26
        assert info == {"reward_parts": {"reasoning_gym": 0.01, "well_formed": 0.25}}
        reward, info = play(env, 0, "wrong")
        assert (reward, info["reward_parts"]["well_formed"]) == (0.0, 0.0)


def test_tags():
    assert answer_in("<answer>1</answer> or <answer> 2 </answer>", "answer") == "2"
    assert answer_in("2", "answer") is None
    template = "{question}\nGive it in <answer></answer>."
    keywords = {"task": "prime_factorization", "tag": "answer", "template": template, "size": 3}
    with gym.make(ID, action="completion", **keywords) as env:
        own = env.unwrapped.task
        assert own.prompts[0].endswith("2 × 2 × 3)\nGive it in <answer></answer>.")
        assert play(env, 0, "2 × 433") == (0.0, {})
        assert play(env, 0, "<answer>2 × 433</answer>") == (1.0, {})
        longest = max(len(answer.encode()) for answer in own.columns["reference"])
        assert own.max_tokens == longest + len("<answer></answer>") + 1


# Seeds.


def test_the_same_seed_gives_the_same_questions():
    asked = {seed: gym.make(ID, dataset_seed=seed, size=5).unwrapped.task for seed in (1, 2)}
    again = Questions("basic_arithmetic", {}, 5, 1)
    assert list(asked[1].prompts) == [again.question(item) for item in range(5)]
    assert asked[1].prompts != asked[2].prompts
    # size= adds questions and changes none.
    assert Questions("basic_arithmetic", {}, 9, 1).question(4) == again.question(4)


def test_the_order_of_sets_decides_no_question(monkeypatch):
    """ransom_note draws letters from a set, whose order PYTHONHASHSEED decides."""
    code = (
        "import sys; from textenv.sources.reasoning import Questions; "
        "known = Questions('ransom_note', {}, 4, 0); "
        "sys.stdout.write(repr([known.entry(item) for item in range(4)]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", code]
    there = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    known = Questions("ransom_note", {}, 4, 0)
    assert there.decode() == repr([known.entry(item) for item in range(4)])
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    monkeypatch.setattr(reasoning, "_made_apart", lambda *setting: {0: "made apart"})
    assert Questions("composite", {"datasets": [{"name": "word_ladder"}]}, 1, 0)._entries
    assert not Questions("gcd", {}, 1, 0)._entries


def test_programs_leave_no_files(tmp_path, monkeypatch):
    """The program of this question writes sailor_performance.csv where it is run."""
    monkeypatch.chdir(tmp_path)
    assert "Sailor_5" in Questions("codeio", {}, 1, 448).answer(0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["list_functions", "pool_matrix"])
def test_generators_that_use_the_shared_generators(task):
    """These two draw from the process's own generators: without a seed, and by setting one."""
    random.seed(1)
    first = Questions(task, {}, 6, 0)
    backwards = [first.question(item) for item in reversed(range(6))]
    random.seed(2)
    with global_generators_untouched(task):
        second = Questions(task, {}, 6, 0)
        assert [second.question(item) for item in range(6)] == backwards[::-1]
        second.score(0, second.answer(0))


def test_what_a_failing_scorer_draws_is_put_back(monkeypatch):
    known = Questions("gcd", {}, 1, 0)

    def draws(answer, entry):
        random.random()
        np.random.rand()  # noqa: NPY002
        raise KeyError(answer)

    monkeypatch.setattr(known._dataset, "score_answer", draws)
    with global_generators_untouched("a scorer that draws"), pytest.raises(KeyError):
        known.score(0, "1")
