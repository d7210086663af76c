"""Hugging Face encoder–decoder models (T5, BART, Marian, …), unchanged, behind the protocol.

The prompt is the source, what is written is the target. The prompt's end token, which tokenizers
put there and `encode_prompt` drops, is put back: see `Sources.of`. Left out: a token that
`generate` would force after the decoder's start token (BART's `forced_bos_token_id`).

B = batch, S = source, L = the decoder's columns, N = the positions that count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from textenv.errors import MissingExtraError
from textenv.limits import check_length, max_positions
from textenv.models.base import LanguageModel, check_ids, suppress
from textenv.models.cache import ColumnCache
from textenv.models.cross import CrossCache
from textenv.models.encoded import Encoded, Sources
from textenv.models.encoder_decoder import (
    bad_words,
    decode,
    decoder_start,
    encode,
    find_head,
    number_of_ids,
)
from textenv.models.incremental import FILL, Incremental
from textenv.models.memory import Ids, Next
from textenv.models.modules import dropout_off, reading_key, without_gradient
from textenv.models.self_check import cache_is_exact
from textenv.models.transformers_folder import read_folder, write_folder
from textenv.prefixes import Prefixes
from textenv.vocabulary import Vocabulary, load_vocabulary

MOST_PROMPTS = 100_000  # that have numbers; with more, everything is forgotten


class Seq2SeqLM(LanguageModel):
    """An encoder–decoder model of the library transformers.

    `next` encodes each prompt once and reads only what is new of what is written: see
    `textenv.models.incremental`. There a row begins with a number that stands for its prompt,
    V + its place in `Encoded`, where the decoder reads its start token.

    Args:
        model: An encoder–decoder model with a language-model head. It is used as it is.
        vocabulary: Its tokenizer's vocabulary, for source and target.
        suppressed_tokens: Ids that are never written (logit −∞). None: the vocabulary's, and the
            single ids among the model's own `bad_words_ids` (Marian's padding).

    Raises:
        ValueError: the model has no encoder, or no token to start from; or the vocabulary has ids
            that it lacks.

    Warns:
        UserWarning: the decoder's cache does not bear rows that begin anew (checked once, here;
            BART's and Marian's do not). It is then used while all texts have the same length.
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
        self._start = decoder_start(model)
        check_ids(vocabulary, number_of_ids(model))
        self.model = model
        if suppressed_tokens is None:
            suppressed_tokens = (*vocabulary.suppressed_tokens, *bad_words(model))
        self.suppressed_tokens = tuple(
            token for token in dict.fromkeys(suppressed_tokens) if token < vocabulary.size
        )
        self._positions = max_positions(model.config)
        self._head = find_head(model)
        self._encoded = Encoded(self._encode)
        self._incremental = Incremental(self)
        self._incremental.refills = cache_is_exact(_AnyPrompt(self), vocabulary.size)
        self.forget()

    @property
    def hidden_size(self) -> int:
        """H, the decoder's width."""
        return self.model.get_output_embeddings().weight.shape[1]

    @property
    def refills(self) -> bool:
        """As `LanguageModel.refills`."""
        return self._incremental.refills

    def read(
        self, prefixes: Prefixes, rows: Int[np.ndarray, " n"], steps: Int[np.ndarray, " n"]
    ) -> tuple[Float[Tensor, "n vocabulary"], Float[Tensor, "n width"]]:
        """As `LanguageModel.read`; a prompt that several texts share is encoded once."""
        columns = max(int(prefixes.written.max()) - 1, 0)  # the last one is predicted, never read
        written = prefixes.tokens[:, prefixes.start : prefixes.start + columns]
        check_length(self._positions, 1 + columns)
        tokens = np.full((len(prefixes), 1 + columns), self._start)
        tokens[:, 1:] = np.where(written == prefixes.nothing, 0, written)
        with dropout_off(self.model):
            once, which = self._sources(prefixes).different()
            chosen = torch.as_tensor(which, device=self.device)
            encoded, mask = (part[chosen] for part in encode(self.model, once))
            return self._decode(tokens, encoded, mask, rows, steps)

    @without_gradient()
    def next(self, prefixes: Prefixes) -> Next:
        """As `LanguageModel.next`."""
        self.check(prefixes)
        if not len(prefixes):
            return Next(*self._no_rows())
        if len(self._encoded) > MOST_PROMPTS:
            self.forget()
        length = prefixes.written + 1
        check_length(self._positions, int(length.max()))
        ids = np.full((len(prefixes), int(length.max())), FILL)
        ids[:, 0] = self.vocabulary_size + self._encoded.numbers(self._sources(prefixes))
        written = prefixes.tokens[:, prefixes.start : prefixes.start + ids.shape[1] - 1]
        ids[:, 1:] = np.where(written == prefixes.nothing, FILL, written)
        key = reading_key(self.model)
        self._encoded.keep_valid(key)
        with dropout_off(self.model):
            return self._incremental.next(key, ids, length)

    def forget(self) -> None:
        """As `LanguageModel.forget`."""
        self._incremental.forget()
        self._encoded.forget()

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write a folder that transformers opens too; see `LanguageModel.save_pretrained`."""
        assert self.vocabulary is not None
        write_folder(self.model, self.vocabulary, folder, dtype=dtype)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Seq2SeqLM:
        """Read a model and its tokenizer from a folder, in float32; safetensors only.

        Raises:
            TextenvError: the folder holds no encoder–decoder model.
            MissingExtraError: transformers is not installed.
        """
        try:
            from transformers import AutoModelForSeq2SeqLM
        except ImportError as error:
            raise MissingExtraError("transformers", "a Hugging Face model") from error
        model = read_folder(AutoModelForSeq2SeqLM, folder, "encoder–decoder model")
        return cls(model, load_vocabulary(Path(folder)))

    # How `Incremental` reads.

    def new_cache(self, rows: int, capacity: int, clock: int = 0) -> ColumnCache:
        """As `Reader.new_cache`."""
        return CrossCache(rows, capacity, clock)

    def read_whole(self, ids: Ids, length: Ids, cache: ColumnCache | None = None) -> Next:
        """As `Reader.read_whole`."""
        encoded, mask = self._prompts(ids[:, 0])
        rows = np.arange(len(ids))
        tokens = np.maximum(self._with_start(ids), 0)
        past = cache.for_library() if isinstance(cache, CrossCache) else None
        answer = Next(*self._decode(tokens, encoded, mask, rows, length - 1, past=past))
        if isinstance(cache, CrossCache):
            assert past is not None
            cache.hold(rows, past.cross_attention_cache.layers, mask)
        return answer

    def read_on(self, ids: Ids, cache: ColumnCache, seen: Ids, positions: Ids) -> Next:
        """As `Reader.read_on`; rows that begin here get their prompts first."""
        assert isinstance(cache, CrossCache)
        begins = np.flatnonzero(ids[:, 0] >= self.vocabulary_size)
        if len(begins):
            numbers, which = np.unique(ids[begins, 0], return_inverse=True)
            layers, mask = self._prompt_layers(numbers)
            cache.hold(begins, layers, mask, which)
        assert cache.mask is not None
        rows, last = np.arange(len(ids)), np.full(len(ids), ids.shape[1] - 1)
        encoded = self._no_states(cache.mask)
        tokens = self._with_start(ids)
        past = cache.for_library()
        return Next(*self._decode(tokens, encoded, cache.mask, rows, last, past=past, seen=seen))

    # The parts of a pass.

    def _sources(self, prefixes: Prefixes) -> Sources:
        assert self.vocabulary is not None
        sources = Sources.of(prefixes, self.vocabulary.end_token)
        check_length(self._positions, sources.ids.shape[1])
        return sources

    def _encode(self, sources: Sources) -> Float[Tensor, "batch source width"]:
        return encode(self.model, sources)[0]

    def _with_start(self, ids: Ids) -> Ids:
        """The decoder's start token in place of a prompt's number."""
        return np.where(ids >= self.vocabulary_size, self._start, ids)

    def _prompts(self, numbered: Ids) -> tuple[Tensor, Tensor]:
        """The encoder's states of prompts [n, S, H], and where they are, int64 [n, S]."""
        numbers = numbered - self.vocabulary_size
        inputs = self._encoded.sources(numbers).inputs(self.device)
        return self._encoded.states(numbers), inputs["attention_mask"]

    def _prompt_layers(self, numbered: Ids) -> tuple[list[Any], Tensor]:
        """Each decoder layer's keys and values of prompts, made by a pass over the start token."""
        encoded, mask = self._prompts(numbered)
        rows, first = np.arange(len(numbered)), np.zeros(len(numbered), dtype=np.int64)
        past = CrossCache(len(numbered), 1).for_library()
        start = np.full((len(numbered), 1), self._start)
        self._decode(start, encoded, mask, rows, first, past=past)
        return past.cross_attention_cache.layers, mask

    def _no_states(self, mask: Tensor) -> Tensor:
        """What stands for the encoder's states where the decoder has them in its cache."""
        weight = self.model.get_output_embeddings().weight
        return weight.new_zeros(1, 1, 1).expand(*mask.shape, weight.shape[1])

    def _decode(
        self, tokens: Ids, encoded: Tensor, mask: Tensor, rows: Ids, places: Ids, **cache: Any
    ) -> tuple[Float[Tensor, "n vocabulary"], Float[Tensor, "n width"]]:
        """One pass of the decoder: see `encoder_decoder.decode`."""
        logits, states = decode(
            self.model, self._head, tokens, encoded, mask, rows, places, **cache
        )
        return suppress(logits[:, : self.vocabulary_size], self.suppressed_tokens), states


