"""Returns, baselines and advantages: pure functions of rewards.

B = episodes, K = episodes of one prompt (a group; groups are contiguous), T = time. All of them are
zero where nothing is written, or are made so by the loss, which counts written tokens only.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def total_return(rewards: Float[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """R(τ) = Σ_t r_t, at every t (REINFORCE, Williams 1992)."""
    return rewards.sum(dim=1, keepdim=True).expand_as(rewards)


def reward_to_go(rewards: Float[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """R_t = Σ_{k ≥ t} r_k. What was paid before t does not depend on a_t, so leaving it out changes
    no mean and lowers the variance.
    """  # noqa: D205
    return rewards.flip(1).cumsum(dim=1).flip(1)


def leave_one_out(
    returns: Float[Tensor, "batch time"], group: int, counts: Float[Tensor, " batch"] | None = None
) -> Float[Tensor, "batch time"]:
    """A_i = R_i − mean of R_j over the other texts j ≠ i of the group (Kool et al. 2019).

    The others are drawn independently of text i, so that the baseline changes no mean. A group in
    which one text alone counts has advantage 0: there is no other text to compare with.

    Args:
        returns: Of contiguous groups.
        group: K ≥ 2.
        counts: 1 for the texts that count, 0 for those whose reward failed; None: all count.
    """
    grouped = returns.unflatten(0, (-1, group))  # [B / K, K, T]
    if counts is None:
        weight = torch.ones_like(grouped[..., :1])
    else:
        weight = counts.to(returns).unflatten(0, (-1, group))[..., None]
    others = (weight.sum(dim=1, keepdim=True) - weight).clamp(min=0)
    summed = (weight * grouped).sum(dim=1, keepdim=True) - weight * grouped
    alone = others == 0
    advantages = grouped - summed / others.masked_fill(alone, 1.0)
    return advantages.masked_fill(alone, 0.0).flatten(0, 1)


def group_normalised(
    advantages: Float[Tensor, "batch time"],
    returns: Float[Tensor, "batch time"],
    group: int,
    epsilon: float = 1e-6,
) -> Float[Tensor, "batch time"]:
    """A_i / (σ + ε), σ the standard deviation of the group's total returns (Shao et al. 2024).

    Biased: σ depends on text i itself, and prompts whose texts differ little weigh more. The
    command `python -m benchmarks bias` computes the bias exactly.

    Args:
        advantages: Of contiguous groups.
        returns: Their total returns.
        group: K ≥ 2.
        epsilon: Added to σ, for groups whose texts are all worth the same.
    """
    totals = returns[:, 0].unflatten(0, (-1, group))  # [B / K, K]
    deviation = totals.std(dim=1, keepdim=True)  # [B / K, 1]
    return advantages / (deviation + epsilon).expand_as(totals).flatten()[:, None]


class RunningMean:
    """The mean return of past updates: m ← d·m + (1 − d)·mean(R), corrected for its start.

    An update is compared with those before it, never with itself, so that the baseline is
    independent of its actions. 0 before the first update.
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"expected 0 ≤ decay < 1, got {decay}")
        self.decay = decay
        self.total = 0.0
        self.weight = 0.0

    @property
    def value(self) -> float:
        """The mean so far."""
        return self.total / self.weight if self.weight else 0.0

    def update(self, returns: float) -> None:
        """Add the mean return of an update, after it was used."""
        self.total = self.decay * self.total + (1 - self.decay) * returns
        self.weight = self.decay * self.weight + (1 - self.decay)
