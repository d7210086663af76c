"""From prompts and texts to numbers that a head weighs; frozen, so that they are computed once."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from textenv.errors import TextenvError, UnknownNameError
from textenv.plugins import release
from textenv.preferences.reward_model.rows import Rows

KINDS = ("tfidf", "hashed", "encoder", "encoder:FOLDER", "hidden:NAME")


class Features(ABC):
    """φ(prompt, text): D numbers.

    Attributes:
        name: As in `RewardModelConfig.features`.
        width: D.
        include_prompt: Whether the prompt is read.
        sparse: Whether most numbers are 0.
        base: What the numbers come from: {"name": …, "digest": …}.
    """

    name: str
    width: int
    include_prompt: bool
    sparse: bool = False

    @property
    @abstractmethod
    def base(self) -> dict[str, str]:
        """What a head that was trained on them must find again."""

    @abstractmethod
    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Rows:
        """Return the features of n texts, [n, D]; each row depends on its own text alone."""

    def settings(self) -> dict[str, Any]:
        """Return what `load_features` needs beside the name and the folder."""
        return {"include_prompt": self.include_prompt}

    def save(self, folder: Path) -> None:
        """Write what was learned, if anything."""
        return


def make_features(config: Any, prompts: Sequence[str] = (), texts: Sequence[str] = ()) -> Features:
    """Make the features that the settings name.

    Args:
        config: A `RewardModelConfig`.
        prompts: n prompts of the training rows, for what is learned from them.
        texts: The n texts.

    Raises:
        UnknownNameError: no features of that name.
        ValueError: a hidden layer on top of counts.
    """
    features = _named(config, release(config.features), prompts, texts)
    if config.hidden_units and features.sparse:
        raise ValueError(
            f"hidden_units= needs an encoder or a language model, not {features.name!r}, whose "
            "many columns a linear head weighs"
        )
    return features


def _named(config: Any, wanted: Any, prompts: Sequence[str], texts: Sequence[str]) -> Features:
    from textenv.preferences.reward_model.counts import HashedCounts, TfIdf

    if isinstance(wanted, Features):
        return wanted
    name, _, rest = wanted.partition(":") if isinstance(wanted, str) else ("hidden", "", "")
    counted = bool(config.include_prompt)
    if name == "hashed" or (name == "tfidf" and config.epsilon is not None):
        return HashedCounts(include_prompt=counted)
    if name == "tfidf":
        return TfIdf.fitted(
            prompts, texts, include_prompt=counted, max_features=config.max_features
        )
    read = config.include_prompt is not False
    if name == "encoder":
        from textenv.preferences.reward_model.encoder import EncoderFeatures

        return EncoderFeatures(rest or None, include_prompt=read)
    if name == "hidden" and (rest or not isinstance(wanted, str)):
        from textenv.preferences.reward_model.hidden import HiddenFeatures

        return HiddenFeatures(rest or wanted, include_prompt=read, pooling=config.pooling)
    raise UnknownNameError("kind of features", str(wanted), KINDS)


def load_features(name: str, settings: dict[str, Any], folder: Path, base: Any) -> Features:
    """Make the features of a saved model.

    Args:
        name: What they were called.
        settings: Of `Features.settings`.
        folder: Where the model is.
        base: The language model or the encoder's folder to use instead of the one by name.

    Raises:
        TextenvError: they need a base that is not there.
    """
    from textenv.preferences.reward_model.counts import HashedCounts, TfIdf

    kind, _, rest = name.partition(":")
    if base is not None and kind not in ("encoder", "hidden"):
        raise ValueError(f"the features {name!r} stand on no base: leave base= out")
    if kind == "tfidf":
        return TfIdf.load(folder, **settings)
    if kind == "hashed":
        return HashedCounts(**settings)
    if kind == "encoder":
        from textenv.preferences.reward_model.encoder import EncoderFeatures

        return EncoderFeatures(base or rest or None, **settings)
    if kind == "hidden":
        from textenv.preferences.reward_model.hidden import HiddenFeatures

        if not rest and base is None:
            raise TextenvError(
                f"the reward model in {str(folder)!r} reads the hidden states of a language model "
                "that was only in memory: from_pretrained(folder, base=that_model)"
            )
        return HiddenFeatures(base if base is not None else rest, **settings)
    raise UnknownNameError("kind of features", name, KINDS)


def digest(module: Any, tokenizer: Iterable[str]) -> str:
    """Return the SHA-256 of a module's parameters and its tokenizer: what tells bases apart.

    The parameters are rounded to bfloat16, so that the type in which a model was loaded makes no
    difference.

    Args:
        module: An `nn.Module`.
        tokenizer: Whatever says how it splits text.
    """
    found = hashlib.sha256("\n".join(tokenizer).encode("utf-8", "surrogatepass"))
    for name, tensor in module.named_parameters():
        found.update(f"{name} {tuple(tensor.shape)}".encode())
        rounded = tensor.detach().to("cpu", torch.bfloat16).contiguous()
        found.update(rounded.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
