"""Agents that write text by reinforcement learning.

The names below are imported when they are first used, so that the command line does not load torch
for what needs none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textenv_agents.checkpoint import CheckpointError
    from textenv_agents.config import PolicyGradientConfig
    from textenv_agents.evaluation import Evaluation, evaluate
    from textenv_agents.policy_gradient import PolicyGradient
    from textenv_agents.reporting import report

__all__ = [
    "CheckpointError",
    "Evaluation",
    "PolicyGradient",
    "PolicyGradientConfig",
    "evaluate",
    "report",
]

_WHERE = {
    "CheckpointError": "checkpoint",
    "Evaluation": "evaluation",
    "PolicyGradient": "policy_gradient",
    "PolicyGradientConfig": "config",
    "evaluate": "evaluation",
    "report": "reporting",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"textenv_agents.{_WHERE[name]}"), name)
