"""The single environment: what it returns, worked out by hand, and what it refuses."""

from __future__ import annotations

import copy
import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import RecordEpisodeStatistics

from tests.small_tasks import started, task
from textenv import TextEnv, mdp
from textenv.errors import (
    InvalidActionError,
    ResetNeededError,
    RewardFaultError,
)
from textenv.rewards import exact_match, length, word_preference
from textenv.vocabulary import WordVocabulary


def write(env, text):
    """Write words one by one; return what the last step returned."""
    for token in env.unwrapped.task.vocabulary.encode(text):
        result = env.step(token)
    return result


class Broken:
    """A reward that fails at the texts in `wrong` until it is mended."""

    def __init__(self, wrong):
        self.wrong = wrong

    def __call__(self, completions, **columns):
        if any(text in self.wrong for text in completions):
            raise ZeroDivisionError("no words")
        return [float(len(text)) for text in completions]


def blames_b(completions, **columns):
    return [[-1.0 if word == "b" else 1.0 for word in text.split()] for text in completions]


blames_b.pays = "token"


def fails_at_b(completions, **columns):
    """Pays each token 1, but cannot judge a text that ends with b."""
    return [
        [float("nan") if text.endswith("b") else 1.0] * len(text.split()) for text in completions
    ]


fails_at_b.pays = "token"


class TestEpisodes:
    def test_good_bad(self):
        env = gym.make("textenv/GoodBad-v0").unwrapped
        assert env.observation_space == gym.spaces.Box(0, 2, (1,), np.int64)
        observation, info = env.reset(seed=0)
        assert observation.tolist() == [2]  # nothing here
        assert info == {}
        observation, reward, terminated, truncated, info = env.step(0)
        # One word is all: T = 1, and the limit is a part of the task.
        assert (observation.tolist(), reward) == ([0], 1.0)
        assert (terminated, truncated, info, env.text) == (True, False, {}, "good")
        env.reset()
        assert env.step(1)[1] == -1.0

    def test_i_love_you(self):
        env = gym.make("textenv/ILoveYou-v0").unwrapped
        env.reset(seed=0)
        for token, row in enumerate([[0, 4, 4, 4], [0, 1, 4, 4], [0, 1, 2, 4]]):
            observation, reward, terminated, _, _ = env.step(token)
            assert (observation.tolist(), reward, terminated) == (row, 0.0, False)
        observation, reward, terminated, _, _ = env.step(3)
        assert (observation.tolist(), reward, terminated) == ([0, 1, 2, 3], 1.0, True)
        assert env.text == "我爱你。"  # a stop token is a part of the text

    def test_a_stop_token_ends_the_text_early(self):
        env = gym.make("textenv/ILoveYou-v0").unwrapped
        env.reset(seed=0)
        _, reward, terminated, truncated, _ = write(env, "我。")
        assert (env.text, reward, terminated, truncated) == ("我。", 0.0, True, False)

    def test_prompts_are_right_aligned_and_the_end_token_is_no_part_of_the_text(self):
        env = started("a")
        assert env.observation_space == gym.spaces.Box(0, 5, (5,), np.int64)
        observation, reward, terminated, _, _ = write(env, "b $")
        assert observation.tolist() == [5, 0, 1, 4, 5]
        assert (env.text, env.prompt) == ("b", "a")
        assert (reward, terminated) == (1.0, True)  # length: one token, $ is none

    def test_the_limit_terminates_and_pays(self):
        env = started("b c")
        observation, reward, terminated, truncated, _ = write(env, "a b c")
        assert observation.tolist() == [1, 2, 0, 1, 2]
        assert (reward, terminated, truncated) == (3.0, True, False)

    def test_without_an_end_token_texts_go_on(self):
        env = gym.make("textenv/WordPreference-v0", end=False, max_tokens=3).unwrapped
        env.reset(seed=0)
        end = env.task.vocabulary.end_token
        assert not env.step(end)[2]
        assert env.text == "</s>"  # then it is a word like any other
        assert env.step(0)[1] == 1.0  # "good"
        assert env.step(end)[2]  # T = 3

    def test_stop_condition(self):
        made = task(stop_condition=lambda rules, state: mdp.last_token(rules, state) == 2)
        env = started("a", made)
        assert not write(env, "a")[2]
        assert write(env, "c")[2]
        assert env.text == "a c"

    def test_chinese_all_the_way(self):
        env = gym.make(
            "textenv/WordPreference-v0",
            words=["我", "爱", "你", "恨"],
            separator="",
            preferred=["爱"],
            unwanted=["恨"],
            prompts=["我", "我爱"],
            info_text=True,
        )
        observation, info = env.reset(seed=0, options={"prompt": "我", "prefix": "爱"})
        assert observation[:4].tolist() == [5, 0, 1, 5]
        assert info == {"prompt": "我", "text": "爱"}
        _, reward, _, _, info = env.step(3)
        assert (reward, info["text"]) == (-1.0, "爱恨")
        assert json.loads(env.spec.to_json())["kwargs"]["words"] == ["我", "爱", "你", "恨"]

    def test_prompts_are_drawn_evenly_and_by_the_seed(self):
        env = TextEnv(task())
        env.reset(seed=3)
        drawn = [(env.reset(), env.state.prompt_index)[1] for _ in range(1000)]
        assert 440 < sum(drawn) < 560  # 500 ± 16
        env.reset(seed=3)
        assert drawn == [(env.reset(), env.state.prompt_index)[1] for _ in range(1000)]


