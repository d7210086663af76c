"""A table of logits: the language model of which everything can be computed exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from textenv.models.base import LanguageModel, suppress
from textenv.models.memory import Next
from textenv.models.modules import without_gradient
from textenv.prefixes import Prefixes
from textenv.vocabulary import Vocabulary

MAX_ENTRIES = 50_000_000  # 400 MB in float64


class TabularLM(LanguageModel):
    """softmax(logits[context]), the context being the last `order` tokens; float64.

    The table has (V + 1)^order rows: a context (…, x, y) is row … + x·(V + 1) + y, and the id V
    stands for "nothing there", so that the start is the last row.

    Args:
        vocabulary_size: V.
        order: k ≥ 0, how many tokens the next one depends on.
        vocabulary: The vocabulary, if there is one.

    Raises:
        ValueError: k < 0, or the table would have more than 50 million entries.
    """

    model_type: ClassVar[str] = "textenv_tabular"

    def __init__(
        self, vocabulary_size: int, order: int = 1, *, vocabulary: Vocabulary | None = None
    ) -> None:
        super().__init__(vocabulary, vocabulary_size)
        if order < 0:
            raise ValueError(f"expected order ≥ 0, got {order}")
        contexts = (vocabulary_size + 1) ** order
        if contexts * vocabulary_size > MAX_ENTRIES:
            raise ValueError(
                f"a table of order {order} over {vocabulary_size} tokens has "
                f"{contexts * vocabulary_size:,} entries, the limit is {MAX_ENTRIES:,}"
            )
        self.order = order
        self.logits = nn.Parameter(torch.zeros(contexts, vocabulary_size, dtype=torch.float64))

    @classmethod
    def from_probabilities(
        cls,
        probabilities: Sequence[Sequence[float]] | npt.NDArray[np.float64],
        order: int,
        *,
        vocabulary: Vocabulary | None = None,
    ) -> TabularLM:
        """Make the model with these rows of probabilities, [(V + 1)^order, V]; 0 → −∞.

        Raises:
            ValueError: the shape is wrong, or a row does not sum to 1.
        """
        table = torch.as_tensor(np.asarray(probabilities, dtype=np.float64))
        model = cls(table.shape[1], order, vocabulary=vocabulary)
        if table.shape != model.logits.shape:
            raise ValueError(
                f"expected probabilities of shape {tuple(model.logits.shape)}, got "
                f"{tuple(table.shape)}"
            )
        if (table < 0).any() or (table.sum(dim=1) - 1).abs().max() > 1e-9:
            raise ValueError("each row of probabilities must be ≥ 0 and sum to 1")
        with torch.no_grad():
            model.logits.copy_(table.log())
        return model

    @property
    def hidden_size(self) -> int:
        """The number of contexts: the hidden state is the context, one-hot."""
        return self.logits.shape[0]

    def contexts(self, prefixes: Prefixes) -> npt.NDArray[np.int64]:
        """Return the row of the table for the end of each prefix, int64 [B]."""
        return self._contexts_before(prefixes, prefixes.written[:, None])[:, 0]

    def read(
        self, prefixes: Prefixes, rows: Int[np.ndarray, " n"], steps: Int[np.ndarray, " n"]
    ) -> tuple[Float[Tensor, "n vocabulary"], Float[Tensor, "n width"]]:
        """As `LanguageModel.read`."""
        before = self._contexts_before(prefixes.rows(rows), steps[:, None])[:, 0]
        contexts = torch.as_tensor(before, device=self.device)
        return suppress(self.logits[contexts], ()), self._one_hot(contexts)

    @without_gradient()
    def next(self, prefixes: Prefixes) -> Next:
        """As `LanguageModel.next`; a look-up."""
        self.check(prefixes)
        contexts = torch.as_tensor(self.contexts(prefixes), device=self.device)
        return Next(suppress(self.logits[contexts], ()), self._one_hot(contexts))

    def settings(self) -> dict[str, Any]:
        """As `LanguageModel.settings`."""
        return {"vocabulary_size": self.vocabulary_size, "order": self.order}

    def _one_hot(self, contexts: Tensor) -> Tensor:
        return nn.functional.one_hot(contexts, self.hidden_size).to(self.logits.dtype)

    def _contexts_before(
        self, prefixes: Prefixes, written: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """The table's row after `written` [B, N] tokens of each text: int64 [B, N]."""
        edge = np.full((len(prefixes), self.order), prefixes.nothing)
        tokens = np.concatenate([edge, prefixes.tokens], axis=1)  # [B, k + P + T]
        rows = np.zeros_like(written)
        for place in range(self.order):
            column = prefixes.start + written + place
            rows = rows * (self.vocabulary_size + 1) + np.take_along_axis(tokens, column, axis=1)
        return rows
