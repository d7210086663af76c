"""What tells one base from another, so that a head is never read on top of the wrong one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import torch


def digest(module: Any, tokenizer: Iterable[str]) -> str:
    """Return the SHA-256 of a module's parameters and its tokenizer.

    The parameters are rounded to bfloat16, so that the type in which a model was loaded makes no
    difference.

    Args:
        module: An `nn.Module`.
        tokenizer: Whatever says how it splits text.
    """
    found = hashlib.sha256("\n".join(tokenizer).encode("utf-8", "surrogatepass"))
    for name, tensor in module.named_parameters():
        found.update(f"{name} {tuple(tensor.shape)}".encode())
        rounded = tensor.detach().to("cpu", torch.bfloat16).contiguous()
        found.update(rounded.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
