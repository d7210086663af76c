"""`Fragments(n)` and `Strings`: several tokens an action, worked out by hand."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import textenv
from tests.small_tasks import started, task
from textenv import AllTokens, Candidates, Completion, Fragments, Strings, TextEnv, TextVectorEnv
from textenv.errors import InvalidActionError, RewardFaultError, TextenvError
from textenv.rewards import length, word_preference
from textenv.spaces import UnicodeText

A, B, C, STOP, END, NOTHING = range(6)  # of the small task: P = 2, T = 3
MODES = list(AutoresetMode)
PAYS = word_preference({"a": 1.0, "b": -2.0}, pays="token")


def pays_length_so_far(completions, completion_ids, **columns):
    """Each token pays its place: 1, 2, 3. No table can say that; it cannot judge a c."""
    if any(text.endswith("c") for text in completions):
        raise ZeroDivisionError("a c")
    return [[float(place + 1) for place in range(len(ids))] for ids in completion_ids]


pays_length_so_far.pays = "token"


def vector(prompts=("a", "a"), made=None, **keywords):
    envs = TextVectorEnv(len(prompts), made or task(), **keywords)
    envs.reset(seed=0, options={"prompt": list(prompts)})
    return envs


@pytest.mark.parametrize(
    ("forms", "expected"),
    [
        (["candidates:2", {"name": "candidates", "k": 2}, Candidates(2)], Candidates(2)),
        (["fragments:3", {"name": "fragments", "n": 3}, Fragments(3)], Fragments(3)),
        (["strings", {"name": "strings"}, Strings()], Strings()),
    ],
)
def test_three_forms_go_through_json(forms, expected):
    for form in forms:
        env = gym.make("textenv/ILoveYou-v0", action=form)
        again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
        assert again.unwrapped.setup.action == expected
        assert again.action_space == env.action_space
        assert repr(again.unwrapped.setup.action) == repr(expected)


def test_all_are_exported():
    for kind in (AllTokens, Candidates, Completion, Fragments, Strings):
        assert getattr(textenv, kind.__name__) is kind
        assert kind.__name__ in textenv.__all__


class TestFragments:
    def test_space(self):
        assert started(action="fragments:2").action_space == gym.spaces.MultiDiscrete([5, 5])
        assert vector(action="fragments:2").action_space.shape == (2, 2)

    def test_what_comes_after_the_end_is_ignored(self):
        env = started(action="fragments:4")
        assert env.step([A, STOP, B, B])[1:4] == (2.0, True, False)  # the length of a !
        assert env.state.tokens.tolist() == [NOTHING, A, A, STOP, NOTHING]
        env = started(action="fragments:4")
        assert env.step(np.array([A, END, B, B]))[1] == 1.0
        assert env.text == "a"
        env = started(action="fragments:4")
        assert env.step((A, B, C, A))[1:3] == (3.0, True)  # T = 3
        assert env.text == "a b c"

    @pytest.mark.parametrize("reward", [PAYS, [PAYS, "zero"], [PAYS, "length"]])
    def test_rewards_are_summed(self, reward):
        extra = 3.0 if reward == [PAYS, "length"] else 0.0
        env = started("a", task(reward=reward), action="fragments:2")
        assert env.step([A, B])[1:3] == (-1.0, False)
        _, paid, over, _, info = env.step([A, A])
        assert (paid, over) == (1.0 + extra, True)
        if isinstance(reward, list):
            assert info["reward_parts"]["word_preference"] == 0.0  # of the whole text a b a
        envs = vector(made=task(reward=reward), action="fragments:2")
        assert envs.step([[A, B], [A, A]])[1].tolist() == [-1.0, 2.0]
        assert envs.step([[A, A], [C, A]])[1].tolist() == [1.0 + extra, extra]

    def test_a_failing_reward_leaves_everything_as_it_was(self):
        made = task(reward=pays_length_so_far)
        env = started("a", made, action="fragments:2")
        with pytest.raises(RewardFaultError, match="a c"):
            env.step([A, C])  # a alone was fine
        assert env.text == ""
        assert env.step([A, B])[1] == 1.0 + 2.0
        assert env.step([A, B])[1] == 3.0
        envs = vector(made=made, action="fragments:2")
        envs.step([[A, A], [B, END]])
        before = envs.state
        for _ in range(2):
            with pytest.raises(RewardFaultError, match="a c"):
                envs.step([[C, A], [A, A]])
            assert envs.state.tokens.tolist() == before.tokens.tolist()
            assert envs.state.length.tolist() == before.length.tolist() == [2, 2]

    @pytest.mark.parametrize("reward", [pays_length_so_far, PAYS, [PAYS, "length"]])
    def test_deferred_scores_are_those_of_the_step(self, reward):
        made = task(reward=reward)
        now, later = (
            vector("abab", made, action="fragments:2", scoring=scoring)
            for scoring in ("step", "deferred")
        )
        expected = {}
        generator = np.random.default_rng(0)
        for _ in range(30):
            actions = generator.choice([A, B, END], size=(4, 2))
            _, rewards, ended, _, _ = now.step(actions)
            _, paid, _, _, infos = later.step(actions)
            assert np.array_equal(paid, np.where(ended, np.nan, rewards), equal_nan=True)
            expected |= {infos["episode_id"][row]: rewards[row] for row in np.flatnonzero(ended)}
        assert later.score() == expected
        assert len(expected) > 20

    def test_texts_that_end_in_one_step_are_scored_in_one_call(self):
        calls = []

        def reward(completions, **columns):
            calls.append(list(completions))
            return [0.0] * len(completions)

        envs = vector("abb", task(reward=reward), action="fragments:3")
        envs.step([[A, END, A], [END, A, A], [A, B, C]])
        assert calls == [["a", "", "a b c"]]

    def test_masks(self):
        made = task()
        made.vocabulary.suppressed_tokens = (C,)
        expected = [1, 1, 0, 1, 1] * 2
        env = TextEnv(made, action="fragments:2", mask="info")
        assert env.reset(seed=0)[1]["action_mask"].tolist() == expected
        assert env.action_masks().tolist() == [bool(entry) for entry in expected]
        envs = TextVectorEnv(2, made, action="fragments:2", mask="observation")
        assert envs.reset(seed=0)[0]["action_mask"].tolist() == [expected] * 2

    @pytest.mark.parametrize(
        "action", [[A], [A, A, A], A, [[A, A]], [A, 5], [-1, A], [0.0, 1.0], [True, False], None]
    )
    def test_bad_actions(self, action):
        env = started(action="fragments:2")
        with pytest.raises(InvalidActionError, match=r"expected (an )?integer|in 0 … 4, place"):
            env.step(action)
        assert env.text == ""

    def test_bad_rows(self):
        envs = vector(action="fragments:2")
        with pytest.raises(InvalidActionError, match=r"row 1 has \[0 9\]"):
            envs.step([[A, A], [A, 9]])
        with pytest.raises(InvalidActionError, match=r"shape \(2, 2\), got shape \(2,\)"):
            envs.step([A, A])

    def test_too_few(self):
        with pytest.raises(ValueError, match=r"Fragments\(n\) takes an integer ≥ 1, got 0"):
            TextEnv(task(), action="fragments:0")


class TestStrings:
    def test_a_text_is_written_token_by_token(self):
        env = started(action="strings")
        assert env.action_space == UnicodeText(env.task.vocabulary)
        assert env.step("a b")[1:3] == (0.0, False)
        assert env.step("c a a")[1:3] == (3.0, True)  # what does not fit in T is cut
        assert env.text == "a b c"

    def test_the_empty_text_is_the_end(self):
        env = started(action="strings")
        env.step("a")
        assert env.step("")[1:3] == (1.0, True)
        assert env.state.tokens.tolist() == [NOTHING, A, A, END, NOTHING]
        env = started(action="strings")
        assert env.step("b ! a")[1:3] == (2.0, True)  # a stop word ends it, too

    def test_chinese(self):
        env = gym.make("textenv/ILoveYou-v0", action="strings")
        env.reset(seed=0)
        assert env.step("我爱你。")[1:3] == (1.0, True)

    @pytest.mark.parametrize("mode", MODES)
    def test_rows(self, mode):
        envs = vector(action="strings", autoreset_mode=mode)
        _, rewards, terminated, _, _ = envs.step(["a b", ""])
        assert (rewards.tolist(), terminated.tolist()) == ([0.0, 0.0], [False, True])
        if mode == AutoresetMode.NEXT_STEP:
            envs.step(("c", None))  # the second is not read
            assert envs.text == ["a b c", ""]

    @pytest.mark.parametrize(
        ("action", "message"),
        [
            ("a x", "the action cannot be written: 'x' is not in the vocabulary"),
            ("  ", "has no tokens"),
            (3, "expected a text, got 3 of type int"),
            (["a"], "expected a text"),
            (None, "expected a text"),
            (b"a", "expected a text"),
        ],
    )
    def test_bad_actions(self, action, message):
        env = started(action="strings")
        with pytest.raises(InvalidActionError, match=message):
            env.step(action)
        assert env.text == ""

    def test_half_a_surrogate_pair(self):
        env = gym.make("textenv/Sentiment-v0", action="strings")
        env.reset(seed=0)
        with pytest.raises(InvalidActionError, match=r"'\\ud800' cannot be written in UTF-8"):
            env.step("\ud800")

    def test_the_empty_text_where_there_is_no_end_token(self):
        env = started(action="strings", end=False)
        with pytest.raises(InvalidActionError, match="is empty, and small has no end token"):
            env.step("")

    def test_bad_rows(self):
        envs = vector(action="strings")
        for actions in ("ab", ["a"], 3, ["a", "a", "a"]):
            with pytest.raises(InvalidActionError, match="expected a list of 2 texts"):
                envs.step(actions)
        with pytest.raises(InvalidActionError, match=r"the action \(row 1\) cannot be written"):
            envs.step(["a", "x"])
        assert envs.text == ["", ""]

    def test_there_is_no_mask(self):
        for mask in ("info", "observation", "method"):
            with pytest.raises(ValueError, match="texts have no mask: leave out mask='"):
                TextEnv(task(), action="strings", mask=mask)
        with pytest.raises(TextenvError, match="no mask: where one is needed, use"):
            started(action="strings").action_masks()

    def test_faults_of_some_tokens(self):
        """Of the three tokens the c cannot be judged: it pays −1, the others their place."""
        made = task(reward=pays_length_so_far)
        keywords = {"action": "strings", "reward_fault": "penalise", "fault_reward": -1.0}
        _, reward, over, _, info = started("a", made, **keywords).step("a c a")
        assert (reward, over, info) == (1.0 - 1.0 + 3.0, True, {"reward_fault": 1})
        _, rewards, _, _, infos = vector(made=made, **keywords).step(["a c a", "a"])
        assert rewards.tolist() == [3.0, 1.0]
        assert infos["reward_fault"].tolist() == [1, 0]


def test_length_is_the_reward_of_the_small_task():
    """What the numbers above rest on."""
    assert task().reward.spec() == length().spec()


class TestCompletion:
    def test_one_step_is_an_episode(self):
        env = started(action="completion")
        assert env.step("a b")[1:3] == (2.0, True)
        assert env.state.tokens.tolist() == [NOTHING, A, A, B, END]
        for text, paid, tokens in [("", 0.0, 1), ("c a a", 3.0, 3), ("b ! a", 2.0, 2)]:
            env.reset(seed=0)
            assert env.step(text)[1:3] == (paid, True)  # cut at T, or ended by a stop word
            assert env.state.length == tokens

    @pytest.mark.parametrize("mode", MODES)
    def test_rows(self, mode):
        envs = vector(action="completion", autoreset_mode=mode)
        _, rewards, terminated, _, _ = envs.step(["a b", ""])
        assert (rewards.tolist(), terminated.tolist()) == ([2.0, 0.0], [True, True])

    def test_through_json(self):
        env = gym.make("textenv/WordPreference-v0", action=textenv.Completion())
        again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
        assert again.unwrapped.setup.action == textenv.actions.parse("completion")
        assert again.action_space == env.action_space

    def test_a_task_without_an_end_token(self):
        with pytest.raises(ValueError, match=r'small has none .*use action="strings"'):
            started(action="completion", end=False)
