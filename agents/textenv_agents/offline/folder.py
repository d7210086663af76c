"""A learner in a folder: lm/, what training changed in training.pt, the rest in state.json.

Of a language model with an adapter lm/ is the base, and lm_adapter/ what stands beside it.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from textenv.files import replaced_folder
from textenv.models import LanguageModel, load
from textenv.models.adapter_base import inner_model
from textenv.models.adapter_files import load_adapter, save_adapter
from textenv.models.adapters import has_adapter, remove
from textenv_agents.checkpoint import CheckpointError
from textenv_agents.offline.config import ImplicitQConfig

if TYPE_CHECKING:
    from textenv_agents.offline.implicit_q import ImplicitQLearning

VERSION = 1
LM, ADAPTER, STATE, TRAINING = "lm", "lm_adapter", "state.json", "training.pt"
HEADS = ("q", "target_q", "v")


class Saved(NamedTuple):
    """What a folder holds: the settings, the language model, and what `restore` puts back."""

    config: ImplicitQConfig
    lm: LanguageModel
    state: dict[str, Any]
    training: dict[str, Any]


def write(learner: ImplicitQLearning, folder: str | Path) -> None:
    """Write a learner, whole or not at all."""
    lm = learner.lm
    parameters = dict(lm.named_parameters())
    dtype = next(iter(parameters.values())).dtype
    with replaced_folder(folder) as temporary:
        if has_adapter(lm):
            save_adapter(lm, temporary / ADAPTER)
            base = copy.deepcopy(lm)
            remove(inner_model(base))
            base.save_pretrained(temporary / LM)
        else:
            lm.save_pretrained(temporary / LM)
        training = {name: getattr(learner, name).state_dict() for name in HEADS}
        training["optimizer"] = learner.optimizer.state_dict()
        if learner.config.lm_learning_rate is not None or dtype == torch.float64:
            training[LM] = lm.state_dict()  # the folder comes back in float32
        torch.save(training, temporary / TRAINING)
        state = {
            "version": VERSION,
            "config": asdict(learner.config),
            "updates": learner.updates,
            "generator": learner.generator.bit_generator.state,
            "dtype": str(dtype).removeprefix("torch."),
            "trainable": [name for name, each in parameters.items() if each.requires_grad],
        }
        (temporary / STATE).write_text(json.dumps(state, indent=1), "utf-8")


def read(folder: Path, device: str | None) -> Saved:
    """Read what `write` wrote.

    Raises:
        CheckpointError: the folder holds no learner, a damaged one, or another version's.
    """
    try:
        state = json.loads((folder / STATE).read_text("utf-8"))
        if state["version"] != VERSION:
            raise ValueError(f"version {state['version']}, this textenv reads {VERSION}")
        config = ImplicitQConfig(**state["config"])
        lm = load(folder / LM, device=device, dtype=state["dtype"])
        if (folder / ADAPTER).is_dir():
            load_adapter(lm, folder / ADAPTER)
        training = torch.load(folder / TRAINING, weights_only=True, map_location="cpu")
        if LM in training:
            lm.load_state_dict(training[LM])
            lm.forget()
        for name, parameter in lm.named_parameters():
            parameter.requires_grad_(name in state["trainable"])
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise _damaged(folder, error) from error
    return Saved(config, lm, state, training)


def restore(learner: ImplicitQLearning, saved: Saved, folder: Path) -> None:
    """Put back what training changed.

    Raises:
        CheckpointError: the folder is damaged.
    """
    try:
        for name in HEADS:
            getattr(learner, name).load_state_dict(saved.training[name])
        learner.optimizer.load_state_dict(saved.training["optimizer"])
        learner.generator.bit_generator.state = saved.state["generator"]
        learner.updates = saved.state["updates"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"expected a folder that ImplicitQLearning.save wrote, {str(folder)!r} is none or is "
        f"damaged ({error}): save it again"
    )
