"""The vector environment: each mode worked out by hand, faults, deferred scoring, bad input.

That its rows are the single environment is shown for every id in test_registered.py.
"""

from __future__ import annotations

import copy
import json
import pickle
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from textenv import Task, TextEnv, TextVectorEnv
from textenv.errors import (
    InvalidActionError,
    NotSerialisableError,
    ResetNeededError,
    RewardFaultError,
)
from textenv.models import TabularLM
from textenv.rewards import exact_match, length
from textenv.testing import check_vector_env
from textenv.vocabulary import CharacterVocabulary, WordVocabulary

MODES = list(AutoresetMode)


def task(**changes):
    """V = 3: a b $ ($ ends the text and is no part of it), P = 1, T = 2; the reward is its length.

    Nothing here is 3.
    """
    made = Task(
        name="small",
        vocabulary=WordVocabulary(["a", "b"], end="$"),
        max_tokens=2,
        reward=length(),
        prompts=["a", "b"],
    )
    return made.with_changes(**changes)


def started(rows=2, mode=AutoresetMode.NEXT_STEP, made=None, prompt="a", **keywords):
    envs = TextVectorEnv(rows, made or task(), autoreset_mode=mode, **keywords)
    envs.reset(seed=0, options={"prompt": prompt})
    return envs


class Recorded:
    """The length of each text; remembers what it was called with, and fails while told to."""

    def __init__(self):
        self.calls, self.fails = [], False

    def __call__(self, completions, **columns):
        self.calls.append(list(completions))
        if self.fails:
            raise ZeroDivisionError("no words")
        return [float(len(text.split())) for text in completions]


def fails_at_b(completions, completion_ids, **columns):
    """Pays each token 1, but cannot judge a text that ends with b."""
    return [
        [float("nan") if text.endswith("b") else 1.0] * len(ids)
        for text, ids in zip(completions, completion_ids, strict=True)
    ]


fails_at_b.pays = "token"


class TestModes:
    """Two rows with the prompt a (token 0): the first ends at its first step, by $ (2)."""

    def test_next_step(self):
        envs = started()
        observation, rewards, terminated, truncated, infos = envs.step([2, 0])
        assert observation.tolist() == [[0, 2, 3], [0, 0, 3]]
        assert rewards.tolist() == [0.0, 0.0]
        assert terminated.tolist() == [True, False]
        assert truncated.tolist() == [False, False]
        assert infos == {}
        # The first row is reset, whatever its action says; the second reaches T = 2.
        observation, rewards, terminated, _, _ = envs.step([-7, 1])
        assert observation[0].tolist() in ([0, 3, 3], [1, 3, 3])
        assert observation[1].tolist() == [0, 0, 1]
        assert rewards.tolist() == [0.0, 2.0]
        assert terminated.tolist() == [False, True]
        observation, rewards, terminated, _, _ = envs.step([0, 99])
        assert observation[0, 1:].tolist() == [0, 3]
        assert observation[1, 1:].tolist() == [3, 3]
        assert (rewards.tolist(), terminated.tolist()) == ([0.0, 0.0], [False, False])

    def test_same_step(self):
        envs = started(mode=AutoresetMode.SAME_STEP)
        observation, rewards, terminated, _, infos = envs.step([2, 0])
        assert observation[0, 1:].tolist() == [3, 3]  # already the next episode
        assert observation[1].tolist() == [0, 0, 3]
        assert (rewards.tolist(), terminated.tolist()) == ([0.0, 0.0], [True, False])
        assert infos["final_obs"][0].tolist() == [0, 2, 3]
        assert infos["final_obs"][1] is None
        assert infos["_final_obs"].tolist() == [True, False]
        assert infos["_final_info"].tolist() == [True, False]
        assert infos["final_info"] == {}
        _, rewards, terminated, _, infos = envs.step([0, 1])
        assert (rewards.tolist(), terminated.tolist()) == ([0.0, 2.0], [False, True])
        assert infos["final_obs"][1].tolist() == [0, 0, 1]

    def test_disabled(self):
        envs = started(mode=AutoresetMode.DISABLED)
        _, _, terminated, _, _ = envs.step([2, 0])
        with pytest.raises(ResetNeededError, match=r"rows \[0\] have ended.*reset_mask"):
            envs.step([0, 0])
        assert envs.state.tokens.tolist() == [[0, 2, 3], [0, 0, 3]]
        observation, _ = envs.reset(options={"reset_mask": terminated, "prompt": "b"})
        assert observation.tolist() == [[1, 3, 3], [0, 0, 3]]  # the other row goes on
        assert envs.step([0, 0])[1].tolist() == [0.0, 2.0]

    @pytest.mark.parametrize(
        "name", ["SAME_STEP", "same_step", "SameStep", AutoresetMode.SAME_STEP]
    )
    def test_names_of_modes(self, name):
        envs = gym.make_vec("textenv/GoodBad-v0", autoreset_mode=name)
        assert envs.autoreset_mode == AutoresetMode.SAME_STEP
        assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP

    @pytest.mark.parametrize("mode", MODES)
    def test_episode_statistics(self, mode):
        """Returns are those of the episodes: word preference pays each token."""
        envs = gym.make_vec("textenv/WordPreference-v0", 3, autoreset_mode=mode, max_tokens=2)
        envs = RecordEpisodeStatistics(envs)
        envs.reset(seed=0)
        good, bad, the = 0, 4, 8
        envs.step(np.array([good, bad, the]))
        infos = envs.step(np.array([good, bad, good]))[4]
        assert infos["episode"]["r"].tolist() == [2.0, -2.0, 1.0]
        assert infos["episode"]["l"].tolist() == [2, 2, 2]

    @pytest.mark.parametrize("mode", MODES)
    def test_time_limit(self, mode):
        envs = gym.make_vec(
            "textenv/WordPreference-v0", 2, autoreset_mode=mode, max_episode_steps=2
        )
        envs.reset(seed=0)
        end = envs.unwrapped.task.rules.end_token
        assert not envs.step([0, 0])[3].any()
        _, rewards, terminated, truncated, infos = envs.step([0, end])
        assert rewards.tolist() == [1.0, 0.0]
        assert terminated.tolist() == [False, True]
        assert truncated.tolist() == [True, True]
        assert ("final_obs" in infos) == (mode == AutoresetMode.SAME_STEP)


