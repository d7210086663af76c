"""The settings of implicit Q-learning."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ImplicitQConfig:
    """Settings of `ImplicitQLearning`; the defaults suit a small, frozen language model on a CPU.

    Published were trace=0, conservative_weight > 0, two heads with twice as many hidden units as
    the model has, and a language model that learns with them.

    Raises:
        ValueError: a number is out of range.
    """

    # What is learned.
    expectile: float = 0.7
    """τ: V is the τ-expectile of Q over the logged actions. 0.5: the value of the policy that wrote
    the texts; the nearer to 1, the nearer that of the best they hold, and the noisier."""
    discount: float = 1.0
    """γ, per token."""
    trace: float = 0.95
    """λ: Q follows r + γ·((1 − λ)·V(s′) + λ·G′), G′ the same of the next token. 0: one step, as
    published, which needs states that tell what the text so far is worth; 1: what the text was paid
    from there on, so that V improves on the policy that wrote it by one step only."""
    conservative_weight: float = 0.0
    """What the cross entropy of softmax Q weighs, which holds down tokens that nobody wrote. With a
    large vocabulary an update then costs ten times as much. 0: they stay near 0, where Q began."""
    target_rate: float = 0.05
    """How far the copies Q̂ follow Q in each update."""

    # The value heads.
    heads: int = 2
    """How many Q there are; the lowest counts. Without hidden units all are the same: say 1."""
    hidden_units: int | None = 64
    """Of each head's hidden layer; None: linear in the hidden state, a table on one-hot states."""

    # The step.
    batch_texts: int = 64
    """Texts an update; if there are no more, all of them in each."""
    learning_rate: float = 1e-3
    """Adam's, for the value heads."""
    max_gradient_norm: float | None = 1.0
    """Longer gradients are shortened to this norm; None: never."""

    # The language model.
    lm_learning_rate: float | None = None
    """Adam's, for a copy of the language model, which then learns from all the losses. None: it
    stays as it is, and its hidden states are computed once."""
    cloning_weight: float = 1.0
    """What −log π(a|s) of the logged tokens weighs, where the language model learns."""

    seed: int = 0
    """Fixes the first weights and which texts an update takes."""

    def __post_init__(self) -> None:
        if not 0 < self.expectile < 1:
            raise ValueError(
                f"expected 0 < expectile < 1, got {self.expectile}; for the maximum take 0.99"
            )
        for name in ("discount", "target_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"expected 0 < {name} ≤ 1, got {getattr(self, name)}")
        if not 0 <= self.trace <= 1:
            raise ValueError(f"expected 0 ≤ trace ≤ 1, got {self.trace}")
        for name in ("conservative_weight", "cloning_weight"):
            _check(name, getattr(self, name), least=True)
        for name in ("learning_rate", "max_gradient_norm", "lm_learning_rate"):
            _check(name, getattr(self, name))
        for name in ("heads", "hidden_units", "batch_texts"):
            number = getattr(self, name)
            if number is not None or name != "hidden_units":
                _check_whole(name, number, 1)
        _check_whole("seed", self.seed, 0)


def _check(name: str, number: float | None, *, least: bool = False) -> None:
    if number is None:
        return
    if not math.isfinite(number) or number < 0 or (number == 0 and not least):
        raise ValueError(f"expected a finite {name} {'≥' if least else '>'} 0, got {number}")


def _check_whole(name: str, number: object, least: int) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise ValueError(f"expected {name} to be a whole number ≥ {least}, got {number!r}")
