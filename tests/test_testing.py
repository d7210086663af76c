"""The checkers can fail: for each promise a small thing that breaks it, and must be caught."""

from __future__ import annotations

import random
import re
from functools import partial
from itertools import count

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from textenv import Task, TextEnv, TextVectorEnv, mdp
from textenv.errors import InvalidActionError
from textenv.plugins import Held
from textenv.rewards import Reward, length
from textenv.setup import TextSpec
from textenv.testing import (
    CheckError,
    PlaythroughError,
    check_env,
    check_reward,
    check_vector_env,
    record_playthrough,
    replay_playthrough,
)
from textenv.testing.compare import choose, difference
from textenv.vocabulary import WordVocabulary


def small_task(**changes):
    """Prompts of different lengths, an end token, a stop token: P = 2, T = 3, V = 5."""
    task = Task(
        name="small",
        vocabulary=WordVocabulary(["a", "b", "c", "!"], end="$"),
        max_tokens=3,
        reward=length(),
        prompts=["a", "b c", "c b", "b"],
        stop=["!"],
    )
    return task.with_changes(**changes)


# Single environments.


class PadsWithZero(TextEnv):
    def _observation(self):
        observation = super()._observation()
        return np.where(observation == self._rules.nothing, 0, observation)


class AlignsPromptLeft(TextEnv):
    def _observation(self):
        observation = super()._observation()
        prompt = observation[:2]
        observation[:2] = sorted(prompt, key=lambda token: token == self._rules.nothing)
        return observation


class WrongDtype(TextEnv):
    def _observation(self):
        return super()._observation().astype(np.int32)


class WrongSpace(TextEnv):
    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.observation_space = gym.spaces.Box(0, 4, (5,), np.int64)


class TruncatesAtTheLimit(TextEnv):
    def step(self, action):
        observation, reward, over, _, info = super().step(action)
        limit = over and self.state.length == 3
        return observation, reward, over and not limit, limit, info


class NeverEndsAtTheEndToken(TextEnv):
    def step(self, action):
        observation, reward, over, truncated, info = super().step(action)
        self._over = over = self.state.length == 3
        return observation, reward, over, truncated, info


class NumPyReward(TextEnv):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, np.float64(reward), *rest


class InfiniteReward(TextEnv):
    def step(self, action):
        observation, _, over, truncated, info = super().step(action)
        return observation, float("inf") if over else 0.0, over, truncated, info


class PaysEarly(TextEnv):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, reward + 1.0, *rest


class TakesFloats(TextEnv):
    def step(self, action):
        return super().step(int(action) if isinstance(action, float) else action)


class TakesLists(TextEnv):
    def step(self, action):
        return super().step(action[0] if isinstance(action, list) else action)


class RefusesNumPy(TextEnv):
    def step(self, action):
        if isinstance(action, np.ndarray):
            raise InvalidActionError("no arrays")
        return super().step(action)


class WritesBeforeItChecks(TextEnv):
    def step(self, action):
        try:
            return super().step(action)
        except InvalidActionError:
            self._state.tokens[-1] = 0
            raise


class NamesNoRange(TextEnv):
    def step(self, action):
        try:
            return super().step(action)
        except InvalidActionError:
            raise InvalidActionError("bad action") from None


class GoesOnAfterTheEnd(TextEnv):
    def step(self, action):
        if self._over:
            return self._observation(), 0.0, True, False, {}
        return super().step(action)


class LendsItsMemory(TextEnv):
    def _observation(self):
        return self._state.tokens


class LendsOneMask(TextEnv):
    def _info(self):
        if not hasattr(self, "mask"):
            self.mask = self.setup.action_mask(None)
        return {"action_mask": self.mask}


class IgnoresTheSeed(TextEnv):
    _count = count()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return super().reset(options=options or {"prompt_index": next(self._count) % 4})


class LendsItsState(TextEnv):
    @property
    def state(self):
        return self._state

    def step(self, action):
        result = super().step(action)
        self._state = mdp.State(self._state.tokens, *self._state[1:])
        return result


class ForgetsTheLength(TextEnv):
    def set_state(self, state):
        super().set_state(state)
        self._state = self._state._replace(length=0)


