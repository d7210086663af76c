"""Estimators of the gradient: their exact expectations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from benchmarks.bias import (
    ESTIMATORS,
    WITH_KL,
    exact_gradient,
    expected_gradient,
    moved,
    tasks,
)
from textenv import TextVectorEnv, exact
from textenv_agents import PolicyGradient, losses
from textenv_agents.rollout import Episodes

UNBIASED = [name for name in ESTIMATORS if not name.startswith("biased")]


@pytest.mark.parametrize("returns", ["total", "to_go"])
@pytest.mark.parametrize("name", ["GoodBad", "ILoveYou", "ragged"])
@pytest.mark.parametrize("estimator", UNBIASED)
def test_expectation_is_the_exact_gradient(estimator, name, returns):
    task, policy = tasks()[name]
    settings = {**ESTIMATORS[estimator], "returns": returns}
    expectation = expected_gradient(task, policy, settings)
    np.testing.assert_allclose(expectation, exact.gradient(task, policy), atol=1e-12)


@pytest.mark.parametrize("trace", [0.0, 0.5])
@pytest.mark.parametrize("name", ["GoodBad", "ILoveYou", "ragged"])
def test_generalised_advantages_are_unbiased_where_v_is_right(name, trace):
    task, policy = tasks()[name]
    known = exact.values(task, policy)[0]

    def values(prefixes):
        result = torch.zeros(prefixes.tokens[:, prefixes.start :].shape, dtype=torch.float64)
        texts = exact.enumerate_texts(task, policy)
        for row, (index, length) in enumerate(zip(texts.state.prompt_index, prefixes.written)):
            for t in range(length):
                written = tuple(prefixes.tokens[row, prefixes.start : prefixes.start + t].tolist())
                key = written if len(task.prompts) == 1 else (int(index), written)
                result[row, t] = known[key]
        return result

    settings = {"baseline": "value", "gae_lambda": trace, "group": 1}
    expectation = expected_gradient(task, policy, settings, values)
    np.testing.assert_allclose(expectation, exact.gradient(task, policy), atol=1e-12)


@pytest.mark.parametrize("group", [2, 3])
@pytest.mark.parametrize("name", ["GoodBad", "ILoveYou", "ragged"])
def test_the_mean_of_the_whole_group_shortens_the_gradient(name, group):
    """(K − 1)/K of ∇J, exactly."""
    task, policy = tasks()[name]
    settings = ESTIMATORS[f"biased: mean of all, K = {group}"]
    expectation = expected_gradient(task, policy, settings)
    truth = exact.gradient(task, policy) * (group - 1) / group
    np.testing.assert_allclose(expectation, truth, atol=1e-12)


def test_normalising_is_biased_as_worked_out_by_hand():
    # S1, K = 2. Equal pairs have advantage 0; (good, bad), probability ½ in either order, has
    # leave-one-out advantages ±2 and deviation √2, so ±√2. Mean of the two terms A·∇log p:
    # ½·½·(√2·[½, −½] − √2·[−½, ½]) = √2/4·[1, −1] instead of [½, −½].
    task, policy = tasks()["GoodBad"]
    settings = ESTIMATORS["biased: leave-one-out / σ, K = 2"]
    expectation = expected_gradient(task, policy, settings)
    np.testing.assert_allclose(expectation, [[math.sqrt(2) / 4, -math.sqrt(2) / 4]], atol=1e-5)


def test_averaging_over_tokens_is_biased_where_lengths_differ():
    settings = ESTIMATORS["biased: averaged over tokens, K = 2"]
    for name, biased in [("GoodBad", False), ("ragged", True)]:
        task, policy = tasks()[name]
        bias = expected_gradient(task, policy, settings) - exact.gradient(task, policy)
        assert (np.abs(bias).max() > 1e-2) == biased


def test_means_of_texts_and_a_short_trace_are_biased_where_lengths_differ():
    for estimator in ("biased: mean of texts' means", "biased: λ = 0.9, V wrong"):
        for name, biased in [("GoodBad", False), ("ragged", True)]:
            task, policy = tasks()[name]
            expectation = expected_gradient(task, policy, ESTIMATORS[estimator])
            bias = expectation - exact.gradient(task, policy)
            assert (np.abs(bias).max() > 1e-3) == biased, (estimator, name)


def test_grpo_on_good_bad_is_biased_as_worked_out_by_hand():
    # S1, K = 3, one token, so that means of texts' means change nothing. (good, good, bad) in its
    # 3 orders, probability 3/8: mean 1/3, deviations 2/3, 2/3, −4/3, σ = √(8/3/2) = 2/√3, so
    # advantages 1/√3, 1/√3, −2/√3. Mean of A·∇log p with [½, −½] for good, [−½, ½] for bad:
    # (1/3)·(1/√3 + 1/√3 + 2/√3)·[½, −½] = (2/(3√3))·[1, −1]; the same for two bad, one good.
    # Times 6/8: √3/6·[1, −1] instead of [½, −½].
    task, policy = tasks()["GoodBad"]
    expectation = expected_gradient(task, policy, ESTIMATORS["biased: GRPO, K = 3"])
    np.testing.assert_allclose(expectation, [[3**0.5 / 6, -(3**0.5) / 6]], atol=1e-5)


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
    episodes = Episodes(
        prefixes,
        texts.rewards[possible],
        random_policy.score(prefixes).log_probs.detach().numpy(),
        np.zeros(len(possible), dtype=np.bool_),
    )
    reading = agent.read(episodes)
    batch = agent.prepare(episodes, kl=reading.kl)
    weights = torch.as_tensor(texts.probabilities[possible] * len(possible))[:, None]
    batch = batch._replace(advantages=batch.advantages * weights)
    loss = agent.loss(batch, reading._replace(kl=reading.kl * weights))
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


@pytest.mark.parametrize("estimator", [name for name in WITH_KL if not name.startswith("biased")])
@pytest.mark.parametrize("name", ["GoodBad", "ILoveYou", "ragged"])
def test_expectation_with_a_price_for_the_kl(estimator, name):
    task, reference = tasks()[name]
    policy = moved(reference)
    settings = ESTIMATORS[estimator] | {"kl_coefficient": 0.5}
    expectation = expected_gradient(task, policy, settings, reference=reference)
    truth = exact_gradient(task, policy, reference, 0.5)
    np.testing.assert_allclose(expectation, truth, atol=1e-12)
    without = exact_gradient(task, policy, reference, 0.0)
    np.testing.assert_allclose(without, exact.gradient(task, policy), atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({}, 1.0),
        ({"baseline": "group_mean"}, 2 / 7),
        ({"baseline": "group_mean", "normalise": True}, 0.0765),
    ],
)
def test_a_group_weighs_the_kl_differently(settings, share):
    """On GoodBad, β = 0.5: `group_mean` is half of ∇J less all of β·∇KL."""
    task, reference = tasks()["GoodBad"]
    policy = moved(reference)
    given = {"group": 2, "returns": "total", "kl_coefficient": 0.5} | settings
    expectation = expected_gradient(task, policy, given, reference=reference)
    truth = exact_gradient(task, policy, reference, 0.5)
    np.testing.assert_allclose(expectation / truth, share, atol=1e-3)
    if settings == {"baseline": "group_mean"}:
        whole = exact_gradient(task, policy, reference, 0.0)
        np.testing.assert_allclose(expectation, whole / 2 + truth - whole, atol=1e-12)
