"""Say what would fit, where a batch does not fit in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from textenv.errors import TextenvError


@contextmanager
def explained(model: Any, rows: int, columns: int, forget: Callable[[], Any]) -> Iterator[None]:
    """Turn torch's message about memory into one that says how many rows would fit.

    Args:
        model: The library's model that reads.
        rows: How many texts it was asked about.
        columns: The longest of them, in tokens.
        forget: Drops what was read before; called first.

    Raises:
        TextenvError: the reading ran out of memory.
    """
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not _is_about_memory(error):
            raise
        forget()
        each = bytes_of_row(model, columns)
        fit = int(free_bytes(next(model.parameters()).device) // each)
        where = f"about {fit} would" if fit < rows else "memory is in pieces: try half as many"
        raise TextenvError(
            f"{rows} texts of up to {columns} tokens do not fit in memory together: each takes "
            f"about {each / 1e6:,.1f} MB, {where}. Ask about fewer at once (num_envs=, rows=), or "
            f"about shorter ones (max_tokens=, prompts)"
        ) from error


def bytes_of_row(model: Any, columns: int) -> int:
    """Estimate what one text takes while it is read.

    Keys and values of all layers and columns, and three arrays of the vocabulary's size (logits,
    probabilities, their sums). For models that share keys between heads it is too high.
    """
    config = model.config
    parameter = next(model.parameters())
    # As BART and T5 call them too, through the common names of their configurations.
    layers, width = config.num_hidden_layers, config.hidden_size
    cached = 2 * layers * width * columns * parameter.element_size()
    return cached + 3 * 4 * model.get_output_embeddings().weight.shape[0]


def free_bytes(device: torch.device) -> int:
    """Memory that is free: the GPU's, or the machine's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def _is_about_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
