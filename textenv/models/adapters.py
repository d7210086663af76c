"""Low-rank adapters (LoRA) beside the weights of a Hugging Face model, by PEFT.

W·x becomes W·x + (α/r)·B·A·x with A [r, in] and B [out, r]; W stays as it is and B starts at 0, so
that a new adapter changes nothing (Hu et al. 2021, https://arxiv.org/abs/2106.09685). Switched off
it leaves the model that it was added to, bit for bit: a reference that costs no copy. Files are
PEFT's own, safetensors only, and `base.json`, which says what the adapter belongs to.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from textenv.errors import MissingExtraError, TextenvError
from textenv.files import replaced_folder
from textenv.models.base import LanguageModel
from textenv.models.memory import Next
from textenv.prefixes import Prefixes

NAME = "default"
WEIGHTS = "adapter_model.safetensors"
BASE = "base.json"
PREFIX = "base_model.model."  # what PEFT puts before every name in its files


class AdapterError(TextenvError):
    """An adapter cannot be added, is damaged, or belongs to another model."""


def add_adapter(
    lm: LanguageModel, *, rank: int, alpha: float | None = None, seed: int | None = 0
) -> None:
    """Freeze a model's weights and put an adapter beside all linear layers but the output's.

    All of them, because adapters of the attention alone learn less (Schulman et al. 2025,
    https://thinkingmachines.ai/blog/lora).

    Args:
        lm: A Hugging Face model behind the protocol; changed in place.
        rank: r ≥ 1.
        alpha: α > 0; None: 2·r.
        seed: Fixes A; None: different each time. No global generator is read or set.

    Raises:
        AdapterError: the model is none of Hugging Face's, or has an adapter.
        MissingExtraError: peft is not installed.
    """
    peft = _peft()
    model = _model(lm)
    if has_adapter(lm):
        raise AdapterError("the model has an adapter already: train that one, or load the model")
    if rank < 1 or (alpha is not None and not alpha > 0):
        raise ValueError(f"expected rank ≥ 1 and alpha > 0, got {rank} and {alpha}")
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        target_modules="all-linear",
        lora_dropout=0.0,
        fan_in_fan_out=_transposed(model),
    )
    _inject(model, config)
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                drawn = torch.empty(parameter.shape)  # on the CPU: the same numbers everywhere
                nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
                parameter.copy_(drawn)
    lm.forget()


def has_adapter(lm: LanguageModel) -> bool:
    """Whether an adapter stands beside the weights."""
    return bool(_layers(lm))


def adapter_rank(lm: LanguageModel) -> int | None:
    """The rank r of the adapter, None where there is none."""
    layers = _layers(lm)
    return next(iter(layers[0].r.values())) if layers else None


@contextmanager
def adapter_off(lm: LanguageModel) -> Iterator[None]:
    """Ask the model without its adapter inside a `with` block.

    Raises:
        AdapterError: it has none.
    """
    layers = _layers(lm)
    if not layers:
        raise AdapterError("the model has no adapter to switch off: add_adapter gives it one")
    parameters = adapter_parameters(lm)
    trained = [parameter.requires_grad for parameter in parameters]
    off = [layer.disable_adapters for layer in layers]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer, was_off in zip(layers, off, strict=True):
            layer.enable_adapters(not was_off)
        # PEFT makes whatever it enables trainable.
        for parameter, train in zip(parameters, trained, strict=True):
            parameter.requires_grad_(train)


def adapter_parameters(lm: LanguageModel) -> list[nn.Parameter]:
    """Return A and B of every layer."""
    return [parameter for name, parameter in lm.named_parameters() if "lora_" in name]


def save_adapter(lm: LanguageModel, folder: str | Path) -> None:
    """Write the adapter alone, as PEFT does, whole or not at all; what is there is replaced.

    Raises:
        AdapterError: the model has none.
    """
    peft = _peft()
    if not has_adapter(lm):
        raise AdapterError("the model has no adapter to save: add_adapter gives it one")
    from safetensors.torch import save_file

    model = _model(lm)
    weights = peft.get_peft_model_state_dict(model, adapter_name=NAME)
    with replaced_folder(folder) as temporary:
        model.peft_config[NAME].save_pretrained(str(temporary))
        whole = {
            PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()
        }
        save_file(whole, temporary / WEIGHTS, metadata={"format": "pt"})
        written = {"name": _name(model), "sha256": fingerprint(lm)}
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
    peft = _peft()
    folder, model = Path(folder), _model(lm)
    if has_adapter(lm):
        raise AdapterError("the model has an adapter already: load the model again without it")
    try:
        config = peft.LoraConfig.from_pretrained(str(folder), local_files_only=True)
        stored = load_file(folder / WEIGHTS)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise AdapterError(f"{str(folder)!r} holds no whole adapter: {error}") from error
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in stored.items()}
    made_for = _made_for(folder, config)
    if made_for["sha256"] not in (None, fingerprint(lm)):
        raise AdapterError(_other_base(folder, made_for["name"], model) + "; their weights differ")
    _check_shapes(model, weights, _other_base(folder, made_for["name"], model))
    config.inference_mode = False
    trained = [parameter.requires_grad for parameter in model.parameters()]
    _inject(model, config)
    found = peft.set_peft_model_state_dict(model, weights, adapter_name=NAME)
    missing = [name for name in found.missing_keys if "lora_" in name]
    if missing or found.unexpected_keys:
        _remove(model)
        for parameter, train in zip(model.parameters(), trained, strict=True):
            parameter.requires_grad_(train)
        raise AdapterError(
            f"the adapter in {str(folder)!r} is not whole: it lacks {missing[:3]} and has "
            f"{list(found.unexpected_keys)[:3]} too many; save it again"
        )
    lm.forget()


def merged(model: Any) -> Any:
    """Return a copy of a Hugging Face model with W + (α/r)·B·A in place of W, and no adapter."""
    whole = copy.deepcopy(model)
    for module in whole.modules():
        if hasattr(module, "lora_A"):
            module.merge()
    _remove(whole)
    return whole


def fingerprint(lm: LanguageModel) -> str:
    """Return what tells one base from another: SHA-256 of its weights, rounded to bfloat16.

    Rounded, so that the type in which a model was loaded makes no difference; the adapter is left
    out.
    """
    digest = hashlib.sha256()
    for name, tensor in _model(lm).named_parameters():
        if "lora_" in name:
            continue
        digest.update(name.replace(".base_layer", "").encode())
        rounded = tensor.detach().to("cpu", torch.bfloat16).contiguous()
        digest.update(rounded.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class WithoutAdapter(LanguageModel):
    """A model as it is without its adapter, as a model of its own: a reference without a copy.

    Args:
        lm: A model with an adapter.
    """

    model_type = "textenv_without_adapter"

    def __init__(self, lm: LanguageModel) -> None:
        super().__init__(lm.vocabulary, lm.vocabulary_size)
        self._whole = (lm,)  # in a tuple: its parameters are not this module's to train or save
        if not has_adapter(lm):
            raise AdapterError("expected a model with an adapter: add_adapter gives it one")

    @property
    def whole(self) -> LanguageModel:
        """The model with its adapter."""
        return self._whole[0]

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.whole.hidden_size

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.whole.device

    @property
    def refills(self) -> bool:
        """As `LanguageModel.refills`."""
        return self.whole.refills

    def read(
        self, prefixes: Prefixes, rows: Int[np.ndarray, " n"], steps: Int[np.ndarray, " n"]
    ) -> tuple[Float[Tensor, "n vocabulary"], Float[Tensor, "n width"]]:
        """As `LanguageModel.read`."""
        with adapter_off(self.whole):
            return self.whole.read(prefixes, rows, steps)

    def next(self, prefixes: Prefixes) -> Next:
        """As `LanguageModel.next`."""
        with adapter_off(self.whole):
            return self.whole.next(prefixes)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Refuse: the base is the caller's already, the adapter is what `save_adapter` writes."""
        raise AdapterError("a model without its adapter is not saved: use save_adapter")

    def forget(self) -> None:
        """As `LanguageModel.forget`; what the whole model remembers goes with it."""
        self.whole.forget()


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", "a low-rank adapter") from error
    return peft


def _model(lm: LanguageModel) -> Any:
    """The Hugging Face model inside."""
    from transformers import PreTrainedModel

    model = getattr(lm, "model", None)
    if not isinstance(model, PreTrainedModel):
        raise AdapterError(
            f"adapters go beside the weights of a Hugging Face model, a {type(lm).__name__} has "
            "none: train its weights"
        )
    return model


def _layers(lm: LanguageModel) -> list[Any]:
    """The layers that have an adapter beside them."""
    return [module for module in lm.modules() if hasattr(module, "lora_A")]


def _inject(model: Any, config: Any) -> None:
    with torch.random.fork_rng(devices=[]):  # PEFT draws first weights, which are overwritten
        training = model.training
        model.add_adapter(config, NAME)
        model.train(training)


def _remove(model: Any) -> None:
    """Take an adapter away again, as if it had not been there."""
    for name, module in list(model.named_modules()):
        if hasattr(module, "lora_A"):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.base_layer)
    model._hf_peft_config_loaded = False
    del model.peft_config


