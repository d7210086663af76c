"""An LSTM language model: embedding → LSTM → softmax over the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from textenv.models.alignment import left_aligned, with_start
from textenv.models.base import LanguageModel, OutputLayer, suppress
from textenv.models.memory import Ids, Memory, Next, ReadingKey, Stream
from textenv.models.modules import dropout_off, reading_key, without_gradient
from textenv.prefixes import Prefixes
from textenv.vocabulary import Vocabulary


class _State(NamedTuple):
    """An LSTM's state after each row: h and c, [layers, R, H] each."""

    h: Tensor
    c: Tensor

    def nbytes(self) -> int:
        return self.h.nbytes + self.c.nbytes


class LSTMLM(LanguageModel):
    """softmax(W·h_t + b), h_t = LSTM(h_{t−1}, E[a_{t−1}]) (Hochreiter & Schmidhuber 1997).

    The embedding has a row V for the start, which is read where the vocabulary has no start token
    of its own.

    Args:
        vocabulary_size: V.
        width: The size of embedding and hidden state, H.
        layers: How many LSTM layers.
        dropout: Between layers and before the softmax, while pretraining (`train()`) only.
        vocabulary: The vocabulary, if there is one.
        generator: Draws the first weights. None: torch's global one.
    """

    model_type: ClassVar[str] = "textenv_lstm"

    def __init__(
        self,
        vocabulary_size: int,
        width: int = 128,
        layers: int = 1,
        *,
        dropout: float = 0.0,
        vocabulary: Vocabulary | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(vocabulary, vocabulary_size)
        self.width, self.layers = width, layers
        between = dropout if layers > 1 else 0.0
        with torch.random.fork_rng(devices=[], enabled=generator is not None):
            self.embedding = nn.Embedding(vocabulary_size + 1, width)
            self.lstm = nn.LSTM(width, width, layers, batch_first=True, dropout=between)
            self.head = nn.Linear(width, vocabulary_size)
        self.dropout = nn.Dropout(dropout)
        if generator is not None:
            with torch.no_grad():
                for parameter in self.parameters():
                    parameter.uniform_(-(width**-0.5), width**-0.5, generator=generator)
        self._memory = Memory()

    @property
    def hidden_size(self) -> int:
        """H, the LSTM's width."""
        return self.width

    def forward(
        self, tokens: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Read tokens, int64 [B, L]: logits [B, L, V], hidden [B, L, H] and the LSTM's state."""
        hidden, state = self.lstm(self.embedding(tokens), state)
        return self._suppressed(self.head(self.dropout(hidden))), hidden, state

    def read(
        self, prefixes: Prefixes, rows: Int[np.ndarray, " n"], steps: Int[np.ndarray, " n"]
    ) -> tuple[Float[Tensor, "n vocabulary"], Float[Tensor, "n width"]]:
        """As `LanguageModel.read`."""
        states = self.read_states(prefixes, rows, steps)
        return self._suppressed(self.head(states)), states

    def read_states(
        self, prefixes: Prefixes, rows: Int[np.ndarray, " n"], steps: Int[np.ndarray, " n"]
    ) -> Float[Tensor, "n width"]:
        """As `LanguageModel.read_states`."""
        tokens, begin = with_start(prefixes, self._start_token)
        ids = left_aligned(tokens, begin, prefixes.end + 1)  # one more column in front
        with _dropout_off_for_gradients(self.lstm):
            states, _ = self.lstm(self.embedding(torch.as_tensor(ids, device=self.device)))
        return states[rows, prefixes.start - begin[rows] + steps]  # [N, H]

    @property
    def output_layer(self) -> OutputLayer:
        """As `LanguageModel.output_layer`."""
        never = () if self.vocabulary is None else self.vocabulary.suppressed_tokens
        return OutputLayer(self.head.weight, self.head.bias, never)

    @without_gradient()
    def next(self, prefixes: Prefixes) -> Next:
        """As `LanguageModel.next`; each row reads on from what is known of it."""
        self.check(prefixes)
        if not len(prefixes):
            return Next(*self._no_rows())
        tokens, begin = with_start(prefixes, self._start_token)
        ids = left_aligned(tokens, begin, prefixes.end + 1)  # one more column in front
        length = prefixes.end + 1 - begin
        key = reading_key(self)
        self._memory.keep_valid(key)
        with dropout_off(self):
            return self._read_on(key, ids, length)

    def forget(self) -> None:
        """As `LanguageModel.forget`."""
        self._memory.forget()

    def settings(self) -> dict[str, Any]:
        """As `LanguageModel.settings`."""
        own = {
            "vocabulary_size": self.vocabulary_size,
            "width": self.width,
            "layers": self.layers,
        }
        if self.vocabulary is None:
            return own
        return own | {
            "bos_token_id": self.vocabulary.start_token,
            "eos_token_id": self.vocabulary.end_token,
        }

    @property
    def _start_token(self) -> int:
        own = None if self.vocabulary is None else self.vocabulary.start_token
        return self.vocabulary_size if own is None else own

    def _suppressed(self, logits: Tensor) -> Tensor:
        never = () if self.vocabulary is None else self.vocabulary.suppressed_tokens
        return suppress(logits, never)

    def _read_on(self, key: ReadingKey, ids: Ids, length: Ids) -> Next:
        """Read what is new of each row; an LSTM's state is known at the ends of rows only."""
        batch = len(ids)
        memory, match = self._memory, self._memory.find(ids, length)
        shape = (self.layers, batch, self.width)
        h, c = self.head.weight.new_zeros((2, *shape))
        hidden = h.new_zeros(batch, self.width)
        known = np.zeros(batch, dtype=np.int64)
        for number, stream in enumerate(memory.valid):
            rows = np.flatnonzero(match.whole & (match.stream == number))
            slots = match.slot[rows]
            known[rows] = match.known[rows]
            h[:, rows], c[:, rows] = stream.cache.h[:, slots], stream.cache.c[:, slots]
            hidden[rows] = stream.cache.h[-1, slots]
        rows = np.flatnonzero(known < length)
        if not len(rows):  # nothing to read
            return Next(self._suppressed(self.head(hidden)), hidden)
        new = left_aligned(ids[rows], known[rows], length[rows])
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(torch.as_tensor(new, device=self.device)),
            torch.as_tensor(length[rows] - known[rows]),
            batch_first=True,
            enforce_sorted=False,
        )
        before = (h[:, rows].contiguous(), c[:, rows].contiguous())
        _, (h_n, c_n) = self.lstm(packed, before)
        h[:, rows], c[:, rows] = h_n.to(h), c_n.to(c)  # under autocast they come in half precision
        hidden[rows] = h[-1, rows]
        answer = Next(self._suppressed(self.head(hidden)), hidden)
        answered = np.ones(batch, dtype=np.bool_)
        memory.replace(match, Stream(key, ids, length, answer, answered, _State(h, c)))
        return answer


@contextmanager
def _dropout_off_for_gradients(lstm: nn.LSTM) -> Iterator[None]:
    """Turn dropout off and leave training on: in evaluation cuDNN computes no gradients."""
    training, dropout = lstm.training, lstm.dropout
    lstm.training, lstm.dropout = True, 0.0
    try:
        yield
    finally:
        lstm.training, lstm.dropout = training, dropout
