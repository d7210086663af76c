"""Losses of implicit Q-learning, as pure functions. N = actions, V = vocabulary, K = heads.

    V   E[L_τ(min_k Q̂_k(s, a) − V(s))],  L_τ(u) = |τ − 1(u < 0)|·u²
    Q   Σ_k E[(G − Q_k(s, a))²],  G = r + γ·V(s′) or a λ-return
    CQL Σ_k E[log Σ_b exp Q_k(s, b) − Q_k(s, a)]

B = texts, T = time. Q̂ are slowly following copies of Q. Only logged actions are ever looked at: no
maximum over tokens that nobody wrote (Kostrikov et al. 2021, https://arxiv.org/abs/2110.06169; for
language models Snell et al. 2022, https://arxiv.org/abs/2206.11871).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def expectile_loss(
    q_t: Float[Tensor, " n"], v_t: Float[Tensor, " n"], expectile: float
) -> Float[Tensor, ""]:
    """Mean of |τ − 1(u < 0)|·u², u = Q(s_t, a_t) − V(s_t).

    Its minimum in V(s) is the τ-expectile of Q(s, a) over the logged actions: their mean at
    τ = 0.5, and the nearer the best of them, the nearer τ is to 1 (Newey & Powell 1987).

    Args:
        q_t: Q(s_t, a_t); no gradient flows into it.
        v_t: V(s_t), with gradient.
        expectile: τ, between 0 and 1.
    """
    u = q_t.detach() - v_t
    weight = (expectile - (u < 0).to(u)).abs()  # torch.where would make numbers float32
    return (weight * u.square()).mean()


def lambda_targets(
    r_t: Float[Tensor, "batch time"],
    discount_t: Float[Tensor, "batch time"],
    v_tp1: Float[Tensor, "batch time"],
    trace: float,
) -> Float[Tensor, "batch time"]:
    """G_t = r_t + γ_t·((1 − λ)·V(s_{t+1}) + λ·G_{t+1}), without gradient.

    λ = 0: r_t + γ_t·V(s_{t+1}), one step, as implicit Q-learning was published. λ = 1: what was
    paid from t on, and V only behind the last column. In between: TD(λ)'s (Sutton 1988).

    Args:
        r_t: What the action was paid.
        discount_t: γ.
        v_tp1: V of the state after the action: 0 where the rules ended the text; where it was cut
            off from outside, what it would have gone on to be worth.
        trace: λ in [0, 1].
    """
    targets, g = [], v_tp1[:, -1]
    for column in range(r_t.shape[1] - 1, -1, -1):
        ahead = (1 - trace) * v_tp1[:, column] + trace * g
        g = r_t[:, column] + discount_t[:, column] * ahead
        targets.append(g)
    return torch.stack(targets[::-1], dim=1).detach()


def td_loss(q_t: Float[Tensor, "heads n"], target_t: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Σ_k mean of (target_t − Q_k(s_t, a_t))².

    Args:
        q_t: Q_k(s_t, a_t) of each head, with gradient.
        target_t: Of `lambda_targets`, those of what was written.
    """
    return (target_t.detach() - q_t).square().mean(dim=1).sum()


def conservative_loss(
    q_t: Float[Tensor, "heads n vocabulary"], a_t: Int[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Σ_k mean of log Σ_b exp Q_k(s_t, b) − Q_k(s_t, a_t), the cross entropy of softmax Q.

    It holds down what nobody wrote, whose Q no target ever corrects (CQL(H) of Kumar et al. 2020,
    https://arxiv.org/abs/2006.04779, with the logged actions as the data's policy).

    Args:
        q_t: Q_k(s_t, ·) of each head, with gradient.
        a_t: What was written.
    """
    logged = q_t.gather(2, a_t.expand(len(q_t), -1)[..., None])[..., 0]  # [K, N]
    return (q_t.logsumexp(dim=2) - logged).mean(dim=1).sum()


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, rate: float) -> None:
    """θ̂ ← θ̂ + ρ·(θ − θ̂), in place (Polyak & Juditsky 1992).

    Args:
        target: θ̂.
        source: θ.
        rate: ρ in (0, 1]; 1 copies.
    """
    for ours, theirs in zip(target.parameters(), source.parameters(), strict=True):
        ours.lerp_(theirs, rate)