class KeepsTheCallersState(TextEnv):
    def set_state(self, state):
        super().set_state(state)
        self._state = state


class NeverOverOnceSet(TextEnv):
    def set_state(self, state):
        super().set_state(state)
        self._over = False


class TakesAnyState(TextEnv):
    def set_state(self, state):
        if len(state.tokens) == self._rules.width:
            super().set_state(state)


class CopiesAreItself(TextEnv):
    def __deepcopy__(self, memo):
        return self


class OtherStateThanTransition(TextEnv):
    def step(self, action):
        result = super().step(action)
        self._state = self._state._replace(columns={"step": 1})
        return result


class IgnoresPrefixes(TextEnv):
    def reset(self, *, seed=None, options=None):
        options = {key: value for key, value in (options or {}).items() if key != "prefix"}
        return super().reset(seed=seed, options=options)


class TakesFinishedPrefixes(TextEnv):
    def reset(self, *, seed=None, options=None):
        try:
            return super().reset(seed=seed, options=options)
        except ValueError:
            return super().reset()


class TextInInfo(TextEnv):
    def step(self, action):
        *rest, info = super().step(action)
        return *rest, {**info, "notes": ["so far", self.text]}


class WrongText(TextEnv):
    @property
    def text(self):
        return self.task.vocabulary.decode(
            [t for t in self.state.tokens[2:] if t != self._rules.nothing]
        )


class UsesTheGlobalGenerator(TextEnv):
    def step(self, action):
        random.random()
        return super().step(action)


class SetsTheGlobalSeed(TextEnv):
    def reset(self, *, seed=None, options=None):
        np.random.seed(0)  # noqa: NPY002
        return super().reset(seed=seed, options=options)


class MasksNothingOut(TextEnv):
    def action_masks(self):
        return np.zeros(self._rules.vocabulary_size, dtype=np.bool_)


class RendersANumber(TextEnv):
    def render(self):
        return 3


BROKEN = {
    PadsWithZero: "the observation",
    AlignsPromptLeft: "the observation differs first at",
    WrongDtype: "the observation.*int32|not in its space",
    WrongSpace: "the observation space",
    TruncatesAtTheLimit: "terminated after 3 tokens",
    NeverEndsAtTheEndToken: "terminated after .* the last of which is [34]",
    NumPyReward: "float64, no float",
    InfiniteReward: "finite",
    PaysEarly: "the reward of an unfinished text",
    TakesFloats: r"step\(0.0\)",
    TakesLists: r"step\(\[0\]\)",
    RefusesNumPy: "no arrays",
    WritesBeforeItChecks: "the state after the refused step",
    NamesNoRange: "names no range",
    GoesOnAfterTheEnd: "after the end",
    LendsItsMemory: "overwrites",
    IgnoresTheSeed: "two runs",
    LendsItsState: "the state",
    ForgetsTheLength: "set_state",
    KeepsTheCallersState: "the caller's changes",
    NeverOverOnceSet: "finished state that was set",
    TakesAnyState: "state of another task",
    CopiesAreItself: "deep copy",
    OtherStateThanTransition: "beside mdp.transition",
    IgnoresPrefixes: "prefix",
    TakesFinishedPrefixes: "prefix that is finished",
    TextInInfo: "holds no texts",
    WrongText: "env.text",
    UsesTheGlobalGenerator: "the global generator of random",
    SetsTheGlobalSeed: "the global generator of numpy.random",
    MasksNothingOut: "action_masks",
}


def test_a_good_environment_passes():
    check_env(TextEnv(small_task()))
    check_env(gym.wrappers.TimeLimit(TextEnv(small_task()), 2))
    check_env("textenv/ILoveYou-v0", reward="length")


@pytest.mark.parametrize("broken", BROKEN)
def test_check_env_catches(broken):
    with pytest.raises((CheckError, InvalidActionError), match=f"(?s){BROKEN[broken]}"):
        check_env(broken(small_task()))


def test_check_env_catches_a_lent_mask():
    with pytest.raises(CheckError, match="overwrites"):
        check_env(LendsOneMask(small_task(), mask="info"))


def test_check_env_asks_gymnasium_too():
    # Gymnasium only warns; here every warning is an error.
    with pytest.raises(UserWarning, match="should produce a string"):
        check_env(RendersANumber(small_task(), render_mode="ansi"))


