"""The settings of `textenv evaluate`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from textenv.models.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What a policy is worth, with intervals.

    Raises:
        ValueError: a number is out of range, or two settings contradict each other.
    """

    policy: tyro.conf.Positional[str]
    """A language model's name or folder, an agent's checkpoint, a finished run's folder, "start"
    for the environment's own starting policy, or "uniform" for all tokens alike."""
    env: tyro.conf.Positional[str]
    """The environment's id, such as textenv/Sentiment-v0."""
    against: str | None = None
    """Another policy to compare with, text by text: same prompts, same random numbers."""
    rater: str | None = None
    """Who compares the two policies' texts: "scripted:sentiment", "judge:…",
    "reward_model:FOLDER"."""
    reference: str | None = None
    """The model that KL and perplexity are measured by. None: what an agent's checkpoint began as,
    else the environment's own starting policy."""
    reward: str | None = None
    """Another reward than the environment's: a name, or JSON such as
    '{"name": "length", "unit": "words"}'."""
    keywords: str | None = None
    """Further keywords of the environment as JSON, such as '{"max_tokens": 8}'."""

    # What is written.
    texts: int = 1000
    """How many fresh texts each policy writes."""
    per_prompt: int = 1
    """Texts of each drawn prompt; intervals are then over prompts."""
    seed: int = 12345
    """Fixes prompts, tokens and bootstrap samples."""
    temperature: float = 1.0
    """Logits are divided by it."""
    top_k: int | None = None
    """Write only the k likeliest tokens; all models are then cut the same way."""
    top_p: float | None = None
    """Write only the likeliest tokens that make up this probability."""
    device: str = "cpu"
    """Where the models compute: "cpu", "cuda", or "auto" for a GPU if there is one."""

    # What comes out.
    measures: tuple[str, ...] | None = None
    """The names of the measures that are wished; None: all that apply."""
    folder: Path | None = None
    """Where evaluation.json and samples.html go; None: runs/evaluation, or the first of
    runs/evaluation-2, … that is free. It must not exist yet, or be empty."""
    samples: int = 100
    """How many texts samples.html shows."""

    def __post_init__(self) -> None:
        if self.per_prompt < 1 or self.texts % self.per_prompt:
            raise ValueError(
                f"expected texts to be a multiple of per_prompt ≥ 1, got {self.texts} and "
                f"{self.per_prompt}"
            )
        if self.texts < 2 * self.per_prompt:
            raise ValueError(
                "an interval needs at least two draws of a prompt, got "
                f"texts={self.texts} with per_prompt={self.per_prompt}"
            )
        for name in ("samples", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"expected {name} ≥ 0, got {getattr(self, name)}")
        if self.rater is not None and self.against is None:
            raise ValueError(
                f"the rater {self.rater!r} compares two policies: name the other by --against, as "
                "in --against start"
            )
        if self.measures is not None and "win_rate" in self.measures and self.rater is None:
            raise ValueError("win_rate needs --against OTHER and --rater NAME")
        for name in ("reward", "keywords"):
            self.parsed(name)
        _ = self.sampling

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)

    def parsed(self, name: str) -> Any:
        """What a field says as JSON; a reward's name stays a name.

        Raises:
            ValueError: it is no JSON, or not of the right kind.
        """
        return json_setting(self, name, "textenv evaluate")

    def environment_keywords(self) -> dict[str, Any]:
        """The keywords for the environment."""
        reward = self.parsed("reward")
        return {**(self.parsed("keywords") or {}), **({} if reward is None else {"reward": reward})}


def json_setting(config: Any, name: str, command: str) -> Any:
    """What a setting, `reward` or `keywords`, says as JSON; a reward's name stays a name.

    Args:
        config: The settings of a command.
        name: "reward" or "keywords".
        command: Whose options say what `keywords` may not say again.

    Raises:
        ValueError: it is no JSON, or not of the right kind.
    """
    text = getattr(config, name)
    if text is None or (name == "reward" and text[:1] not in ("{", "[")):
        return text
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"expected --{name} to be JSON, got {text!r}: {error}") from error
    if name == "keywords" and not isinstance(value, dict):
        raise ValueError(f"expected --keywords to be a JSON object, got {text!r}")
    for key in value if name == "keywords" else ():
        if key != "reward" and hasattr(config, key):  # or it would be said twice
            raise ValueError(
                f"{key!r} is no keyword of environments: say it with the options of {command}"
            )
    return value
