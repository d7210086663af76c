"""What a run's checkpoint holds beside its agent: generators, environment, and what made it."""

from __future__ import annotations

import platform
import random
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from textenv.errors import ResetNeededError
from textenv.mdp import State

if TYPE_CHECKING:
    from textenv_agents.policy_gradient import PolicyGradient

PACKAGES = ("textenv", "torch", "numpy", "transformers", "peft")


def made_with(agent: PolicyGradient) -> dict[str, Any]:
    """What an exactly equal continuation needs to be the same."""
    return {
        **{name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": f"{sys.platform} {platform.machine()}",
        "device": str(agent.policy.device),
        "threads": torch.get_num_threads(),
    }


def generators() -> dict[str, Any]:
    """The states of the global generators; the agent's own is in its state."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002  (kept for whoever uses it)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (kind, torch.as_tensor(np.asarray(keys, dtype=np.int64)), *rest),
    }


def set_generators(states: dict[str, Any]) -> None:
    """Put the global generators where `generators` found them."""
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count() and states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002


def environment_state(envs: Any) -> dict[str, Any]:
    """The B states of a `TextVectorEnv`, and where its rows' generators are.

    A batch begins with a reset that gives each row its prompt; nothing else of an environment goes
    from one iteration into the next.
    """
    try:
        tokens, length, prompt_index, _ = envs.state
    except ResetNeededError:
        state = None
    else:
        state = [torch.as_tensor(array) for array in (tokens, length, prompt_index)]
    draws = envs.random_state
    return {
        "state": state,
        "generators": draws["generators"],
        "drawn": torch.as_tensor(draws["drawn"]),
        "used": torch.as_tensor(draws["used"]),
    }


def set_environment_state(envs: Any, saved: dict[str, Any]) -> None:
    """Put an environment where `environment_state` found it."""
    if saved["state"] is None:
        return
    envs.set_state(State(*(array.numpy() for array in saved["state"])))
    envs.random_state = {
        "generators": saved["generators"],
        "drawn": saved["drawn"].numpy(),
        "used": saved["used"].numpy(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
