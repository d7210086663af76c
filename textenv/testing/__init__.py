"""Checkers for environments and rewards, yours too, and episodes recorded as plain text."""

from textenv.testing.compare import CheckError
from textenv.testing.environment import check_env
from textenv.testing.playthrough import PlaythroughError, record_playthrough, replay_playthrough
from textenv.testing.reward import RewardReport, check_reward
from textenv.testing.vector import check_vector_env

__all__ = [
    "CheckError",
    "PlaythroughError",
    "RewardReport",
    "check_env",
    "check_reward",
    "check_vector_env",
    "record_playthrough",
    "replay_playthrough",
]
