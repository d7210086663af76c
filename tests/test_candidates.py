"""`Candidates(k)`: which tokens they are, worked out by hand, and what becomes of a choice."""

from __future__ import annotations

import copy
import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.small_tasks import small_task, task
from textenv import Candidates, TextEnv, TextVectorEnv
from textenv.asking import SPARE, Answer, likeliest
from textenv.errors import InvalidActionError, ResetNeededError, TextenvError
from textenv.models import TabularLM

CHINESE = "textenv/ILoveYou-v0"


def answer(rows):
    logits = torch.as_tensor(np.array(rows), dtype=torch.float64)
    return Answer(len(logits), 1, np.arange(len(logits)), logits, logits)


def found(probabilities, k, end=None):
    """The ids of one state's candidates."""
    logits = np.log(np.maximum(probabilities, 1e-300))
    logits = np.where(np.array(probabilities) == 0, -np.inf, logits)
    return likeliest(answer([logits]), len(probabilities), k, end).ids[0].tolist()


class TestWhichTheyAre:
    def test_the_likeliest_first_and_ties_by_id(self):
        assert found([0.1, 0.2, 0.4, 0.2, 0.1], 4) == [2, 1, 3, 0]

    def test_log_probabilities_are_compared_after_rounding(self):
        # log 0.250001 − log 0.25 is 4e-6: the same to 1e-4, so the smaller id comes first.
        assert found([0.249999, 0.25, 0.250001, 0.25], 2) == [0, 1]
        # log 0.251 − log 0.25 is 4e-3.
        assert found([0.249, 0.25, 0.251, 0.25], 2) == [2, 1]

    def test_the_end_token_takes_the_last_place(self):
        assert found([0.1, 0.2, 0.4, 0.3], 2, end=0) == [2, 0]
        assert found([0.1, 0.2, 0.4, 0.3], 2, end=3) == [2, 3]  # likely enough by itself
        assert found([0.1, 0.2, 0.4, 0.3], 4, end=0) == [2, 3, 1, 0]

    def test_tokens_of_probability_zero_are_none(self):
        assert found([0.5, 0.0, 0.5, 0.0], 3) == [0, 2, 4]  # 4 = V
        assert found([0.5, 0.0, 0.5, 0.0], 2, end=1) == [0, 2]  # nor is such an end token
        assert found([0.0, 1.0], 2, end=1) == [1, 2]

    def test_an_end_token_that_is_hardly_possible_takes_a_free_place(self):
        # e^−800 is 0 in float64, but its logarithm is not −∞.
        choices = likeliest(answer([[0.0, -800.0, -np.inf]]), 3, 3, end=1)
        assert choices.ids.tolist() == [[0, 1, 3]]
        assert choices.log_probs.tolist() == [[0.0, -800.0, 0.0]]

    def test_a_large_vocabulary_against_sorting_all_of_it(self):
        """The shortcut by the model's own `topk`, with and without ties at its border."""
        generator = np.random.default_rng(0)
        size, k = 40 * SPARE, 7
        logits = generator.normal(size=(40, size))
        logits[10:20] = np.round(logits[10:20], 1)  # some ties
        logits[20:30] = np.round(logits[20:30])  # hundreds of them
        logits[30:35] = 0.0  # nothing but ties
        logits[35:, 5:] = -np.inf  # fewer than k
        choices = likeliest(answer(logits), size, k)
        for row, own in enumerate(logits):
            log_probs = own - math.log(np.exp(own).sum())
            order = sorted(range(size), key=lambda token: (-round(log_probs[token], 4), token))
            expected = [token for token in order if np.isfinite(own[token])][:k]
            assert choices.ids[row, : len(expected)].tolist() == expected
            assert choices.log_probs[row, : len(expected)] == pytest.approx(log_probs[expected])
            assert (choices.ids[row, len(expected) :] == size).all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_short_floats(self, dtype):
        logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(0)).to(dtype)
        whole = answer(logits.double().numpy())
        choices = likeliest(whole._replace(logits=logits), 300, 5)
        expected = likeliest(whole, 300, 5)
        assert choices.ids.tolist() == expected.ids.tolist()
        assert choices.log_probs.dtype == np.float64
        assert choices.log_probs == pytest.approx(expected.log_probs)

    def test_states_that_are_not_asked_about_have_none(self):
        choices = likeliest(answer([[0.0, 1.0]])._replace(batch=3, rows=np.array([1])), 2, 1)
        assert choices.ids.tolist() == [[2], [1], [2]]
        assert choices.log_probs[[0, 2]].tolist() == [[0.0], [0.0]]