class _AnyPrompt:
    """A reader for `cache_is_exact`, which knows no prompts: a first token stands for one.

    Args:
        lm: The model.
    """

    def __init__(self, lm: Seq2SeqLM) -> None:
        self.model = lm.model
        self._lm = lm
        size = lm.vocabulary_size
        texts = [np.arange(length) * 7 % size for length in (3, 1, 5, 2)]
        self._first = size + lm._encoded.numbers(Sources.join(texts))

    def new_cache(self, rows: int, capacity: int, clock: int = 0) -> ColumnCache:
        return self._lm.new_cache(rows, capacity, clock)

    def read_whole(self, ids: Ids, length: Ids, cache: ColumnCache | None = None) -> Next:
        begins = np.ones(len(ids), dtype=np.bool_)
        return self._lm.read_whole(self._numbered(ids, begins), length, cache)

    def read_on(self, ids: Ids, cache: ColumnCache, seen: Ids, positions: Ids) -> Next:
        numbered = self._numbered(ids, positions[:, 0] == 0)
        return self._lm.read_on(numbered, cache, seen, positions)

    def _numbered(self, ids: Ids, begins: Any) -> Ids:
        numbered = ids.copy()
        numbered[begins, 0] = self._first[ids[begins, 0] % len(self._first)]
        return numbered
