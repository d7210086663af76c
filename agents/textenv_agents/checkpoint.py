"""Saving and loading an agent: a folder that is whole or not there.

training.pt: what training changes (the trained weights, optimizers, value head, counters,
    generators; tensors and plain values only).
state.json: version, settings, the environment's form, and SHA-256 of the files beside it.
policy/, reference/: both models as `save_pretrained` writes them. Of a policy with an adapter,
    adapter/ alone: its base is found by name, or is the model of the environment handed in.

The checkpoints of a run (`textenv train`) have the first two only: the run's settings make the
models again, and the trained weights are put into their places. Weights go back into the tensors
that the agent has, name by name: so their types, and weights that are tied, stay as they are.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from textenv.errors import TextenvError
from textenv.files import replaced_folder
from textenv.models import CausalLM, LanguageModel, Seq2SeqLM
from textenv.models import load as load_model
from textenv.models.adapter_base import loaded_as
from textenv.models.adapter_files import load_adapter, save_adapter
from textenv.models.adapters import AdapterError, WithoutAdapter, has_adapter
from textenv.models.loading import find_device
from textenv.plugins import Held
from textenv_agents.config import PolicyGradientConfig

if TYPE_CHECKING:
    from textenv_agents.agent import Agent

VERSION = 2
TRAINING, STATE = "training.pt", "state.json"


class CheckpointError(TextenvError):
    """A folder is no checkpoint, is damaged, or was written by another version."""


class Checkpoint(NamedTuple):
    """What a folder holds, read and checked; nothing is changed by reading.

    state: Of state.json.
    training: Of training.pt.
    """

    state: dict[str, Any]
    training: dict[str, Any]


# A whole agent in a folder.


def save(agent: Agent, folder: Path) -> None:
    """Write an agent; an older one in that folder is replaced at the very end."""
    base = None
    with replaced_folder(folder) as temporary:
        if has_adapter(agent.policy):
            base = loaded_as(agent.policy) or ""  # "": a model in memory
            save_adapter(agent.policy, temporary / "adapter")
        else:
            agent.policy.save_pretrained(temporary / "policy")
        if has_adapter(agent.reference):
            save_adapter(agent.reference, temporary / "reference")
        elif not isinstance(agent.reference, WithoutAdapter):
            agent.reference.save_pretrained(temporary / "reference")
        dtype = str(next(agent.policy.parameters()).dtype).removeprefix("torch.")
        device = str(agent.policy.device)
        state = {"environment": _spec(agent.env), "dtype": dtype, "device": device, "base": base}
        write(temporary, agent, state)


def load(cls: type[Any], folder: Path, env: Any, device: str | None, logger: Any) -> Any:
    """Make an agent from what `save` wrote; see `Agent.load`.

    Raises:
        CheckpointError: see the class.
    """
    checkpoint = read(folder)
    state = checkpoint.state
    if "environment" not in state:
        raise CheckpointError(
            f"{str(folder)!r} is a checkpoint inside a run: go on with it by textenv train "
            "--resume RUN, or load the agent of the finished run, RUN/checkpoint"
        )
    if env is None and state["environment"] is None:
        raise CheckpointError(
            f"{str(folder)!r} was trained in an environment that has no written form: pass env="
        )
    where = _device(folder, state, device)
    try:
        config = PolicyGradientConfig(**state["config"])
        name = "policy" if state["base"] is None else "adapter"
        policy = _model(folder / name, state, where, env)
        whole = (folder / "reference").exists()
        reference = _model(folder / "reference", state, where, env) if whole else None
    except TextenvError:
        raise
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise CheckpointError(f"{str(folder)!r} is damaged: {error}") from error
    environment = env if env is not None else _environment(state["environment"], policy)
    agent = cls(policy, environment, config, logger=logger)
    if reference is not None:
        agent.reference = reference.requires_grad_(False).eval()
    restore(agent, checkpoint, folder)
    return agent


# What training changes.


def write(folder: Path, agent: Agent, state: dict[str, Any], **further: Any) -> None:
    """Write training.pt and state.json into a folder that nobody reads yet.

    Args:
        folder: Where the models, if they are part of it, are already.
        agent: The agent, at the end of an iteration.
        state: What else state.json shall hold.
        **further: What else training.pt shall hold.
    """
    training = {"weights": trained(agent.policy), "agent": agent.state_dict(), **further}
    torch.save(training, folder / TRAINING)
    whole = {"version": VERSION, "config": asdict(agent.config), **state}
    whole["files"] = _digests(folder)
    (folder / STATE).write_text(json.dumps(whole, indent=1), "utf-8")


def read(folder: Path) -> Checkpoint:
    """Read and check a checkpoint; nothing is changed.

    Raises:
        CheckpointError: see the class.
    """
    missing = [name for name in (TRAINING, STATE) if not (folder / name).exists()]
    if missing:
        raise CheckpointError(
            f"{str(folder)!r} is no whole checkpoint: it has no {', '.join(missing)}"
        )
    try:
        state = json.loads((folder / STATE).read_text("utf-8"))
        version = state["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{str(folder / STATE)!r} is damaged: {error}") from error
    if version != VERSION:
        raise CheckpointError(
            f"{str(folder)!r} is a checkpoint of version {version}, this textenv reads version "
            f"{VERSION}: load it with the textenv that wrote it"
        )
    try:
        written = state["files"]
        found = _digests(folder)
        changed = sorted(name for name in written if found.get(name) != written[name])
        if changed or state["config"] is None:
            raise ValueError(f"{', '.join(changed)} is missing or not what was written")
        training = torch.load(folder / TRAINING, weights_only=True, map_location="cpu")
        if not {"weights", "agent"} <= training.keys():
            raise ValueError(f"{TRAINING} holds {sorted(training)} only")
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise CheckpointError(f"{str(folder)!r} is damaged: {error}") from error
    return Checkpoint(state, training)


def restore(agent: Agent, checkpoint: Checkpoint, folder: Path) -> None:
    """Put what training changed into an agent that was made with the same settings.

    Raises:
        CheckpointError: it is the checkpoint of another model; the agent is as it was.
    """
    own, saved = trained(agent.policy), checkpoint.training["weights"]
    for name in sorted(own.keys() | saved.keys()):
        here, there = own.get(name), saved.get(name)
        if here is None or there is None or here.shape != there.shape or here.dtype != there.dtype:
            raise CheckpointError(
                f"{str(folder)!r} is the checkpoint of another model: its {name!r} is "
                f"{_shape(there)}, this policy's is {_shape(here)}"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])
    agent.load_state_dict(checkpoint.training["agent"])  # it forgets what was read, too


def trained(model: LanguageModel) -> dict[str, Tensor]:
    """What training changes in a model, by name: the trainable parameters, and its buffers.

    A tied weight is there once. The tensors are the model's own.
    """
    parameters = dict(model.named_parameters())
    buffers = (
        model.state_dict().keys() - dict(model.named_parameters(remove_duplicate=False)).keys()
    )
    trainable = {name: tensor for name, tensor in parameters.items() if tensor.requires_grad}
    own = {name: tensor for name, tensor in model.named_buffers() if name in buffers}
    return {name: tensor.detach() for name, tensor in (trainable | own).items()}


def untrained(agent: Agent) -> str:
    """SHA-256 of all weights that a run's checkpoint leaves out, those of the reference included.

    The run's settings make them again; this says whether they are still the same.
    """
    frozen = [(n, p) for n, p in agent.policy.named_parameters() if not p.requires_grad]
    return digest_of([*frozen, *agent.reference.named_parameters()])


def digest_of(weights: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of weights and their names, types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in weights:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        plain = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(plain.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file with numbers in it."""
    found = {}
    for path in sorted([*folder.rglob("*.pt"), *folder.rglob("*.safetensors")]):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(
                file, "sha256"
            ).hexdigest()
    return found


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{tuple(tensor.shape)} of {tensor.dtype}"


