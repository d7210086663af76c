"""Our rewards as TRL's functions, TRL's rewards as ours, and prompts as rows; needs no TRL."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import pickle
import sys

import gymnasium as gym
import numpy as np
import pytest

from tests.small_tasks import ragged_task, task
from textenv import Task, TextEnv
from textenv.errors import (
    MissingExtraError,
    NotSerialisableError,
    RewardFaultError,
    TextenvError,
    UnknownNameError,
)
from textenv.interop.trl import as_trl_reward, from_trl_reward, prompt_dataset, prompt_rows
from textenv.rewards import as_reward, length, per_token, sentiment, token_f1, word_preference
from textenv.vocabulary import CharacterVocabulary

TRAINER = {"trainer_state": object(), "log_extra": print, "log_metric": lambda name, value: None}


def said(*texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


def nothing_special(prompts, completions, **columns):
    return [0.5 for _ in completions]


def think(completions: list[list[dict[str, str]]], **kwargs) -> list[float]:
    return [float(completion[0]["content"].startswith("<think>")) for completion in completions]


# As TRL's functions.


def test_it_is_called_as_trl_calls():
    function = as_trl_reward("sentiment")
    paid = function(
        prompts=["a", "a"], completions=["wonderful", "a film"], completion_ids=[[1], [2, 3]],
        topic=["x", "y"], **TRAINER,
    )  # fmt: skip
    assert function.__name__ == "sentiment"
    assert not inspect.iscoroutinefunction(function.__call__)
    assert paid == [0.5719, 0.0]  # VADER's, as in its own tests
    assert all(type(number) is float for number in paid)


@pytest.mark.parametrize(
    "reward",
    ["sentiment", sentiment(), {"name": "sentiment"}, ["sentiment", "zero"], 1.0 * sentiment()],
)  # fmt: skip
def test_whatever_means_a_reward_is_taken(reward):
    assert as_trl_reward(reward)(["", ""], ["wonderful", ""]) == [0.5719, 0.0]


def test_messages_are_read_for_their_contents():
    seen = []

    def reward(prompts, completions, **columns):
        seen.extend([*prompts, *completions])
        return [0.0]

    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    parts = [{"type": "text", "text": "Good "}, {"type": "text", "text": "day"}]
    answer = [{"role": "assistant", "content": None}, {"role": "assistant", "content": parts}]
    as_trl_reward(reward)([asked], [answer])
    assert seen == ["Be brief.\nHi", "Good day"]
    with pytest.raises(ValueError, match="no images"):
        as_trl_reward(reward)([[{"role": "user", "content": [{"type": "image"}]}]], ["x"])
    with pytest.raises(ValueError, match=r"expected the completion to be a text or a list .* 3"):
        as_trl_reward(reward)(["x"], [3])


def test_columns_reach_the_reward_and_none_stays_none():
    function = as_trl_reward("exact_match")
    assert function(["a", "a", "a"], ["x", "y", "y"], reference=["x", ["z"], None]) == [1, 0, None]
    with pytest.raises(ValueError, match=r"needs the columns \['reference'\].*prompt_dataset"):
        function(["a"], ["x"], completion_ids=[[1]], **TRAINER)


def test_a_sum_leaves_none_out_and_logs_its_parts():
    logged = {}
    function = as_trl_reward(2 * as_reward("exact_match") - 0.5 * length(unit="words"))
    paid = function(
        ["", "", ""], ["x", "y", "y z"], reference=["x", None, "x"], log_metric=logged.__setitem__
    )
    assert paid == [1.5, -0.5, -1.0]
    # exact_match: (2 + 0) / 2 texts that it judges; length: −0.5 · (1 + 1 + 2) / 3.
    assert logged == {"reward_parts/exact_match": 1.0, "reward_parts/length": pytest.approx(-2 / 3)}


def test_what_pays_each_token_pays_the_sum():
    def by_token(completion_ids):
        return [None if not ids else [float(i) for i in ids] for ids in completion_ids]

    by_token.pays = "token"
    assert as_trl_reward(by_token)(["", ""], ["a", ""], [[1, 2, 3], []]) == [6.0, None]
    assert as_trl_reward(per_token("token_f1"))(
        [""], ["a b"], [[1, 2]], reference=["a b"], **TRAINER
    ) == [1]
    good = word_preference({"good": 2.0}, pays="token")
    assert as_trl_reward(good)([""], ["good, good"], [[4, 5, 6]]) == [4.0]

    def short(completions):
        return [[1.0]]

    short.pays = "token"
    with pytest.raises(RewardFaultError, match="returned 1 numbers for 2 tokens"):
        as_trl_reward(short)([""], ["a b"], [[1, 2]])


@pytest.mark.parametrize(
    "reward",
    [length(), word_preference({"a": 1.0, "b": -1.0}, pays="token"), per_token("token_f1"),
     length() - 0.25 * word_preference({"a": 1.0}, pays="token")],
)  # fmt: skip
def test_with_a_vocabulary_it_pays_what_an_environment_pays(reward):
    # The end token is among TRL's ids and among no text's in an environment.
    made = ragged_task(4, reward=reward, columns={"reference": ["a b", "b", "c a"]})
    function = as_trl_reward(made.reward, vocabulary=made.vocabulary)
    env = TextEnv(made)
    generator = np.random.default_rng(0)
    for seed in range(30):
        env.reset(seed=seed)
        total, ids, over = 0.0, [], False
        while not over:
            ids.append(int(generator.integers(5)))
            _, paid, over, _, _ = env.step(ids[-1])
            total += paid
        index = int(env.state.prompt_index)
        prompt, reference = made.prompts[index], made.columns["reference"][index]
        found = function([prompt], [env.text], [ids], reference=[reference])
        assert found == [pytest.approx(total)]


def test_ids_of_another_vocabulary_are_refused():
    function = as_trl_reward("length", vocabulary=CharacterVocabulary("ab"))
    with pytest.raises(ValueError, match="none of the vocabulary"):
        function([""], ["a"], [[7]])
    with pytest.raises(ValueError, match="expected vocabulary="):
        as_trl_reward("length", vocabulary=7)
    assert as_trl_reward("length", vocabulary="reviews").vocabulary.end_token is not None


def test_faults_name_the_reward_and_the_text():
    def picky(completions):
        if "bad" in completions:
            raise KeyError("no such word")
        return [1.0] * len(completions)

    texts = (["", "", ""], ["a", "bad", "c"], [[1], [2], [3]])
    with pytest.raises(RewardFaultError, match=r"'picky' raised KeyError.*the text 'bad'"):
        as_trl_reward(picky)(*texts)
    skipping = as_trl_reward(picky, fault="skip")
    assert skipping(*texts) == [1.0, None, 1.0]
    assert skipping.faults == 1
    assert as_trl_reward(picky + length(), fault="penalise", fault_reward=-3.0)(*texts) == [
        2,
        -3,
        2,
    ]
    assert as_trl_reward(picky)([], [], []) == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [([1.0], "1 payments for 2 texts"), ([float("nan"), 1.0], "expected a finite number"),
     (["1", "2"], "expected a number"), (3.0, "expected a list")],
)  # fmt: skip
def test_answers_that_are_no_numbers_are_faults(answer, message):
    with pytest.raises(RewardFaultError, match=message):
        as_trl_reward(lambda completions: answer)(["", ""], ["a", "b"])


def test_settings_are_checked():
    with pytest.raises(ValueError, match="fault must be one of raise, penalise, skip"):
        as_trl_reward("length", fault="ignore")
    with pytest.raises(ValueError, match="belongs to"):
        as_trl_reward("length", fault="penalise")
    with pytest.raises(ValueError, match="got 1 prompts for 2 completions"):
        as_trl_reward("length")(["a"], ["b", "c"])
    assert as_trl_reward("length", name="size").__name__ == "size"


def test_functions_get_the_trainer_and_it_goes_to_other_processes():
    def reward(completions, trainer_state):
        return [float(trainer_state is TRAINER["trainer_state"])]

    assert as_trl_reward(reward)([""], ["a"], [[1]], **TRAINER) == [1.0]
    again = pickle.loads(pickle.dumps(as_trl_reward(0.5 * length() + nothing_special)))
    assert again([""], ["a b"], [[1, 2]]) == [1.5]


# As our rewards.


def test_a_reward_of_trl_pays_in_an_environment():
    reward = from_trl_reward(think)
    assert reward.conversational  # by its annotation
    assert reward(["a"], ["<think>"]) == [1.0]

    def accuracy(completions, solution, log_metric, **kwargs):
        log_metric("seen", 1.0)
        assert "completion_ids" in kwargs
        return [float(text == right) for text, right in zip(completions, solution, strict=True)]

    env = TextEnv(task(reward=from_trl_reward(accuracy), columns={"solution": ["b", "b"]}))
    env.reset(seed=0)
    env.step(1)  # b
    assert env.step(4)[1:3] == (1.0, True)
    with pytest.raises(ValueError, match="solution"):
        task(reward=from_trl_reward(accuracy))


def test_there_and_back_it_is_the_same():
    function = as_trl_reward(from_trl_reward(think) + 0.0 * length())
    assert function([[{"role": "user", "content": "?"}]], said("<think>"), [[1]]) == [1.0]


def test_asynchronous_rewards_models_and_classes_are_refused():
    async def slow(completions, **kwargs):
        return [0.0]

    class Slow:
        async def __call__(self, completions, **kwargs):
            return [0.0]

    for each in (slow, Slow(), functools.partial(slow, x=1)):
        with pytest.raises(TypeError, match=r"asynchronous.*asyncio.run"):
            from_trl_reward(each)
    wrapped = from_trl_reward(lambda **keywords: asyncio.run(slow(**keywords)))
    assert wrapped([""], ["a"]) == [0.0]
    for each in (Slow, 3, "Qwen/some-reward-model"):
        with pytest.raises(TypeError, match="expected a function"):
            from_trl_reward(each)
    with pytest.raises(ValueError, match="conversational="):
        from_trl_reward(think, conversational="yes")


def test_its_spec_comes_back():
    spec = json.loads(json.dumps(from_trl_reward(think).spec()))
    again = as_reward(spec)
    assert again([""], ["<think>"]) == [1.0]
    assert again.spec() == spec
    with pytest.raises(NotSerialisableError):
        from_trl_reward(lambda completions: [0.0]).spec()


# Prompts.


def test_rows_are_prompts_with_columns():
    small = task(columns={"reference": ["x", ["y", "z"]], "level": [1, None]}, reward=token_f1())
    assert prompt_rows(small) == [
        {"prompt": "a", "reference": "x", "level": 1},
        {"prompt": "b c", "reference": ["y", "z"], "level": None},
    ]
    chat = prompt_rows(small, conversational=True)
    assert chat[1]["prompt"] == [{"role": "user", "content": "b c"}]
    assert prompt_rows(small, repeats=2) == 2 * prompt_rows(small)
    with pytest.raises(ValueError, match="repeats= takes an integer ≥ 1, got 0"):
        prompt_rows(small, repeats=0)
    translation = prompt_rows("textenv/ToyTranslation-v0", split="test")
    assert len(translation) == 500
    assert set(translation[0]) == {"prompt", "reference"}
    assert prompt_rows({"name": "ToyTranslation", "split": "test"}) == translation
    assert prompt_rows("GoodBad") == [{"prompt": ""}]


def test_names_that_trl_uses_and_foreign_ids_are_refused():
    with pytest.raises(ValueError, match=r"\['images'\]"):
        prompt_rows(task(columns={"images": [1, 2]}))
    with pytest.raises(TextenvError, match="an id of textenv"):
        prompt_rows("CartPole-v1")
    with pytest.raises(TypeError, match=r"expected a Task, an id.*take env\.unwrapped\.task"):
        prompt_rows(gym.make("textenv/GoodBad-v0"))
    with pytest.raises(UnknownNameError, match="Sentiment"):
        prompt_rows("Sentimental")


def test_without_datasets_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r'prompt_rows does without.*"textenv\[bench\]"'):
        prompt_dataset(task())


def test_a_dataset_holds_the_rows():
    pytest.importorskip("datasets")
    rows = task(columns={"reference": [["x"], None], "level": [float("nan"), 2]}, reward=token_f1())
    dataset = prompt_dataset(rows)
    assert dataset["reference"][:] == [["x"], None]
    assert dataset.column_names == ["prompt", "reference", "level"]
    for values in (["x", ["y"]], [{"a": 1}, {"b": 2}], [1, "x"]):
        with pytest.raises(ValueError, match="'reference', whose values are of several kinds"):
            prompt_dataset(task(columns={"reference": values}))
    assert isinstance(rows, Task)
