"""Returns, baselines and advantages: pure functions of rewards.

B = episodes, K = episodes of one prompt (a group; groups are contiguous), T = time. All of them are
zero where nothing is written, or are made so by the loss, which counts written tokens only.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from textenv_agents.config import PolicyGradientConfig


def compared(
    config: PolicyGradientConfig,
    rewards: Float[Tensor, "batch time"],
    written: Bool[Tensor, "batch time"],
    counts: Float[Tensor, " batch"],
    *,
    values: Float[Tensor, "batch time"] | None = None,
    bootstrap: Float[Tensor, " batch"] | None = None,
    mean: float = 0.0,
) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time"]]:
    """Returns and advantages as the settings ask for them.

    Args:
        config: Says which returns and which baseline.
        rewards: r_t, the KL term included.
        written: Where a token was written, in texts that count.
        counts: 1 for the texts that count, 0 for those whose reward failed.
        values: V(s_t), for baseline="value"; the returns are then what V should be.
        bootstrap: V after the last token; None: all texts are finished.
        mean: For baseline="running_mean".
    """
    to_go = config.returns == "to_go"
    returns = reward_to_go(rewards) if to_go else total_return(rewards)
    advantages = returns
    if config.baseline == "running_mean":
        advantages = returns - mean
    elif config.baseline == "value":
        assert values is not None
        values = values.detach().to(returns)
        advantages = returns - values
        if to_go:
            advantages = generalised(
                rewards, values, written, bootstrap=bootstrap, trace=config.gae_lambda
            )
            returns = advantages + values
    elif config.baseline == "leave_one_out":
        advantages = leave_one_out(returns, config.group, counts)
    elif config.baseline == "group_mean":
        advantages = group_mean(returns, config.group, counts)
    if config.normalise:
        advantages = group_normalised(advantages, returns, config.group, counts)
    return returns, advantages


def total_return(rewards: Float[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """R(τ) = Σ_t r_t, at every t (REINFORCE, Williams 1992)."""
    return rewards.sum(dim=1, keepdim=True).expand_as(rewards)


def reward_to_go(rewards: Float[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """R_t = Σ_{k ≥ t} r_k. What was paid before t does not depend on a_t, so leaving it out changes
    no mean and lowers the variance.
    """  # noqa: D205
    return rewards.flip(1).cumsum(dim=1).flip(1)


def generalised(
    rewards: Float[Tensor, "batch time"],
    values: Float[Tensor, "batch time"],
    written: Bool[Tensor, "batch time"],
    *,
    bootstrap: Float[Tensor, " batch"] | None = None,
    discount: float = 1.0,
    trace: float = 1.0,
) -> Float[Tensor, "batch time"]:
    """A_t = Σ_k (γλ)^k·δ_{t+k},   δ_t = r_t + γ·V(s_{t+1}) − V(s_t).

    V(s_L) after the last token of a finished text is 0: nothing follows. Of a text that was cut
    off from outside it is the bootstrap, and the sum ends there all the same: the end of a text
    and its being cut off are never merged. Special cases: λ = 1, γ = 1: R_t − V(s_t); λ = 0:
    δ_t. (Schulman et al. 2016, https://arxiv.org/abs/1506.02438.)

    Args:
        rewards: r_t.
        values: V(s_t).
        written: Where a token was written; contiguous from t = 0.
        bootstrap: V(s_L) of texts that were cut off, 0 of finished ones; None: all are finished.
        discount: γ.
        trace: λ.
    """
    behind = torch.zeros_like(rewards[:, 0]) if bootstrap is None else bootstrap.to(rewards)
    # Beyond the end stands the bootstrap, so that the last token's V(s_{t+1}) is that.
    values = torch.where(written, values.to(rewards), behind[:, None])
    following = torch.cat([values[:, 1:], behind[:, None]], dim=1)
    errors = (rewards + discount * following - values).masked_fill(~written, 0.0)
    advantages = torch.zeros_like(rewards)
    later = torch.zeros_like(behind)
    for t in reversed(range(rewards.shape[1])):
        later = errors[:, t] + discount * trace * later
        advantages[:, t] = later
    return advantages


def leave_one_out(
    returns: Float[Tensor, "batch time"], group: int, counts: Float[Tensor, " batch"] | None = None
) -> Float[Tensor, "batch time"]:
    """A_i = R_i − mean of R_j over the other texts j ≠ i of the group (RLOO; Kool et al. 2019).

    The others are drawn independently of text i, so that the baseline changes no mean. A group in
    which one text alone counts has advantage 0: there is no other text to compare with.

    Args:
        returns: Of contiguous groups.
        group: K ≥ 2.
        counts: 1 for the texts that count, 0 for those whose reward failed; None: all count.
    """
    grouped = returns.unflatten(0, (-1, group))  # [B / K, K, T]
    weight = _weights(grouped, counts, group)
    others = (weight.sum(dim=1, keepdim=True) - weight).clamp(min=0)
    summed = (weight * grouped).sum(dim=1, keepdim=True) - weight * grouped
    alone = others == 0
    advantages = grouped - summed / others.masked_fill(alone, 1.0)
    return advantages.masked_fill(alone, 0.0).flatten(0, 1)


def group_mean(
    returns: Float[Tensor, "batch time"], group: int, counts: Float[Tensor, " batch"] | None = None
) -> Float[Tensor, "batch time"]:
    """A_i = R_i − mean of R_j over the whole group, text i included (GRPO; Shao et al. 2024).

    That is (K − 1)/K of the leave-one-out advantage, and so is the mean of its estimate of ∇J: the
    direction is right, the length is not (Liu et al. 2025, https://arxiv.org/abs/2503.20783).

    What is added to the objective keeps its length. Of −β·∇KL the half that is paid as a reward
    goes through the advantage and is shortened; the half that is a loss (`losses.kl_loss`) and the
    entropy bonus are not. So next to ∇J they weigh K/(K − 1) as much as they were given.

    Args:
        returns: Of contiguous groups.
        group: K ≥ 2.
        counts: 1 for the texts that count, 0 for those whose reward failed; None: all count.
    """
    grouped = returns.unflatten(0, (-1, group))  # [B / K, K, T]
    weight = _weights(grouped, counts, group)
    number = weight.sum(dim=1, keepdim=True).clamp(min=1.0)
    return (grouped - (weight * grouped).sum(dim=1, keepdim=True) / number).flatten(0, 1)


def group_normalised(
    advantages: Float[Tensor, "batch time"],
    returns: Float[Tensor, "batch time"],
    group: int,
    counts: Float[Tensor, " batch"] | None = None,
    epsilon: float = 1e-6,
) -> Float[Tensor, "batch time"]:
    """A_i / (σ + ε), σ the group's standard deviation, √(Σ_j (R_j − mean)²/(K − 1)).

    With `group_mean` that is GRPO's advantage (Shao et al. 2024, https://arxiv.org/abs/2402.03300).
    Biased: σ depends on text i itself, and prompts whose texts differ little weigh more. What does
    not go through the advantage, as `group_mean` says, is not divided: where σ > 1 it weighs more.
    The command `python -m benchmarks bias` computes the bias exactly, with a price for the KL too.

    Args:
        advantages: Of contiguous groups.
        returns: Their total returns.
        group: K ≥ 2.
        counts: 1 for the texts that count, 0 for those whose reward failed; None: all count.
        epsilon: Added to σ, for groups whose texts are all worth the same.
    """
    totals = returns[:, :1].unflatten(0, (-1, group))  # [B / K, K, 1]
    weight = _weights(totals, counts, group)
    errors = group_mean(returns[:, :1], group, counts).unflatten(0, (-1, group))
    number = (weight.sum(dim=1, keepdim=True) - 1).clamp(min=1.0)
    deviation = ((weight * errors.square()).sum(dim=1, keepdim=True) / number).sqrt()
    return advantages / (deviation + epsilon).expand_as(totals).flatten(0, 1)


def _weights(grouped: Tensor, counts: Tensor | None, group: int) -> Tensor:
    """1 or 0 for each text of each group, [B / K, K, 1]."""
    if counts is None:
        return torch.ones_like(grouped[..., :1])
    return counts.to(grouped).unflatten(0, (-1, group))[..., None]


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
        """Add the mean return of an update, after it was used; if it is finite."""
        if not math.isfinite(returns):
            return
        self.total = self.decay * self.total + (1 - self.decay) * returns
        self.weight = self.decay * self.weight + (1 - self.decay)
