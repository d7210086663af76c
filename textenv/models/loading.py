"""`load`: a language model by its name or its folder."""

from __future__ import annotations

from textenv.catalogue import folder_of
from textenv.models.base import LanguageModel, read_config
from textenv.models.causal import CausalLM
from textenv.models.lstm import LSTMLM
from textenv.models.tabular import TabularLM


def load(name: str) -> LanguageModel:
    """Load a language model.

    Args:
        name: `"reviews"`, the shipped writer of film reviews, or a folder that `save_pretrained`
            or `textenv pretrain` wrote, or any folder with a Hugging Face causal model.

    Raises:
        UnknownNameError: neither a known name nor a folder.
        TextenvError: a folder without a language model in it.
    """
    folder = folder_of(name)
    model_type = read_config(folder).get("model_type")
    for kind in (TabularLM, LSTMLM):
        if model_type == kind.model_type:
            return kind.from_pretrained(folder)
    return CausalLM.from_pretrained(folder)
