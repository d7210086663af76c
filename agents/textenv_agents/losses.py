"""Losses: pure functions whose gradient is the estimator. B = episodes, T = time."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def policy_gradient_loss(
    log_probs: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"],
    written: Bool[Tensor, "batch time"],
    reduction: str = "episodes",
) -> Float[Tensor, ""]:
    """L = −(1/B)·Σ_i Σ_t A_it·log π(a_it|s_it); −∇L estimates ∇J (Sutton et al. 2000).

    Args:
        log_probs: log π(a_t|s_t), with gradient.
        advantages: A_t, without.
        written: Which tokens count.
        reduction: "episodes": as above, unbiased. "tokens": divided by the number of tokens in
            place of B; biased, because that number depends on the texts.
    """
    terms = (log_probs * advantages.detach()).masked_fill(~written, 0.0)
    return -_reduced(terms, written, reduction)


def entropy_loss(
    entropy: Float[Tensor, "batch time"],
    written: Bool[Tensor, "batch time"],
    reduction: str = "episodes",
) -> Float[Tensor, ""]:
    """−(1/B)·Σ_i Σ_t H(π(·|s_it)): lower where the policy is less certain."""
    return -_reduced(entropy.masked_fill(~written, 0.0), written, reduction)


def kl_loss(
    kl: Float[Tensor, "batch time"],
    written: Bool[Tensor, "batch time"],
    reduction: str = "episodes",
) -> Float[Tensor, ""]:
    """(1/B)·Σ_i Σ_t KL(π(·|s_it)‖ρ(·|s_it)), with gradient.

    Its gradient is one half of ∇KL(π‖ρ): how π changes in the states that are visited. The other
    half, how the visited states change, is that of a reward of −KL(π(·|s_k)‖ρ(·|s_k)) that each
    later state k > t pays to a_t.
    """
    return _reduced(kl.masked_fill(~written, 0.0), written, reduction)


def value_loss(
    values: Float[Tensor, "batch time"],
    returns: Float[Tensor, "batch time"],
    written: Bool[Tensor, "batch time"],
) -> Float[Tensor, ""]:
    """½·mean over tokens of (V(s_t) − R_t)²."""
    errors = (values - returns.detach()).masked_fill(~written, 0.0)
    return 0.5 * errors.square().sum() / written.sum().clamp(min=1)


def _reduced(
    terms: Float[Tensor, "batch time"], written: Bool[Tensor, "batch time"], reduction: str
) -> Float[Tensor, ""]:
    if reduction == "episodes":
        return terms.sum() / len(terms)
    if reduction == "tokens":
        return terms.sum() / written.sum().clamp(min=1)
    raise ValueError(f'expected reduction= to be "episodes" or "tokens", got {reduction!r}')
