"""A sentence encoder's vectors as features: all-MiniLM-L6-v2, or another BERT-like model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from textenv.errors import MissingExtraError, TextenvError
from textenv.limits import max_positions
from textenv.models.transformers_folder import read_folder
from textenv.preferences.joining import joined, tokenised
from textenv.preferences.reward_model.features import Features, digest
from textenv.sources import is_hub_id, snapshot
from textenv.sources.minilm import folder as minilm_folder

BATCH = 64  # texts read at once


class EncoderFeatures(Features):
    """The mean of an encoder's last states over the tokens, in rows of length 1.

    That is what all-MiniLM-L6-v2 was trained for. Longer texts than the encoder reads lose their
    end, as its makers do it: 256 tokens for MiniLM.

    Args:
        source: A folder or an id of the Hub; None: MiniLM, from the package that holds it.
        include_prompt: Whether prompt and text are read as one.

    Raises:
        TextenvError: there is no such encoder.
        MissingExtraError: transformers is not installed.
    """

    def __init__(self, source: str | Path | None = None, *, include_prompt: bool = True) -> None:
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise MissingExtraError("transformers", "a sentence encoder") from error
        self.name = "encoder" if source is None else f"encoder:{source}"
        self.include_prompt = include_prompt
        folder = _folder(source)
        self._model = read_folder(AutoModel, folder, "sentence encoder").requires_grad_(False)
        self._tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        self._longest = _longest(folder, self._model.config)
        self.width = int(self._model.config.hidden_size)

    @cached_property
    def base(self) -> dict[str, str]:
        """The encoder's weights and tokens."""
        vocabulary = self._tokenizer.get_vocab()
        tokens = sorted(vocabulary, key=lambda token: (vocabulary[token], token))
        return {"name": self.name, "digest": digest(self._model, [*tokens, str(self._longest)])}

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Tensor:
        """Read each text once; those of like length together."""
        whole = list(texts)
        if self.include_prompt:
            whole = [joined(p, t) for p, t in zip(prompts, texts, strict=True)]
        result = torch.zeros(len(whole), self.width, dtype=torch.float64)
        order = sorted(range(len(whole)), key=lambda row: len(whole[row]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            result[rows] = self._read([whole[row] for row in rows])
        return result

    @torch.no_grad()
    def _read(self, texts: list[str]) -> Tensor:
        inputs = tokenised(self._tokenizer, (texts,), self._longest)
        states = self._model(**inputs).last_hidden_state.to(torch.float64)  # [n, L, D]
        seen = inputs["attention_mask"].to(torch.float64)[:, :, None]
        mean = (states * seen).sum(dim=1) / seen.sum(dim=1)
        return torch.nn.functional.normalize(mean, dim=1)


def _folder(source: str | Path | None) -> Path:
    if source is None:
        return minilm_folder()
    if Path(source).is_dir():
        return Path(source)
    if is_hub_id(str(source)):
        return snapshot(str(source), weights=True)
    raise TextenvError(
        f"expected the folder or the Hub id of a sentence encoder, got {str(source)!r}, which is "
        "neither; None takes all-MiniLM-L6-v2"
    )


def _longest(folder: Path, config: Any) -> int:
    """How many tokens are read: as sentence-transformers' own file says, else all positions."""
    own = folder / "sentence_bert_config.json"
    limit = max_positions(config) or 512
    if not own.is_file():
        return limit
    try:
        return min(int(json.loads(own.read_text("utf-8"))["max_seq_length"]), limit)
    except (ValueError, KeyError, TypeError) as error:
        raise TextenvError(f"{str(own)!r} is damaged: {error}") from error
