"""Losses against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from textenv_agents import losses


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


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


def test_the_mean_of_texts_means_by_hand():
    log_probs = tensor([[-1.0, -2.0], [-3.0, -9.0]])
    written = torch.tensor([[True, True], [True, False]])
    ones = torch.ones(2, 2, dtype=torch.float64)
    # ((1 + 2) / 2 + 3 / 1) / 2 texts
    loss = losses.policy_gradient_loss(log_probs, ones, written, "episode_means")
    assert loss.item() == 2.25


def test_ppo_by_hand():
    # Ratios 1.5, 0.5, 1.1, 1.5; advantages 1, 1, 1, −1; ε = 0.2. min(w·A, clip(w)·A):
    # 1.2 (clipped), 0.5, 1.1, −1.5 (clipping would make a bad token look better). Sum 1.3.
    old = tensor([[-1.0, -2.0], [-3.0, -4.0]])
    log_probs = (old + tensor([[1.5, 0.5], [1.1, 1.5]]).log()).requires_grad_()
    advantages = tensor([[1.0, 1.0], [1.0, -1.0]])
    written = torch.ones(2, 2, dtype=torch.bool)
    loss = losses.ppo_loss(log_probs, old, advantages, written, clip=0.2)
    assert loss.item() == pytest.approx(-1.3 / 2)
    loss.backward()
    # −w·A/B where it is followed, 0 where it is clipped.
    expected = [0.0, -0.25, -0.55, 0.75]
    assert log_probs.grad.flatten().tolist() == pytest.approx(expected)


def test_sequence_ratios_by_hand():
    # Text 0: ratios 4 and 1, geometric mean 2, at both tokens. Text 1 has one token: 3.
    old = tensor([[-1.0, -2.0], [-3.0, 5.0]])
    log_probs = (old + tensor([[4.0, 1.0], [3.0, 7.0]]).log()).requires_grad_()
    written = torch.tensor([[True, True], [True, False]])
    w = losses.ratios(log_probs, old, written, "sequence")
    assert w.flatten().tolist() == pytest.approx([2, 2, 3, 1])
    w[0, 0].backward()  # s·∇log π of its own token
    assert log_probs.grad.flatten().tolist() == pytest.approx([2, 0, 0, 0])
    assert losses.ratios(log_probs, old, written).flatten().tolist() == pytest.approx([4, 1, 3, 1])
    with pytest.raises(ValueError, match="sequence"):
        losses.ratios(log_probs, old, written, "text")


@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("reduction", ["episodes", "tokens", "episode_means"])
def test_before_the_first_step_ppo_has_the_policy_gradient(ratio, reduction):
    generator = torch.Generator().manual_seed(0)
    log_probs, advantages = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)
    log_probs.requires_grad_()
    written = torch.arange(5) < torch.tensor([5, 2, 1, 4])[:, None]
    old = log_probs.detach().clone()
    ppo = losses.ppo_loss(log_probs, old, advantages, written, reduction, ratio=ratio)
    plain = losses.policy_gradient_loss(log_probs, advantages, written, reduction)
    gradients = [torch.autograd.grad(loss, log_probs)[0] for loss in (ppo, plain)]
    np.testing.assert_allclose(*gradients, atol=1e-15)


def test_the_clipped_value_loss_by_hand():
    # V_old = 0, R = 1, ε = 0.5. V = 0.8: (0.8 − 1)² = 0.04, clipped at 0.5: 0.25, the larger.
    # V = 0.3: not clipped, 0.49. V = −1: (−2)² = 4, clipped at −0.5: 2.25; the larger is 4.
    values = tensor([[0.8, 0.3, -1.0]])
    written = torch.ones(1, 3, dtype=torch.bool)
    ones, zeros = torch.ones_like(values), torch.zeros_like(values)
    loss = losses.value_loss(values, ones, written, old_values=zeros, clip=0.5)
    assert loss.item() == pytest.approx(0.5 * (0.25 + 0.49 + 4) / 3)


@pytest.mark.parametrize("reduction", ["episodes", "tokens", "episode_means"])
def test_parts_sum_to_the_whole(reduction):
    generator = torch.Generator().manual_seed(0)
    terms, advantages = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    written = torch.arange(5) < torch.tensor([5, 2, 1, 4, 3, 5])[:, None]
    whole = losses.policy_gradient_loss(terms, advantages, written, reduction)
    total = losses.number(written, reduction)
    parts = [
        losses.policy_gradient_loss(terms[p], advantages[p], written[p], reduction, total)
        for p in (slice(0, 1), slice(1, 4), slice(4, 6))
    ]
    assert sum(part.item() for part in parts) == pytest.approx(whole.item(), abs=1e-12)


def test_a_text_without_tokens_adds_nothing():
    terms = tensor([[1.0], [1.0]])
    written = torch.tensor([[False], [True]])
    for reduction in ("episodes", "episode_means"):
        loss = losses.policy_gradient_loss(terms, terms, written, reduction)
        assert loss.item() == -0.5
    assert math.isfinite(losses.value_loss(terms, terms, torch.zeros_like(written)).item())
