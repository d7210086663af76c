"""Tianshou takes the environments as they are: rollouts, masks, PPO and DQN that learn."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("tianshou")

from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.utils.net.common import Net

from benchmarks import libraries_tianshou

GOOD = "textenv/GoodBad-v0"
CHINESE = "textenv/ILoveYou-v0"
WORDS = "textenv/WordPreference-v0"
BLOCKLIST = ["我我", "爱爱"]


def exploring(envs, length, words):
    """Let a policy of Tianshou's choose at random, among what a mask allows; return the buffer."""
    network = Net(state_shape=(length,), action_shape=words, hidden_sizes=(8,))
    policy = DiscreteQLearningPolicy(
        model=network, action_space=envs.action_space[0], eps_training=0.5, eps_inference=0.5
    )
    buffer = VectorReplayBuffer(300, len(envs))
    collector = Collector(policy, envs, buffer, exploration_noise=True)
    collector.reset()
    collector.collect(n_step=100 * len(envs))
    return buffer


@pytest.mark.parametrize("keywords", [{}, {"max_episode_steps": 2}], ids=str)
def test_rows_are_plain_environments(keywords):
    keywords = {"prompts": ["good", "bad the", "the"], "max_tokens": 3, **keywords}
    buffer = exploring(libraries_tianshou.make(WORDS, 3, 5, **keywords), length=5, words=17)
    ends = []
    for row, rows in enumerate(buffer.buffers):
        env = gym.make(WORDS, **keywords)
        env.reset(seed=5 + row)  # by seed()
        observation, _ = env.reset()  # by the collector
        for step in range(100):
            assert rows.obs[step].tolist() == observation.tolist()
            observation, reward, terminated, truncated, _ = env.step(rows.act[step])
            assert rows.obs_next[step].tolist() == observation.tolist()
            assert rows.rew[step] == reward
            assert (rows.terminated[step], rows.truncated[step]) == (terminated, truncated)
            ends.append((terminated, truncated))
            if terminated or truncated:
                observation, _ = env.reset()
    assert ((False, True) in ends) == ("max_episode_steps" in keywords)
    assert (True, False) in ends or "max_episode_steps" in keywords


def test_masks():
    """Half of the actions are random, the others greedy; a forbidden one would be an error."""
    envs = libraries_tianshou.make(CHINESE, 3, 0, mask="observation", blocklist=BLOCKLIST)
    buffer = exploring(envs, length=4, words=4)
    for rows in buffer.buffers:
        allowed = np.take_along_axis(rows.obs.mask[:100], rows.act[:100, None], axis=1)
        assert allowed.all()
        assert not rows.obs.mask[:100].all()
        assert rows.obs.obs.shape[1:] == (4,)


@pytest.mark.parametrize(("environment_id", "steps"), [(GOOD, 2_048), (CHINESE, 12_288)])
def test_ppo_learns(environment_id, steps):
    run = libraries_tianshou.ppo(environment_id, 0, steps=steps)
    assert run.steps == steps
    assert run.before < 0.5
    assert run.after >= 0.9
    assert run.greedy == 1.0


@pytest.mark.parametrize(
    ("environment_id", "steps", "keywords"),
    [
        (GOOD, 1_024, {}),
        pytest.param(CHINESE, 8_192, {}, marks=pytest.mark.slow),
        (CHINESE, 8_192, {"mask": "observation", "blocklist": BLOCKLIST}),
    ],
)
def test_dqn_learns(environment_id, steps, keywords):
    run = libraries_tianshou.dqn(environment_id, 1, steps=steps, **keywords)
    assert run.steps == steps
    assert run.before <= 0.0
    assert run.after == 1.0
