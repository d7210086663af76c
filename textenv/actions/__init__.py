"""What the agent may do in a state. One class for each kind; `parse` finds it by name."""

from __future__ import annotations

from typing import Any

from textenv.actions.base import Action
from textenv.actions.several import Completion, Fragments, Strings
from textenv.actions.single import AllTokens, Candidates

__all__ = [
    "ACTIONS",
    "Action",
    "AllTokens",
    "Candidates",
    "Completion",
    "Fragments",
    "Strings",
    "parse",
]

ACTIONS: dict[str, type[Action]] = {
    kind.name: kind for kind in (AllTokens, Candidates, Fragments, Strings, Completion)
}


def parse(value: Any) -> Action:
    """Make an action from `"candidates:32"`, `{"name": "candidates", "k": 32}` or an object."""
    return Action.parse("action", value, ACTIONS)
