"""The human-feedback loop: sample → rate → reward model → policy → evaluate, round by round."""

from textenv_agents.loop.config import LoopConfig, ScriptedConfig
from textenv_agents.loop.folder import LoopError, LoopFinishedError, LoopFolder
from textenv_agents.loop.outcome import Outcome, Waiting, what_to_do
from textenv_agents.loop.rounds import Loop, loop, resume
from textenv_agents.loop.summary import table

__all__ = [
    "Loop",
    "LoopConfig",
    "LoopError",
    "LoopFinishedError",
    "LoopFolder",
    "Outcome",
    "ScriptedConfig",
    "Waiting",
    "loop",
    "resume",
    "table",
    "what_to_do",
]
