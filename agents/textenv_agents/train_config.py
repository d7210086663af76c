"""The settings of `textenv train`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tyro

from textenv_agents.config import PolicyGradientConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run.

    Raises:
        ValueError: a number is out of range.
    """

    env: tyro.conf.Positional[str]
    """The environment's id, such as textenv/Sentiment-v0."""
    lm: str | None = None
    """A language model's name or folder; None: the environment's own starting policy."""
    device: str = "cpu"
    """Where that model computes: "cpu", "cuda", or "auto" for a GPU if there is one."""
    tokens: int = 100_000
    """How many tokens the policy writes in all."""
    folder: Path | None = None
    """The run folder; None: runs/NAME-seed-S. It must not exist yet, or be empty."""
    texts: int = 1000
    """How many fresh texts are written before and after, to measure what changed."""
    checkpoint_every: int = 10
    """Iterations between two checkpoints; `textenv train --resume RUN` goes on from the last."""
    agent: PolicyGradientConfig = field(default_factory=PolicyGradientConfig)
    """The agent's settings."""

    def __post_init__(self) -> None:
        for name in ("tokens", "texts", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} ≥ 1, got {getattr(self, name)}")
        if self.device != "cpu" and self.lm is None:
            raise ValueError(
                f"device={self.device!r} moves the model of lm=: name one, or leave device out"
            )

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return json.loads(json.dumps(asdict(self), default=str))

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> TrainConfig:
        """Read what `to_json` wrote."""
        given = dict(settings)
        given["agent"] = PolicyGradientConfig(**given["agent"])
        given["folder"] = None if given["folder"] is None else Path(given["folder"])
        return cls(**given)
