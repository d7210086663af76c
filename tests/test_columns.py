"""`columns=`: prompts of one's own, with what the reward compares with."""

import json

import gymnasium as gym
import numpy as np
import pytest

import textenv
from tests.small_tasks import task
from textenv import TextEnv
from textenv.vocabulary import WordVocabulary

PROMPTS = ["A fine", "A dull"]
COLUMNS = {"reference": ["film for all of us", None]}
SENTIMENT = {"prompts": PROMPTS, "columns": COLUMNS, "reward": "exact_match"}


def write(env, text):
    """Write a text to the end of the episode; return what it is paid."""
    ids = env.unwrapped.task.vocabulary.encode(text)
    paid = [env.step(token)[1:3] for token in [*ids, env.unwrapped.task.rules.end_token]]
    assert [over for _, over in paid] == [False] * len(ids) + [True]
    return sum(reward for reward, _ in paid)


def test_each_prompt_has_its_own():
    env = gym.make("textenv/Sentiment-v0", **SENTIMENT)
    for index, text, worth in [(0, "film for all of us", 1.0), (0, "film", 0.0), (1, "film", 0.0)]:
        env.reset(seed=0, options={"prompt_index": index})
        assert write(env, text) == worth
    assert env.unwrapped.setup.scorer.counts["none"] == 1  # the second prompt has none


@pytest.mark.parametrize("scoring", ["step", "deferred"])
def test_in_a_vector_environment(scoring):
    envs = gym.make_vec("textenv/Sentiment-v0", num_envs=2, scoring=scoring, **SENTIMENT)
    envs.reset(options={"prompt_index": [0, 1]})
    inner = envs.unwrapped
    for token in [*inner.task.vocabulary.encode("film for all of us"), inner.task.rules.end_token]:
        _, rewards, terminated, _, _ = envs.step(np.array([token, token]))
    assert terminated.all()
    paid = [1.0, 0.0]
    assert (list(inner.score().values()) if scoring == "deferred" else rewards.tolist()) == paid


def test_the_spec_goes_through_json():
    env = gym.make("textenv/Sentiment-v0", **SENTIMENT)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.task.columns == COLUMNS
    assert json.loads(env.spec.to_json())["kwargs"]["columns"] == COLUMNS


def test_a_task_that_has_columns():
    # Without prompts they are added to the task's own, and replace those of the same name.
    own = gym.make("textenv/ToyTranslation-v0", split="test").unwrapped.task.columns["reference"]
    levels = [number % 3 for number in range(len(own))]
    made = gym.make("textenv/ToyTranslation-v0", split="test", columns={"level": levels})
    assert made.unwrapped.task.columns == {"reference": own, "level": levels}
    with_prompts = {
        "prompts": ["i read .", "you read ."],
        "columns": {"reference": ["我读", "你读"]},
    }
    env = gym.make("textenv/ToyTranslation-v0", **with_prompts)
    env.reset(options={"prompt_index": 1})
    assert write(env, "你读") == 1.0
    made = task(columns={"x": ["1", "2"]})
    assert TextEnv(made, columns={"y": [3, 4]}).task.columns == {"x": ["1", "2"], "y": [3, 4]}
    assert TextEnv(made, columns={"x": [3, 4]}).task.columns == {"x": [3, 4]}
    assert TextEnv(made, prompts=["a"], columns={"y": [3]}).task.columns == {"y": [3]}
    assert TextEnv(made, prompts=["a"]).task.columns == {}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["film", "us"], "expected columns= to be a dict of lists"),
        ("reference", "expected columns= to be a dict of lists"),
        # A text has as many characters as there are prompts, and each would be a right text.
        ({"reference": "ab"}, "the column 'reference' to be a list with one value for each prompt"),
        ({"reference": {"a", "b"}}, "the column 'reference' to be a list"),
        ({"reference": 3}, "the column 'reference' to be a list"),
        ({"reference": ["film"]}, "column 'reference' has 1 values for 2 prompts: give one for"),
        ({"label": ["a", "b"]}, r"needs the columns \['reference'\], the task has \['label'\]"),
        ({"prompts": ["a", "b"], "reference": ["a", "b"]}, r"rewards get \['prompts'\]"),
    ],
)
def test_what_is_refused(columns, message):
    for keywords in ({}, {"num_envs": 2}):
        make = gym.make_vec if keywords else gym.make
        with pytest.raises(ValueError, match=message):
            make("textenv/Sentiment-v0", **{**SENTIMENT, "columns": columns}, **keywords)


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge", "token_f1", "edit_distance"])
def test_missing_references_say_how_to_bring_them(name):
    for prompts in ({}, {"prompts": PROMPTS}):
        with pytest.raises(
            ValueError, match=r"as in prompts=\[…\], columns=\{\"reference\": \[…\]"
        ):
            gym.make("textenv/Sentiment-v0", reward=name, **prompts)


def test_the_callers_lists_may_change():
    right = ["a", "b"]
    made = textenv.Task(
        name="x",
        vocabulary=WordVocabulary(["a", "b"]),
        prompts=["a", "b"],
        max_tokens=1,
        reward="exact_match",
        columns={"reference": right},
    )
    right[:] = ["b", "a"]
    assert made.columns == {"reference": ["a", "b"]}