def _transposed(model: Any) -> bool:
    """Whether the linear layers store [in, out], as GPT-2's do, and not [out, in]."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def _name(model: Any) -> str:
    """What a base is called in errors."""
    settings = model.config
    width = getattr(settings, "hidden_size", "?")
    path = Path(settings.name_or_path or "without a name").name  # no machine's folders
    return f"{path} ({type(model).__name__} of width {width})"


def _made_for(folder: Path, config: Any) -> dict[str, str | None]:
    """The base that an adapter was made for; its fingerprint is None where PEFT alone wrote it."""
    if not (folder / BASE).exists():
        return {"name": config.base_model_name_or_path or "not named", "sha256": None}
    try:
        written = json.loads((folder / BASE).read_text("utf-8"))
        return {"name": str(written["name"]), "sha256": str(written["sha256"])}
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"{str(folder / BASE)!r} is damaged: {error}") from error


def _other_base(folder: Path, made_for: str | None, model: Any) -> str:
    return (
        f"the adapter in {str(folder)!r} was made for another base: {made_for}; this one is "
        f"{_name(model)}. Load that base, or train a new adapter for this one"
    )


def _check_shapes(model: Any, weights: dict[str, Tensor], message: str) -> None:
    """Refuse weights that have no place, before anything is changed."""
    modules = dict(model.named_modules())
    for name, tensor in weights.items():
        path, _, matrix = name.partition(".lora_")
        weight = getattr(modules.get(path), "weight", None)
        side = 1 if matrix.startswith("A") else 0  # [r, in] and [out, r]
        if weight is None or tensor.ndim != 2 or tensor.shape[side] not in weight.shape:
            raise AdapterError(message)
