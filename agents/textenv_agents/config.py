"""The settings of the policy-gradient agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from textenv.errors import UnknownNameError


@dataclass(frozen=True, kw_only=True)
class PolicyGradientConfig:
    """Settings of `PolicyGradient`; the defaults suit a small language model on a CPU.

    Raises:
        ValueError: a number is out of range, or two settings contradict each other.
    """

    # What is collected.
    episodes: int = 64
    """Texts per update, when the agent makes the environment; else its number of rows."""
    group: int = 8
    """Texts of one prompt; `episodes` is a multiple of it."""

    # The estimator of ∇J.
    returns: Literal["total", "to_go"] = "to_go"
    """What multiplies ∇log π(a_t|s_t): the whole text's reward, or that from t on."""
    baseline: Literal["none", "running_mean", "value", "leave_one_out"] = "leave_one_out"
    """What is subtracted from it: nothing, the mean of past updates, a learned V(s_t), or the mean
    of the other texts of the same prompt."""
    normalise: bool = False
    """Divide whole texts' advantages by the group's standard deviation. Biased: see
    `advantages.group_normalised`."""
    reduction: Literal["episodes", "tokens"] = "episodes"
    """Sum over a text's tokens and average over texts, or average over all tokens (biased)."""

    # What is added to the objective.
    entropy_coefficient: float = 0.0
    """Weight of the policy's entropy at each token."""
    kl_coefficient: float = 0.0
    """β, the price of a nat of KL(π‖ρ), ρ being the policy as it was handed in."""

    # The step.
    optimizer: Literal["adam", "sgd"] = "adam"
    """How the gradient becomes a step."""
    learning_rate: float = 5e-4
    """Its size, α."""
    schedule: Literal["constant", "linear"] = "constant"
    """Keep α, or let it fall to 0 over the tokens of `learn`."""
    value_learning_rate: float = 1e-2
    """Adam's, for the learned baseline."""
    max_gradient_norm: float | None = 1.0
    """Longer gradients are shortened to this norm; None: never."""
    running_mean_decay: float = 0.9
    """How much of the running mean stays when an update is added."""

    seed: int | None = 0
    """Fixes prompts and tokens; None: different each time."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            allowed = get_args(hint) if get_origin(hint) is Literal else None
            if allowed and getattr(self, name) not in allowed:
                raise UnknownNameError(f"setting of {name}", str(getattr(self, name)), allowed)
        positive = {
            "episodes": self.episodes,
            "group": self.group,
            "learning_rate": self.learning_rate,
            "value_learning_rate": self.value_learning_rate,
        }
        if self.max_gradient_norm is not None:
            positive["max_gradient_norm"] = self.max_gradient_norm
        for name, number in positive.items():
            if not number > 0:
                raise ValueError(f"expected {name} > 0, got {number}")
        for name in ("entropy_coefficient", "kl_coefficient"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"expected {name} ≥ 0, got {getattr(self, name)}")
        if self.episodes % self.group:
            raise ValueError(
                "expected episodes (the environment's rows) to be a multiple of group, got "
                f"{self.episodes} and {self.group}"
            )
        if self.normalise and self.returns != "total":
            raise ValueError(
                'normalise=True divides by the deviation of whole texts: it needs returns="total"'
            )
        if self.group < 2 and (self.baseline == "leave_one_out" or self.normalise):
            what = "a leave-one-out baseline" if not self.normalise else "normalise=True"
            raise ValueError(f"{what} needs group ≥ 2 texts of a prompt, got {self.group}")
