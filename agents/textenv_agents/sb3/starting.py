"""The language model from which an `LMPolicy` starts: found, copied, checked and known again."""

from __future__ import annotations

import copy
import zlib
from pathlib import Path

import torch
from torch import Tensor

from textenv.catalogue import ModelHandle
from textenv.models import LanguageModel
from textenv.vocabulary import same_vocabulary
from textenv_agents.sb3.text_space import TextSpace

_MARKED = 1024  # numbers of each weight by which a model is known again


def starting_model(lm: LanguageModel | str | Path | None, texts: TextSpace | None) -> LanguageModel:
    """Return a copy of the model to start from; a named one is loaded.

    Args:
        lm: The model, its name or folder; None: the environment's own.
        texts: The environment's observations; None where they do not say what they are of.

    Raises:
        ValueError: there is none.
    """
    if lm is not None:
        model = ModelHandle(lm).load()
        return model if isinstance(lm, str | Path) else copy.deepcopy(model)
    model = None if texts is None else texts.language_model()
    if model is None:
        raise ValueError(
            "the environment has no language model: give one, as in "
            'policy_kwargs={"lm": "reviews"}, and SB3VecEnv(id, 32, lm="reviews")'
        )
    return copy.deepcopy(model)


def check_model(lm: LanguageModel, nothing: int, texts: TextSpace | None, *, frozen: bool) -> None:
    """Refuse a model of another vocabulary than the environment's, or with nothing to train.

    Args:
        lm: The model.
        nothing: The environment's V.
        texts: The environment's observations, or None.
        frozen: Its weights may be frozen: an adapter is trained.

    Raises:
        ValueError: it is such a model.
    """
    own, size = lm.vocabulary, lm.vocabulary_size
    same = size == nothing
    if same and own is not None and texts is not None:
        same = same_vocabulary(own, texts.vocabulary)
    if not same:
        raise ValueError(
            f"the language model has another vocabulary ({size} tokens) than the environment "
            f"({nothing}): make both from one model, as in SB3VecEnv(id, 32, lm=lm) and "
            "policy_kwargs={'lm': lm}; to go on with a saved agent, load it with the "
            "environment and the model that it was trained with"
        )
    if not frozen and not any(parameter.requires_grad for parameter in lm.parameters()):
        raise ValueError(
            "all weights of the language model are frozen, so there is nothing to train: call "
            "lm.requires_grad_(True) before, or train an adapter, policy_kwargs={'lora_rank': 8}"
        )


def mark(lm: LanguageModel) -> Tensor:
    """Return a number, int64 [], by which a model's weights are known again: a checksum of some."""
    found = 0
    for weight in lm.parameters():
        flat = weight.detach().flatten()
        some = flat[:: max(len(flat) // _MARKED, 1)].cpu().contiguous()
        found = zlib.crc32(some.view(torch.uint8).numpy().tobytes(), found)
    return torch.tensor(found)


def check_mark(lm: LanguageModel, marked: Tensor) -> None:
    """Refuse a model with other weights than those from which training started.

    Raises:
        ValueError: they were changed since.
    """
    if int(mark(lm)) != int(marked):
        raise ValueError(
            "the reference is the model from which training started, and that was changed since: "
            "in memory, or in its folder. Hand in a copy that stays as it is, "
            "policy_kwargs={'lm': copy.deepcopy(lm)}, and save trained models in other folders"
        )
