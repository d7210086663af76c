"""Text generation as a Markov decision process: Gymnasium environments.

Importing this package registers the ids `textenv/…-v0` and loads no torch.
"""

from textenv import rewards
from textenv.actions import AllTokens
from textenv.env import TextEnv
from textenv.observations import Tokens
from textenv.registration import register as _register
from textenv.task import Task
from textenv.vector_env import TextVectorEnv

__all__ = ["AllTokens", "Task", "TextEnv", "TextVectorEnv", "Tokens", "rewards"]
__version__ = "0.1.0"

_register()
