"""Agents that write text by reinforcement learning. Importing a name from here loads torch."""

from textenv_agents.checkpoint import CheckpointError
from textenv_agents.config import PolicyGradientConfig
from textenv_agents.policy_gradient import PolicyGradient

__all__ = ["CheckpointError", "PolicyGradient", "PolicyGradientConfig"]
