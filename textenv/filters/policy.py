"""Policies that write only what a blocklist allows, for `textenv.exact`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from textenv.filters.blocklist import Blocklist
from textenv.filters.guard import Guard
from textenv.levels import ask_policy
from textenv.prefixes import Prefixes
from textenv.task import Task


def allowed_by(
    task: Task, blocklist: Any, policy: Any = None
) -> Callable[[Prefixes], npt.NDArray[np.float64]]:
    """Return a policy that writes only what a blocklist allows, for `textenv.exact`.

    `exact.value(task, allowed_by(task, patterns, policy))` is J under the mask, and
    `exact.optimum(task, allowed=allowed_by(task, patterns))` the best texts without a pattern.

    Args:
        task: A task.
        blocklist: In any of the forms of `Blocklist.parse`.
        policy: π, a language model or Prefixes → probabilities; what is allowed of it is
            renormalised. None: all allowed tokens are equally likely.

    Returns:
        Prefixes → probabilities [B, V].
    """
    guard = Guard(task, Blocklist.parse(blocklist))

    def restricted(prefixes: Prefixes) -> npt.NDArray[np.float64]:
        allowed = guard.allowed_after(prefixes)
        allowed[:, list(task.vocabulary.suppressed_tokens)] = False
        probabilities = allowed * (1.0 if policy is None else ask_policy(policy, prefixes))
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    return restricted
