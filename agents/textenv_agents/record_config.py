"""The settings of `textenv record`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from textenv.models.sampling import Sampling
from textenv_agents.evaluate_config import json_setting


@dataclass(frozen=True, kw_only=True)
class RecordConfig:
    """Write what a policy does as a Minari dataset.

    Raises:
        ValueError: a number is out of range, or a setting is no JSON.
    """

    policy: tyro.conf.Positional[str]
    """A language model's name or folder, an agent's checkpoint, a finished run's folder, "start"
    for the environment's own starting policy, or "uniform" for all tokens alike."""
    env: tyro.conf.Positional[str]
    """The environment's id, such as textenv/Sentiment-v0."""
    name: str
    """The dataset's, with a version: textenv/sentiment/start-v0."""
    episodes: int = 1000
    """How many texts are written."""
    folder: Path | None = None
    """Where Minari's datasets are; None: $MINARI_DATASETS_PATH, or ~/.minari/datasets."""
    reward: str | None = None
    """Another reward than the environment's: a name, or JSON such as
    '{"name": "length", "unit": "words"}'."""
    keywords: str | None = None
    """Further keywords of the environment as JSON, such as '{"max_tokens": 8}'."""
    seed: int = 0
    """Fixes prompts and tokens."""
    temperature: float = 1.0
    """Logits are divided by it."""
    top_k: int | None = None
    """Write only the k likeliest tokens."""
    top_p: float | None = None
    """Write only the likeliest tokens that make up this probability."""
    device: str = "cpu"
    """Where the model computes: "cpu", "cuda", or "auto" for a GPU if there is one."""

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.seed < 0:
            raise ValueError(
                f"expected episodes ≥ 1 and seed ≥ 0, got {self.episodes} and {self.seed}"
            )
        _ = self.sampling, self.environment_keywords()

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)

    def environment_keywords(self) -> dict[str, Any]:
        """The keywords for the environment."""
        reward = json_setting(self, "reward", "textenv record")
        keywords = json_setting(self, "keywords", "textenv record") or {}
        return {**keywords, **({} if reward is None else {"reward": reward})}
