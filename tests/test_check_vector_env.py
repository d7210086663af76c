"""`check_vector_env` catches vector environments that are broken, each in one way."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from tests.small_tasks import small_task
from textenv import TextEnv, TextVectorEnv
from textenv.errors import InvalidActionError
from textenv.testing import (
    CheckError,
    check_vector_env,
)


class OneSeedForAll(TextVectorEnv):
    def reset(self, *, seed=None, options=None):
        seed = [seed] * self.num_envs if isinstance(seed, int) else seed
        return super().reset(seed=seed, options=options)


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
    def reset(self, *, seed=None, options=None):
        options = {key: value for key, value in (options or {}).items() if key != "columns"}
        return super().reset(seed=seed, options=options)


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
        if not self._rows.begun:
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
