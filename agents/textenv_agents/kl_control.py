"""The price of the divergence from the reference, fixed or following a target."""

from __future__ import annotations

import math


class KLController:
    """β, the price of a nat; with a target it follows the divergence that is measured.

        e = clip((KL − target) / target, −0.2, 0.2),   β ← β·(1 + 0.1·e)

    (Ziegler et al. 2019, section 2.2, https://arxiv.org/abs/1909.08593.) So an update changes β by
    at most 2 %, whatever the divergence.

    Args:
        coefficient: β at the start, ≥ 0.
        target: Nats a text; None: β stays.
        gain: The 0.1.
        limit: The 0.2.
    """

    def __init__(
        self,
        coefficient: float,
        target: float | None = None,
        *,
        gain: float = 0.1,
        limit: float = 0.2,
    ) -> None:
        if not coefficient >= 0:
            raise ValueError(f"expected a coefficient ≥ 0, got {coefficient}")
        if target is not None and not target > 0:
            raise ValueError(f"expected a target > 0 nats or None, got {target}")
        self.coefficient = coefficient
        self.target = target
        self.gain = gain
        self.limit = limit

    def update(self, kl: float) -> None:
        """Follow the mean divergence of an update's texts, after it was used; if it is finite."""
        if self.target is None or not math.isfinite(kl):
            return
        error = (kl - self.target) / self.target
        error = min(max(error, -self.limit), self.limit)
        self.coefficient *= 1 + self.gain * error
