"""Estimators of the gradient: their exact expectations, and hand-worked advantages."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from benchmarks.bias import BIASED, ESTIMATORS, expected_gradient, tasks
from textenv import TextVectorEnv, exact
from textenv_agents import PolicyGradient, losses
from textenv_agents import advantages as adv
from textenv_agents.rollout import Episodes

UNBIASED = [name for name in ESTIMATORS if not name.startswith(BIASED)]


@pytest.mark.parametrize("returns", ["total", "to_go"])
@pytest.mark.parametrize("name", ["GoodBad", "ILoveYou", "ragged"])
@pytest.mark.parametrize("estimator", UNBIASED)
def test_expectation_is_the_exact_gradient(estimator, name, returns):
    task, policy = tasks()[name]
    settings = {**ESTIMATORS[estimator], "returns": returns}
    expectation = expected_gradient(task, policy, settings)
    np.testing.assert_allclose(expectation, exact.gradient(task, policy), atol=1e-5)


def test_normalising_is_biased_as_worked_out_by_hand():
    # S1, K = 2. Equal pairs have advantage 0; (good, bad), probability ½ in either order, has
    # leave-one-out advantages ±2 and deviation √2, so ±√2. Mean of the two terms A·∇log p:
    # ½·½·(√2·[½, −½] − √2·[−½, ½]) = √2/4·[1, −1] instead of [½, −½].
    task, policy = tasks()["GoodBad"]
    settings = ESTIMATORS["normalised by the group, K = 2"]
    expectation = expected_gradient(task, policy, settings)
    np.testing.assert_allclose(expectation, [[math.sqrt(2) / 4, -math.sqrt(2) / 4]], atol=1e-5)


def test_averaging_over_tokens_is_biased_where_lengths_differ():
    settings = ESTIMATORS["averaged over tokens, K = 2"]
    for name, biased in [("GoodBad", False), ("ragged", True)]:
        task, policy = tasks()[name]
        bias = expected_gradient(task, policy, settings) - exact.gradient(task, policy)
        assert (np.abs(bias).max() > 1e-2) == biased


@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_the_kl_term_is_unbiased_too(random_task, random_policy, beta):
    """−∇(loss) with kl_coefficient = β is ∇(J − β·KL(π‖ρ)): against finite differences."""
    agent = PolicyGradient(
        random_policy,
        TextVectorEnv(1, random_task),
        group=1,
        baseline="none",
        kl_coefficient=beta,
    )
    reference = agent.reference
    with torch.no_grad():  # away from the reference, keeping the −∞
        random_policy.logits.add_(torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(5, 4))
    texts = exact.enumerate_texts(random_task, random_policy)
    possible = np.flatnonzero(texts.probabilities > 0)
    prefixes = textenv_prefixes(random_task, texts).rows(possible)
    score = random_policy.score(prefixes, distributions=True)
    episodes = Episodes(
        prefixes,
        texts.rewards[possible],
        score.log_probs.detach().numpy(),
        np.zeros(len(possible), dtype=np.bool_),
    )
    kl = agent.divergences(prefixes, score)
    batch = agent.prepare(episodes, kl=kl)
    weights = torch.as_tensor(texts.probabilities[possible] * len(possible))[:, None]
    batch = batch._replace(advantages=batch.advantages * weights)
    loss = agent.loss(batch, score, kl * weights)
    random_policy.zero_grad()
    loss.backward()

    def objective():
        kl = exact.kl(random_task, random_policy, reference)
        return exact.value(random_task, random_policy) - beta * kl

    for place in [(4, 0), (0, 1), (1, 3), (2, 2)]:
        both = []
        for sign in (1, -1):
            with torch.no_grad():
                random_policy.logits[place] += sign * 1e-6
            both.append(objective())
            with torch.no_grad():
                random_policy.logits[place] -= sign * 1e-6
        difference = (both[0] - both[1]) / 2e-6
        assert -random_policy.logits.grad[place].item() == pytest.approx(difference, abs=1e-7)


def textenv_prefixes(task, texts):
    from textenv.models import Prefixes

    return Prefixes.of(task.rules, texts.state)


@pytest.mark.parametrize("name", ["GoodBad", "ILoveYou", "ragged"])
def test_the_monte_carlo_mean_lies_in_its_interval(name):
    """1,000 batches through the environment: each entry within 4.5 standard errors."""
    task, policy = tasks()[name]
    truth = exact.gradient(task, policy)
    agent = PolicyGradient(policy, TextVectorEnv(8, task), group=4, seed=3)
    estimates = []
    for _ in range(1000):
        episodes = agent.collect()
        batch = agent.prepare(episodes)
        log_probs = policy.score(episodes.prefixes).log_probs
        policy.zero_grad()
        losses.policy_gradient_loss(log_probs, batch.advantages, batch.written).backward()
        estimates.append(-policy.logits.grad.numpy().copy())
    estimates = np.array(estimates)
    error = estimates.std(axis=0) / math.sqrt(len(estimates))
    assert (np.abs(estimates.mean(axis=0) - truth) <= 4.5 * error + 1e-12).all()


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_returns_by_hand():
    rewards = tensor([[1.0, 0.0, 2.0], [0.5, -1.0, 0.0]])
    assert adv.total_return(rewards).tolist() == [[3, 3, 3], [-0.5, -0.5, -0.5]]
    assert adv.reward_to_go(rewards).tolist() == [[3, 2, 2], [-0.5, -1, 0]]


def test_leave_one_out_by_hand():
    # Group (1, 4, 7): 1 − 5.5, 4 − 4, 7 − 2.5. Group (0, 0, 3): −1.5, −1.5, 3.
    returns = tensor([[1.0], [4.0], [7.0], [0.0], [0.0], [3.0]])
    assert adv.leave_one_out(returns, 3)[:, 0].tolist() == [-4.5, 0, 4.5, -1.5, -1.5, 3]


def test_leave_one_out_without_the_texts_that_do_not_count():
    # Text 1 does not count: 1 − 7 and 7 − 1. In the second group text 5 alone counts: 0.
    returns = tensor([[1.0], [4.0], [7.0], [0.0], [0.0], [3.0]])
    counts = tensor([1.0, 0, 1, 0, 0, 1])
    result = adv.leave_one_out(returns, 3, counts)[:, 0]
    assert (result * counts).tolist() == [-6, 0, 6, 0, 0, 0]


def test_running_mean_is_of_the_past_only():
    mean = adv.RunningMean(0.5)
    assert mean.value == 0.0
    mean.update(1.0)
    assert mean.value == 1.0
    mean.update(4.0)  # (½·½·1 + ½·4) / (½·½ + ½) = 2.25 / 0.75
    assert mean.value == pytest.approx(3.0)


def test_losses_by_hand():
    log_probs = tensor([[-1.0, -2.0], [-3.0, -9.0]])
    written = torch.tensor([[True, True], [True, False]])
    ones = torch.ones(2, 2, dtype=torch.float64)
    # (1 + 2 + 3) / 2 texts, or / 3 tokens; what is not written does not count
    assert losses.policy_gradient_loss(log_probs, ones, written).item() == 3.0
    assert losses.policy_gradient_loss(log_probs, ones, written, "tokens").item() == 2.0
    # ½·(1² + 2² + 3²) / 3
    assert losses.value_loss(log_probs, torch.zeros_like(ones), written).item() == pytest.approx(
        14 / 6
    )
    with pytest.raises(ValueError, match="episodes"):
        losses.policy_gradient_loss(log_probs, ones, written, "texts")
