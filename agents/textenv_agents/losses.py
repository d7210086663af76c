"""Losses: pure functions whose gradient is the estimator. B = episodes, T = time.

Each takes `total`, what it divides by (`number`): so a batch may be read in parts, whose losses and
gradients sum to those of the whole.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def policy_gradient_loss(
    log_probs: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"],
    written: Bool[Tensor, "batch time"],
    reduction: str = "episodes",
    total: float | None = None,
) -> Float[Tensor, ""]:
    """L = −(1/B)·Σ_i Σ_t A_it·log π(a_it|s_it); −∇L estimates ∇J (Sutton et al. 2000).

    Args:
        log_probs: log π(a_t|s_t), with gradient.
        advantages: A_t, without.
        written: Which tokens count.
        reduction: "episodes": as above, unbiased. "tokens": divided by the number of tokens in
            place of B; biased, because that number depends on the texts. "episode_means":
            (1/B)·Σ_i (1/L_i)·Σ_t, L_i the length of text i (GRPO; Shao et al. 2024); biased: a
            long text's tokens weigh less (Liu et al. 2025, https://arxiv.org/abs/2503.20783).
        total: The number that is divided by; None: that of these texts.
    """
    terms = (log_probs * advantages.detach()).masked_fill(~written, 0.0)
    return -reduced(terms, written, reduction, total)


def ppo_loss(
    log_probs: Float[Tensor, "batch time"],
    old_log_probs: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"],
    written: Bool[Tensor, "batch time"],
    reduction: str = "episodes",
    total: float | None = None,
    *,
    clip: float = 0.2,
    ratio: str = "token",
) -> Float[Tensor, ""]:
    """L = −(1/B)·Σ_i Σ_t min(w_it·A_it, clip(w_it, 1 − ε, 1 + ε)·A_it).

    w_it = π(a_it|s_it) / π_old(a_it|s_it) (PPO; Schulman et al. 2017,
    https://arxiv.org/abs/1707.06347). While π = π_old its gradient is that of
    `policy_gradient_loss`.

    Args:
        log_probs: log π(a_t|s_t), with gradient.
        old_log_probs: log π_old(a_t|s_t), when the texts were written.
        advantages: A_t.
        written: Which tokens count.
        reduction: As for `policy_gradient_loss`.
        total: As for `policy_gradient_loss`.
        clip: ε.
        ratio: "token" or "sequence", see `ratios`.
    """
    w = ratios(log_probs, old_log_probs, written, ratio)
    advantages = advantages.detach()
    clipped = torch.minimum(w * advantages, w.clamp(1 - clip, 1 + clip) * advantages)
    return -reduced(clipped.masked_fill(~written, 0.0), written, reduction, total)


def ratios(
    log_probs: Float[Tensor, "batch time"],
    old_log_probs: Float[Tensor, "batch time"],
    written: Bool[Tensor, "batch time"],
    ratio: str = "token",
) -> Float[Tensor, "batch time"]:
    """w_it = π(a_it|s_it) / π_old(a_it|s_it), 1 where nothing is written.

    Args:
        log_probs: log π(a_t|s_t), with gradient.
        old_log_probs: log π_old(a_t|s_t).
        written: Which tokens count.
        ratio: "token": as above. "sequence": the geometric mean over the text, (Π_t w_it)^(1/L_i),
            at each of its tokens, whose gradient is that of the token (GSPO-token; Zheng et al.
            2025, https://arxiv.org/abs/2507.18071).
    """
    logs = (log_probs - old_log_probs.to(log_probs).detach()).masked_fill(~written, 0.0)
    if ratio == "token":
        return logs.exp()
    if ratio == "sequence":
        mean = logs.detach().sum(dim=1) / written.sum(dim=1).clamp(min=1)  # [B]
        return (mean[:, None] + logs - logs.detach()).exp().masked_fill(~written, 1.0)
    raise ValueError(f'expected ratio= to be "token" or "sequence", got {ratio!r}')


@torch.no_grad()
def clipped(
    log_probs: Float[Tensor, "batch time"],
    old_log_probs: Float[Tensor, "batch time"],
    written: Bool[Tensor, "batch time"],
    clip: float,
    ratio: str = "token",
) -> Bool[Tensor, "batch time"]:
    """Where a token is written whose ratio lies outside 1 ± ε."""
    w = ratios(log_probs, old_log_probs, written, ratio)
    return ((w - 1).abs() > clip) & written


def entropy_loss(
    entropy: Float[Tensor, "batch time"],
    written: Bool[Tensor, "batch time"],
    reduction: str = "episodes",
    total: float | None = None,
) -> Float[Tensor, ""]:
    """−(1/B)·Σ_i Σ_t H(π(·|s_it)): lower where the policy is less certain."""
    return -reduced(entropy.masked_fill(~written, 0.0), written, reduction, total)


def kl_loss(
    kl: Float[Tensor, "batch time"],
    written: Bool[Tensor, "batch time"],
    reduction: str = "episodes",
    total: float | None = None,
) -> Float[Tensor, ""]:
    """(1/B)·Σ_i Σ_t KL(π(·|s_it)‖ρ(·|s_it)), with gradient.

    Its gradient is one half of ∇KL(π‖ρ): how π changes in the states that are visited. The other
    half, how the visited states change, is that of a reward of −KL(π(·|s_k)‖ρ(·|s_k)) that each
    later state k > t pays to a_t.
    """
    return reduced(kl.masked_fill(~written, 0.0), written, reduction, total)


def value_loss(
    values: Float[Tensor, "batch time"],
    returns: Float[Tensor, "batch time"],
    written: Bool[Tensor, "batch time"],
    total: float | None = None,
    *,
    old_values: Float[Tensor, "batch time"] | None = None,
    clip: float | None = None,
) -> Float[Tensor, ""]:
    """½·mean over tokens of (V(s_t) − R_t)².

    With a clip ε it is the larger of that and the same of V_old + clip(V − V_old, −ε, ε), as in
    the PPO of OpenAI's baselines: no reward for moving further than ε in one update.

    Args:
        values: V(s_t), with gradient.
        returns: R_t.
        written: Which tokens count.
        total: The number of tokens that is divided by; None: that of these texts.
        old_values: V_old(s_t), before the update.
        clip: ε > 0; None: not clipped.
    """
    errors = (values - returns.detach()).masked_fill(~written, 0.0).square()
    if clip is not None and old_values is not None:
        near = old_values + (values - old_values).clamp(-clip, clip)
        errors = torch.maximum(
            errors, (near - returns.detach()).masked_fill(~written, 0.0).square()
        )
    return 0.5 * errors.sum() / (number(written, "tokens") if total is None else total)


def reduced(
    terms: Float[Tensor, "batch time"],
    written: Bool[Tensor, "batch time"],
    reduction: str,
    total: float | None = None,
) -> Float[Tensor, ""]:
    """Sum what each token adds, as `policy_gradient_loss` says.

    Args:
        terms: What each token adds, 0 where nothing is written.
        written: Which tokens count.
        reduction: "episodes", "tokens" or "episode_means".
        total: What is divided by, of the batch that these texts are a part of; None: of these.
    """
    total = number(written, reduction) if total is None else total
    if reduction == "episode_means":
        return (terms.sum(dim=1) / written.sum(dim=1).clamp(min=1)).sum() / total
    return terms.sum() / total


def number(written: Bool[Tensor, "batch time"], reduction: str) -> float:
    """What a loss over these texts divides by: their number, or that of their tokens, ≥ 1."""
    if reduction in ("episodes", "episode_means"):
        return float(max(len(written), 1))
    if reduction == "tokens":
        return float(max(int(written.sum()), 1))
    raise ValueError(
        f'expected reduction= to be "episodes", "tokens" or "episode_means", got {reduction!r}'
    )
