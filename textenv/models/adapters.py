"""Low-rank adapters (LoRA) beside the weights of a Hugging Face model, by PEFT.

W·x becomes W·x + (α/r)·B·A·x with A [r, in] and B [out, r]; W stays as it is and B starts at 0, so
that a new adapter changes nothing (Hu et al. 2021, https://arxiv.org/abs/2106.09685). Switched off
it leaves the model that it was added to, bit for bit: a reference that costs no copy. A and B are
in float32 at least, because half precision loses the small steps of training. Their files are in
`adapter_files.py`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from textenv.errors import MissingExtraError
from textenv.models.adapter_base import AdapterError, inner_model
from textenv.models.base import LanguageModel, OutputLayer
from textenv.models.memory import Next
from textenv.prefixes import Prefixes

__all__ = [
    "AdapterError",
    "WithoutAdapter",
    "adapter_off",
    "adapter_parameters",
    "adapter_rank",
    "add_adapter",
    "has_adapter",
    "merged",
]

NAME = "default"


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
    peft = peft_package()
    model = inner_model(lm)
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
    inject(model, config)
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


def merged(model: Any) -> Any:
    """Return a copy of a Hugging Face model with W + (α/r)·B·A in place of W, and no adapter."""
    whole = copy.deepcopy(model)
    for module in whole.modules():
        if hasattr(module, "lora_A"):
            module.merge()
    remove(whole)
    return whole


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

    def read_states(
        self, prefixes: Prefixes, rows: Int[np.ndarray, " n"], steps: Int[np.ndarray, " n"]
    ) -> Float[Tensor, "n width"]:
        """As `LanguageModel.read_states`."""
        with adapter_off(self.whole):
            return self.whole.read_states(prefixes, rows, steps)

    @property
    def output_layer(self) -> OutputLayer | None:
        """As `LanguageModel.output_layer`."""
        return self.whole.output_layer

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


# For adapter_files, too.


def peft_package() -> Any:
    """The package peft.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", "a low-rank adapter") from error
    return peft


def _layers(lm: LanguageModel) -> list[Any]:
    """The layers that have an adapter beside them."""
    return [module for module in lm.modules() if hasattr(module, "lora_A")]


def inject(model: Any, config: Any) -> None:
    """Put PEFT's layers beside a Hugging Face model's."""
    with torch.random.fork_rng(devices=[]):  # PEFT draws first weights, which are overwritten
        training = model.training
        model.add_adapter(config, NAME)
        model.train(training)
    for name, parameter in model.named_parameters():
        if "lora_" in name and parameter.element_size() < 4:  # PEFT takes the base's type
            parameter.data = parameter.data.float()


def remove(model: Any) -> None:
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
