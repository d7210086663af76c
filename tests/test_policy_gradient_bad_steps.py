"""Steps whose loss or gradient is not finite: left out, counted, kept for inspection."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.test_policy_gradient_update import agent_of, assert_equal, weights
from textenv_agents import policy_gradient
from textenv_agents.advantages import RunningMean
from textenv_agents.kl_control import KLController

SETTINGS = {"baseline": "value", "kl_coefficient": 0.1, "optimizer": "adam"}


def poisoned(agent, number=np.nan):
    episodes = agent.collect()
    episodes.rewards[0, 0] = number
    return episodes


def state(agent):
    return [*weights(agent), *agent.optimizer.state_dict()["state"].get(0, {}).values()]


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("settings", [SETTINGS, {"baseline": "leave_one_out"}])
def test_a_bad_step_changes_nothing(settings, number):
    agent = agent_of(**settings)
    agent.update()
    before = [tensor.clone() for tensor in state(agent)]
    metrics = agent.step(poisoned(agent, number))
    assert metrics["train/bad_steps"] == agent.bad_steps.total == 1
    assert "train/loss" not in metrics
    assert_equal(state(agent), before)
    assert all(p.grad is None for p in agent.policy.parameters())
    agent.update()  # and a good one is taken after it
    assert agent.bad_steps.in_a_row == 0
    assert agent.bad_steps.total == 1
    assert any(not torch.equal(a, b) for a, b in zip(state(agent), before, strict=True))


def test_a_gradient_that_is_not_finite_while_the_loss_is():
    agent = agent_of("lstm")
    hook = next(agent.policy.parameters()).register_hook(lambda g: g * float("nan"))
    before = weights(agent)
    metrics = agent.step(agent.collect())
    assert metrics["train/bad_steps"] == 1
    assert_equal(weights(agent), before)
    hook.remove()
    assert "train/loss" in agent.step(agent.collect())


def test_one_bad_minibatch_leaves_the_others():
    agent = agent_of(loss="ppo", minibatches=4, baseline="none")
    before = weights(agent)
    metrics = agent.step(poisoned(agent))
    assert metrics["train/bad_steps"] == 1
    assert np.isfinite(metrics["train/loss"])
    assert any(not torch.equal(a, b) for a, b in zip(weights(agent), before, strict=True))
    assert all(torch.isfinite(tensor).all() for tensor in weights(agent))


def test_too_many_in_a_row_end_the_run():
    agent = agent_of("lstm", max_bad_steps=3)
    for _ in range(2):
        agent.step(poisoned(agent))
    agent.step(agent.collect())  # not in a row
    before = weights(agent)
    for _ in range(2):
        agent.step(poisoned(agent))
    with pytest.raises(FloatingPointError, match=r"train/loss is nan.*3 in a row.*max_bad_steps=3"):
        agent.step(poisoned(agent))
    assert_equal(weights(agent), before)
    assert agent.bad_steps.total == 5


def test_the_texts_are_kept_for_inspection(tmp_path):
    agent = agent_of("lstm", loss="ppo", minibatches=2, max_bad_steps=2, baseline="none")
    agent.bad_steps.folder = tmp_path / "inspect"
    episodes = poisoned(agent)
    agent.step(episodes)
    (path,) = (tmp_path / "inspect").iterdir()
    kept = torch.load(path, weights_only=True)
    assert "nan" in kept["what"]
    assert len(kept["tokens"]) == 8  # the minibatch
    assert kept["rewards"].isnan().sum() == 1
    row = int(kept["rewards"].isnan().any(dim=1).nonzero())
    np.testing.assert_array_equal(kept["tokens"][row], episodes.prefixes.tokens[0])
    agent.bad_steps.in_a_row = 1
    with pytest.raises(FloatingPointError, match=r"bad-step-2\.pt"):
        agent.step(poisoned(agent))


def test_the_running_mean_and_the_price_stay_too():
    agent = agent_of(baseline="running_mean", kl_coefficient=0.1, kl_target=1.0)
    agent.update()
    before = agent.running_mean.value, agent.kl.coefficient
    agent.step(poisoned(agent))
    assert (agent.running_mean.value, agent.kl.coefficient) == before


def test_the_count_goes_on_in_a_loaded_state():
    agent = agent_of("lstm", max_bad_steps=3)
    agent.step(poisoned(agent))
    other = agent_of("lstm", max_bad_steps=3)
    other.load_state_dict(agent.state_dict())
    assert (other.bad_steps.total, other.bad_steps.in_a_row) == (1, 1)


def test_a_kl_that_is_not_finite_moves_neither_the_price_nor_the_mean(monkeypatch):
    """Of four minibatches one has a divergence that is not finite: three steps are taken."""
    settings = {"loss": "ppo", "minibatches": 4, "kl_coefficient": 0.1, "kl_target": 0.5}
    agent = agent_of(baseline="running_mean", **settings)
    agent.update()
    before = agent.running_mean.value, agent.kl.coefficient
    assert np.isfinite(before).all()

    whole, calls = policy_gradient.divergences, []

    def broken(score, reference):
        calls.append(len(score.counts))
        kl = whole(score, reference)
        return kl.index_fill(0, torch.tensor([3]), torch.nan) if len(calls) == 1 else kl

    monkeypatch.setattr(policy_gradient, "divergences", broken)
    metrics = agent.update()
    assert calls[0] == 16
    assert metrics["train/bad_steps"] == 1
    assert np.isnan(metrics["rollout/kl"])
    assert (agent.running_mean.value, agent.kl.coefficient) == before
    agent.update()
    assert agent.kl.coefficient != before[1]
    assert np.isfinite([agent.kl.coefficient, agent.running_mean.value]).all()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_follows_a_mean_ignores_what_is_not_finite(number):
    price, mean = KLController(0.1, 1.0), RunningMean(0.9)
    mean.update(2.0)
    price.update(number)
    mean.update(number)
    assert (price.coefficient, mean.value) == (0.1, pytest.approx(2.0))


def test_another_agents_texts_are_not_overwritten(tmp_path):
    for _ in range(3):
        agent = agent_of("lstm")
        agent.bad_steps.folder = tmp_path
        agent.step(poisoned(agent))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["bad-step-1-2.pt", "bad-step-1-3.pt", "bad-step-1.pt"]


def test_without_a_folder_the_error_says_that_one_can_be_given():
    agent = agent_of("lstm", max_bad_steps=1)
    with pytest.raises(FloatingPointError, match="inspect_folder="):
        agent.step(poisoned(agent))