def test_check_env_wants_a_text_environment():
    with pytest.raises(TypeError, match="CartPoleEnv"):
        check_env(gym.make("CartPole-v1"))


class Eager(TextEnv):
    """Plays without a reset."""

    def step(self, action):
        if self._state is None:
            self.reset()
        return super().step(action)


class Forgetful(TextEnv):
    """Its spec loses a keyword."""

    @property
    def spec(self):
        return self._spec

    @spec.setter
    def spec(self, spec):
        kwargs = {key: value for key, value in spec.kwargs.items() if key != "reward"}
        self._spec = TextSpec(spec.id, entry_point=spec.entry_point, kwargs=kwargs)


class Unwritable(TextEnv):
    """Its spec holds what JSON cannot."""

    @property
    def spec(self):
        return self._spec

    @spec.setter
    def spec(self, spec):
        self._spec = gym.envs.registration.EnvSpec(
            spec.id, entry_point=spec.entry_point, kwargs={**spec.kwargs, "max_tokens": np.int64(4)}
        )


class NoModel:
    next = None


class WritesWhatItHolds(TextEnv):
    """Its spec holds an object in memory, and claims that JSON could."""

    @property
    def spec(self):
        return self._spec

    @spec.setter
    def spec(self, spec):
        class Careless(TextSpec):
            def to_json(self):
                return "{}"

        fields = {"entry_point": spec.entry_point, "kwargs": {**spec.kwargs, "lm": Held(NoModel())}}
        self._spec = Careless(spec.id, **fields)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Eager, r"step\(\) before reset"),
        (Forgetful, "spec through pickle"),
        (Unwritable, "does not go through JSON"),
        (WritesWhatItHolds, "an object in memory"),
    ],
)
def test_check_env_catches_by_the_spec(broken, message):
    name = f"checked/{broken.__name__}-v0"
    gym.register(name, entry_point=f"{__name__}:{broken.__name__}", kwargs={"task": "ILoveYou"})
    try:
        with pytest.raises(CheckError, match=message):
            check_env(name, reward="length")
    finally:
        del gym.registry[name]


# Vector environments.


class OneSeedForAll(TextVectorEnv):
    def _seed(self, seed, rows):
        super()._seed([seed] * self.num_envs if isinstance(seed, int) else seed, rows)


class ReadsUnreadActions(TextVectorEnv):
    def step(self, actions):
        if (np.asarray(actions) < 0).any():
            raise InvalidActionError("actions lie in 0 … 4")
        return super().step(actions)


class ShortFloats(TextVectorEnv):
    def step(self, actions):
        observation, rewards, *rest = super().step(actions)
        return observation, rewards.astype(np.float32), *rest


class NoFinalObservation(TextVectorEnv):
    def _final_infos(self, finished, scored):
        infos = super()._final_infos(finished, scored)
        return {key: value for key, value in infos.items() if "final_obs" not in key}


class FinalObservationOfTheNext(TextVectorEnv):
    def step(self, actions):
        observation, *rest, infos = super().step(actions)
        for row in np.flatnonzero(infos.get("_final_obs", [])):
            infos["final_obs"][row] = observation[row].copy()
        return observation, *rest, infos


class StepsWhatHasEnded(TextVectorEnv):
    def _resetting(self):
        return self._finished if self._any_finished else None


class NoMode(TextVectorEnv):
    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        del self.metadata["autoreset_mode"]


class AlwaysLends(TextVectorEnv):
    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.copy = False


class NeverLends(TextVectorEnv):
    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.copy = True


class NoTimeLimit(TextVectorEnv):
    def __init__(self, *args, max_episode_steps=None, **keywords):
        super().__init__(*args, **keywords)


class FirstOptionForAll(TextVectorEnv):
    def reset(self, *, seed=None, options=None):
        options = dict(options or {})
        if isinstance(options.get("prompt_index"), list):
            options["prompt_index"] = options["prompt_index"][0]
        return super().reset(seed=seed, options=options)


class LosesColumns(TextVectorEnv):
    def _own_columns(self):
        return None


class WrongDeferredRewards(TextVectorEnv):
    def score(self):
        return dict.fromkeys(super().score(), 1.0)


