"""The agent's settings: what contradicts is refused, and they come back from JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

import gymnasium as gym
import pytest

from textenv.models import Sampling
from textenv_agents import PolicyGradient, PolicyGradientConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"episodes": 10, "group": 4}, "multiple of group"),
        ({"group": 1}, "group ≥ 2"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"kl_coefficient": -1.0}, "kl_coefficient ≥ 0"),
        ({"normalise": True}, 'returns="total"'),
        ({"epochs": 2}, 'needs loss="ppo"'),
        ({"minibatches": 2}, 'needs loss="ppo"'),
        ({"gae_lambda": 0.9}, 'needs baseline="value"'),
        ({"gae_lambda": 1.5, "baseline": "value"}, "0 ≤ gae_lambda ≤ 1"),
        ({"gae_lambda": 0.5, "baseline": "value", "returns": "total"}, 'returns="to_go"'),
        ({"kl_target": 5.0}, "kl_coefficient > 0 to start from"),
        ({"lora_alpha": 5.0}, "lora_rank"),
        ({"lora_rank": 0}, "lora_rank > 0"),
        ({"rows": 128}, "rows ≤ episodes"),
        ({"clip": 1.0}, "0 < clip < 1"),
        ({"loss": "ppo", "minibatches": 65}, "65 minibatches"),
        ({"memory_budget": 0.0}, "memory_budget > 0"),
        ({"baseline": "group_mean", "group": 1}, "group ≥ 2"),
        ({"precision": "float16"}, "precision"),
        ({"max_bad_steps": 0}, "max_bad_steps > 0"),
    ],
)
def test_settings_that_contradict(settings, message):
    with pytest.raises(ValueError, match=message):
        PolicyGradientConfig(**settings)


def test_settings_come_back_from_json():
    config = PolicyGradientConfig(sampling=Sampling(top_k=3, forbidden=(1,), forced={0: 5}))
    assert PolicyGradientConfig(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    "settings",
    [{"baseline": "leave-one-out"}, {"returns": "reward_to_go"}, {"optimizer": "SGD"}],
)
def test_a_misspelt_setting_is_no_other_algorithm(settings):
    with pytest.raises(ValueError, match="Did you mean"):
        PolicyGradientConfig(**settings)


@pytest.mark.parametrize(
    "settings", [{"config": PolicyGradientConfig(episodes=64)}, {"episodes": 64}]
)
def test_texts_that_are_asked_for_are_written_whatever_the_rows(settings, tmp_path):
    def sixteen():
        return gym.make_vec("textenv/GoodBad-v0", num_envs=16)

    agent = PolicyGradient(None, sixteen(), **settings)
    assert (len(agent.collect().prefixes), agent.config.rows) == (64, 16)
    PolicyGradient(None, "textenv/GoodBad-v0", seed=0).save(tmp_path / "checkpoint")
    loaded = PolicyGradient.load(tmp_path / "checkpoint", sixteen())
    assert len(loaded.collect().prefixes) == 64


def test_where_nothing_is_said_texts_are_the_rows_or_64():
    envs = gym.make_vec("textenv/GoodBad-v0", num_envs=16)
    for agent, texts in [
        (PolicyGradient(None, envs), 16),
        (PolicyGradient(None, envs, PolicyGradientConfig(learning_rate=0.1)), 16),
        (PolicyGradient(None, envs, rows=16), 64),
        (PolicyGradient(None, "textenv/GoodBad-v0"), 64),
        (PolicyGradient(None, "textenv/GoodBad-v0", rows=8), 64),
    ]:
        assert agent.config.episodes == len(agent.collect().prefixes) == texts
