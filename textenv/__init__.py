"""Text generation as a Markov decision process: Gymnasium environments.

Importing this package registers the ids `textenv/…-v0` and loads no torch.
"""

from importlib import import_module
from typing import Any

from textenv import rewards
from textenv.actions import AllTokens, Candidates, Completion, Fragments, Strings
from textenv.env import TextEnv
from textenv.filters import Blocklist
from textenv.observations import Hidden, Probabilities, Text, Tokens
from textenv.registration import register as _register
from textenv.task import Task
from textenv.vector_env import TextVectorEnv

__all__ = [
    "AllTokens",
    "Blocklist",
    "Candidates",
    "Completion",
    "Fragments",
    "Hidden",
    "Probabilities",
    "Strings",
    "Task",
    "Text",
    "TextEnv",
    "TextVectorEnv",
    "Tokens",
    "rewards",
]
__version__ = "0.1.0"

_register()


def __getattr__(name: str) -> Any:
    # Rooms that are imported when they are first used: `models` loads torch.
    if name in ("exact", "metrics", "models", "preferences", "testing", "wrappers"):
        return import_module(f"textenv.{name}")
    raise AttributeError(f"module 'textenv' has no attribute {name!r}")
