"""Advantages against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from textenv_agents import advantages as adv


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


def test_generalised_advantages_by_hand():
    # Values 1, 2, 3; paid 0, 0, 4 and the end. δ = 0 + 2 − 1, 0 + 3 − 2, 4 + 0 − 3 = 1, 1, 1.
    # λ = ½: A_2 = 1, A_1 = 1 + ½·1 = 1.5, A_0 = 1 + ½·1.5 = 1.75. The second text ends after one
    # token, paid 5: δ = 5 − 1 = 4; what stands behind its end does not count.
    rewards = tensor([[0.0, 0.0, 4.0], [5.0, 0.0, 0.0]])
    values = tensor([[1.0, 2.0, 3.0], [1.0, 7.0, 7.0]])
    written = torch.tensor([[True, True, True], [True, False, False]])
    result = adv.generalised(rewards, values, written, trace=0.5)
    assert result.tolist() == [[1.75, 1.5, 1.0], [4.0, 0.0, 0.0]]
    # γ = ½ too: δ = ½·2 − 1, ½·3 − 2, 4 − 3 = 0, −½, 1; A_1 = −½ + ¼ = −¼, A_0 = 0 − ¼·¼.
    result = adv.generalised(rewards, values, written, discount=0.5, trace=0.5)
    assert result[0].tolist() == [-0.0625, -0.25, 1.0]


def test_being_cut_off_is_not_the_end():
    # Both texts are alike: one token, paid 1, V = 2. The first is finished: 1 + 0 − 2. The second
    # was cut off where V = 10: 1 + 10 − 2, and nothing of what stands behind is taken over.
    rewards, values = tensor([[1.0, 9.0], [1.0, 9.0]]), tensor([[2.0, 9.0], [2.0, 9.0]])
    written = torch.tensor([[True, False], [True, False]])
    bootstrap = torch.tensor([0.0, 10.0], dtype=torch.float64)
    result = adv.generalised(rewards, values, written, bootstrap=bootstrap, trace=0.7)
    assert result.tolist() == [[-1.0, 0.0], [9.0, 0.0]]
    # Cut off in the last column: the same.
    result = adv.generalised(
        rewards[:, :1], values[:, :1], written[:, :1], bootstrap=bootstrap, trace=0.7
    )
    assert result.tolist() == [[-1.0], [9.0]]


@pytest.mark.parametrize("trace", [0.0, 0.3, 0.95, 1.0])
@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_generalised_advantages_are_the_double_sum(trace, discount):
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 6, 9, generator=generator, dtype=torch.float64)
    bootstrap = torch.randn(6, generator=generator, dtype=torch.float64)
    lengths = [9, 8, 1, 5, 3, 9]
    written = torch.arange(9) < torch.tensor(lengths)[:, None]
    result = adv.generalised(
        rewards, values, written, bootstrap=bootstrap, discount=discount, trace=trace
    )
    for row, length in enumerate(lengths):
        v = [*values[row, :length].tolist(), bootstrap[row].item()]
        for t in range(9):
            expected = sum(
                (discount * trace) ** (k - t) * (rewards[row, k] + discount * v[k + 1] - v[k])
                for k in range(t, length)
            )
            assert result[row, t].item() == pytest.approx(float(expected), abs=1e-12)


def test_at_lambda_one_they_are_the_return_minus_the_value():
    generator = torch.Generator().manual_seed(1)
    rewards, values = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)
    written = torch.ones(4, 5, dtype=torch.bool)
    result = adv.generalised(rewards, values, written)
    np.testing.assert_allclose(result, adv.reward_to_go(rewards) - values, atol=1e-12)


def test_group_mean_by_hand():
    # Group (1, 4, 7): mean 4. Group (0, 0, 3): mean 1; without text 3: mean of (0, 3) is 1.5.
    returns = tensor([[1.0], [4.0], [7.0], [0.0], [0.0], [3.0]])
    assert adv.group_mean(returns, 3)[:, 0].tolist() == [-3, 0, 3, -1, -1, 2]
    counts = tensor([1.0, 1, 1, 0, 1, 1])
    result = adv.group_mean(returns, 3, counts)[:, 0]
    assert (result * counts).tolist() == [-3, 0, 3, 0, -1.5, 1.5]


def test_group_mean_is_a_share_of_leave_one_out():
    returns = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    np.testing.assert_allclose(
        adv.group_mean(returns, 4), 0.75 * adv.leave_one_out(returns, 4), atol=1e-12
    )


def test_grpo_by_hand():
    # Group (1, 4, 7): deviations −3, 0, 3, σ = √(18 / 2) = 3. Group (2, 2, 2): σ = 0, all 0.
    returns = tensor([[1.0], [4.0], [7.0], [2.0], [2.0], [2.0]])
    plain = adv.group_mean(returns, 3)
    result = adv.group_normalised(plain, returns, 3, epsilon=0.0)[:, 0]
    assert result[:3].tolist() == [-1, 0, 1]
    result = adv.group_normalised(plain, returns, 3)[:, 0]
    assert result[3:].tolist() == [0, 0, 0]


def test_grpo_without_the_texts_that_do_not_count():
    # (1, ·, 7) alone: deviations −3 and 3, σ = √(18 / 1).
    returns = tensor([[1.0], [400.0], [7.0]])
    counts = tensor([1.0, 0, 1])
    plain = adv.group_mean(returns, 3, counts)
    result = adv.group_normalised(plain, returns, 3, counts, epsilon=0.0)[:, 0]
    assert result[[0, 2]].tolist() == pytest.approx([-3 / math.sqrt(18), 3 / math.sqrt(18)])
