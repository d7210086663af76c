"""The battery that every registered id passes; ids are found through Gymnasium's registry."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import textenv  # noqa: F401  (registers the ids)
from textenv.errors import MissingExtraError
from textenv.testing import check_env, check_vector_env, replay_playthrough
from textenv.testing.compare import choose
from textenv.vocabulary import same_vocabulary

ROOT = Path(__file__).parent.parent
PLAYTHROUGHS = Path(__file__).parent / "playthroughs"
IDS = sorted(id for id, spec in gym.registry.items() if spec.namespace == "textenv")
VARIANTS = [
    {"end": False},
    {"mask": "info"},
    {"mask": "observation"},
    {"mask": "method"},
    {"info_text": True},
    {"reward": ["length", "zero"], "info_text": True},
]
EPISODES = 2000


@pytest.fixture(params=IDS)
def environment_id(request):
    """Each id; one whose extra is missing is skipped, but not where everything must be there."""
    try:
        gym.make(request.param).close()
    except MissingExtraError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(str(error))
    return request.param


def variants(function):
    return pytest.mark.parametrize("keywords", VARIANTS, ids=str)(function)


def test_check_env(environment_id):
    check_env(environment_id)


@variants
def test_check_env_of_variants(environment_id, keywords):
    check_env(environment_id, skip_render_check=True, **keywords)


@pytest.mark.parametrize("keywords", [{}, {"end": False}, {"mask": "observation"}], ids=str)
def test_check_env_of_stable_baselines3(environment_id, keywords):
    with gym.make(environment_id, **keywords) as env:
        sb3_check_env(env)


def test_check_vector_env(environment_id):
    check_vector_env(environment_id, num_envs=(1, 4), steps=100)


@variants
def test_check_vector_env_of_variants(environment_id, keywords):
    check_vector_env(environment_id, num_envs=2, steps=30, **keywords)


def test_the_starting_policy_writes_the_tasks_tokens(environment_id):
    """So that what was trained on one task is refused on another, not only by its size."""
    with gym.make(environment_id) as env:
        lm, task = env.unwrapped.lm, env.unwrapped.task
        assert same_vocabulary(lm.vocabulary, task.vocabulary)
        assert lm.vocabulary_size == task.rules.vocabulary_size


def test_random_episodes(environment_id):
    """Whatever is written: the row is contiguous, texts end where they must, rewards are finite."""
    with gym.make(environment_id) as made:
        env = made.unwrapped
        rules, generator = env.task.rules, np.random.default_rng(0)
        start, nothing = rules.prompt_length, rules.nothing
        lengths = set()
        observation, _ = env.reset(seed=0)
        for _ in range(EPISODES):
            prompt = observation[:start].copy()
            said = prompt != nothing
            assert (said[1:] >= said[:-1]).all()  # nothing, then the prompt up to column P
            assert (observation[start:] == nothing).all()
            terminated, written = False, []
            while not terminated:
                written.append(choose(rules, generator))
                observation, reward, terminated, truncated, info = env.step(written[-1])
                assert type(reward) is float
                assert np.isfinite(reward)
                assert not truncated
                assert info == {}
                over = written[-1] in rules.ending_tokens or len(written) == rules.max_tokens
                assert terminated == over
            assert (observation[:start] == prompt).all()
            assert observation[start : start + len(written)].tolist() == written
            assert (observation[start + len(written) :] == nothing).all()
            assert env.observation_space.contains(observation)
            lengths.add(len(written))
            observation, _ = env.reset()
        # With 2,000 episodes every length from 1 to T comes up, if anything ends texts early.
        expected = range(1, rules.max_tokens + 1) if rules.ending_tokens else [rules.max_tokens]
        assert lengths == set(expected)


def test_playthrough(environment_id):
    name = environment_id.removeprefix("textenv/")
    path = PLAYTHROUGHS / f"{name}.txt"
    assert path.is_file(), (
        f"{environment_id} has no recorded episode; record it in the repository's root by\n"
        'python -c "from textenv.testing import record_playthrough; '
        f"record_playthrough('{environment_id}', 'tests/playthroughs/{name}.txt')\""
    )
    replay_playthrough(path)


def test_every_playthrough_has_its_id():
    recorded = {path.stem for path in PLAYTHROUGHS.glob("*.txt")}
    assert recorded == {id.removeprefix("textenv/") for id in IDS}


@pytest.mark.parametrize("keywords", [{}, {"max_tokens": 2, "mask": "info"}], ids=str)
def test_specs_go_through_pickle_and_json(environment_id, keywords):
    with gym.make(environment_id, **keywords) as env:
        spec = env.spec
    envs = gym.make_vec(environment_id, num_envs=3, autoreset_mode="SameStep", **keywords)
    for way in (_through_pickle, _through_json):
        with gym.make(way(spec)) as again:
            assert again.spec == env.spec
            assert again.observation_space == env.observation_space
        again = gym.make_vec(way(envs.spec))
        assert again.num_envs == 3
        assert again.autoreset_mode == envs.autoreset_mode
        assert again.single_observation_space == env.observation_space


def _through_pickle(spec):
    return pickle.loads(pickle.dumps(spec))


def _through_json(spec):
    return EnvSpec.from_json(spec.to_json())


def run(code):
    """Run code in a process of its own, because this one has imported everything."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_make_without_an_import():
    code = "import gymnasium; print(gymnasium.make('textenv:textenv/GoodBad-v0').spec.id)"
    assert run(code) == "textenv/GoodBad-v0"


def test_import_and_a_toy_load_nothing_heavy():
    code = (
        "import sys, gymnasium, textenv, textenv.testing\n"
        "env = gymnasium.make('textenv/ILoveYou-v0')\n"
        "env.reset(seed=0); env.step(0)\n"
        "envs = gymnasium.make_vec('textenv/WordPreference-v0', num_envs=2)\n"
        "envs.reset(seed=0); envs.step([0, 1])\n"
        "heavy = ('torch', 'transformers', 'tokenizers', 'vaderSentiment', 'PIL', 'pebble')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert run(code) == "[]"
