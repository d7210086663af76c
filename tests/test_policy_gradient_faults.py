"""Texts whose reward failed: skipped ones teach nothing at all, penalised ones what they cost."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from tests.test_policy_gradient_update import agent_of, assert_close, weights
from textenv.rewards import Reward
from textenv_agents import PolicyGradient

EVERYTHING = {"baseline": "value", "kl_coefficient": 0.3, "entropy_coefficient": 0.1}


class FailsOn(Reward):
    """1, but for texts that begin with a word."""

    name = "fails_on"

    def __init__(self, word):
        self.word = word

    def __call__(self, prompts, completions, **columns):
        return [float("nan") if text.startswith(self.word) else 1.0 for text in completions]


def good_bad(scoring, **settings):
    return gym.make_vec(
        "textenv/GoodBad-v0",
        num_envs=32,
        reward=FailsOn("bad"),
        scoring=scoring,
        autoreset_mode="SameStep",
        **settings,
    )


@pytest.mark.parametrize("scoring", ["step", "deferred"])
def test_penalised_texts_teach_what_they_cost(scoring):
    envs = good_bad(scoring, reward_fault="penalise", fault_reward=-1.0)
    agent = PolicyGradient(None, envs, learning_rate=0.1, seed=0)
    episodes = agent.collect()
    bad = episodes.prefixes.tokens[:, 0] == 1
    assert not episodes.faults.any()
    assert 0 < episodes.penalised == bad.sum() < 32
    np.testing.assert_array_equal(episodes.rewards[:, 0], np.where(bad, -1.0, 1.0))
    for _ in range(50):
        metrics = agent.update()
    assert agent.policy.logits.softmax(-1)[0, 0] > 0.9
    assert metrics["rollout/penalised"] > 0 == metrics["rollout/skipped"]
    other = PolicyGradient(None, envs, seed=0)
    other.load_state_dict(agent.state_dict())
    assert other.penalised == metrics["rollout/penalised"]


@pytest.mark.parametrize("scoring", ["step", "deferred"])
def test_skipped_texts_leave_the_value_head_alone(scoring):
    """V(start) goes to 1, what the texts that count are paid, not to the ½ of all texts."""
    agent = PolicyGradient(
        None,
        good_bad(scoring, reward_fault="skip"),
        baseline="value",
        learning_rate=1e-12,
        value_learning_rate=0.05,
        seed=0,
    )
    for _ in range(150):
        metrics = agent.update()
    assert metrics["rollout/skipped"] > 0 == metrics["rollout/penalised"]
    values = agent.read(agent.collect()).values
    np.testing.assert_allclose(values.detach(), 1.0, atol=0.02)
    assert metrics["train/value_loss"] < 1e-3


@pytest.mark.parametrize("reduction", ["episodes", "tokens", "episode_means"])
@pytest.mark.parametrize("settings", [EVERYTHING, {"loss": "ppo"} | EVERYTHING])
def test_a_step_is_that_of_the_texts_that_count(reduction, settings):
    """Skipped texts change no weight and no metric: as if they had never been written."""
    settings = {"group": 1, "baseline": "value", "reduction": reduction} | settings
    ours, theirs = (agent_of(**settings) for _ in range(2))
    for agent in (ours, theirs):  # away from the reference
        agent.step(agent.collect())
    episodes = ours.collect()
    counting = np.flatnonzero(np.arange(16) % 3)
    faults = np.ones(16, dtype=np.bool_)
    faults[counting] = False
    rewards = np.where(faults[:, None], 0.0, episodes.rewards)
    metrics = ours.step(episodes._replace(faults=faults, rewards=rewards))
    expected = theirs.step(
        episodes._replace(
            prefixes=episodes.prefixes.rows(counting),
            rewards=episodes.rewards[counting],
            log_probs=episodes.log_probs[counting],
            faults=faults[counting],
        )
    )
    assert_close(weights(ours), weights(theirs))
    assert metrics == pytest.approx(expected)
    assert metrics["rollout/kl"] > 0


def test_a_minibatch_without_texts_that_count_takes_no_step():
    agent = agent_of("lstm", loss="ppo", minibatches=16, baseline="none", optimizer="adam")
    episodes = agent.collect()
    faults = np.ones(16, dtype=np.bool_)
    faults[3] = False
    agent.step(episodes._replace(faults=faults))
    steps = {int(state["step"]) for state in agent.optimizer.state_dict()["state"].values()}
    assert steps == {1}
    assert agent.bad_steps.total == 0
