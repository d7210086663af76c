"""The agent on encoder–decoder models: adapters, checkpoints and parts change nothing there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.test_policy_gradient_update import EVERYTHING, assert_close, weights
from tests.test_seq2seq import THREE, VOCABULARY, make
from textenv import Task, TextVectorEnv
from textenv.models.adapters import adapter_parameters
from textenv.rewards import word_preference
from textenv_agents import PolicyGradient, losses


def agent_of(kind, **settings):
    task = Task(
        name="words",
        vocabulary=VOCABULARY,
        prompts=["w1", "w2 w4", "w4 w5 w6"],
        max_tokens=6,
        reward=word_preference({"w1": 1.0, "w2": -0.5, "w7": 0.7}, pays="token"),
    )
    settings = {"group": 4, "seed": 0, "optimizer": "sgd", "learning_rate": 0.05} | settings
    return PolicyGradient(make(kind), TextVectorEnv(16, task), **settings)


@pytest.mark.parametrize("kind", THREE)
def test_ratio_one_and_kl_zero_before_the_first_update(kind):
    agent = agent_of(kind, lora_rank=2, kl_coefficient=1.0)
    episodes = agent.collect()
    reading = agent.read(episodes)
    w = losses.ratios(
        reading.log_probs.detach(),
        torch.as_tensor(episodes.log_probs),
        torch.as_tensor(episodes.written),
    )
    np.testing.assert_allclose(w, torch.ones_like(w), atol=1e-5)
    assert not reading.kl.any()


@pytest.mark.parametrize("lora", [{}, {"lora_rank": 2}])
@pytest.mark.parametrize("kind", THREE)
def test_parts_and_checkpoints_go_the_same_way(kind, lora):
    runs = []
    for checkpointing, parts in [(False, False), (True, False), (False, True)]:
        agent = agent_of(kind, gradient_checkpointing=checkpointing, **lora, **EVERYTHING)
        if parts:
            agent.memory.budget = agent.memory.peak(5, 9, 30)
        before = weights(agent)
        agent.learn(150)
        runs.append(weights(agent))
        assert any(not torch.equal(a, b) for a, b in zip(before, runs[-1], strict=True))
    assert_close(runs[0], runs[1], 1e-9)
    assert_close(runs[0], runs[2], 1e-9)
    assert bool(adapter_parameters(agent.policy)) == bool(lora)