class TestRewards:
    @pytest.mark.parametrize("mode", MODES)
    def test_a_fault_leaves_all_rows_as_they_were(self, mode):
        reward = Recorded()
        envs = started(3, mode, task(reward=reward))
        envs.step([0, 0, 2])
        if mode == AutoresetMode.DISABLED:
            envs.reset(options={"reset_mask": np.array([False, False, True]), "prompt": "a"})
        before = envs.state
        reward.fails = True
        # The first row ends; the second would have, too; the third writes or is being reset.
        for _ in range(2):
            with pytest.raises(RewardFaultError, match="'Recorded' raised ZeroDivisionError"):
                envs.step([2, 1, 0])
            for ours, kept in zip(envs.state, before, strict=True):
                assert np.array_equal(ours, kept)
        reward.fails = False
        _, rewards, terminated, _, _ = envs.step([2, 1, 0])
        assert rewards.tolist() == [1.0, 2.0, 0.0]
        assert terminated.tolist() == [True, True, False]

    def test_rows_that_end_together_are_scored_in_one_call(self):
        reward = Recorded()
        envs = started(3, made=task(reward=reward))
        envs.step([0, 2, 1])
        envs.step([1, 0, 2])
        assert reward.calls == [[""], ["a b", "b"]]

    def test_skip_and_parts_by_row(self):
        reward = length() + fails_at_b
        envs = started(3, AutoresetMode.SAME_STEP, task(reward=reward), reward_fault="skip")
        # Row 0 cannot be judged while it goes on, row 1 ends and row 2 is fine.
        _, rewards, terminated, _, infos = envs.step([1, 2, 0])
        assert (rewards.tolist(), terminated.tolist()) == ([0.0, 0.0, 1.0], [False, True, False])
        assert infos["reward_fault"].tolist() == [1, 0, 0]
        assert infos["_reward_fault"].tolist() == [True, False, False]
        assert "reward_fault" not in infos["final_info"]
        parts = infos["final_info"]["reward_parts"]
        assert parts["_length"].tolist() == parts["_fails_at_b"].tolist() == [False, True, False]
        # Row 0 ends well, with 1 for its last token and 2 for its length; row 2 ends with b.
        _, rewards, terminated, _, infos = envs.step([0, 0, 1])
        assert (rewards.tolist(), terminated.tolist()) == ([3.0, 1.0, 0.0], [True, False, True])
        assert "reward_fault" not in infos
        assert infos["final_info"]["_reward_fault"].tolist() == [False, False, True]

    @pytest.mark.parametrize("reward", [fails_at_b, [fails_at_b, "length"], ["length", "zero"]])
    @pytest.mark.parametrize("faults", [{}, {"fault_reward": -1.0}])
    def test_faults_and_parts_are_those_of_the_single_environment(self, reward, faults):
        policy = "penalise" if faults else "skip"
        check_vector_env(
            partial(TextVectorEnv, task=task()),
            partial(TextEnv, task()),
            reward=reward,
            reward_fault=policy,
            num_envs=4,
            steps=40,
            **faults,
        )

    def test_columns_by_row_reach_the_reward(self):
        made = task(reward=exact_match(), columns={"reference": ["a", "b"]})
        envs = TextVectorEnv(3, made)
        columns = [{"reference": "b b"}, None, {"reference": "a a"}]
        envs.reset(options={"prompt_index": [0, 0, 1], "columns": columns})
        envs.step([1, 0, 0])
        assert envs.step([1, 2, 0])[1].tolist() == [1.0, 1.0, 1.0]
        envs.step([0, 0, 0])  # all are reset: the columns were those episodes'
        assert envs.state.columns is None


