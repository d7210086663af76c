"""Hugging Face causal language models, unchanged, behind the protocol."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from textenv.errors import MissingExtraError
from textenv.limits import check_length, max_positions
from textenv.models import gpt2
from textenv.models.alignment import left_aligned, with_start
from textenv.models.arena import Step
from textenv.models.base import LanguageModel, OutputLayer, check_ids, suppress
from textenv.models.cache import ColumnCache
from textenv.models.graphs import Graphs
from textenv.models.incremental import FILL, Incremental
from textenv.models.memory import Ids, Next
from textenv.models.modules import dropout_off, reading_key, without_gradient
from textenv.models.self_check import cache_is_exact
from textenv.models.transformers_folder import read_folder, write_folder
from textenv.prefixes import Prefixes
from textenv.vocabulary import Vocabulary, load_vocabulary


class CausalLM(LanguageModel):
    """A causal language model of the library transformers.

    `score` reads texts moved to the left, so that no mask and no position ids are needed. `next`
    reads only what is new: see `textenv.models.incremental`.

    Args:
        model: A causal model with a language-model head. It is used as it is.
        vocabulary: Its tokenizer's vocabulary.
        suppressed_tokens: Ids that are never written (logit −∞); None: the vocabulary's.

    Attributes:
        graphs: Replays decoding steps as CUDA graphs, on GPUs only: see `textenv.models.graphs`.

    Raises:
        ValueError: the vocabulary has ids that the model lacks.

    Warns:
        UserWarning: the model's cache does not bear rows that begin anew (checked once, here); its
            texts are then read in whole wherever they are not in step.
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
        check_ids(vocabulary, model.get_output_embeddings().weight.shape[0])
        self.model = model
        self.suppressed_tokens = (
            vocabulary.suppressed_tokens if suppressed_tokens is None else suppressed_tokens
        )
        self._positions = max_positions(model.config)
        self._plain_head = _has_plain_head(model)
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self.graphs = Graphs()
        self._incremental = Incremental(self)
        self._own_pass = self._plain_head and gpt2.applies(model)
        self._incremental.refills = cache_is_exact(self, vocabulary.size)

    @property
    def hidden_size(self) -> int:
        """H, the model's width."""
        return self.model.get_output_embeddings().weight.shape[1]

    def read(
        self, prefixes: Prefixes, rows: Int[np.ndarray, " n"], steps: Int[np.ndarray, " n"]
    ) -> tuple[Float[Tensor, "n vocabulary"], Float[Tensor, "n width"]]:
        """As `LanguageModel.read`."""
        if self._plain_head:
            states = self.read_states(prefixes, rows, steps)
            with dropout_off(self.model):
                logits = self.model.get_output_embeddings()(states)
        else:
            inputs, _, place = self._whole_texts(prefixes, rows, steps)
            with dropout_off(self.model):
                output = self.model(input_ids=inputs, use_cache=False, output_hidden_states=True)
            states = output.hidden_states[-1][rows, place]
            logits = output.logits[rows, place]
        return suppress(logits[:, : self.vocabulary_size], self.suppressed_tokens), states

    def read_states(
        self, prefixes: Prefixes, rows: Int[np.ndarray, " n"], steps: Int[np.ndarray, " n"]
    ) -> Float[Tensor, "n width"]:
        """As `LanguageModel.read_states`."""
        inputs, length, place = self._whole_texts(prefixes, rows, steps)
        with dropout_off(self.model):
            return self._states_at(inputs, length, rows, place)  # [N, H]

    @property
    def output_layer(self) -> OutputLayer | None:
        """As `LanguageModel.output_layer`."""
        head = self.model.get_output_embeddings()
        if not self._plain_head or type(head) is not nn.Linear:  # an adapter's, for instance
            return None
        return OutputLayer(head.weight, head.bias, self.suppressed_tokens)

    def _whole_texts(self, prefixes: Prefixes, rows: Ids, steps: Ids) -> tuple[Tensor, Ids, Ids]:
        """Texts moved to the left [n, L], their lengths, and where chosen tokens are predicted."""
        tokens, begin = with_start(prefixes, self._start_token)
        # The last written token is predicted, never read.
        length = np.maximum(prefixes.end - begin, 1)
        ids = left_aligned(tokens, begin, begin + length)
        check_length(self._positions, ids.shape[1])
        place = prefixes.start - begin[rows] + steps
        return torch.as_tensor(ids, device=self.device), length, place

    @without_gradient()
    def next(self, prefixes: Prefixes) -> Next:
        """As `LanguageModel.next`."""
        self.check(prefixes)
        if not len(prefixes):
            return Next(*self._no_rows())
        tokens, begin = with_start(prefixes, self._start_token)
        end = prefixes.end + 1  # one more column in front
        check_length(self._positions, int((end - begin).max()))
        key = reading_key(self.model)
        self.graphs.use(key, self.model)
        with dropout_off(self.model):
            return self._incremental.next(key, left_aligned(tokens, begin, end, FILL), end - begin)

    @property
    def refills(self) -> bool:
        """As `LanguageModel.refills`."""
        return self._incremental.refills

    def forget(self) -> None:
        """As `LanguageModel.forget`."""
        self._incremental.forget()

    # How `Incremental` reads.

    def new_cache(self, rows: int, capacity: int, clock: int = 0) -> ColumnCache:
        """As `Reader.new_cache`."""
        cache = ColumnCache(rows, capacity, clock)
        if self.graphs.may_record(self.device):
            cache.spare = 4 * cache.spare  # each new size is another graph
        return cache

    def read_on(self, ids: Ids, cache: ColumnCache, seen: Ids, positions: Ids) -> Next:
        """As `Reader.read_on`."""
        if ids.shape[1] == 1:
            replayed = self.graphs.step(self._forward, ids, seen, positions, cache)
            if replayed is not None:
                return self._answer(*replayed)
        device = self.device
        mask = None if seen.all() and self._own_pass else torch.as_tensor(seen, device=device)
        token, place = (torch.as_tensor(a, device=device) for a in (ids, positions))
        return self._answer(*self._forward(token, mask, place, cache))

    def read_whole(self, ids: Ids, length: Ids, cache: ColumnCache | None = None) -> Next:
        """As `Reader.read_whole`."""
        inputs: dict[str, Any] = {
            "input_ids": torch.as_tensor(np.maximum(ids, 0), device=self.device),
            "attention_mask": torch.ones(ids.shape, dtype=torch.int64, device=self.device),
            "past_key_values": cache,
            "use_cache": cache is not None,
        }
        rows = torch.arange(len(ids), device=self.device)
        last = torch.as_tensor(length - 1, device=self.device)
        if self._plain_head:
            states = self._states(**inputs)[rows, last]
            return self._answer(self.model.get_output_embeddings()(states), states)
        output = self.model(**inputs, output_hidden_states=True)
        return self._answer(output.logits[rows, last], output.hidden_states[-1][rows, last])

    def _states(self, input_ids: Tensor, **inputs: Any) -> Tensor:
        """Read rows from their beginnings; return the last layer's hidden states [n, L, H]."""
        if self._by_own_pass():
            return gpt2.forward(self.model, input_ids, cache=inputs.get("past_key_values"))
        return self.model.base_model(input_ids=input_ids, **inputs).last_hidden_state

    def _states_at(self, ids: Tensor, length: Ids, rows: Ids, place: Ids) -> Tensor:
        """Read whole texts, padding left out where it can be; return chosen states [N, H]."""
        if length.sum() == ids.numel() or not self._by_own_pass():
            return self._states(input_ids=ids, use_cache=False)[rows, place]
        real = np.flatnonzero(np.arange(ids.shape[1]) < length[:, None])
        first = np.cumsum(length) - length  # of each row, among the real ones
        states = gpt2.forward(self.model, ids, real=torch.as_tensor(real, device=self.device))
        return states[torch.as_tensor(first[rows] + place, device=self.device)]

    def _by_own_pass(self) -> bool:
        checkpoints = getattr(self.model.base_model, "gradient_checkpointing", False)
        return self._own_pass and not checkpoints and gpt2.is_plain(self.model)

    def _forward(self, ids: Tensor, seen: Tensor | None, positions: Tensor, cache: Any) -> Step:
        """Read w more columns, [n, w]; one token a row by our own pass where there is one."""
        head = self.model.get_output_embeddings()
        if self._own_pass and ids.shape[1] == 1 and gpt2.is_plain(self.model):
            states = gpt2.forward(self.model, ids, positions=positions, seen=seen, cache=cache)[
                :, -1
            ]
            return head(states), states
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": seen}
        if self._takes_positions:
            inputs["position_ids"] = positions
        inputs |= {"past_key_values": cache, "use_cache": True}
        if self._plain_head:
            states = self.model.base_model(**inputs).last_hidden_state[:, -1]
            return head(states), states
        output = self.model(**inputs, output_hidden_states=True, logits_to_keep=1)
        return output.logits[:, -1], output.hidden_states[-1][:, -1]

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
        write_folder(self.model, self.vocabulary, folder, dtype=dtype)

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
        model = read_folder(AutoModelForCausalLM, folder, "causal language model")
        return cls(model, load_vocabulary(Path(folder)))


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
