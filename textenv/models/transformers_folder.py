"""Folders as the library transformers writes them: config.json, model.safetensors, a tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from textenv.errors import TextenvError
from textenv.files import replaced_folder
from textenv.vocabulary import Vocabulary, save_vocabulary


def write_folder(
    model: Any, vocabulary: Vocabulary, folder: str | Path, *, dtype: torch.dtype | None = None
) -> None:
    """Write a model and its vocabulary, whole or not at all; tied weights are stored once.

    Args:
        model: A model of the library. An adapter is added to the weights that are written.
        vocabulary: Its vocabulary.
        folder: Where to; what is there is replaced.
        dtype: Store the weights in this type; None: as they are.
    """
    if hasattr(model, "peft_config"):
        from textenv.models.adapters import merged

        model = merged(model)
    with replaced_folder(folder) as temporary:
        weights = model.state_dict()
        if dtype is not None:
            one: dict[int, Tensor] = {}  # tied weights stay one tensor
            weights = {
                name: one.setdefault(tensor.data_ptr(), tensor.to(dtype))
                for name, tensor in weights.items()
            }
        with no_progress_bar():
            model.save_pretrained(temporary, state_dict=weights)
        save_vocabulary(vocabulary, temporary)


def read_folder(kind: Any, folder: str | Path, what: str) -> Any:
    """Read a model in float32 from safetensors on this machine, for evaluation.

    Args:
        kind: A class of the library, such as `AutoModelForSeq2SeqLM`.
        folder: Where it is.
        what: What it should be, for the error.

    Raises:
        TextenvError: the folder holds no such model.
    """
    try:
        with no_progress_bar():
            model = kind.from_pretrained(
                str(folder), dtype=torch.float32, use_safetensors=True, local_files_only=True
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise TextenvError(f"{str(folder)!r} holds no {what}: {error}") from error
    return model.eval()


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing a bar for the one file of a small model."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