class OneEpisodeId(TextVectorEnv):
    def step(self, actions):
        self._paymaster._next_episode_id = 0
        return super().step(actions)


class PaysAtOnceThoughDeferred(TextVectorEnv):
    def __init__(self, *args, scoring="step", **keywords):
        super().__init__(*args, **keywords)


class IgnoresSetState(TextVectorEnv):
    def set_state(self, state):
        pass


class CopiesOfVectorsAreItself(TextVectorEnv):
    def __deepcopy__(self, memo):
        return self


class ClipsActions(TextVectorEnv):
    def step(self, actions):
        actions = np.asarray(actions)
        return super().step(np.clip(actions, 0, 4) if actions.shape == (self.num_envs,) else 0)


class Refuses32Bits(TextVectorEnv):
    def step(self, actions):
        if np.asarray(actions).dtype == np.int32:
            raise InvalidActionError("no int32")
        return super().step(actions)


class ResetsAll(TextVectorEnv):
    def reset(self, *, seed=None, options=None):
        options = {key: value for key, value in (options or {}).items() if key != "reset_mask"}
        return super().reset(seed=seed, options=options)


class ForgetsWhichHaveEnded(TextVectorEnv):
    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed, options=options)
        self._finish(np.zeros(self.num_envs, dtype=np.bool_))
        return result


class LendsItsFlags(TextVectorEnv):
    def _finish(self, finished):
        super()._finish(finished)
        if self.autoreset_mode != AutoresetMode.SAME_STEP:
            self._finished = finished


class StartsByItself(TextVectorEnv):
    def step(self, actions):
        if self._state is None:
            self.reset()
        return super().step(actions)


class SharesTheGlobalGenerator(TextVectorEnv):
    def step(self, actions):
        np.random.rand()  # noqa: NPY002
        return super().step(actions)


BROKEN_VECTORS = {
    OneSeedForAll: "observation of reset",
    ReadsUnreadActions: "actions lie in",
    ShortFloats: "reward of step.*float32",
    NoFinalObservation: "info of row .* SameStep",
    FinalObservationOfTheNext: "final_obs",
    StepsWhatHasEnded: "DISABLED",
    NoMode: "autoreset mode",
    AlwaysLends: "copy=True",
    NeverLends: "copy=False",
    NoTimeLimit: "truncated",
    FirstOptionForAll: "prompt_index",
    LosesColumns: "columns",
    WrongDeferredRewards: "score",
    OneEpisodeId: "given twice",
    PaysAtOnceThoughDeferred: "scored later",
    IgnoresSetState: "set_state",
    CopiesOfVectorsAreItself: "deep copy",
    ClipsActions: "step|must raise",
    Refuses32Bits: "no int32",
    ResetsAll: "reset_mask",
    ForgetsWhichHaveEnded: "DISABLED|row . has -1",
    LendsItsFlags: "copy=True|out of bounds",
    StartsByItself: "before reset",
    SharesTheGlobalGenerator: "numpy.random",
}


def check_small_vector(vector, **keywords):
    make = partial(vector, task=small_task())
    check_vector_env(make, partial(TextEnv, small_task()), num_envs=3, steps=20, **keywords)


@pytest.mark.parametrize("mask", [None, "info", "observation"])
def test_a_good_vector_environment_passes(mask):
    check_small_vector(TextVectorEnv, mask=mask, info_text=mask == "info")


@pytest.mark.parametrize("broken", BROKEN_VECTORS)
def test_check_vector_env_catches(broken):
    pattern = f"(?s){BROKEN_VECTORS[broken]}"
    # What breaks in the middle of a step, because its state is wrong by then, is caught as well.
    with pytest.raises((CheckError, InvalidActionError, IndexError), match=pattern):
        check_small_vector(broken)


def test_check_vector_env_wants_both_functions():
    with pytest.raises(ValueError, match="make_single"):
        check_vector_env(partial(TextVectorEnv, task=small_task()))


# Rewards.


def one_too_many(completions, **columns):
    return [0.0] * (len(completions) + 1)


def not_a_number(completions, **columns):
    return [float("nan")] * len(completions)


def a_text(completions, **columns):
    return "".join("1" for _ in completions)


