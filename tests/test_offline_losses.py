"""Losses of implicit Q-learning: finite differences, and slow obvious versions."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from textenv_agents.offline import losses

DOUBLE = torch.float64


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=DOUBLE)


def slow_expectile(values, tau):
    """The number m with τ·Σ max(x − m, 0) = (1 − τ)·Σ max(m − x, 0), by halving."""
    low, high = min(values), max(values)
    for _ in range(100):
        middle = (low + high) / 2
        above = sum(max(x - middle, 0) for x in values)
        below = sum(max(middle - x, 0) for x in values)
        low, high = (middle, high) if tau * above > (1 - tau) * below else (low, middle)
    return low


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.8, 0.99])
def test_expectile_loss_is_least_at_the_expectile(tau):
    q = normal(6)

    def slope(v):
        v = torch.tensor(v, dtype=DOUBLE, requires_grad=True)
        losses.expectile_loss(q, v.expand(6), tau).backward()
        return v.grad.item()

    least = slow_expectile(q.tolist(), tau)
    assert abs(slope(least)) < 1e-12  # the loss is convex
    assert slope(least - 0.01) < 0 < slope(least + 0.01)
    if tau == 0.5:
        assert least == pytest.approx(q.mean().item(), abs=1e-12)


def test_expectile_loss_by_hand():
    # u = 1 and −2 with τ = 0.8: (0.8·1 + 0.2·4) / 2
    q, v = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 2.0])
    assert float(losses.expectile_loss(q, v, 0.8)) == pytest.approx(0.8)


def test_no_gradient_flows_into_what_is_followed():
    q, v, r = (normal(2, 4, seed=seed).requires_grad_() for seed in range(3))
    losses.expectile_loss(q[0], v[0], 0.7).backward()
    assert q.grad is None
    target = losses.lambda_targets(r, torch.ones(2, 4, dtype=DOUBLE), v, 0.5)
    losses.td_loss(q, target[0]).backward()
    assert r.grad is None
    assert (v.grad[1] == 0).all()
    assert q.grad is not None


def test_targets_by_hand():
    r_t, discount_t, v_tp1 = (torch.tensor([row]) for row in ([1.0, 2.0], [0.5, 1.0], [4.0, 9.0]))
    # From the end: 2 + 9 = 11; then 1 + 0.5·4, 1 + 0.5·11, and half of each way.
    for trace, first in ((0.0, 3.0), (1.0, 6.5), (0.5, 4.75)):
        assert losses.lambda_targets(r_t, discount_t, v_tp1, trace).tolist() == [[first, 11.0]]


@pytest.mark.parametrize("trace", [0.0, 0.3, 1.0])
def test_targets_are_mixtures_of_sums(trace):
    """G_t = (1 − λ)·Σ_n λ^(n−1)·(n rewards, then V), the last with all that is left."""
    r, v = normal(3, 5), normal(3, 5, seed=1)
    found = losses.lambda_targets(r, torch.full((3, 5), 0.9, dtype=DOUBLE), v, trace)
    for text in range(3):
        for t in range(5):
            total = 0.0
            for n in range(1, 6 - t):
                paid = sum(0.9**k * r[text, t + k] for k in range(n))
                weight = trace ** (n - 1) * (1 if t + n == 5 else 1 - trace)
                total += weight * (paid + 0.9**n * v[text, t + n - 1])
            assert float(found[text, t]) == pytest.approx(float(total), rel=1e-10)


def slow_td(q, target):
    return sum(np.mean([(y - x) ** 2 for x, y in zip(head, target)]) for head in q)


def slow_conservative(q, actions):
    total = 0.0
    for head in q:
        terms = [
            np.log(sum(np.exp(x) for x in row)) - row[a]
            for row, a in zip(head, actions, strict=True)
        ]
        total += np.mean(terms)
    return total


def test_losses_are_their_sums():
    q, target, actions = normal(2, 5, 4), normal(5, seed=1), torch.tensor([0, 3, 2, 2, 1])
    logged = torch.stack([head[torch.arange(5), actions] for head in q])
    assert float(losses.td_loss(logged, target)) == pytest.approx(
        slow_td(logged.tolist(), target.tolist()), rel=1e-12
    )
    assert float(losses.conservative_loss(q, actions)) == pytest.approx(
        slow_conservative(q.tolist(), actions.tolist()), rel=1e-12
    )


def test_gradients_are_finite_differences():
    target, actions = normal(5, seed=1), torch.tensor([0, 3, 2, 2, 1])
    q = normal(2, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: losses.conservative_loss(x, actions), q)
    assert torch.autograd.gradcheck(lambda x: losses.td_loss(x[:, :, 0], target), q)
    v = normal(5, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: losses.expectile_loss(target, x, 0.8), v)


def test_a_copy_follows():
    source = nn.Linear(2, 1)
    target = copy.deepcopy(source)
    with torch.no_grad():
        source.weight += 1.0
    before = target.weight.clone()
    losses.follow(target, source, 0.25)
    torch.testing.assert_close(target.weight, before + 0.25)
    torch.testing.assert_close(target.bias, source.bias)
    losses.follow(target, source, 1.0)
    torch.testing.assert_close(target.weight, source.weight, rtol=0, atol=1e-7)