# Models and their bases: an adapter's base is not written again.


def _device(folder: Path, state: dict[str, Any], given: str | None) -> torch.device:
    """The device that is asked for, else the one of the training."""
    wanted = given or state.get("device", "cpu")
    try:
        return find_device(wanted)
    except TextenvError as error:
        raise CheckpointError(
            f"{str(folder)!r} was trained on {state.get('device', 'cpu')!r}; {error}"
        ) from error


def _model(folder: Path, state: dict[str, Any], where: torch.device, env: Any) -> LanguageModel:
    """Read a model, or an adapter beside a fresh base, in the type it was trained in."""
    dtype = getattr(torch, state["dtype"])
    if state["base"] is None:
        return load_model(str(folder)).to(where, dtype)
    model = _base(folder, state["base"], env).to(where, dtype)
    try:
        load_adapter(model, folder)  # it has a type of its own
    except AdapterError as error:
        raise CheckpointError(
            f"{error}; or pass env=gym.make_vec(…, lm=that_base) to load it with"
        ) from error
    return model


def _base(folder: Path, name: str, env: Any) -> LanguageModel:
    """The model of the environment that was handed in, else the one of that name."""
    if isinstance(env, VectorEnv):
        own = getattr(env.unwrapped, "lm", None)
        if not isinstance(own, CausalLM | Seq2SeqLM):
            raise CheckpointError(
                f"{str(folder)!r} is an adapter for the model {name or 'that was in memory'}, this "
                f"environment has a {type(own).__name__}: pass env=gym.make_vec(…, lm=that_model)"
            )
        return copy.deepcopy(own)
    if not name:
        raise CheckpointError(
            f"{str(folder)!r} is an adapter for a model that was in memory only: pass "
            "env=gym.make_vec(…, lm=that_model)"
        )
    try:
        return load_model(name)
    except (TextenvError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{str(folder)!r} is an adapter for the model {name!r}, which cannot be loaded: pass "
            f"env=gym.make_vec(…, lm=that_model) ({error})"
        ) from error


# The environment as JSON.


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
