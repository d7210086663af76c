"""Stable-Baselines3 on texts: many at once as one environment, and language models as policies."""

from textenv.errors import MissingExtraError

try:
    import stable_baselines3  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtraError("stable_baselines3", "textenv_agents.sb3") from error

from textenv_agents.sb3.algorithms import check_algorithm
from textenv_agents.sb3.buffer import SequenceRolloutBuffer
from textenv_agents.sb3.policy import LMPolicy
from textenv_agents.sb3.vec_env import SB3VecEnv

__all__ = ["LMPolicy", "SB3VecEnv", "SequenceRolloutBuffer", "check_algorithm"]
