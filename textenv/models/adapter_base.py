"""What an adapter stands beside, and how one base is told from another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from textenv.catalogue import NAMES
from textenv.errors import TextenvError
from textenv.models.base import LanguageModel

BASE = "base.json"


class AdapterError(TextenvError):
    """An adapter cannot be added, is damaged, or belongs to another model."""


def fingerprint(lm: LanguageModel) -> str:
    """Return what tells one base from another: SHA-256 of its weights, rounded to bfloat16.

    Rounded, so that the type in which a model was loaded makes no difference; the adapter is left
    out.
    """
    digest = hashlib.sha256()
    for name, tensor in inner_model(lm).named_parameters():
        if "lora_" in name:
            continue
        digest.update(name.replace(".base_layer", "").encode())
        rounded = tensor.detach().to("cpu", torch.bfloat16).contiguous()
        digest.update(rounded.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def inner_model(lm: LanguageModel) -> Any:
    """The Hugging Face model inside."""
    from transformers import PreTrainedModel

    model = getattr(lm, "model", None)
    if not isinstance(model, PreTrainedModel):
        raise AdapterError(
            f"adapters go beside the weights of a Hugging Face model, a {type(lm).__name__} has "
            "none: train its weights"
        )
    return model


def set_loaded_as(lm: LanguageModel, name: str) -> None:
    """Remember the name or folder that a model was loaded by, where it can be an adapter's base."""
    if hasattr(lm, "model"):
        there = name not in NAMES and Path(name).exists()
        inner_model(lm).textenv_loaded_as = str(Path(name).resolve()) if there else name


def loaded_as(lm: LanguageModel) -> str | None:
    """What `textenv.models.load` loads the base by; None: it was in memory only."""
    return getattr(inner_model(lm), "textenv_loaded_as", None)


def name_of(model: Any) -> str:
    """What a base is called in errors."""
    settings = model.config
    width = getattr(settings, "hidden_size", "?")
    given = getattr(model, "textenv_loaded_as", None) or settings.name_or_path
    path = Path(given or "without a name").name  # no machine's folders
    return f"{path} ({type(model).__name__} of width {width})"


def made_for(folder: Path, config: Any) -> dict[str, str | None]:
    """The base that an adapter was made for; its fingerprint is None where PEFT alone wrote it."""
    if not (folder / BASE).exists():
        return {"name": config.base_model_name_or_path or "not named", "sha256": None}
    try:
        written = json.loads((folder / BASE).read_text("utf-8"))
        return {"name": str(written["name"]), "sha256": str(written["sha256"])}
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"{str(folder / BASE)!r} is damaged: {error}") from error


def other_base(folder: Path, name: str | None, model: Any) -> str:
    """What is said of an adapter that was made for another base than this model."""
    if name == name_of(model):
        return (
            f"the weights of this base, {name}, are not those that the adapter in {str(folder)!r} "
            "was made for: load it as it was, or train a new adapter for this one"
        )
    return (
        f"the adapter in {str(folder)!r} was made for another base: {name}; this one is "
        f"{name_of(model)}. Load that base, or train a new adapter for this one"
    )


def check_shapes(model: Any, weights: dict[str, Tensor], message: str) -> None:
    """Refuse weights that have no place, before anything is changed."""
    modules = dict(model.named_modules())
    for name, tensor in weights.items():
        path, _, matrix = name.partition(".lora_")
        weight = getattr(modules.get(path), "weight", None)
        side = 1 if matrix.startswith("A") else 0  # [r, in] and [out, r]
        if weight is None or tensor.ndim != 2 or tensor.shape[side] not in weight.shape:
            raise AdapterError(message)
