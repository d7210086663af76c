"""Keywords and specs: what environments are made from, and what they refuse."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import pkgutil
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

import textenv
from tests.small_tasks import task
from textenv import AllTokens, TextEnv, Tokens
from textenv.errors import (
    NotSerialisableError,
    TextenvError,
    UnknownNameError,
)
from textenv.models import TabularLM
from textenv.plugins import Held
from textenv.rewards import length
from textenv.vocabulary import CharacterVocabulary, TokenizerVocabulary, WordVocabulary


def importable(completions, **columns):
    return [float(len(completion)) for completion in completions]


class TestKeywords:
    @pytest.mark.parametrize(
        ("keywords", "error", "message"),
        [
            ({"observation": "token"}, UnknownNameError, "no observation .*'token'.*'tokens'"),
            ({"observation": "tokens:3"}, ValueError, "'tokens' takes no numbers, got 'tokens:3'"),
            ({"action": "candidates"}, ValueError, 'candidates:k, as in "candidates:32", got'),
            ({"observation": "tokens:x"}, ValueError, "'x' is no number"),
            ({"observation": 3}, ValueError, 'a dict with "name", got 3'),
            ({"observation": {"k": 3}}, ValueError, 'a dict with "name"'),
            ({"action": gym.spaces.MultiDiscrete([4, 4])}, ValueError, '"fragments:4" is a Multi'),
            ({"observation": gym.spaces.MultiDiscrete([5] * 4)}, ValueError, "are a Box and not"),
            ({"action": "all_token"}, UnknownNameError, "Did you mean 'all_tokens'"),
            ({"action": {"name": "all_tokens", "k": 3}}, ValueError, "all_tokens.*takes"),
            ({"reward": "lenght"}, UnknownNameError, "no reward is called 'lenght'.*'length'"),
            ({"reward": {"name": "length", "units": "words"}}, UnknownNameError, "'unit'"),
            ({"reward": "no_such_module:f"}, TextenvError, "cannot be imported"),
            ({"reward": "math:f"}, UnknownNameError, "module 'math'"),
            ({"reward": 3}, TypeError, "a reward must be"),
            ({"lm": "review"}, UnknownNameError, "Did you mean 'reviews'"),
            ({"lm": 3}, ValueError, "expected lm= to be a name, a folder or"),
            ({"lm": ""}, UnknownNameError, "called ''. Known: reviews, smollm2"),
            ({"end": "x"}, ValueError, "expected end= to be True or False, got 'x'"),
            ({"mask": "infos"}, ValueError, "expected mask= to be one of"),
            ({"reward_fault": "ignore"}, ValueError, "raise, penalise, skip"),
            ({"reward_fault": "penalise"}, ValueError, "fault_reward"),
            ({"prompts": "a"}, ValueError, "a list with at least one text, got 'a'"),
            ({"prompts": []}, ValueError, "at least one text"),
            ({"prompts": {"我"}}, ValueError, "a list with at least one text"),
            ({"prompts": ["我", 3]}, ValueError, "prompt 1 is no text but 3"),
            ({"prompts": ["我", ""]}, ValueError, "prompt 1 is empty"),
            ({"prompts": ["我我", "我"], "prompt_length": 1}, ValueError, "prompt 0 has 2 tokens"),
            ({"prompts": ["x"]}, ValueError, "'x' is not in the vocabulary"),
            ({"max_tokens": 0}, ValueError, "max_tokens ≥ 1"),
            ({"max_token": 3}, ValueError, "Did you mean 'max_tokens'"),
            ({"render_mode": "text"}, ValueError, "ansi.*got 'text'"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:.*render.mode")  # Gymnasium's own, about render_mode="text"
    def test_what_makes_no_sense_is_refused(self, keywords, error, message):
        with pytest.raises(error, match=message):
            gym.make("textenv/ILoveYou-v0", **keywords)

    def test_words_that_stand_there_twice_are_refused(self):
        with pytest.raises(ValueError, match=r"more than once: \['a'\]"):
            gym.make("textenv/WordPreference-v0", words=["a", "b", "a"])

    def test_an_unknown_id_guesses_the_nearest(self):
        with pytest.raises(gym.error.NameNotFound, match="Did you mean: `ILoveYou`"):
            gym.make("textenv/ILoveU-v0")

    def test_an_unknown_task_guesses_the_nearest(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'GoodBad'"):
            TextEnv("GoodBod")

    @pytest.mark.parametrize("other", [3, TextEnv(task())], ids=["a number", "an environment"])
    def test_what_is_no_task_is_refused(self, other):
        with pytest.raises(
            TypeError, match=r"expected a Task, .* dict, got .*env\.unwrapped\.task"
        ):
            TextEnv(other)

    def test_a_folder_that_is_no_model_is_refused(self, tmp_path):
        with pytest.raises(TextenvError, match=r"has no config\.json and no model\.safetensors"):
            gym.make("textenv/ILoveYou-v0", lm=str(tmp_path))
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(TextenvError, match=r"has no model\.safetensors"):
            gym.make("textenv/ILoveYou-v0", lm=str(tmp_path))

    def test_a_task_of_ones_own_with_keywords(self):
        env = TextEnv(task(), reward="zero", max_tokens=7, prompts=["c c c"])
        assert env.observation_space.shape == (10,)
        assert TextEnv({"name": "WordPreference", "max_tokens": 2}).task.max_tokens == 2

    def test_the_callers_list_of_prompts_may_change(self):
        prompts = ["a", "b"]
        env = TextEnv(task(), prompts=prompts)
        prompts[:] = []
        env.reset(seed=0)
        assert env.prompt in ("a", "b")


class TestSpecs:
    @pytest.mark.parametrize("observation", ["tokens", {"name": "tokens"}, Tokens()])
    @pytest.mark.parametrize("action", ["all_tokens", {"name": "all_tokens"}, AllTokens()])
    def test_three_forms_of_a_plug_in(self, observation, action):
        env = gym.make("textenv/ILoveYou-v0", observation=observation, action=action)
        again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
        assert again.unwrapped.setup.observation == Tokens()
        assert again.unwrapped.setup.action == AllTokens()
        assert again.unwrapped.setup.action != Tokens()
        assert repr(again.unwrapped.setup.action) == "AllTokens()"

    @pytest.mark.parametrize(
        ("reward", "form"),
        [
            ("length", "length"),
            (length(3), {"name": "length", "target": 3}),
            ({"name": "length", "target": 3}, {"name": "length", "target": 3}),
            (["length", "zero"], ["length", "zero"]),
            (importable, f"{__name__}:importable"),
            (0.5 * length(), {"name": "sum", "terms": [[0.5, "length"]]}),
        ],
    )
    def test_rewards(self, reward, form):
        spec = gym.make("textenv/ILoveYou-v0", reward=reward).spec
        assert json.loads(spec.to_json())["kwargs"]["reward"] == form
        env = gym.make(pickle.loads(pickle.dumps(spec)))
        assert env.unwrapped.task.reward.name == gym.make(spec).unwrapped.task.reward.name

    def test_numpy_numbers_and_paths_are_plain_in_json(self, tmp_path):
        vocabulary = WordVocabulary(["a", "b"])
        TabularLM(2, vocabulary=vocabulary).save_pretrained(tmp_path / "table")
        keywords = {"max_tokens": np.int64(3), "lm": tmp_path / "table"}
        env = gym.make("textenv/WordPreference-v0", **keywords)
        kwargs = json.loads(env.spec.to_json())["kwargs"]
        assert kwargs["max_tokens"] == 3
        assert kwargs["lm"] == str(tmp_path / "table")
        assert env.spec.make().unwrapped.lm.vocabulary.words == ("a", "b")

    @pytest.mark.parametrize(
        "keywords",
        [
            {"reward": lambda completions, **columns: [0.0] * len(completions)},
            {"reward": [partial(importable), "length"]},
            {"lm": TabularLM(4, vocabulary=CharacterVocabulary("我爱你。"))},
        ],
        ids=["closure", "list", "model"],
    )
    def test_what_lives_in_memory_works_and_says_why_it_is_not_json(self, keywords):
        env = gym.make("textenv/ILoveYou-v0", **keywords)
        message = "in memory>, which no other process can find: pass a registered name"
        with pytest.raises(NotSerialisableError, match=message):
            env.spec.to_json()
        with pytest.raises(NotSerialisableError, match=message):
            pickle.dumps(env.spec)
        env.spec.make().reset(seed=0)  # in this process it can be made again

    def test_a_model_in_memory_is_shared_and_never_copied(self):
        model = TabularLM(4, vocabulary=CharacterVocabulary("我爱你。"))
        env = TimeLimit(gym.make("textenv/ILoveYou-v0", lm=model), 3)
        assert env.unwrapped.lm is model
        held = env.spec.kwargs["lm"]
        assert isinstance(held, Held)
        assert env.spec.kwargs["lm"] is held  # each `env.spec` copies its keywords
        assert held.value is model
        assert env.spec.make().unwrapped.lm is model
        assert copy.deepcopy(env).unwrapped.lm is model
        assert repr(held) == "<TabularLM in memory>"

    def test_a_models_vocabulary_becomes_the_tasks(self):
        model = TabularLM(3, vocabulary=WordVocabulary(["good", "bad"], end="."))
        env = gym.make("textenv/WordPreference-v0", lm=model)
        assert env.action_space.n == 3
        assert env.unwrapped.task.rules.end_token == 2

    def test_no_model(self):
        with pytest.raises(TextenvError, match='no language model: give one, as in lm="reviews"'):
            _ = TextEnv(task()).lm

    def test_the_starting_policy_is_made_once(self):
        env = gym.make("textenv/GoodBad-v0").unwrapped
        assert env.lm is env.lm
        assert copy.deepcopy(env).lm is env.lm


def test_rooms_are_found_without_importing_them():
    assert textenv.exact.value
    assert textenv.testing.check_env
    assert textenv.models.load
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = textenv.nothing_here


@pytest.mark.parametrize(
    "room",
    [
        *("actions", "evaluate", "filters", "judges", "metrics", "models", "preferences"),
        *("rewards", "sources", "tasks", "testing"),
    ],
)
def test_no_file_is_hidden_by_what_it_holds(room):
    package = importlib.import_module(f"textenv.{room}")
    for file in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"textenv.{room}.{file.name}")
        assert getattr(package, file.name) is module


def test_an_empty_prompt_of_a_model_with_a_start_token():
    env = gym.make("textenv/Sentiment-v0")
    with pytest.raises(ValueError, match="the prompt is empty"):
        env.reset(options={"prompt": ""})
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        gym.make("textenv/Sentiment-v0", prompts=["The film", "  "])


def test_a_named_model_is_not_pickled_but_loaded_again():
    env = gym.make("textenv/ILoveYou-v0", lm="reviews", observation="hidden").unwrapped
    observation, _ = env.reset(seed=0)
    pickled = pickle.dumps(env)
    assert len(pickled) < 1_000_000  # its weights have 2,258,928 bytes, in float16
    again = pickle.loads(pickled)
    assert again.lm is not env.lm
    np.testing.assert_array_equal(again.reset(seed=0)[0], observation)
    held = TextEnv("ILoveYou", lm=TabularLM(4))
    assert isinstance(pickle.loads(pickle.dumps(held)).lm, TabularLM)  # nobody else has it


def test_each_prompt_is_encoded_once(monkeypatch):
    """A tokenizer takes a while for two thousand of them."""
    encoded = []

    def encode(self, text, **settings):
        encoded.append(text)
        return own(self, text, **settings)

    own = TokenizerVocabulary._encode
    monkeypatch.setattr(TokenizerVocabulary, "_encode", encode)
    prompts = ["The film", "A film", "It is"]
    gym.make("textenv/Sentiment-v0", prompts=prompts)
    assert sorted(encoded) == sorted(["", *prompts])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"words": ["yes", "no"]}, "none of the words"),
        ({"preferred": ["god"]}, r"\['god'\] should pay"),
        ({"preferred": "good"}, "must be a list of words"),
        ({"words": []}, "none of the words"),
        ({"prompt_length": -1}, "prompt_length ≥ 0"),
    ],
)
def test_word_preferences_that_pay_nothing(keywords, message):
    with pytest.raises(ValueError, match=message):
        gym.make("textenv/WordPreference-v0", **keywords)


def test_a_model_of_another_size():
    with pytest.raises(ValueError, match="has 4 tokens"):
        gym.make("textenv/Sentiment-v0", lm=textenv.models.TabularLM(4))
