"""What is done to a torch module while it is asked, and what its answers are valid for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from textenv.models.memory import ReadingKey


@contextmanager
def dropout_off(module: nn.Module) -> Iterator[None]:
    """Switch all of a module to evaluation inside a `with` block, and each part back."""
    training = [part for part in parts_of(module) if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def without_gradient() -> Iterator[None]:
    """Make tensors that can be written later, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def reading_key(module: nn.Module) -> ReadingKey:
    """What an answer is valid for; weights written through `.data` change nothing of it.

    The training flag is not in it: dropout is off whenever a model is asked.
    """
    device = next(module.parameters()).device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    weights: list[Any] = []
    adapters: list[Any] = []
    for part in parts_of(module):
        for tensors in (part._parameters, part._buffers):
            for tensor in tensors.values():
                if tensor is not None:
                    weights += (tensor._version, tensor.data_ptr(), tensor.dtype)
        kind = type(part)  # asked for what it lacks, a module is slow to say so
        if hasattr(kind, "active_adapters") and hasattr(kind, "merged"):
            # Switching an adapter off changes no version.
            layer: Any = part
            adapters.append((layer.disable_adapters, tuple(layer.active_adapters), layer.merged))
    return ReadingKey(tuple(weights), (autocast, *adapters))


def parts_of(module: nn.Module) -> Iterator[nn.Module]:
    """All modules; `module.modules()` takes several times as long, at every step."""
    parts = [module]
    while parts:
        part = parts.pop()
        parts += [child for child in part._modules.values() if child is not None]
        yield part
