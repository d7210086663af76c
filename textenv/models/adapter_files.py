"""Adapters as files, and the names of the models that they belong to.

PEFT's own files, safetensors only, and `base.json`: what the base was, and its fingerprint. The
base itself is not written; where it was loaded by a name or from a folder, that stands in PEFT's
`adapter_config.json`, so that `textenv.models.load` finds both.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from textenv.catalogue import ADAPTER
from textenv.files import replaced_folder
from textenv.models.adapter_base import (
    BASE,
    AdapterError,
    check_shapes,
    fingerprint,
    inner_model,
    loaded_as,
    made_for,
    name_of,
    other_base,
)
from textenv.models.adapters import NAME, has_adapter, inject, peft_package, remove
from textenv.models.base import LanguageModel

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # what PEFT puts before every name in its files


def save_adapter(lm: LanguageModel, folder: str | Path) -> None:
    """Write the adapter alone, as PEFT does, whole or not at all; what is there is replaced.

    Raises:
        AdapterError: the model has none.
    """
    peft = peft_package()
    if not has_adapter(lm):
        raise AdapterError("the model has no adapter to save: add_adapter gives it one")
    model = inner_model(lm)
    # Where embeddings may be saved PEFT asks the Hub for those of the base.
    weights = peft.get_peft_model_state_dict(model, adapter_name=NAME, save_embedding_layers=False)
    config = copy.copy(model.peft_config[NAME])
    config.base_model_name_or_path = loaded_as(lm)  # PEFT has a folder of this machine there
    with replaced_folder(folder) as temporary:
        config.save_pretrained(str(temporary))
        whole = {
            PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()
        }
        save_file(whole, temporary / WEIGHTS, metadata={"format": "pt"})
        written = {"name": name_of(model), "sha256": fingerprint(lm)}
        (temporary / BASE).write_text(json.dumps(written, indent=1), "utf-8")


def load_adapter(lm: LanguageModel, folder: str | Path) -> None:
    """Put a saved adapter beside a model's weights, to be trained on or to be asked.

    Args:
        lm: The model that the adapter was made for, without one; changed in place.
        folder: What `save_adapter` or PEFT wrote; LoRA and safetensors only.

    Raises:
        AdapterError: the folder holds no whole adapter, or one for another model; `lm` is then
            as it was.
    """
    peft = peft_package()
    folder, model = Path(folder), inner_model(lm)
    if has_adapter(lm):
        raise AdapterError("the model has an adapter already: load the model again without it")
    try:
        kind = json.loads((folder / ADAPTER).read_text("utf-8"))["peft_type"]
        if kind != "LORA":
            raise AdapterError(
                f"the adapter in {str(folder)!r} is of the kind {kind}: expected LORA"
            )
        config = peft.LoraConfig.from_pretrained(str(folder), local_files_only=True)
        stored = load_file(folder / WEIGHTS)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise AdapterError(f"{str(folder)!r} holds no whole adapter: {error}") from error
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in stored.items()}
    base = made_for(folder, config)
    other = other_base(folder, base["name"], model)
    if base["sha256"] not in (None, fingerprint(lm)):
        raise AdapterError(other)
    check_shapes(model, weights, other)
    config.inference_mode = False
    trained = [parameter.requires_grad for parameter in model.parameters()]
    inject(model, config)
    found = peft.set_peft_model_state_dict(model, weights, adapter_name=NAME)
    missing = [name for name in found.missing_keys if "lora_" in name]
    if missing or found.unexpected_keys:
        remove(model)
        for parameter, train in zip(model.parameters(), trained, strict=True):
            parameter.requires_grad_(train)
        raise AdapterError(
            f"the adapter in {str(folder)!r} is not whole: it lacks {missing[:3]} and has "
            f"{list(found.unexpected_keys)[:3]} too many; save it again"
        )
    lm.forget()
