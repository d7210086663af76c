"""Plain functions as rewards, with TRL's calling convention."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

from textenv.errors import NotSerialisableError
from textenv.rewards.base import Payments, Reward
from textenv.rewards.registry import importable_name

_TEXTS = ("prompts", "completions", "completion_ids")


def _log_nothing(*_arguments: Any, **_keywords: Any) -> None:
    """Stand in for TRL's loggers: there is no trainer that could log."""


# What TRL's trainers pass beside the columns, for functions that cannot be called without.
_TRAINER = {"trainer_state": None, "log_extra": _log_nothing, "log_metric": _log_nothing}


class FunctionReward(Reward):
    """A plain function as a reward; made by `as_reward`, `+` and the registry.

    The function is called by keyword with what its signature takes of `prompts`, `completions`,
    `completion_ids` and the task's columns; with all of them if it has `**keywords`. Its
    attributes `pays` and `range` are respected. `trainer_state`, `log_extra` and `log_metric`,
    where it requires them, are None and functions that log nothing.

    Args:
        function: Any callable that returns one payment a text.

    Raises:
        TypeError: it is asynchronous, or takes arguments that have no name.
        ValueError: its attribute `pays` is neither "end" nor "token".

    >>> def accuracy(completions, reference, **kwargs):
    ...     return [float(text == right) for text, right in zip(completions, reference)]
    >>> FunctionReward(accuracy)(["", ""], ["yes", "no"], reference=["yes", "yes"])
    [1.0, 0.0]
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = _name(function)
        self.pays = getattr(function, "pays", "end")
        self.range = getattr(function, "range", Reward.range)
        if self.pays not in ("end", "token"):
            raise ValueError(
                f'the attribute pays of the reward {self.name!r} must be "end" or "token", got '
                f"{self.pays!r}"
            )
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"the reward {self.name!r} is asynchronous: write it with plain def")
        parameters = inspect.signature(function).parameters.values()
        if any(p.kind is p.POSITIONAL_ONLY for p in parameters):
            raise TypeError(f"the reward {self.name!r} must take its arguments by keyword")
        self._takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self._takes = frozenset(p.name for p in named)
        required = [p.name for p in named if p.default is p.empty]
        self._trainer = {name: _TRAINER[name] for name in required if name in _TRAINER}
        self.columns = tuple(n for n in required if n not in _TEXTS and n not in _TRAINER)

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> Payments:
        """Call the function with what it takes."""
        given = {"prompts": prompts, "completions": completions, **self._trainer, **columns}
        if not self._takes_all:
            given = {name: value for name, value in given.items() if name in self._takes}
        return cast(Payments, self.function(**given))

    def spec(self) -> str | dict[str, Any]:
        """Return the name it was looked up by, or "module:name".

        Raises:
            NotSerialisableError: neither exists.
        """
        if self.made_from is not None:
            return super().spec()
        name = importable_name(self.function)
        if name is None:
            raise NotSerialisableError(
                f"the reward {self.name!r} has no JSON form: the function cannot be imported as "
                '"module:name", because it is a closure, a lambda or an object, or stands in the '
                "script that runs; define it at the top of a module, or register what makes it"
            )
        return name


def _name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))