class TestDeferred:
    @pytest.mark.parametrize("mode", MODES)
    def test_rewards_come_later(self, mode):
        reward = Recorded()
        envs = started(3, mode, task(reward=reward), scoring="deferred")
        assert envs.score() == {}
        _, rewards, terminated, _, infos = envs.step([2, 0, 2])
        assert np.isnan(rewards).tolist() == [True, False, True] == terminated.tolist()
        infos = infos.get("final_info", infos)
        assert infos["episode_id"].tolist() == [0, 0, 1]
        assert infos["_episode_id"].tolist() == [True, False, True]
        if mode == AutoresetMode.DISABLED:
            envs.reset(options={"reset_mask": terminated})
        envs.step([0, 1, 0])
        assert reward.calls == []
        assert envs.score() == {0: 0.0, 1: 0.0, 2: 2.0}
        assert reward.calls == [["", "", "a b"]]
        assert envs.score() == {}

    def test_a_fault_loses_no_text(self):
        reward = Recorded()
        envs = started(2, made=task(reward=reward), scoring="deferred")
        envs.step([2, 0])
        reward.fails = True
        with pytest.raises(RewardFaultError):
            envs.score()
        envs.step([0, 2])
        reward.fails = False
        assert envs.score() == {0: 0.0, 1: 1.0}

    def test_columns_that_only_some_texts_have(self):
        # exact_match leaves a text out whose column is None; a plain column is needed for the task.
        made = task(reward=exact_match(), columns={"reference": ["a", "b"]})
        envs = TextVectorEnv(1, made, scoring="deferred", autoreset_mode="SAME_STEP")
        envs.reset(options={"prompt_index": 0, "columns": {"reference": "b", "note": 1}})
        for token in (1, 2, 2):  # "b", then ""
            envs.step([token])
        assert envs.score() == {0: 1.0, 1: 0.0}
        envs.reset(options={"prompt_index": 0})
        envs.step([2])
        envs.reset(options={"prompt_index": 0, "columns": {"note": 2}})
        envs.step([2])
        assert envs.score() == {2: 0.0, 3: 0.0}


