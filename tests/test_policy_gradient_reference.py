"""What the reference says is asked once an update where it can be kept, and changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny_models
from tests.test_policy_gradient_update import agent_of, assert_close, task, weights
from textenv import TextVectorEnv
from textenv.models import Sampling
from textenv_agents import PolicyGradient, memory

SEVERAL = {"loss": "ppo", "epochs": 2, "minibatches": 2, "kl_coefficient": 0.3}


def asked(agent, monkeypatch):
    """How many texts the reference is asked about, call by call."""
    calls, score = [], agent.reference.score

    def counted(prefixes, **keywords):
        calls.append(len(prefixes))
        return score(prefixes, **keywords)

    monkeypatch.setattr(agent.reference, "score", counted)
    return calls


@pytest.mark.parametrize("kind", ["gpt2", "lstm"])
@pytest.mark.parametrize("settings", [{}, {"sampling": Sampling(top_k=6, temperature=0.8)}])
def test_the_reference_is_read_once_and_the_gradient_stays(kind, settings, monkeypatch):
    results = []
    for kept, expected in [(1e9, [16]), (0.0, [16] + [8] * 4)]:
        monkeypatch.setattr(memory, "KEPT", kept)
        agent = agent_of(kind, baseline="value", **SEVERAL, **settings)
        agent.step(agent.collect())
        calls = asked(agent, monkeypatch)
        agent.step(agent.collect())
        assert calls == expected
        results.append(weights(agent))
    assert_close(*results)


def test_one_step_asks_once_and_keeps_nothing(monkeypatch):
    agent = agent_of(kl_coefficient=0.3)
    monkeypatch.setattr(agent.memory, "keeps", None)
    calls = asked(agent, monkeypatch)
    agent.update()
    assert calls == [16]


def test_a_budget_decides_what_is_kept():
    agent = agent_of(memory_budget=1.0, **SEVERAL)
    prefixes = agent.collect().prefixes
    columns, tokens = int((prefixes.end - prefixes.begin).max()), int(prefixes.written.sum())
    whole = agent.memory.peak(16, columns, tokens)
    distributions = tokens * 13 * 8  # float64
    for budget, kept in [(whole + distributions, True), (whole + distributions - 1, False)]:
        agent.memory.budget = budget
        assert agent.memory.keeps(prefixes) == kept


def test_the_value_of_what_was_cut_off_is_read_in_parts(monkeypatch):
    envs = TextVectorEnv(16, task(end=False), max_episode_steps=2)
    agent = PolicyGradient(tiny_models.make("gpt2"), envs, group=1, baseline="value", seed=0)
    with torch.no_grad():
        agent.value_head.weight.normal_(generator=torch.Generator().manual_seed(0))
    episodes = agent.collect()
    whole = agent._bootstrap(episodes)
    agent.memory.budget = agent.memory.peak(3, 5, 6)
    calls, ask = [], agent.policy.next

    def counted(prefixes):
        calls.append(len(prefixes))
        return ask(prefixes)

    monkeypatch.setattr(agent.policy, "next", counted)
    parts = agent._bootstrap(episodes)
    assert max(calls) < 16 == sum(calls)
    np.testing.assert_allclose(parts.detach(), whole.detach(), atol=1e-12)
