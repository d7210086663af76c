"""Models of the Hugging Face Hub, by `owner/name`, as folders of its own local cache. No torch."""

from __future__ import annotations

import re
from pathlib import Path

from textenv.errors import MissingExtraError, TextenvError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*[\w]")
_DESCRIPTIONS = ("*.json", "*.txt", "*.model", "*.spm", "*.jinja")
# The names that transformers loads: no pickle files, and no second copy of the same weights.
_WEIGHTS = ("model.safetensors", "model-*.safetensors")


def is_hub_id(name: str) -> bool:
    """Whether a name could be a model's on the Hub.

    >>> is_hub_id("openai-community/gpt2"), is_hub_id("gpt2"), is_hub_id("../gpt2")
    (True, False, False)
    """
    return bool(_ID.fullmatch(name))


def snapshot(name: str, *, weights: bool) -> Path:
    """Return the folder of a model of the Hub; what is not on this machine is downloaded.

    Args:
        name: `owner/name`.
        weights: Whether the weights are needed; else tokenizer and configuration are enough.

    Raises:
        TextenvError: there is no such model, or the Hub cannot be reached.
        MissingExtraError: the package huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", f"the language model {name!r}") from error
    patterns = [*_DESCRIPTIONS, *_WEIGHTS] if weights else list(_DESCRIPTIONS)
    try:
        folder = snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"])
    except (OSError, ValueError) as error:
        raise TextenvError(
            f"{name!r} is no folder here, and the Hugging Face Hub gave no model of that name: "
            f"{_first_line(error)}. Check the name and the network, or, for a private model, "
            "`hf auth login`; where there is no network, `hf download` it elsewhere and give the "
            "folder"
        ) from error
    return Path(folder)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