class TestStarts:
    def test_one_value_or_one_for_each_row(self):
        envs = TextVectorEnv(2, task())
        one = envs.reset(options={"prompt": "b", "prefix": "a"})[0]
        assert one.tolist() == [[1, 0, 3], [1, 0, 3]]
        each = envs.reset(options={"prompt": ["b", "a"], "prefix": ["", [1]]})[0]
        assert each.tolist() == [[1, 3, 3], [0, 1, 3]]
        ids = envs.reset(options={"prompt": [[1], [0]], "prefix": [[], [1]]})[0]
        assert ids.tolist() == each.tolist()  # lists of different lengths
        table = envs.reset(options={"prompt": np.array([[1], [0]]), "prefix": np.array([0])})[0]
        assert table.tolist() == [[1, 0, 3], [0, 0, 3]]
        some = envs.reset(seed=1, options={"prompt": [None, "a"], "prefix": [[0], None]})[0]
        assert some[0, 1:].tolist() == [0, 3]
        assert some[1].tolist() == [0, 3, 3]

    def test_prompt_numbers_as_an_array(self):
        envs = TextVectorEnv(3, task())
        observation, _ = envs.reset(options={"prompt_index": np.array([1, 0, 1])})
        assert observation[:, 0].tolist() == [1, 0, 1]

    def test_seeds(self):
        many = task(prompts=["a", "b"] * 50)
        envs = TextVectorEnv(4, many)
        listed = envs.reset(seed=[7, 8, 9, 10])
        assert np.array_equal(listed[0], envs.reset(seed=7)[0])
        assert np.array_equal(envs.reset(seed=[7, None, None, None])[0][0], listed[0][0])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"prompt": ["a", "b", "a"]}, r"options\['prompt'\] must be one value or a list of 2"),
            ({"prompt_index": [0]}, "a list of 2, got a list of 1"),
            ({"prompt": ["a", "x"]}, "'x' is not in the vocabulary"),
            ({"prompt": ["a", 5]}, r"the prompt \(row 1\) must be a text or a list"),
            ({"prompt": ["a", ""]}, r"the prompt \(row 1\) is empty"),
            ({"prefix": ["a", "a $"]}, r"the prefix \(row 1\) 'a \$' is already finished after 2"),
            ({"prompt_index": [0, 2]}, r"prompt_index \(row 1\) lies in 0 … 1, got 2"),
            ({"columns": [{}, 3]}, r"columns \(row 1\) must be a dict"),
            ({"prompts": "a"}, r"got \['prompts'\]"),
            ({"reset_mask": np.array([1, 0])}, r"bool array of shape \(2,\)"),
            ({"reset_mask": np.array([True])}, r"bool array of shape \(2,\)"),
            ({"reset_mask": np.array([False, False])}, "marks no row"),
        ],
    )
    def test_what_does_not_fit_is_refused_and_loses_nothing(self, options, message):
        envs = started()
        envs.step([0, 1])
        with pytest.raises(ValueError, match=message):
            envs.reset(options=options)
        assert envs.state.tokens.tolist() == [[0, 0, 3], [0, 1, 3]]
        assert envs.step([0, 1])[1].tolist() == [2.0, 2.0]

    def test_a_reset_for_some_leaves_options_alone(self):
        envs = started()
        options = {"reset_mask": np.array([True, False]), "prompt": "b"}
        envs.reset(options=options)
        assert sorted(options) == ["prompt", "reset_mask"]
        assert envs.state.tokens[:, 0].tolist() == [1, 0]

    def test_the_first_reset_starts_all(self):
        envs = TextVectorEnv(2, task())
        with pytest.raises(ResetNeededError, match="leave reset_mask out"):
            envs.reset(options={"reset_mask": np.array([True, False])})
        with pytest.raises(ResetNeededError, match=r"before reset\(\)"):
            envs.step([0, 0])
        with pytest.raises(ResetNeededError):
            _ = envs.state


class TestActions:
    @pytest.mark.parametrize("kind", [list, tuple, np.array, partial(np.array, dtype=np.uint8)])
    def test_integers(self, kind):
        assert started().step(kind([0, 1]))[0].tolist() == [[0, 0, 3], [0, 1, 3]]

    @pytest.mark.parametrize(
        ("actions", "message"),
        [
            ([0, 3], r"0 … 2, row 1 has 3"),
            ([-1, 0], r"0 … 2, row 0 has -1"),
            (np.array([0, -1], np.int32), "row 1 has -1"),
            ([0.0, 1.0], "integers in 0 … 2, got float64"),
            ([True, False], "got bool"),
            (["0", "1"], "got <U1"),
            ([0], r"shape \(2,\), got shape \(1,\)"),
            (0, r"shape \(2,\), got shape \(\)"),
            ([[0], [1]], r"got shape \(2, 1\)"),
        ],
    )
    def test_anything_else_is_refused_and_nothing_is_lost(self, actions, message):
        envs = started()
        with pytest.raises(InvalidActionError, match=message):
            envs.step(actions)
        assert envs.state.tokens.tolist() == [[0, 3, 3], [0, 3, 3]]
        assert envs.state.length.tolist() == [0, 0]

    def test_masks(self):
        vocabulary = WordVocabulary(["a", "b"], end="$")
        vocabulary.suppressed_tokens = (1,)
        made = task(vocabulary=vocabulary)
        assert TextVectorEnv(2, made).action_masks().tolist() == [[True, False, True]] * 2
        observation, infos = TextVectorEnv(2, made, mask="observation").reset(seed=0)
        assert observation["action_mask"].tolist() == [[1, 0, 1]] * 2
        assert infos == {}


