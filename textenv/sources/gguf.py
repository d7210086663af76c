"""Models in the GGUF format (llama.cpp's), turned into plain weights in float32."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from textenv.errors import MissingExtraError, TextenvError
from textenv.sources.cached import made_once

# Vocabularies whose merges were learned with each digit by itself. transformers 5.23 splits these
# as GPT-2 does, which differs where blanks stand before a number ("a  2").
_DIGITS_APART = frozenset(("codeshell", "command-r", "exaone", "refact", "smollm", "starcoder"))


def converted(path: Path) -> Path:
    """Return the folder that a .gguf file was converted to, in the cache; convert it if needed.

    Raises:
        TextenvError: the file is damaged, or holds a model that transformers does not know.
        MissingExtraError: a package is missing.
    """
    path = path.resolve()
    about = path.stat()
    key = f"{path}|{about.st_size}|{about.st_mtime_ns}"  # another file of that name is made anew
    digest = hashlib.blake2b(key.encode(), digest_size=6).hexdigest()

    def make(folder: Path) -> None:
        model, tokenizer = read(path)
        save(model, tokenizer, folder)

    return made_once(f"{path.stem}-{digest}", make, f"converting {path.name} to safetensors")


def read(path: Path) -> tuple[Any, Any]:
    """Read a .gguf file: a causal model of transformers in float32, and its tokenizer.

    Raises:
        TextenvError: the file is damaged, or holds a model that transformers does not know.
        MissingExtraError: a package is missing.
    """
    for package in ("transformers", "gguf", "accelerate"):
        if find_spec(package) is None:
            raise MissingExtraError(package, f"the file {path.name!r}")
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from textenv.models.transformers_folder import check_whole, no_progress_bar

    try:
        with no_progress_bar():
            tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
            model, found = AutoModelForCausalLM.from_pretrained(
                str(path.parent),
                gguf_file=path.name,
                dtype="float32",
                quantization_config=GgufConfig(dequantize=True),  # else it cannot be saved
                output_loading_info=True,
            )
            reader = GGUFReader(path)
            tokens = reader.get_field("tokenizer.ggml.tokens")
            splitting = reader.get_field("tokenizer.ggml.pre")
    except MemoryError:
        raise
    except Exception as error:  # what a damaged file brings out of the readers can be anything
        raise TextenvError(
            f"{str(path)!r} cannot be read as a language model in the GGUF format; it is damaged, "
            f"not whole or of an unknown kind ({type(error).__name__}: {error})"
        ) from error
    check_whole(found, str(path))
    if tokens is not None:
        tokenizer = _without_foreign_tokens(tokenizer, len(tokens.data))
    if splitting is not None and splitting.contents() in _DIGITS_APART:
        _split_digits(tokenizer)
    return model, tokenizer


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write both into a folder, as safetensors and tokenizer.json."""
    from textenv.models.transformers_folder import no_progress_bar

    with no_progress_bar():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _without_foreign_tokens(tokenizer: Any, size: int) -> Any:
    """Drop what transformers adds to the file's tokens: GPT-2's own end token."""
    if len(tokenizer) <= size:
        return tokenizer
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    description = json.loads(tokenizer.backend_tokenizer.to_str())
    added = description["added_tokens"]
    description["added_tokens"] = [token for token in added if token["id"] < size]
    special = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        number = getattr(tokenizer, f"{name}_id")
        if number is not None and number < size:
            special[name] = tokenizer.convert_ids_to_tokens(number)
    own = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(description)), **special
    )
    own.chat_template = tokenizer.chat_template
    return own


def _split_digits(tokenizer: Any) -> None:
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