def centred(completions, **columns):
    mean = sum(map(len, completions)) / max(1, len(completions))
    return [len(text) - mean for text in completions]


def by_place(completions, **columns):
    return [float(place) for place, _ in enumerate(completions)]


def no_empty_batch(completions, **columns):
    return [float(len(text)) / len(completions[0] + "x") for text in completions][:99]


def no_empty_text(completions, **columns):
    return [1.0 / len(text) for text in completions]


def ascii_only(completions, **columns):
    return [float(len(text.encode("ascii"))) for text in completions]


def changes_its_input(completions, **columns):
    completions.sort()
    return [0.0] * len(completions)


def changes_the_ids(completions, completion_ids, **columns):
    for ids in completion_ids:
        ids.append(0)
    return [0.0] * len(completions)


def lottery(completions, **columns):
    return [random.random() for _ in completions]


def hidden_dice(completions, **columns):
    return [0.0 * random.random() for _ in completions]


def out_of_range(completions, **columns):
    return [2.0] * len(completions)


out_of_range.range = (0.0, 1.0)


def one_short(completions, completion_ids, **columns):
    return [[0.0] * max(0, len(ids) - 1) for ids in completion_ids]


one_short.pays = "token"


def counting():
    calls = count()
    return lambda completions, **columns: [float(next(calls)) for _ in completions]


class LosesItsArgument(Reward):
    name = "loses its argument"

    def __init__(self, bonus=0.0):
        self.bonus, self.paid = 0.0, bonus

    def __call__(self, prompts, completions, **columns):
        return [self.paid for _ in completions]


class BadTable(Reward):
    name, pays, range = "bad table", "token", (0.0, 1.0)

    def __call__(self, prompts, completions, *, completion_ids, **columns):
        return [[0.0] * len(ids) for ids in completion_ids]

    def token_table(self, vocabulary):
        return np.full(vocabulary.size, 2.0)


BROKEN_REWARDS = [
    (one_too_many, "payments for"),
    (not_a_number, "finite"),
    (a_text, "expected a list"),
    (centred, "one by one"),
    (by_place, "one by one"),
    (no_empty_batch, "one by one|no texts|IndexError"),
    (no_empty_text, "ZeroDivisionError.*''"),
    (ascii_only, "UnicodeEncodeError.*我爱你。|café"),
    (changes_its_input, "was handed"),
    (changes_the_ids, "was handed"),
    (lottery, "one by one|again"),
    (hidden_dice, "global generator of random"),
    (out_of_range, r"range 0.0 … 1.0 and pays 2.0"),
    (one_short, "numbers for"),
    (counting(), "one by one"),
    (LosesItsArgument(1.0), "made from its JSON"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN_REWARDS)
def test_check_reward_catches(broken, message):
    with pytest.raises(CheckError, match=message):
        check_reward(broken)


def test_check_reward_catches_a_term_of_a_sum():
    with pytest.raises(CheckError, match="'out_of_range' states the range"):
        check_reward(length() + out_of_range)


def test_check_reward_catches_a_wrong_token_table():
    vocabulary = WordVocabulary(["a", "b"])
    with pytest.raises(CheckError, match="token table"):
        check_reward(BadTable(), vocabulary=vocabulary)


def test_check_reward_reports():
    # Two texts of ours and the two that are always asked: 1, 3, 0 and (one piece) 1 tokens.
    report = check_reward("length", ["", "x"], ["one", "two words more"])
    assert (report.texts, report.left_out) == (4, 0)
    assert (report.minimum, report.maximum, report.mean) == (0.0, 3.0, 1.25)
    assert 0 < report.seconds_per_1000 < 1


def test_check_reward_with_columns_and_none():
    # The added texts take the first text's column: two more misses. None leaves one out.
    report = check_reward("exact_match", ["", ""], ["yes", "no"], reference=["yes", None])
    assert (report.texts, report.left_out, report.maximum) == (4, 1, 1.0)
    assert report.mean == pytest.approx(1 / 3)


def test_check_reward_with_ids_and_a_vocabulary():
    vocabulary = WordVocabulary(["我", "爱", "你", "。"], separator="")
    wanted = {"name": "word_preference", "weights": {"我": 1.0}, "separator": "", "pays": "token"}
    assert check_reward("length", vocabulary=vocabulary).maximum == 4.0  # 我爱你。
    with pytest.raises(CheckError, match="words and 4 ids"):
        check_reward(wanted, vocabulary=vocabulary)
    report = check_reward("length", ["", ""], ["我", "爱你"], completion_ids=[[0], [1, 2]])
    assert (report.texts, report.minimum, report.maximum) == (2, 1.0, 2.0)


@pytest.mark.parametrize(
    "keywords",
    [{"prompts": [""]}, {"completions": ["a"], "prompts": ["", ""]}, {"reference": ["a"]}],
)
def test_check_reward_wants_lists_that_fit(keywords):
    with pytest.raises(ValueError, match="completions"):
        check_reward("exact_match", **keywords)


# Play-throughs.


def test_playthrough_is_readable_and_replays(tmp_path):
    path = tmp_path / "one.txt"
    text = record_playthrough("textenv/ILoveYou-v0", path, seed=4, reward="length", end=False)
    replay_playthrough(path)
    replay_playthrough(str(path))
    replay_playthrough(text)
    assert path.read_text("utf-8") == text
    assert 'keywords: {"reward": "length", "end": false}' in text
    assert re.search(r'  action: \d "[我爱你。]"\n  text: "[我爱你。]+"\n  reward: ', text)
    assert text == record_playthrough("textenv/ILoveYou-v0", seed=4, reward="length", end=False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("reward: 0.0", "reward: 0.5", r"(?s)differently from line \d+ on.*-  reward: 0.5\n\+"),
        ("Discrete(4)", "Discrete(5)", "line 6"),
        ('"。"', '"."', "differently"),
        ("ILoveYou-v0", "ILoveYou-v7", "no longer be played"),
        ("seed: 0", "seed: none", "cannot be read"),
        ("play-through of", "story of", "is no play-through"),
        ("  action: ", "  action: 9", "no longer be played"),
        ("  terminated: True\n", "  terminated: False\nstep 9\n  action: 0\n", "differently"),
    ],
)
def test_playthrough_that_differs(old, new, message):
    text = record_playthrough("textenv/ILoveYou-v0")
    assert old in text
    with pytest.raises(PlaythroughError, match=message):
        replay_playthrough(text.replace(old, new))