class TestStarts:
    @pytest.mark.parametrize("prompt", ["b a", [1, 0], np.array([1, 0])])
    def test_a_prompt_as_text_or_ids(self, prompt):
        env = started(prompt)
        assert env.state.tokens.tolist() == [1, 0, 5, 5, 5]
        assert (env.prompt, env.state.prompt_index) == ("b a", -1)

    def test_a_prompt_by_its_number(self):
        env = TextEnv(task())
        env.reset(options={"prompt_index": 1})
        assert env.prompt == "b c"

    @pytest.mark.parametrize("prefix", ["a b", [0, 1], (0, 1), np.array([0, 1], np.int32)])
    def test_a_prefix_as_text_or_ids(self, prefix):
        env = TextEnv(task())
        observation, _ = env.reset(options={"prompt": "c", "prefix": prefix})
        assert observation.tolist() == [5, 2, 0, 1, 5]
        assert env.step(2)[1:3] == (3.0, True)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"prompt": "a b c"}, "the prompt has 3 tokens, the limit is 2"),
            ({"prompt": ""}, "prompt is empty, but small writes after prompts"),
            ({"prompt": "a x"}, "'x' is not in the vocabulary"),
            ({"prompt": 7}, "the prompt must be a text or a list of token ids, got 7"),
            ({"prompt": [0.5]}, "a text or a list of token ids"),
            ({"prompt": [5]}, "holds the id 5; ids lie in 0 … 4"),
            ({"prompt": ["a", "b"]}, "a text or a list of token ids"),
            ({"prompt_index": 2}, "lies in 0 … 1, got 2"),
            ({"prefix": "a b c"}, "already finished after 3 of 3"),
            ({"prefix": "a a a a a"}, "already finished after 3 of 5"),
            ({"prefix": "$"}, "already finished after 1 of 1"),
            ({"prefix": "! a"}, "already finished after 1 of 2"),
            ({"prefix": [9]}, "id 9"),
            ({"prefix": 3.5}, "the prefix must be a text or a list"),
            ({"columns": ["a"]}, "columns must be a dict"),
            ({"promt": "a"}, r"\['columns', 'prefix'.*got \['promt'\]"),
        ],
    )
    def test_what_does_not_fit_is_refused_and_loses_nothing(self, options, message):
        env = started("a")
        env.step(1)
        before = env.state
        with pytest.raises(ValueError, match=message):
            env.reset(options=options)
        assert env.state.tokens.tolist() == before.tokens.tolist()
        assert write(env, "b $")[1] == 2.0

    def test_a_task_without_prompts_takes_the_empty_one(self):
        env = gym.make("textenv/ILoveYou-v0")
        env.reset(options={"prompt": ""})
        with pytest.raises(ValueError, match="the limit is 0"):
            env.reset(options={"prompt": "我"})

    def test_columns_reach_the_reward(self):
        made = task(reward=exact_match(), columns={"reference": ["a", "b"]})
        env = TextEnv(made)
        env.reset(options={"prompt_index": 1})
        assert write(env, "b $")[1] == 1.0
        env.reset(options={"prompt_index": 1, "columns": {"reference": "c c"}})
        assert write(env, "c c $")[1] == 1.0
        env.reset(options={"prompt_index": 1})  # the columns were that episode's
        assert write(env, "c c $")[1] == 0.0

    def test_the_callers_own_prompt_has_the_callers_own_columns(self):
        made = task(reward=exact_match(), columns={"reference": ["a", "b"]})
        env = TextEnv(made)
        env.reset(options={"prompt": "c", "columns": {"reference": "a a"}})
        assert write(env, "a a $")[1] == 1.0
        env.reset(options={"prompt": "c"})  # no right text: exact_match leaves it out
        assert write(env, "a a $")[1] == 0.0

    def test_a_search_goes_back_and_forth(self):
        """`state`, `set_state` and `mdp.transition` find the best text without an episode."""
        env = started("a", task(reward=word_preference({"c": 1.0, "a": -1.0})))
        root, rules = env.state, env.task.rules
        values = {}
        for first in range(3):
            state = mdp.transition(rules, root, first)
            for second in range(3):
                env.set_state(mdp.transition(rules, state, second))
                values[first, second] = env.step(4)[1]
        assert max(values, key=values.get) == (2, 2)
        assert values[2, 2] == 2.0
        env.set_state(root)
        assert env.text == ""


