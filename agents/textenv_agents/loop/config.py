"""The settings of `textenv loop`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from numpy.random import Generator, default_rng

from textenv.errors import UnknownNameError
from textenv.preferences.reward_model.config import RewardModelConfig
from textenv_agents.config import PolicyGradientConfig

PEOPLE = "people"
Opponent = Literal["self", "previous", "start"]
Begin = Literal["previous", "start"]

# How they were found: benchmarks/EXPERIMENTS.md.
AGENT = PolicyGradientConfig(
    baseline="value", kl_coefficient=0.2, learning_rate=7e-4, schedule="linear"
)


@dataclass(frozen=True, kw_only=True)
class ScriptedConfig:
    """How the scripted rater errs.

    Raises:
        ValueError: a number is out of range.
    """

    scale: float = 10.0
    """P(the first is better) = σ(scale·(r₁ − r₂)): the larger, the less noise."""
    tie: float = 0.0
    """Rewards that are no further apart are a tie."""
    mistakes: float = 0.05
    """The rate at which a verdict is turned round."""

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"expected scale > 0, got {self.scale}")
        if not self.tie >= 0:
            raise ValueError(f"expected tie ≥ 0, got {self.tie}")
        if not 0 <= self.mistakes <= 1:
            raise ValueError(f"expected 0 ≤ mistakes ≤ 1, got {self.mistakes}")


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Rounds of sample → rate → reward model → policy → evaluate.

    Raises:
        ValueError: a number is out of range, or two settings contradict each other.
    """

    env: str = "textenv/Sentiment-v0"
    """The environment's id. Its own reward is measured and never trained on."""
    lm: str | None = None
    """A language model's name or folder; None: the environment's own starting policy."""
    device: str = "cpu"
    """Where that model computes: "cpu", "cuda", or "auto" for a GPU if there is one."""
    folder: Path | None = None
    """The loop's folder; None: runs/loop-NAME-seed-S. It must not exist yet, or be empty."""
    rounds: int = 3
    """How many rounds."""
    seed: int = 0
    """Fixes prompts, texts, the scripted rater's noise and both trainings."""

    # Sample.
    pairs: int = 600
    """Pairs of texts that are rated in each round."""
    samples: int = 2
    """Texts written after each prompt; each two of them are a pair."""
    opponent: Opponent = "self"
    """Whose texts are compared with the current policy's: its own, or those of the previous
    round's policy or of the starting policy, which then write half of the samples."""
    toxicity: float = 0.5
    """Texts at least as toxic (0 … 1) are flagged, and their pairs are asked about first."""
    blocklist: tuple[str, ...] = ()
    """Words and patterns: texts in which one occurs are flagged too."""

    # Rate.
    rater: str = "scripted"
    """Who compares: "people" (`textenv rate`), "scripted" (by the environment's own reward),
    "scripted:REWARD" (a name, or JSON with keywords), "judge:MODEL" or "reward_model:FOLDER"."""
    scripted: ScriptedConfig = field(default_factory=ScriptedConfig)
    """How a scripted rater errs."""
    raters_per_pair: int = 1
    """How many people compare each pair. What somebody skips or flags is asked of one more."""
    enough: float = 1.0
    """The share of a round's pairs that people must be done with before the loop goes on."""
    serve: bool = False
    """Show people the page and wait for them, in place of stopping until they are done."""

    # Learn.
    reward_model: RewardModelConfig = field(default_factory=RewardModelConfig)
    """How the reward model is trained; its seed follows from the loop's. With epsilon, each round's
    model spends that much, and learns from the earlier rounds' comparisons again: summary.md adds
    it up."""
    begin: Begin = "previous"
    """From which policy a round's training begins; the KL is always that to the starting one."""
    tokens: int = 40_000
    """How many tokens the policy writes while it learns, in each round."""
    agent: PolicyGradientConfig = AGENT
    """The agent's settings; its seed follows from the loop's. The learned reward is in log odds of
    being preferred, so that kl_coefficient is the price of a nat in log odds."""
    checkpoint_every: int = 10
    """Iterations of the agent between two checkpoints."""

    # Evaluate.
    texts: int = 1000
    """How many fresh texts measure each round's policy."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"expected seed ≥ 0, got {self.seed}")
        for name in ("rounds", "pairs", "tokens", "checkpoint_every", "texts", "raters_per_pair"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} ≥ 1, got {getattr(self, name)}")
        if self.samples < 2:
            raise ValueError(f"a pair needs samples ≥ 2 texts of a prompt, got {self.samples}")
        if not 0 <= self.toxicity <= 1:
            raise ValueError(f"expected toxicity, a probability, in 0 … 1, got {self.toxicity}")
        for name, kind in (("opponent", Opponent), ("begin", Begin)):
            if getattr(self, name) not in get_args(kind):
                raise UnknownNameError(f"setting of {name}", getattr(self, name), get_args(kind))
        if self.serve and self.rater != PEOPLE:
            raise ValueError(f'serve shows people the page: it needs rater="people", not '
                             f"{self.rater!r}")  # fmt: skip
        if self.raters_per_pair > 1 and self.rater != PEOPLE:
            raise ValueError(
                f"raters_per_pair={self.raters_per_pair} is about people: {self.rater!r} is one "
                'rater, who is asked once; leave it out, or use rater="people"'
            )
        if not 0 < self.enough <= 1:
            raise ValueError(f"expected enough, a share, in 0 … 1 and above 0, got {self.enough}")
        if self.device != "cpu" and self.lm is None:
            raise ValueError(
                f"device={self.device!r} moves the model of lm=: name one, or leave device out"
            )
        for name in ("agent", "reward_model"):
            if getattr(self, name).seed != 0:
                raise ValueError(
                    f"{name}.seed={getattr(self, name).seed}: in a loop it follows from the loop's "
                    f"own seed, round by round: give seed, and leave {name}.seed out"
                )

    def generator(self, number: int, purpose: str) -> Generator:
        """Random numbers of one round's part; round 0's are those of all rounds."""
        return default_rng([self.seed, number, *purpose.encode()])

    def seed_of(self, number: int, purpose: str) -> int:
        """A seed for one round's part, where an integer is needed."""
        return int(self.generator(number, purpose).integers(2**31))

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return json.loads(json.dumps(asdict(self), default=str))

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> LoopConfig:
        """Read what `to_json` wrote."""
        given = dict(settings)
        given["scripted"] = ScriptedConfig(**given["scripted"])
        given["reward_model"] = RewardModelConfig(**given["reward_model"])
        given["agent"] = PolicyGradientConfig(**given["agent"])
        given["blocklist"] = tuple(given["blocklist"])
        given["folder"] = None if given["folder"] is None else Path(given["folder"])
        return cls(**given)