class TestOneEnvironment:
    def test_a_whole_episode(self):
        env = gym.make(CHINESE, action="candidates:2")
        assert env.action_space == gym.spaces.Discrete(2)
        _, info = env.reset(seed=0)
        assert info["candidates"].tolist() == [0, 1]
        assert info["candidates"].dtype == np.int64
        assert info["candidate_log_probs"] == pytest.approx(np.log([1 / 2, 1 / 6]))
        assert info["candidate_log_probs"].dtype == np.float64
        assert env.step(0)[4]["candidates"].tolist() == [1, 0]  # 爱 has 0.8
        info = env.step(0)[4]
        assert info["candidates"].tolist() == [2, 0]
        info = env.step(0)[4]
        assert info["candidates"].tolist() == [3, 4]  # only 。 can be written
        assert env.unwrapped.action_masks().tolist() == [True, False]
        _, reward, terminated, _, info = env.step(0)
        assert (reward, terminated, env.unwrapped.text) == (1.0, True, "我爱你。")
        assert info["candidates"].tolist() == [4, 4]
        assert info["candidate_log_probs"].tolist() == [0.0, 0.0]
        assert env.unwrapped.action_masks().tolist() == [True, True]  # none is read any more

    def test_where_no_token_stands_the_others_stand_again(self):
        # P(a) = 0.5, P(b) = 0.3, P($) = 0.2: actions 0 … 4 of five write a, b, $, a, b.
        table = np.tile([0.5, 0.3, 0.0, 0.0, 0.2], (6, 1))
        lm = TabularLM.from_probabilities(table, order=1)
        made = {"lm": lm, "action": "candidates:5", "mask": "info"}
        envs = TextVectorEnv(5, small_task(), **made)
        envs.reset(seed=0)
        _, _, ended, _, _ = envs.step(np.arange(5))
        assert envs.text == ["a", "b", "", "a", "b"]
        assert ended.tolist() == [False, False, True, False, False]
        for action, text in enumerate(envs.text):
            env = TextEnv(small_task(), **made)
            _, info = env.reset(seed=0)
            assert info["candidates"].tolist() == [0, 1, 4, 5, 5]
            assert info["action_mask"].tolist() == [1, 1, 1, 0, 0]
            _, _, over, _, _ = env.step(action)
            assert (env.text, over) == (text, ended[action])
        with pytest.raises(InvalidActionError, match=r"0 … 4, got 5"):
            env.step(5)

    @pytest.mark.parametrize("way", ["set_state", "deepcopy", "prefix"])
    def test_they_belong_to_the_state(self, way):
        env = gym.make(CHINESE, action="candidates:3").unwrapped
        env.reset(seed=0)
        env.step(0)
        state, expected = env.state, env.choices.ids.tolist()
        assert expected == [[1, 0, 2]]
        twin = env
        if way == "set_state":
            env.reset(seed=0)
            env.set_state(state)
        elif way == "deepcopy":
            twin = copy.deepcopy(env)
            env.step(2)
        else:
            _, info = env.reset(options={"prefix": [0]})
            assert info["candidates"].tolist() == expected[0]
        assert twin.choices.ids.tolist() == expected
        assert twin.step(0)[4]["candidates"].tolist() == [2, 0, 1]
        assert twin.text == "我爱"

    def test_a_finished_state_can_be_set(self):
        env = gym.make(CHINESE, action="candidates:2").unwrapped
        env.reset(options={"prefix": "我爱你"})
        env.step(0)
        state = env.state
        env.reset(seed=0)
        env.set_state(state)
        assert env.choices.ids.tolist() == [[4, 4]]

    def test_suppressed_tokens_are_none(self):
        made = gym.make("textenv/Sentiment-v0", action="candidates:4000").unwrapped
        made.reset(seed=0)
        suppressed = set(made.lm.suppressed_tokens)
        assert suppressed
        assert not suppressed & set(made.choices.ids[0].tolist())

    def test_before_reset(self):
        env = TextEnv("ILoveYou", action="candidates:2")
        with pytest.raises(ResetNeededError, match="before reset"):
            env.action_masks()
        with pytest.raises(ResetNeededError, match="before reset"):
            env.step(0)