def test_playthrough_that_was_cut_short():
    text = record_playthrough("textenv/WordPreference-v0", seed=1)
    with pytest.raises(PlaythroughError, match=r"\+the episode has not ended"):
        replay_playthrough(text[: text.index("step 3")] + "\nreturn: 0.0\n")


# What the checkers stand on.


@pytest.mark.parametrize(
    ("ours", "expected", "message"),
    [
        (1, 1.0, "int"),
        (np.zeros(2), np.zeros(2, np.float32), "dtype float64"),
        (np.zeros(2), np.zeros(3), "shape"),
        (np.array([1, 2]), np.array([1, 3]), r"first at \[1\]"),
        ({"a": (1, 2)}, {"a": (1, 3)}, r"\['a'\]\[1\] is 2"),
        ({"a": 1}, {"b": 1}, "keys"),
        ([1], [1, 2], "1 parts, expected 2"),
        (np.array([None, "x"]), np.array([None, "y"]), "'x'"),
        (float("nan"), 0.0, "nan"),
    ],
)
def test_difference(ours, expected, message):
    assert re.search(message, difference(ours, expected))
    assert difference(ours, ours) is None
    assert difference(expected, expected) is None


def test_difference_with_a_tolerance():
    assert difference([1.0, np.array([1.0])], [1.1, np.array([0.9])], tolerance=0.11) is None
    assert difference(1.0, 1.1, tolerance=0.01)


def test_chosen_tokens_end_texts_and_reach_all():
    rules = small_task().rules
    generator = np.random.default_rng(0)
    tokens = [choose(rules, generator) for _ in range(1000)]
    assert set(tokens) == set(range(5))
    # 0.15 + 0.85·2/5 = 0.49 end the text, by 3 or by 4; the deviation is 0.016.
    assert np.isin(tokens, [3, 4]).mean() == pytest.approx(0.49, abs=0.05)


def test_modes_are_all_checked():
    assert len(AutoresetMode) == 3  # a fourth one needs its own case in check_vector_env
