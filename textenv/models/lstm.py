"""An LSTM language model: embedding → LSTM → softmax over the vocabulary."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from textenv.models.alignment import left_aligned, with_start
from textenv.models.base import LanguageModel, Next, dropout_off, suppress, weights_key
from textenv.prefixes import Prefixes
from textenv.vocabulary import Vocabulary


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
        self._remembered: tuple[Any, dict[bytes, int], Tensor, Tensor] | None = None

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
        tokens, begin = with_start(prefixes, self._start_token)
        ids = left_aligned(tokens, begin, prefixes.end + 1)  # one more column in front
        with dropout_off(self):
            states, _ = self.lstm(self.embedding(torch.as_tensor(ids, device=self.device)))
        states = states[rows, prefixes.start - begin[rows] + steps]  # [N, H]
        return self._suppressed(self.head(states)), states

    @torch.no_grad()
    def next(self, prefixes: Prefixes) -> Next:
        """As `LanguageModel.next`; where all texts go on by one token, only these are read."""
        self.check(prefixes)
        tokens, begin = with_start(prefixes, self._start_token)
        end = prefixes.end + 1
        key = weights_key(self)
        with dropout_off(self):
            state, hidden = self._go_on(key, tokens, begin, end)
        rows = {tokens[row, begin[row] : end[row]].tobytes(): row for row in range(len(tokens))}
        self._remembered = (key, rows, *state)
        return Next(self._suppressed(self.head(hidden)), hidden)

    def forget(self) -> None:
        """As `LanguageModel.forget`."""
        self._remembered = None

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

    def _go_on(
        self,
        key: Any,
        tokens: npt.NDArray[np.int64],
        begin: npt.NDArray[np.int64],
        end: npt.NDArray[np.int64],
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return the LSTM's state after each row, and the last layer's hidden state [B, H]."""
        if self._remembered is not None and self._remembered[0] == key:
            _, known, h, c = self._remembered
            before = [
                known.get(tokens[row, begin[row] : end[row] - 1].tobytes(), -1)
                for row in range(len(tokens))
            ]
            if min(before) >= 0:
                rows = torch.as_tensor(before, device=self.device)
                last = torch.as_tensor(np.take_along_axis(tokens, end[:, None] - 1, axis=1))
                _, hidden, state = self(last.to(self.device), (h[:, rows], c[:, rows]))
                return state, hidden[:, 0]
        ids = torch.as_tensor(left_aligned(tokens, begin, end), device=self.device)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(ids),
            torch.as_tensor(end - begin),
            batch_first=True,
            enforce_sorted=False,
        )
        _, state = self.lstm(packed)
        return state, state[0][-1]
