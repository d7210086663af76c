"""Saving and loading an agent: a folder that is whole or not there.

policy/ as `save_pretrained` writes it, reference/ likewise, training.pt (optimizers and value head;
tensors and numbers only), state.json (version, settings, counters, generator).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import torch

from textenv.errors import TextenvError
from textenv.files import replaced_folder
from textenv.models import load as load_model
from textenv.plugins import Held
from textenv_agents.config import PolicyGradientConfig

if TYPE_CHECKING:
    from textenv_agents.policy_gradient import PolicyGradient

VERSION = 1
STATE = ("config", "environment", "tokens", "updates", "skipped", "running_mean", "generator")
FILES = ("policy", "reference", "training.pt", "state.json")


class CheckpointError(TextenvError):
    """A folder is no checkpoint, is damaged, or was written by another version."""


def save(agent: PolicyGradient, folder: Path) -> None:
    """Write a checkpoint; an older one in that folder is replaced at the very end."""
    state = {
        "version": VERSION,
        "config": asdict(agent.config),
        "environment": _spec(agent.env),
        "tokens": agent.tokens,
        "updates": agent.updates,
        "skipped": agent.skipped,
        "running_mean": [agent.running_mean.total, agent.running_mean.weight],
        "generator": agent.generator.bit_generator.state,
    }
    training = {
        "optimizer": agent.optimizer.state_dict(),
        "value_optimizer": agent.value_optimizer.state_dict(),
        "value_head": agent.value_head.state_dict(),
    }
    with replaced_folder(folder) as temporary:
        agent.policy.save_pretrained(temporary / "policy")
        agent.reference.save_pretrained(temporary / "reference")
        torch.save(training, temporary / "training.pt")
        (temporary / "state.json").write_text(json.dumps(state, indent=1), "utf-8")


def load(cls: type[Any], folder: Path, env: Any, logger: Any) -> Any:
    """Read a checkpoint.

    Raises:
        CheckpointError: see the class.
    """
    missing = [name for name in FILES if not (folder / name).exists()]
    if missing:
        raise CheckpointError(
            f"{str(folder)!r} is no whole checkpoint: it has no {', '.join(missing)}"
        )
    state = _read_state(folder)
    if env is None and state["environment"] is None:
        raise CheckpointError(
            f"{str(folder)!r} was trained in an environment that has no written form: pass env="
        )
    try:
        training = torch.load(folder / "training.pt", weights_only=True)
        policy = load_model(str(folder / "policy"))
        reference = load_model(str(folder / "reference"))
        config = PolicyGradientConfig(**state["config"])
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise CheckpointError(f"{str(folder)!r} is damaged: {error}") from error
    environment = env if env is not None else _environment(state["environment"], policy)
    agent = cls(policy, environment, config, logger=logger)
    agent.reference = reference.requires_grad_(False).eval()
    agent.optimizer.load_state_dict(training["optimizer"])
    agent.value_optimizer.load_state_dict(training["value_optimizer"])
    agent.value_head.load_state_dict(training["value_head"])
    agent.tokens, agent.updates = state["tokens"], state["updates"]
    agent.skipped = state["skipped"]
    agent.running_mean.total, agent.running_mean.weight = state["running_mean"]
    agent.generator.bit_generator.state = state["generator"]
    return agent


def _read_state(folder: Path) -> dict[str, Any]:
    try:
        state = json.loads((folder / "state.json").read_text("utf-8"))
        version = state["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{str(folder / 'state.json')!r} is damaged: {error}") from error
    if version != VERSION:
        raise CheckpointError(
            f"{str(folder)!r} is a checkpoint of version {version}, this textenv reads version "
            f"{VERSION}: load it with the textenv that wrote it"
        )
    missing = [name for name in STATE if name not in state]
    if missing:
        raise CheckpointError(f"{str(folder / 'state.json')!r} is damaged: no {missing}")
    return state


def _spec(env: Any) -> dict[str, Any] | None:
    """The environment as JSON, None where it holds an object of this process.

    A language model in memory is left out: it is the policy, which has its own folder.
    """
    if env.spec is None:
        return None
    kwargs = dict(env.spec.kwargs)
    own = isinstance(kwargs.get("lm"), Held)
    if own:
        kwargs.pop("lm")
    if any(isinstance(value, Held) for value in kwargs.values()):
        return None
    return {"id": env.spec.id, "kwargs": kwargs, "lm_is_policy": own}


def _environment(entry: dict[str, Any], policy: Any) -> Any:
    model = {"lm": policy} if entry["lm_is_policy"] else {}
    return gym.make_vec(entry["id"], **entry["kwargs"], **model)
