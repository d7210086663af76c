"""What an encoder reads of prompts, and a memory of what it has read.

B = batch, S = the longest source of a batch, H = the encoder's width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from textenv.errors import TextenvError
from textenv.models.alignment import left_aligned
from textenv.models.memory import Ids
from textenv.prefixes import Prefixes

MOST_TOKENS = 65_536  # of all prompts that are remembered; for H = 512 in float32, 128 MiB
_NOTHING = -1


class Sources(NamedTuple):
    """B texts for an encoder.

    ids: int64 [B, S], left-aligned; −1 behind each text.
    length: int64 [B], each at least 1.
    """

    ids: Int[np.ndarray, "batch source"]
    length: Int[np.ndarray, " batch"]

    @classmethod
    def of(cls, prefixes: Prefixes, end_token: int | None) -> Sources:
        """Take the prompts, with an end token behind each that holds none.

        Tokenizers of encoder–decoder models put an end token behind a text. `encode_prompt` drops
        it, because for other models a prompt goes on; an encoder must see it. An empty prompt is
        the end token alone.

        Raises:
            TextenvError: a prompt is empty and there is no end token.
        """
        last = np.full((len(prefixes), 1), prefixes.nothing)
        stop = np.full(len(prefixes), prefixes.start)
        if end_token is not None:
            ends = ~(prefixes.tokens[:, : prefixes.start] == end_token).any(axis=1)
            last[ends] = end_token
            stop = stop + ends
        length = stop - prefixes.begin
        if (length == 0).any():
            raise TextenvError(
                "the prompt is empty and the vocabulary has no end token to read instead, so the "
                "encoder would read nothing: give prompts="
            )
        tokens = np.concatenate([prefixes.tokens[:, : prefixes.start], last], axis=1)
        return cls(left_aligned(tokens, prefixes.begin, stop, fill=_NOTHING), length)

    @classmethod
    def join(cls, rows: list[Ids]) -> Sources:
        """Put texts of ids under one another."""
        length = np.array([len(row) for row in rows])
        ids = np.full((len(rows), int(length.max(initial=1))), _NOTHING)
        for mine, row in zip(ids, rows, strict=True):
            mine[: len(row)] = row
        return cls(ids, length)

    def different(self) -> tuple[Sources, Int[np.ndarray, " batch"]]:
        """Return each text once, and which of these each row is."""
        _, first, which = np.unique(self.ids, axis=0, return_index=True, return_inverse=True)
        return Sources(self.ids[first], self.length[first]), which.reshape(-1)

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask` for the encoder, int64 [B, S] each."""
        ids = torch.as_tensor(self.ids, device=device)
        mask = ids != _NOTHING
        return {"input_ids": torch.where(mask, ids, 0), "attention_mask": mask.long()}


class Encoded:
    """Prompts by number, and the encoder's states of those that were asked for last.

    What is remembered was read without gradient; the least recently used goes first.

    Args:
        encode: Sources of n rows → their states [n, S, H].
        most_tokens: How many tokens all prompts with remembered states have at most.
    """

    def __init__(
        self, encode: Callable[[Sources], Tensor], *, most_tokens: int = MOST_TOKENS
    ) -> None:
        self._encode = encode
        self._most_tokens = most_tokens
        self._key: object = None
        self._numbers: dict[bytes, int] = {}
        self._texts: list[Ids] = []
        self._states: OrderedDict[int, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._texts)

    def numbers(self, sources: Sources) -> Int[np.ndarray, " batch"]:
        """Return the number of each prompt, which stays its own until `forget`."""
        numbers = np.empty(len(sources.ids), dtype=np.int64)
        for row, (ids, length) in enumerate(zip(sources.ids, sources.length.tolist(), strict=True)):
            name = ids[:length].tobytes()
            if name not in self._numbers:
                self._numbers[name] = len(self._texts)
                self._texts.append(ids[:length].copy())
            numbers[row] = self._numbers[name]
        return numbers

    def sources(self, numbers: Int[np.ndarray, " batch"]) -> Sources:
        """Return the prompts of these numbers."""
        return Sources.join([self._texts[number] for number in numbers.tolist()])

    def keep_valid(self, key: object) -> None:
        """Drop states that were read with other weights or in another mode."""
        if key != self._key:
            self._states.clear()
            self._key = key

    def states(self, numbers: Int[np.ndarray, " batch"]) -> Float[Tensor, "batch source width"]:
        """Return the encoder's states of these prompts; 0 behind each."""
        asked = numbers.tolist()
        new = [number for number in dict.fromkeys(asked) if number not in self._states]
        if new:
            fresh = self.sources(np.array(new))
            states = self._encode(fresh)
            for number, state, length in zip(new, states, fresh.length.tolist(), strict=True):
                self._states[number] = state[:length].clone()  # a slice would keep all of `states`
        for number in asked:
            self._states.move_to_end(number)
        together = [self._states[number] for number in asked]
        self._drop(keep=len(set(asked)))
        return torch.nn.utils.rnn.pad_sequence(together, batch_first=True)

    def forget(self) -> None:
        """Drop all, the numbers too."""
        self._numbers.clear()
        self._texts.clear()
        self._states.clear()

    def _drop(self, keep: int) -> None:
        held = sum(len(state) for state in self._states.values())
        while held > self._most_tokens and len(self._states) > keep:
            _, oldest = self._states.popitem(last=False)
            held -= len(oldest)