class TestActions:
    @pytest.mark.parametrize(
        "action",
        [
            1,
            np.int64(1),
            np.int32(1),
            np.uint8(1),
            np.array(1),
            torch.tensor(1),
            np.array(1, ">i4"),
        ],
    )
    def test_integers_without_axes(self, action):
        env = started("a")
        assert env.step(action)[0].tolist() == [5, 0, 1, 5, 5]

    @pytest.mark.parametrize(
        "action",
        [
            *(-1, 5, 2**70, 1.0, np.float64(1), True, np.bool_(1), [1], np.array([1]), "1", None),
            *(torch.tensor(1.0), torch.tensor(True), torch.tensor([1, 2])),
        ],
    )
    def test_anything_else_is_refused_and_nothing_is_lost(self, action):
        env = started("a")
        env.step(1)
        with pytest.raises(InvalidActionError, match="0 … 4"):
            env.step(action)
        assert env.text == "b"
        assert write(env, "b $")[1] == 2.0

    def test_step_before_reset_and_after_the_end(self):
        env = TextEnv(task())
        with pytest.raises(ResetNeededError, match=r"before reset\(\): call env.reset\(\) first"):
            env.step(0)
        env.reset(seed=0)
        write(env, "a $")
        for action in (0, -1):
            with pytest.raises(ResetNeededError, match="after the end of the episode"):
                env.step(action)
        assert env.text == "a"

    def test_masks(self):
        vocabulary = WordVocabulary(["a", "b"], end="$")
        vocabulary.suppressed_tokens = (1,)  # b may be read, but should not be written
        made = task(vocabulary=vocabulary, prompts=["b"], stop=())
        mask = [1, 0, 1]
        assert TextEnv(made).action_masks().tolist() == [True, False, True]
        _, info = TextEnv(made, mask="info").reset(seed=0)
        assert info["action_mask"].tolist() == mask
        assert info["action_mask"].dtype == np.int8
        env = TextEnv(made, mask="observation")
        observation, info = env.reset(seed=0)
        assert (observation["action_mask"].tolist(), info) == (mask, {})
        assert env.observation_space.contains(observation)
        assert TextEnv(made, mask="method").reset(seed=0)[1] == {}


