"""`check_env` catches single environments that are broken, each in one way."""

from __future__ import annotations

import random
from itertools import count

import gymnasium as gym
import numpy as np
import pytest

from tests.small_tasks import small_task
from textenv import TextEnv, mdp
from textenv.assembled import TextSpec
from textenv.errors import InvalidActionError
from textenv.plugins import Held
from textenv.testing import (
    CheckError,
    check_env,
)
from textenv.testing.compare import difference


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


def test_a_seed_that_is_set_already_is_caught():
    before = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(0)  # noqa: NPY002
        seeded = np.random.get_state()  # noqa: NPY002
        with pytest.raises(CheckError, match=r"numpy\.random"):
            check_env(SetsTheGlobalSeed(small_task()))
        assert difference(np.random.get_state(), seeded) is None  # noqa: NPY002
    finally:
        np.random.set_state(before)  # noqa: NPY002


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
