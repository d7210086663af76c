"""`RewardModel`: a reward and a rater that was learned from what people said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from textenv.errors import NotSerialisableError
from textenv.preferences.comparisons import Verdict
from textenv.preferences.reward_model.features import Features
from textenv.preferences.reward_model.heads import Head
from textenv.preferences.reward_model.report import Report
from textenv.rewards.base import Reward


class RewardModel(Reward):
    """Features that are frozen, and heads that were trained on top; `train` makes it.

    As a reward it pays the mean of the heads, less `mean`, over `deviation`: 0 on average and of
    deviation 1 over the texts that it was trained on. As a rater it prefers what it pays more for.

    Args:
        features: φ(prompt, text).
        heads: K heads.
        report: What the training came to; it says what the heads were trained for.
        config: The settings of the training, as JSON.
        mean: Of the raw scores.
        deviation: Of the raw scores, positive.

    Attributes:
        folder: Where it was loaded from, if it was.
    """

    name = "reward_model"

    def __init__(
        self,
        features: Features,
        heads: Sequence[Head],
        report: Report,
        config: dict[str, Any],
        *,
        mean: float = 0.0,
        deviation: float = 1.0,
    ) -> None:
        self.features = features
        self.heads = tuple(heads)
        self.report = report
        self.config = config
        self.mean, self.deviation = mean, deviation
        self.folder: str | None = None

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        """Pay each text its standardised score."""
        scores = self._raw(prompts, completions).mean(axis=1)
        return ((scores - self.mean) / self.deviation).tolist()

    def compare(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], **columns: Any
    ) -> list[Verdict]:
        """As `Rater.compare`; a tie only where both are worth exactly the same."""
        one, other = self(list(prompts), list(first)), self(list(prompts), list(second))
        return [
            "tie" if a == b else "better" if a > b else "worse"
            for a, b in zip(one, other, strict=True)
        ]

    def probabilities(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
    ) -> list[float]:
        """P(the first is preferred) = σ(r₁ − r₂), of the raw scores.

        Raises:
            ValueError: it was trained on ratings, which say nothing of probabilities.
        """
        if self.report.kind == "ratings":
            raise ValueError(
                "this reward model was trained on ratings, so its scores are ratings and no log "
                "odds: train on comparisons for probabilities; compare() works with both"
            )
        ahead = self._raw(prompts, first).mean(axis=1) - self._raw(prompts, second).mean(axis=1)
        return (1 / (1 + np.exp(-np.clip(ahead, -700, 700)))).tolist()

    def ratings(self, prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
        """The raw scores: in the ratings' units, or log odds where comparisons taught it."""
        return self._raw(prompts, texts).mean(axis=1).tolist()

    def disagreement(self, prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
        """The deviation among the heads, in the units of the reward; 0 for a single head.

        Where it is large the texts are unlike those that people compared, and the score is a guess.
        For comparisons each head is free to add a constant, so each is centred on its own mean over
        the training texts.
        """
        return (self._raw(prompts, texts).std(axis=1) / self.deviation).tolist()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors, a card, and what the features need.

        Args:
            folder: Where to; what is there is replaced.
        """
        from textenv.preferences.reward_model.saving import save

        save(self, folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, base: Any = None) -> RewardModel:
        """Read what `save_pretrained` wrote.

        Args:
            folder: Where it is.
            base: The language model, or the encoder's folder, to stand on where it is not to be
                found by its name any more. It must be the same.

        Raises:
            TextenvError: no reward model, a damaged one, or one made for another base.
        """
        from textenv.preferences.reward_model.saving import load

        return load(folder, base)

    def spec(self) -> str | dict[str, Any]:
        """Return {"name": "reward_model", "folder": …}.

        Raises:
            NotSerialisableError: it is in memory only.
        """
        if self.folder is None:
            raise NotSerialisableError(
                "this reward model is in memory only: save_pretrained(folder), then use "
                'reward={"name": "reward_model", "folder": folder}'
            )
        return {"name": "reward_model", "folder": self.folder}

    @torch.no_grad()
    def _raw(self, prompts: Sequence[str], texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """What each head says, [n, K]."""
        if not len(texts):
            return np.zeros((0, len(self.heads)))
        rows = self.features(prompts, texts)
        return torch.stack([head(rows) for head in self.heads], dim=1).numpy()


def standardised(scores: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean and the deviation of scores [n]; 1 where all are the same."""
    deviation = float(scores.std())
    return float(scores.mean()), deviation if deviation > 1e-12 else 1.0
