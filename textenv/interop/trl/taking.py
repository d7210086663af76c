"""TRL's rewards as ours."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

from textenv.interop.trl.messages import as_messages
from textenv.rewards import Reward
from textenv.rewards.base import Payments
from textenv.rewards.function import FunctionReward
from textenv.rewards.registry import find

_LISTS_OF_MESSAGES = re.compile(r"list\[.*(list|sequence)\[", re.IGNORECASE)


class TRLReward(FunctionReward):
    """A reward that was written for TRL, over plain texts or over chat messages.

    It gets `completion_ids` as environments have them, without the end token, which TRL counts;
    `trainer_state` is None where it is required, and the loggers log nothing.

    Args:
        function: Any synchronous callable of TRL's signature, or "package.module:function".
        conversational: Whether it reads messages instead of texts. None: if the annotation of
            its argument `completions` says so, as in `trl.rewards`.

    Raises:
        TypeError: it is asynchronous, a model, a class, or no function at all.
        ValueError: conversational is something else.
    """

    def __init__(
        self, function: Callable[..., Any] | str, conversational: bool | None = None
    ) -> None:
        if isinstance(function, str) and ":" in function:
            function = find(function)
        _check(function)
        if conversational not in (True, False, None):
            raise ValueError(
                f"expected conversational= to be True, False or None, got {conversational!r}"
            )
        assert callable(function)
        super().__init__(function)
        if conversational is None:
            conversational = _reads_messages(function)
        self.conversational = conversational

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> Payments:
        """Call the function with texts in the form that it reads."""
        if not self.conversational:
            return super().__call__(prompts, completions, **columns)
        asked: list[Any] = [as_messages(prompt, "user") for prompt in prompts]
        said: list[Any] = [as_messages(text, "assistant") for text in completions]
        return super().__call__(asked, said, **columns)

    def spec(self) -> str | dict[str, Any]:
        """Return this class's name with the function's, "module:name".

        Raises:
            NotSerialisableError: no other process can import the function.
        """
        if self.made_from is not None:
            return super().spec()
        name = f"{TRLReward.__module__}:{TRLReward.__qualname__}"
        return {"name": name, "function": super().spec(), "conversational": self.conversational}


def from_trl_reward(
    function: Callable[..., Any] | str, conversational: bool | None = None
) -> Reward:
    """Make a textenv reward of one that was written for TRL's trainers: see `TRLReward`.

    Its columns are the task's: `gym.make(…, reward=from_trl_reward(accuracy_reward),
    prompts=[…], columns={"solution": […]})`.

    >>> def polite(completions, **kwargs):
    ...     return [float("please" in messages[0]["content"]) for messages in completions]
    >>> from_trl_reward(polite, conversational=True)(["", ""], ["Go.", "Go, please."])
    [0.0, 1.0]
    """
    return TRLReward(function, conversational)


def _check(function: Any) -> None:
    """Refuse what TRL takes and an environment cannot call."""
    if isinstance(function, str) or (hasattr(function, "forward") and hasattr(function, "config")):
        raise TypeError(
            f"expected a function with TRL's signature, got {function!r:.80}; where TRL takes a "
            'model, write reward={"name": "classifier", "model": folder}'
        )
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"expected a function with TRL's signature, got {function!r:.80}")
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if any(map(inspect.iscoroutinefunction, (inner, inner.__call__))):
        raise TypeError(
            f"the reward {inner!r:.80} is asynchronous, and environments wait for each reward: "
            "write it with plain def, or wrap it: def reward(**keywords): return "
            "asyncio.run(function(**keywords))"
        )


def _reads_messages(function: Callable[..., Any]) -> bool:
    completions = inspect.signature(function).parameters.get("completions")
    return bool(completions and _LISTS_OF_MESSAGES.search(str(completions.annotation)))
