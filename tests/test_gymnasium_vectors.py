"""Gymnasium's vectors of our single environments: row i is the single one seeded s + i.

In this process and in others, equal to our own vector environment in everything that is returned.
What `check_vector_env` proves of every id is not repeated here.
"""

from __future__ import annotations

import contextlib
import functools
import itertools

import gymnasium as gym
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from textenv.testing.compare import expect_same

WORDS = "textenv/WordPreference-v0"
PROMPTED = {"prompts": ["good", "bad the", "the"], "max_tokens": 3}
MODES = list(AutoresetMode)


@contextlib.contextmanager
def other(kind, make, rows, mode):
    """Gymnasium's own vector environment of single ones."""
    if kind == "sync":
        envs = SyncVectorEnv([make] * rows, autoreset_mode=mode)
    else:
        # Forked, whatever other packages made the default (TorchRL: spawn, when it is imported).
        envs = AsyncVectorEnv(
            [make] * rows, autoreset_mode=mode, shared_memory=kind == "shared", context="fork"
        )
    with contextlib.closing(envs):
        yield envs


def assert_same_steps(ours, others, mode, steps=40):
    """Compare everything that two vector environments return, step by step."""
    expect_same(ours.reset(seed=7), others.reset(seed=7), "reset()")
    ours.action_space.seed(0)
    ended = 0
    for _ in range(steps):
        actions = ours.action_space.sample()
        told = ours.step(actions)
        expect_same(told, others.step(actions), "step()")
        over = told[2] | told[3]
        ended += over.sum()
        if mode == AutoresetMode.DISABLED and over.any():
            again = [envs.reset(options={"reset_mask": over.copy()}) for envs in (ours, others)]
            expect_same(*again, "reset(reset_mask)")
    assert ended >= 10


@pytest.mark.parametrize(
    ("kind", "mode", "keywords"),
    [
        ("shared", AutoresetMode.NEXT_STEP, {}),
        ("shared", AutoresetMode.SAME_STEP, {"mask": "observation"}),
        ("shared", AutoresetMode.DISABLED, {"max_episode_steps": 2}),
        ("pipes", AutoresetMode.NEXT_STEP, {"mask": "observation"}),
        ("pipes", AutoresetMode.SAME_STEP, {"info_text": True, "max_episode_steps": 2}),
        ("pipes", AutoresetMode.NEXT_STEP, {"observation": "text"}),
        ("pipes", AutoresetMode.NEXT_STEP, {"action": "strings"}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # from Python 3.12 on
def test_in_processes(kind, mode, keywords):
    keywords = {**PROMPTED, **keywords}
    ours = gym.make_vec(WORDS, 3, autoreset_mode=mode, **keywords)
    with other(kind, functools.partial(gym.make, WORDS, **keywords), 3, mode) as others:
        assert others.observation_space == ours.observation_space
        assert_same_steps(ours, others, mode)


@pytest.mark.parametrize(
    ("mode", "keywords"),
    list(itertools.product(MODES, [{"observation": "text"}, {"max_episode_steps": 2}])),
    ids=str,
)
def test_in_this_process(mode, keywords):
    keywords = {**PROMPTED, **keywords}
    ours = gym.make_vec(WORDS, 3, autoreset_mode=mode, **keywords)
    with other("sync", functools.partial(gym.make, WORDS, **keywords), 3, mode) as others:
        assert_same_steps(ours, others, mode)


def test_a_spec_goes_to_a_new_process():
    """A spawned process has imported nothing: the pickled spec brings the ids with it."""
    spec = gym.make(WORDS, **PROMPTED, mask="observation").spec
    make = functools.partial(gym.make, spec)
    ours = gym.make_vec(WORDS, 1, **PROMPTED, mask="observation")
    with contextlib.closing(AsyncVectorEnv([make], context="spawn")) as others:
        assert_same_steps(ours, others, AutoresetMode.NEXT_STEP)


def test_texts_do_not_fit_into_shared_memory():
    with pytest.raises(ValueError, match="disable this feature with `shared_memory=False`"):
        gym.make_vec(WORDS, 2, vectorization_mode="async", observation="text")
