"""Hugging Face causal language models, unchanged, behind the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor

from textenv.errors import MissingExtraError, TextenvError
from textenv.files import replaced_folder
from textenv.models.alignment import left_aligned, with_start
from textenv.models.base import LanguageModel, Next, dropout_off, suppress, weights_key
from textenv.prefixes import Prefixes
from textenv.vocabulary import Vocabulary, load_vocabulary, save_vocabulary


@dataclass
class _Read:
    """What `next` has read: B rows whose last token stands in the same column.

    key: the weights and the mode that it is valid for.
    rows: which row each prefix is, by its bytes.
    offset: the first column that was read.
    end: one past the last column that was read.
    cache: the library's key-value cache of these columns.
    answer: what was answered for these prefixes.
    """

    key: tuple[int, ...]
    rows: dict[bytes, int]
    offset: int
    end: int
    cache: Any
    answer: Next


class CausalLM(LanguageModel):
    """A causal language model of the library transformers.

    `score` reads texts moved to the left, so that no mask and no position ids are needed. `next`
    reads the columns as they stand, with a mask and position ids for each row, and keeps the
    key-value cache: while all texts of a batch, or some of them, go on by the same number of
    tokens, only the new columns are read. Anything else is read afresh.

    Args:
        model: A causal model with a language-model head. It is used as it is.
        vocabulary: Its tokenizer's vocabulary.
        suppressed_tokens: Ids that are never written (logit −∞); None: the vocabulary's.

    Raises:
        ValueError: the vocabulary has ids that the model lacks.
    """

    model_type: ClassVar[str] = "transformers"

    def __init__(
        self,
        model: Any,
        vocabulary: Vocabulary,
        *,
        suppressed_tokens: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(vocabulary, vocabulary.size)
        rows = model.get_output_embeddings().weight.shape[0]
        if rows < vocabulary.size:
            raise ValueError(
                f"the tokenizer has {vocabulary.size} ids, the model only {rows}: they do not "
                "belong together"
            )
        self.model = model
        self.suppressed_tokens = (
            vocabulary.suppressed_tokens if suppressed_tokens is None else suppressed_tokens
        )
        self._read: _Read | None = None
        self._plain_head = _has_plain_head(model)

    @property
    def hidden_size(self) -> int:
        """H, the model's width."""
        return self.model.get_output_embeddings().weight.shape[1]

    def read(
        self, prefixes: Prefixes, rows: Int[np.ndarray, " n"], steps: Int[np.ndarray, " n"]
    ) -> tuple[Float[Tensor, "n vocabulary"], Float[Tensor, "n width"]]:
        """As `LanguageModel.read`."""
        tokens, begin = with_start(prefixes, self._start_token)
        # The last written token is predicted, never read.
        ids = left_aligned(tokens, begin, np.maximum(prefixes.end, begin + 1))
        place = prefixes.start - begin[rows] + steps
        inputs = {"input_ids": torch.as_tensor(ids, device=self.device), "use_cache": False}
        with dropout_off(self.model):
            if self._plain_head:
                states = self.model.base_model(**inputs).last_hidden_state[rows, place]  # [N, H]
                logits = self.model.get_output_embeddings()(states)
            else:
                output = self.model(**inputs, output_hidden_states=True)
                states = output.hidden_states[-1][rows, place]
                logits = output.logits[rows, place]
        return suppress(logits[:, : self.vocabulary_size], self.suppressed_tokens), states

    @torch.no_grad()
    def next(self, prefixes: Prefixes) -> Next:
        """As `LanguageModel.next`."""
        self.check(prefixes)
        if len(prefixes) == 0:
            return Next(
                torch.zeros(0, self.vocabulary_size, device=self.device),
                torch.zeros(0, self.hidden_size, device=self.device),
            )
        tokens, begin = with_start(prefixes, self._start_token)
        end = prefixes.end + 1  # one more column in front
        with dropout_off(self.model):
            if (end != end[0]).any():
                return self._next_ragged(tokens, begin, end)
            return self._next_in_step(tokens, begin, int(end[0]))

    def forget(self) -> None:
        """As `LanguageModel.forget`."""
        self._read = None

    def _next_ragged(
        self,
        tokens: npt.NDArray[np.int64],
        begin: npt.NDArray[np.int64],
        end: npt.NDArray[np.int64],
    ) -> Next:
        """Texts of different lengths: one full pass."""
        ids = torch.as_tensor(left_aligned(tokens, begin, end), device=self.device)
        output = self.model(input_ids=ids, use_cache=False, output_hidden_states=True)
        rows = torch.arange(len(tokens), device=self.device)
        last = torch.as_tensor(end - begin - 1, device=self.device)
        return self._answer(output.logits[rows, last], output.hidden_states[-1][rows, last])

    def _next_in_step(
        self, tokens: npt.NDArray[np.int64], begin: npt.NDArray[np.int64], end: int
    ) -> Next:
        """Texts that end in the same column: read what is new, or everything."""
        key = (*weights_key(self.model), int(torch.is_autocast_enabled(self.device.type)))
        read = self._continued(key, tokens, begin, end)
        if read is not None and read.end == end:
            return read.answer
        offset = int(begin.min()) if read is None else read.offset
        first = offset if read is None else read.end
        column = np.arange(offset, end)
        real = column >= begin[:, None]  # [B, columns so far]
        position = np.maximum(column - begin[:, None], 0)[:, first - offset :]
        new = np.where(column >= begin[:, None], tokens[:, offset:end], 0)[:, first - offset :]
        output = self.model(
            input_ids=torch.as_tensor(new, device=self.device),
            attention_mask=torch.as_tensor(real.astype(np.int64), device=self.device),
            position_ids=torch.as_tensor(position, device=self.device),
            past_key_values=None if read is None else read.cache,
            use_cache=True,
            output_hidden_states=True,
            logits_to_keep=1,
        )
        answer = self._answer(output.logits[:, -1], output.hidden_states[-1][:, -1])
        rows = _by_bytes(tokens, begin, end)
        self._read = _Read(key, rows, offset, end, output.past_key_values, answer)
        return answer

    def _continued(
        self,
        key: tuple[int, ...],
        tokens: npt.NDArray[np.int64],
        begin: npt.NDArray[np.int64],
        end: int,
    ) -> _Read | None:
        """What was read of exactly these rows, in this order; None where a row is unknown."""
        read = self._read
        if read is None or read.key != key or not read.end <= end:
            return None
        known = [
            read.rows.get(tokens[row, begin[row] : read.end].tobytes())
            for row in range(len(tokens))
        ]
        if None in known:
            return None
        if known == list(range(len(read.answer.logits))):
            return read
        rows = torch.as_tensor(known, device=self.device)
        answer = Next(read.answer.logits[rows], read.answer.hidden[rows])
        if read.end == end:  # asked again: the cache stays as it is, for all rows
            return _Read(key, read.rows, read.offset, end, read.cache, answer)
        read.cache.batch_select_indices(rows)
        return _Read(key, read.rows, read.offset, read.end, read.cache, answer)

    def _answer(self, logits: Tensor, hidden: Tensor) -> Next:
        logits = suppress(logits[:, : self.vocabulary_size], self.suppressed_tokens)
        return Next(logits, hidden)

    @property
    def _start_token(self) -> int | None:
        assert self.vocabulary is not None
        return self.vocabulary.start_token

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write a folder that transformers opens too; see `LanguageModel.save_pretrained`."""
        assert self.vocabulary is not None
        with replaced_folder(folder) as temporary:
            weights = self.model.state_dict()
            if dtype is not None:
                one: dict[int, Tensor] = {}  # tied weights stay one tensor, stored once
                weights = {
                    name: one.setdefault(tensor.data_ptr(), tensor.to(dtype))
                    for name, tensor in weights.items()
                }
            with _no_progress_bar():
                self.model.save_pretrained(temporary, state_dict=weights)
            save_vocabulary(self.vocabulary, temporary)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> CausalLM:
        """Read a causal model and its tokenizer from a folder, in float32; safetensors only.

        Raises:
            TextenvError: the folder holds no causal language model.
            MissingExtraError: transformers is not installed.
        """
        try:
            from transformers import AutoModelForCausalLM
        except ImportError as error:
            raise MissingExtraError("transformers", "a Hugging Face model") from error
        try:
            with _no_progress_bar():
                model = AutoModelForCausalLM.from_pretrained(
                    str(folder), dtype=torch.float32, use_safetensors=True, local_files_only=True
                )
        except (OSError, ValueError, SafetensorError) as error:
            raise TextenvError(
                f"{str(folder)!r} holds no causal language model: {error}"
            ) from error
        return cls(model.eval(), load_vocabulary(Path(folder)))


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing a bar for the one file of a small model."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


@torch.no_grad()
def _has_plain_head(model: Any) -> bool:
    """Whether the logits are the head of the last hidden state and nothing more.

    Where they are, the head is computed for the tokens that count and for no padding. Some models
    scale or cap their logits: those are asked for all of them.
    """
    ids = torch.tensor([[0, 1]], device=next(model.parameters()).device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    with dropout_off(model):
        logits = model(**inputs).logits
        try:
            states = model.base_model(**inputs).last_hidden_state
        except (AttributeError, TypeError):
            return False
        own = model.get_output_embeddings()(states)
    return own.shape == logits.shape and torch.equal(own, logits)


def _by_bytes(
    tokens: npt.NDArray[np.int64], begin: npt.NDArray[np.int64], end: int
) -> dict[bytes, int]:
    return {tokens[row, begin[row] : end].tobytes(): row for row in range(len(tokens))}
