"""Folders as the library transformers writes them: config.json, model.safetensors, a tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
        TextenvError: the folder holds no such model, or not all of its weights.
    """
    try:
        with no_progress_bar():
            model, found = kind.from_pretrained(
                str(folder),
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # so that they are reported, and refused below
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise TextenvError(f"{str(folder)!r} holds no {what}: {error}") from error
    check_whole(found, str(folder))
    return model.eval()


def check_whole(found: Mapping[str, Any], where: str) -> None:
    """Refuse a model of which the library has drawn some weights at random.

    A head that is tied to the embedding is no weight of its own and is not missed.

    Args:
        found: The library's `output_loading_info`.
        where: The folder or file, for the error.

    Raises:
        TextenvError: weights are missing, or have another shape than config.json says.
    """
    wrong = [f"{name} is missing" for name in sorted(found["missing_keys"])]
    wrong += [
        f"{name} is {tuple(stored)}, not {tuple(wanted)}"
        for name, stored, wanted in sorted(found["mismatched_keys"])
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise TextenvError(
            f"the weights in {where!r} are not those that its configuration describes: "
            f"{'; '.join(wrong[:3])}{more}. Take both from the same model"
        )


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