class TestBadInput:
    @pytest.mark.parametrize(
        ("environment_id", "action", "message"),
        [
            (CHINESE, "candidates:5", r"Candidates\(5\) needs at least 5 tokens.*has 4.*1 ≤ k ≤ 4"),
            (CHINESE, "candidates:0", "an integer ≥ 1, got 0"),
            (CHINESE, "candidates", "missing a required argument: 'k'"),
            (CHINESE, Candidates(9), "needs at least 9 tokens"),
            ("textenv/WordPreference-v0", "candidates:1", "nothing but the end token.*k ≥ 2"),
        ],
    )
    def test_what_does_not_fit_is_refused_at_once(self, environment_id, action, message):
        for make in (gym.make, gym.make_vec):
            with pytest.raises(ValueError, match=message):
                make(environment_id, action=action)

    def test_one_candidate_is_fine_where_there_is_no_end_token(self):
        env = gym.make("textenv/WordPreference-v0", action="candidates:1", end=False)
        env.reset(seed=0)
        assert env.step(0)[1] == 1.0  # of equally likely tokens the first: "good"

    def test_without_a_model(self):
        with pytest.raises(TextenvError, match=r"Candidates\(k=2\) asks a language model.*none"):
            TextEnv(task(), action="candidates:2")


class TestVector:
    def test_rows(self):
        envs = gym.make_vec(CHINESE, num_envs=2, action="candidates:2", mask="info")
        _, infos = envs.reset(seed=0, options={"prefix": ["我", "我爱你"]})
        assert infos["candidates"].tolist() == [[1, 0], [3, 4]]
        assert infos["action_mask"].tolist() == [[1, 1], [1, 0]]
        _, rewards, terminated, _, infos = envs.step([1, 1])  # 。 stands there alone
        assert rewards.tolist() == [0.0, 1.0]
        assert terminated.tolist() == [False, True]
        assert envs.unwrapped.text == ["我我", "我爱你。"]
        assert infos["candidates"].tolist() == [[1, 0], [4, 4]]
        assert infos["action_mask"].tolist() == [[1, 1], [1, 1]]
        # NEXT_STEP: the action of the row that has ended is not read, whatever it is.
        _, _, _, _, infos = envs.step([0, -7])
        assert envs.unwrapped.text == ["我我爱", ""]
        assert infos["candidates"].tolist() == [[2, 0], [0, 1]]

    def test_set_state_and_copies(self):
        envs = TextVectorEnv(2, "ILoveYou", action="candidates:2", autoreset_mode="disabled")
        envs.reset(seed=0)
        envs.step([0, 1])
        state, twin = envs.state, copy.deepcopy(envs)
        envs.reset(seed=1)
        envs.set_state(state)
        for each in (envs, twin):
            assert each.choices.ids.tolist() == [[1, 0], [2, 0]]
            each.step([0, 0])
            assert each.text == ["我爱", "爱你"]

    def test_a_failing_reward_takes_nothing_away(self):
        fails = [True]

        def reward(completions, **columns):
            if fails[0]:
                raise ZeroDivisionError
            return [1.0] * len(completions)

        model = TabularLM(5, order=0)
        envs = TextVectorEnv(2, task(reward=reward), lm=model, action="candidates:2")
        envs.reset(seed=0)
        offered = envs.choices.ids.tolist()
        with pytest.raises(Exception, match="ZeroDivisionError"):
            envs.step([1, 0])  # the end token is the last candidate
        assert envs.choices.ids.tolist() == offered
        fails[0] = False
        assert envs.step([1, 0])[1].tolist() == [1.0, 0.0]
