"""The settings of training a reward model."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from textenv.errors import NotSerialisableError


@dataclass(frozen=True, kw_only=True)
class RewardModelConfig:
    """How a reward model is trained. None is a choice made by the other settings.

    Raises:
        ValueError: a number outside its range, or settings that exclude each other.
    """

    # What it sees.
    features: Any = "tfidf"
    """"tfidf" (word 1–2-grams), "hashed" (the same without a vocabulary), "encoder" (MiniLM),
    "encoder:FOLDER", "hidden:NAME" (a language model's hidden states); a LanguageModel, or
    `Features` that were made before: with epsilon, from public texts alone."""
    include_prompt: bool | None = None
    """Whether words of the prompt count. None: encoders and language models read it, counts do
    not."""
    pooling: str = "mean"
    """Of hidden states: "mean" over the text, or the "last"."""
    hidden_units: int = 0
    """Width of one hidden layer on top of an encoder or a language model; 0: a linear head."""
    max_features: int = 50_000
    """The most frequent n-grams that "tfidf" keeps."""

    # How it learns.
    ensemble: int = 1
    """Heads, each trained on its own bootstrap resample of the prompts."""
    epochs: int | None = None
    """Passes over the data at most. None: 200; with epsilon 20, and then it is exact."""
    patience: int = 10
    """Epochs without a better validation loss before it stops."""
    l2: float = 1.0
    """The price of the squared weights beside the sum of the rows' losses."""
    validation: float = 0.2
    """The share of prompts set aside; where there are none, of texts. 0: nothing is measured."""
    seed: int = 0
    """Of the split, the resamples and the first weights."""

    # Differential privacy.
    epsilon: float | None = None
    """The ε of (ε, δ)-differential privacy for one row. None: no privacy."""
    delta: float | None = None
    """Its δ. None: half of one over the number of rows."""
    clip: float = 1.0
    """No row's gradient is longer than this."""
    batch_size: int = 1024
    """Rows a step, on average (Poisson sampling)."""
    learning_rate: float = 0.05
    """Of Adam, which sees only the noisy gradients."""
    noise_seed: int | None = None
    """None: noise from the operating system. A number repeats a run, and whoever knows it can take
    the noise off again: for tests only."""

    def __post_init__(self) -> None:
        _in_range("ensemble", self.ensemble, 1)
        _in_range("hidden_units", self.hidden_units, 0)
        _in_range("max_features", self.max_features, 1)
        _in_range("patience", self.patience, 1)
        _in_range("batch_size", self.batch_size, 1)
        _in_range("l2", self.l2, 0.0)
        if self.epochs is not None:
            _in_range("epochs", self.epochs, 1)
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation must be a share in [0, 1), got {self.validation!r}")
        if self.pooling not in ("mean", "last"):
            raise ValueError(f'pooling must be "mean" or "last", got {self.pooling!r}')
        _positive("clip", self.clip)
        _positive("learning_rate", self.learning_rate)
        if self.epsilon is None:
            if self.delta is not None or self.noise_seed is not None:
                raise ValueError("delta= and noise_seed= belong to epsilon=, which is missing")
            return
        _positive("epsilon", self.epsilon)
        if self.delta is not None and not 0 < self.delta < 1:
            raise ValueError(f"delta must lie between 0 and 1, got {self.delta!r}")
        if self.hidden_units:
            raise ValueError("with epsilon= the head is linear: leave hidden_units at 0")

    def to_json(self) -> dict[str, Any]:
        """Return the settings for config.json; the noise's seed is no part of them.

        Raises:
            NotSerialisableError: the features are an object; replace it by its name first.
        """
        values = dataclasses.asdict(dataclasses.replace(self, features=""))
        if not isinstance(self.features, str):
            raise NotSerialisableError(f"features={self.features!r:.60} has no JSON form")
        del values["noise_seed"]  # a saved model must not say how to take its noise off
        return {**values, "features": self.features}


def _in_range(name: str, value: float, least: float) -> None:
    if isinstance(value, bool) or not least <= value < math.inf:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
