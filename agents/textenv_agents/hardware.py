"""How a model computes: its type, its checkpoints, its compilation. None of them changes a weight.

All are `with` blocks around a reading, so that the model is as it was handed in outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from textenv.models import LanguageModel
from textenv.models.modules import dropout_off
from textenv_agents.config import PolicyGradientConfig


class Hardware:
    """What the settings make of a model.

    Args:
        policy: The model; its adapter's reference is the same one.
        config: `precision`, `gradient_checkpointing` and `compile`.

    Raises:
        ValueError: the model cannot be checkpointed or compiled, or both are asked for.
    """

    def __init__(self, policy: LanguageModel, config: PolicyGradientConfig) -> None:
        self.policy = policy
        self.low = wants_bfloat16(policy.device, config.precision)
        self.checkpoints = config.gradient_checkpointing
        self.compiled: Any = None
        if self.checkpoints and config.compile:
            raise ValueError(
                "gradient_checkpointing and compile do not go together: a compiled model chooses "
                "itself what it keeps"
            )
        if self.checkpoints and not checkpointable(policy):
            raise ValueError(
                f"gradient_checkpointing needs a Hugging Face model made of layers, this "
                f"{type(policy).__name__} has none: leave it out"
            )
        if config.compile:
            self.compiled = torch.compile(_backbone(policy).forward, dynamic=True)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute in the chosen type."""
        device = self.policy.device.type
        with torch.autocast(device, dtype=torch.bfloat16) if self.low else nullcontext():
            yield

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Read whole texts for an update."""
        with ExitStack() as stack:
            stack.enter_context(self.computing())
            if self.checkpoints:
                stack.enter_context(checkpointed(self.policy))
            if self.compiled is not None:
                stack.enter_context(library_pass(self.policy))
                stack.enter_context(_forward_replaced(_backbone(self.policy), self.compiled))
            yield


def wants_bfloat16(device: torch.device, precision: str) -> bool:
    """Whether to compute in bfloat16; "auto" where a GPU has it, never on a CPU."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"


@contextmanager
def checkpointed(lm: LanguageModel) -> Iterator[None]:
    """Keep only the layers' inputs of what is read inside; the rest is computed again backward.

    The library's own switch works in training mode only and is silent otherwise, and there some
    architectures drop out besides: texts are scored with dropout off. So each of its layers is
    told by itself (Chen et al. 2016, https://arxiv.org/abs/1604.06174).
    """
    with library_pass(lm), ExitStack() as stack:
        for layer in _layers(lm):
            # Nothing random happens inside: the global generator need not be kept for the repeat.
            again = partial(
                checkpoint,
                partial(_without_dropout, layer, layer.forward),
                use_reentrant=False,
                preserve_rng_state=False,
            )
            stack.enter_context(_forward_replaced(layer, again))
        yield


@contextmanager
def library_pass(lm: LanguageModel) -> Iterator[None]:
    """Read by the library's own layers, where `CausalLM` would write a pass out."""
    body = _backbone(lm)
    before = getattr(body, "gradient_checkpointing", False)
    body.gradient_checkpointing = True  # of the body alone: its layers' switches stay as they are
    try:
        yield
    finally:
        body.gradient_checkpointing = before


def _without_dropout(layer: Any, forward: Any, *args: Any, **keywords: Any) -> Any:
    # The repeat comes in the backward pass, when the model may be in training mode again.
    with dropout_off(layer):
        return forward(*args, **keywords)


def checkpointable(lm: LanguageModel) -> bool:
    """Whether `checkpointed` finds layers."""
    return bool(_layers(lm))


def number_of_layers(lm: LanguageModel) -> int:
    """How many layers a Hugging Face model has; 1 of any other."""
    return max(len(_layers(lm)), 1)


def _layers(lm: LanguageModel) -> list[Any]:
    if not hasattr(lm, "model"):
        return []
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in lm.modules() if isinstance(module, GradientCheckpointingLayer)]


def _backbone(lm: LanguageModel) -> Any:
    model: Any = getattr(lm, "model", None)
    if model is None:
        raise ValueError(
            f"compile=True needs a Hugging Face model, not a {type(lm).__name__}: leave it out"
        )
    return model.base_model


@contextmanager
def _forward_replaced(module: Any, forward: Any) -> Iterator[None]:
    """Let a module compute by another function inside a `with` block."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
