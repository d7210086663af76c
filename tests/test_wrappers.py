"""Our wrappers: the names under which libraries look for masks."""

from __future__ import annotations

import json

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

from textenv.wrappers import MaskKey

CHINESE = "textenv/ILoveYou-v0"
BLOCKLIST = ["我爱"]


def masked(**keywords):
    return gym.make(CHINESE, mask="observation", **keywords)


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ({}, {"obs", "mask"}),  # Tianshou
        ({"observation": "observations", "mask": "action_mask"}, {"observations", "action_mask"}),
    ],
)
def test_the_same_parts_under_other_names(names, keys):
    plain, env = masked(blocklist=BLOCKLIST), MaskKey(masked(blocklist=BLOCKLIST), **names)
    before, _ = plain.reset(seed=0)
    after, _ = env.reset(seed=0)
    for action in (0, 2, 3):
        assert set(after) == keys == set(env.observation_space.spaces)
        assert env.observation_space.contains(after)
        observation, mask = names.get("observation", "obs"), names.get("mask", "mask")
        assert after[observation].tolist() == before["observation"].tolist()
        assert after[mask].tolist() == before["action_mask"].tolist()
        if action == 2:  # after 我
            assert after[mask].tolist() == [1, 0, 1, 1]
        before, after = plain.step(action)[0], env.step(action)[0]


def test_an_observation_of_several_parts_keeps_their_names():
    env = MaskKey(masked(observation="probabilities:2"))
    assert set(env.reset(seed=0)[0]) == {"ids", "probabilities", "mask"}


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version:UserWarning")
def test_gymnasium_checks_it():
    check_env(MaskKey(masked()), skip_render_check=True)


def test_the_spec_makes_it_again():
    spec = MaskKey(masked(), mask="allowed").spec
    again = gym.make(EnvSpec.from_json(json.dumps(json.loads(spec.to_json()))))
    assert set(again.reset(seed=0)[0]) == {"obs", "allowed"}
    assert again.get_wrapper_attr("action_masks")().tolist() == [True] * 4


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r'gym.make\("textenv/ILoveYou-v0", mask="observation"\)'):
        MaskKey(gym.make(CHINESE))
    with pytest.raises(ValueError, match="expected different names for action_mask, observation"):
        MaskKey(masked(), observation="mask")
