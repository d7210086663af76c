"""The tasks that have an id, by name. Each is one file with one builder function."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from textenv.errors import UnknownNameError
from textenv.task import Task

# Name → module:function. Only the module of the task that is asked for is imported.
TASKS = {
    "GoodBad": "textenv.tasks.good_bad:good_bad",
    "ILoveYou": "textenv.tasks.i_love_you:i_love_you",
    "WordPreference": "textenv.tasks.word_preference:word_preference",
    "Sentiment": "textenv.tasks.sentiment:sentiment",
    "ToyTranslation": "textenv.tasks.toy_translation:toy_translation",
    "ReasoningGym": "textenv.tasks.reasoning_gym:reasoning_gym",
}


def builder(name: str) -> Callable[..., Task]:
    """Return the function that builds a task.

    Raises:
        UnknownNameError: no task has that name.
    """
    if name not in TASKS:
        raise UnknownNameError("task", name, TASKS)
    module, function = TASKS[name].split(":")
    return getattr(import_module(module), function)