class TestRewards:
    def test_a_fault_leaves_the_environment_as_it_was(self):
        reward = Broken({"b"})
        env = started("a", task(reward=reward))
        env.step(1)
        for _ in range(2):
            with pytest.raises(RewardFaultError, match=r"'Broken' raised ZeroDivisionError.*'b'"):
                env.step(4)
            assert env.state.tokens.tolist() == [5, 0, 1, 5, 5]
        reward.wrong = set()
        assert env.step(4)[1:3] == (1.0, True)

    def test_penalise_and_skip(self):
        for keywords, paid in (
            ({"reward_fault": "penalise", "fault_reward": -2.0}, -2.0),
            ({"reward_fault": "skip"}, 0.0),
        ):
            env = started("a", task(reward=Broken({"b"})), **keywords)
            _, reward, terminated, _, info = write(env, "b $")
            assert (reward, terminated, info) == (paid, True, {"reward_fault": 1})
            env.reset()
            assert write(env, "c $")[4] == {}
            assert env.setup.scorer.counts["faults"] == 1

    def test_skip_says_so_for_a_token_too(self):
        env = started("a", task(reward=fails_at_b), reward_fault="skip")
        assert write(env, "a")[1:] == (1.0, False, False, {})
        assert write(env, "b")[1:] == (0.0, False, False, {"reward_fault": 1})
        assert write(env, "c")[1:] == (1.0, True, False, {})

    def test_parts(self):
        made = task(reward=0.5 * length() - exact_match("b c"))
        env = started("a", made)
        assert write(env, "b")[4] == {}
        _, reward, _, _, info = write(env, "c $")
        # ½·2 tokens − 1
        assert reward == 0.0
        assert info == {"reward_parts": {"length": 1.0, "exact_match": -1.0}}

    def test_parts_that_are_paid_by_the_token_sum_to_the_return(self):
        env = started("a", task(reward=[length(), blames_b]))
        assert write(env, "a")[1] == 1.0
        assert write(env, "b")[1] == -1.0
        _, reward, _, _, info = write(env, "c")
        # The last word's 1 and, at the end, the length 3.
        assert reward == 4.0
        assert info == {"reward_parts": {"length": 3.0, "blames_b": 1.0}}

    def test_zero(self):
        env = gym.make("textenv/ILoveYou-v0", reward="zero")
        env.reset(seed=0)
        assert write(env, "我爱你。")[1] == 0.0


class TestCopies:
    def test_a_copy_goes_its_own_way(self):
        env = started("a")
        env.step(0)
        twin = copy.deepcopy(env)
        assert write(env, "a $")[1] == 2.0
        assert twin.text == "a"
        assert write(twin, "b b")[1] == 3.0
        assert twin.task is env.task

    def test_the_state_of_another_task_is_refused(self):
        state = started("a").state
        env = gym.make("textenv/ILoveYou-v0").unwrapped
        with pytest.raises(ValueError, match=r"tokens of shape \(4,\) .* got \(5,\)"):
            env.set_state(state)

    def test_a_finished_state_can_be_set_but_not_left(self):
        env = started("a")
        write(env, "a $")
        state = env.state
        env.reset()
        env.set_state(state)
        assert env.text == "a"
        with pytest.raises(ResetNeededError):
            env.step(0)


class TestWrappers:
    def test_episode_statistics(self):
        env = RecordEpisodeStatistics(started("a", task(reward=blames_b)))
        env.reset(seed=0)
        info = write(env, "a b c")[4]
        assert (info["episode"]["r"], info["episode"]["l"]) == (1.0, 3)  # 1 − 1 + 1

    def test_time_limit_truncates(self):
        env = gym.make("textenv/WordPreference-v0", max_episode_steps=2)
        env.reset(seed=0)
        assert env.step(0)[2:4] == (False, False)
        assert env.step(0)[2:4] == (False, True)
        env.reset()
        assert write(env, "good </s>")[2:4] == (True, True)  # as Gymnasium's TimeLimit says it

    def test_order_is_enforced_by_gymnasium_too(self):
        with pytest.raises(gym.error.ResetNeeded):
            gym.make("textenv/GoodBad-v0").step(0)