class TestStates:
    def test_back_to_where_it_was(self):
        envs = started()
        envs.step([0, 1])
        state = envs.state
        envs.step([0, 2])
        envs.step([0, 0])
        envs.set_state(state)
        assert envs.text == ["a", "b"]
        assert envs.step([0, 2])[1].tolist() == [2.0, 1.0]

    def test_the_draws_go_on_where_they_were(self):
        """Blocks of 64 draws end on the way."""
        envs = TextVectorEnv(2, task(prompts=["a", "b", "a b"]))
        envs.reset(seed=5)
        state, draws = envs.state, envs.random_state
        twin = TextVectorEnv(2, task(prompts=["a", "b", "a b"]))
        twin.set_state(state)
        twin.random_state = draws
        for _ in range(100):
            np.testing.assert_array_equal(twin.reset()[0], envs.reset()[0])
        with pytest.raises(ValueError, match="expected the draws of 3 rows, got 2"):
            TextVectorEnv(3, task()).random_state = draws

    def test_columns_are_a_part_of_the_state(self):
        made = task(reward=exact_match("x"))
        envs = TextVectorEnv(2, made)
        envs.reset(options={"columns": [{"note": 1}, None]})
        state = envs.state
        assert state.columns == ({"note": 1}, None)
        envs.reset()
        envs.set_state(state)
        assert envs.state.columns == ({"note": 1}, None)

    def test_another_number_of_rows_is_refused(self):
        with pytest.raises(ValueError, match=r"tokens of shape \(2, 3\) .* got \(3, 3\)"):
            started(2).set_state(started(3).state)

    def test_finished_rows_are_reset_next_or_refused(self):
        envs = started()
        envs.step([0, 2])
        state = envs.state
        again = started()
        again.set_state(state)
        observation, rewards, terminated, _, _ = again.step([1, -1])
        assert observation[1, 1:].tolist() == [3, 3]
        assert (rewards.tolist(), terminated.tolist()) == ([2.0, 0.0], [True, False])
        same = started(mode=AutoresetMode.SAME_STEP)
        before = same.state
        with pytest.raises(ValueError, match=r"rows \[1\] of the state have ended"):
            same.set_state(state)
        assert same.state.tokens.tolist() == before.tokens.tolist()

    def test_a_state_may_come_before_the_first_reset(self):
        state = started().state
        envs = TextVectorEnv(2, task(), autoreset_mode="SAME_STEP")
        envs.set_state(state)
        observation, _, terminated, _, _ = envs.step([2, 2])  # draws the next prompts
        assert terminated.all()
        assert observation[:, 1:].tolist() == [[3, 3], [3, 3]]

    def test_copy_goes_its_own_way(self):
        envs = started()
        twin = copy.deepcopy(envs)
        envs.step([0, 0])
        assert twin.text == ["", ""]
        assert twin.task is envs.task

    def test_lent_memory(self):
        envs = started(copy=False)
        first = envs.step([0, 0])[0]
        second = envs.step([1, 1])[0]
        assert second is first
        assert first.tolist() == [[0, 0, 1], [0, 0, 1]]


class TestKeywords:
    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"num_envs": 0}, "num_envs ≥ 1, got 0"),
            ({"num_envs": 2.5}, "a whole number of rows, num_envs ≥ 1, got 2.5"),
            ({"num_envs": True}, "num_envs ≥ 1, got True"),
            ({"autoreset_mode": "SOON"}, "AutoresetMode.NEXT_STEP.*got 'SOON'"),
            ({"scoring": "later"}, '"step" or "deferred", got \'later\''),
            ({"render_mode": "human"}, "ansi.*got 'human'"),
            ({"mask": "infos"}, "expected mask="),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, keywords, message):
        with pytest.raises(ValueError, match=message):
            gym.make_vec("textenv/ILoveYou-v0", **{"num_envs": 2, **keywords})

    def test_a_model_in_memory_is_shared(self):
        model = TabularLM(4, vocabulary=CharacterVocabulary("我爱你。"))
        envs = gym.make_vec("textenv/ILoveYou-v0", 2, lm=model)
        assert envs.unwrapped.lm is model
        assert gym.make_vec(envs.spec).unwrapped.lm is model
        for write in (pickle.dumps, lambda spec: spec.to_json()):
            with pytest.raises(NotSerialisableError, match="<TabularLM in memory>"):
                write(envs.spec)

    def test_the_spec_is_plain(self):
        envs = gym.make_vec("textenv/ILoveYou-v0", 2, autoreset_mode=AutoresetMode.DISABLED)
        kwargs = json.loads(envs.spec.to_json())["kwargs"]
        assert kwargs["autoreset_mode"] == "Disabled"
        assert kwargs["num_envs"] == 2
