"""Reward models that are learned from comparisons and ratings. Importing this loads torch."""

from textenv.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401
except ImportError as _error:
    raise MissingExtraError("torch", "a reward model") from _error

from textenv.preferences.reward_model.config import RewardModelConfig
from textenv.preferences.reward_model.model import RewardModel
from textenv.preferences.reward_model.report import Report
from textenv.preferences.reward_model.training import Trained, measure, train

__all__ = ["Report", "RewardModel", "RewardModelConfig", "Trained", "measure", "train"]
