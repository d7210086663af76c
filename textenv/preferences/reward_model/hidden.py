"""A language model's hidden states as features of the texts that it reads. Never trained here."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textenv.limits import max_positions
from textenv.models.base import LanguageModel
from textenv.models.loading import load
from textenv.preferences.reward_model.features import Features, digest
from textenv.prefixes import Prefixes

BATCH = 64  # texts read at once


class HiddenFeatures(Features):
    """The hidden states after each token of the text: their mean, or the last; of length 1.

    After an empty text it is the state in which its first token would be predicted. Where prompt
    and text are longer than the model can read, the prompt loses its beginning, then the text.

    Args:
        lm: A language model's name or folder, or a model, of which a copy is kept: what is trained
            later is another one.
        include_prompt: Whether the text is read after its prompt, or alone.
        pooling: "mean" or "last".

    Raises:
        ValueError: a model without a vocabulary.
    """

    def __init__(self, lm: Any, *, include_prompt: bool = True, pooling: str = "mean") -> None:
        named = isinstance(lm, str)
        self.lm: LanguageModel = (load(lm) if named else copy.deepcopy(lm)).eval()
        self.lm.requires_grad_(False)
        if self.lm.vocabulary is None:
            raise ValueError("this language model has no vocabulary, so it cannot read texts")
        self.name = f"hidden:{lm}" if named else "hidden:"
        self.include_prompt = include_prompt
        self.pooling = pooling
        self.width = self.lm.hidden_size
        self._vocabulary = self.lm.vocabulary
        config = getattr(getattr(self.lm, "model", None), "config", None)
        self._room = None if config is None else max_positions(config)

    def settings(self) -> dict[str, Any]:
        """As `Features.settings`."""
        return {**super().settings(), "pooling": self.pooling}

    @cached_property
    def base(self) -> dict[str, str]:
        """The language model's weights and vocabulary."""
        tokens = (self._vocabulary.token(number) for number in range(self._vocabulary.size))
        return {"name": self.name, "digest": digest(self.lm, tokens)}

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Tensor:
        """Read each text once; those of like length together."""
        pairs = [self._encoded(p, t) for p, t in zip(prompts, texts, strict=True)]
        result = torch.zeros(len(pairs), self.width, dtype=torch.float64)
        order = sorted(range(len(pairs)), key=lambda row: sum(map(len, pairs[row])))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            result[rows] = self._read([pairs[row] for row in rows])
        return result

    def _encoded(self, prompt: str, text: str) -> tuple[list[int], list[int]]:
        before = self._vocabulary.encode_prompt(prompt if self.include_prompt else "")
        ids = self._vocabulary.encode(text)
        if self._room is not None:
            room = self._room - 2  # for the start token, and for the one after the text
            ids = ids[-room:]
            before = before[max(0, len(before) + len(ids) - room) :]
        return before, ids

    @torch.no_grad()
    def _read(self, pairs: list[tuple[list[int], list[int]]]) -> Tensor:
        prefixes = self._prefixes(pairs)
        first = np.minimum(prefixes.written - 1, 1 if self.pooling == "mean" else self._never)
        counts = prefixes.written - first
        rows = np.repeat(np.arange(len(pairs)), counts)
        steps = np.concatenate(
            [np.arange(f, w) for f, w in zip(first, prefixes.written, strict=True)]
        )
        states = self.lm.read(prefixes, rows, steps)[1].to("cpu", torch.float64)  # [N, H]
        owner = torch.as_tensor(rows)
        summed = states.new_zeros(len(pairs), self.width).index_add_(0, owner, states)
        return torch.nn.functional.normalize(summed, dim=1)  # of a sum and of a mean the same

    _never = np.iinfo(np.int64).max  # so that the first position is the last one

    def _prefixes(self, pairs: list[tuple[list[int], list[int]]]) -> Prefixes:
        """Each text with one token more, whatever it is: states are those *before* a token."""
        start = max(len(before) for before, _ in pairs)
        longest = max(len(ids) for _, ids in pairs) + 1
        nothing = self._vocabulary.size
        tokens = np.full((len(pairs), start + longest), nothing)
        for row, (before, ids) in enumerate(pairs):
            tokens[row, start - len(before) : start] = before
            tokens[row, start : start + len(ids) + 1] = [*ids, 0]
        written = np.array([len(ids) + 1 for _, ids in pairs])
        return Prefixes(tokens, start, nothing, written)
