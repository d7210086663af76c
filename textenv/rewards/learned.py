"""A reward model in a folder as a reward: `{"name": "reward_model", "folder": …}`.

No torch until a text is scored. How such models are trained: `textenv.preferences.reward_model`.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from textenv.errors import MissingExtraError, TextenvError
from textenv.rewards.base import Reward
from textenv.rewards.registry import register


@register("reward_model")
class LearnedReward(Reward):
    """What a reward model that people taught says of a text, standardised. Range: any number.

    0 is the mean and 1 the deviation of the texts that the model was trained on; what a policy
    writes later may lie far outside. `disagreement` says where the model only guesses.

    Args:
        folder: What `RewardModel.save_pretrained` wrote.
        clip: Cut scores to −clip … clip; None: as they are.

    Raises:
        TextenvError: the folder holds no reward model.
        ValueError: `clip` is not a positive number.
    """

    name = "reward_model"

    def __init__(self, *, folder: str | Path, clip: float | None = None) -> None:
        self.folder = str(folder)
        self.clip = clip
        if clip is not None:
            if not 0 < clip < math.inf:
                raise ValueError(f"clip must be a positive number or None, got {clip!r}")
            self.range = (-float(clip), float(clip))
        _stamp(self.folder)  # so that a wrong folder is an error here, not at the first text

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        """Score each text."""
        scores: list[float] = self.model(prompts, completions)
        if self.clip is None:
            return scores
        return np.clip(scores, -self.clip, self.clip).tolist()

    @property
    def model(self) -> Any:
        """The `RewardModel`; it is read again where the folder was replaced."""
        return _loaded(self.folder, _stamp(self.folder))

    def compare(self, *texts: Any, **columns: Any) -> list[Any]:
        """As `RewardModel.compare`."""
        return list(self.model.compare(*texts, **columns))

    def disagreement(self, prompts: list[str], texts: list[str]) -> list[float]:
        """As `RewardModel.disagreement`."""
        return list(self.model.disagreement(prompts, texts))


def _stamp(folder: str) -> tuple[int, int]:
    """Tell one state of a folder from the next, after a look at what it is."""
    path = Path(folder) / "config.json"
    try:
        status = path.stat()
    except OSError as error:
        raise TextenvError(
            f"expected a folder that RewardModel.save_pretrained wrote, got {folder!r}, which has "
            "no config.json"
        ) from error
    _check(str(path), status.st_mtime_ns)
    return status.st_mtime_ns, status.st_ino


@functools.lru_cache(maxsize=64)
def _check(path: str, _changed: int) -> None:
    try:
        found = json.loads(Path(path).read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise TextenvError(f"{path!r} is damaged: {error}") from error
    if found != "textenv-reward-model":
        raise TextenvError(
            f"expected a folder that RewardModel.save_pretrained wrote, got one with a {found!r}: "
            f"{path!r}. A Hugging Face sequence classifier is "
            '{"name": "classifier", "model": folder}'
        )


@functools.lru_cache(maxsize=8)
def _loaded(folder: str, _stamp: tuple[int, int]) -> Any:
    """Read a model once a process."""
    try:
        from textenv.preferences.reward_model import RewardModel
    except ImportError as error:
        raise MissingExtraError("torch", "the reward 'reward_model'") from error
    return RewardModel.from_pretrained(folder)
