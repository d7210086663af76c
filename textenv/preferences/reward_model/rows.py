"""What is known of n texts in numbers, [n, D]: all of them, or only those that are not 0."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Rows of which little is not 0; row i owns the places starts[i] … starts[i + 1] − 1.

    columns: int64 [N], in ascending order within a row.
    values: float64 [N].
    starts: int64 [n + 1].
    width: D.
    """

    columns: Tensor
    values: Tensor
    starts: Tensor
    width: int

    def __len__(self) -> int:
        return len(self.starts) - 1


Rows = Tensor | SparseRows
"""float64 [n, D]."""


def times(rows: Rows, weight: Tensor) -> Tensor:
    """Return rows · weight, [n, K], with gradient.

    Args:
        rows: [n, D].
        weight: [D, K].
    """
    if isinstance(rows, Tensor):
        return rows @ weight
    return functional.embedding_bag(
        rows.columns,
        weight,
        rows.starts,
        mode="sum",
        per_sample_weights=rows.values,
        include_last_offset=True,
    )


def dense(rows: Rows, chosen: Tensor) -> Tensor:
    """Return some rows with their zeros, [m, D].

    Args:
        rows: [n, D].
        chosen: int64 [m].
    """
    if isinstance(rows, Tensor):
        return rows[chosen]
    counts = (rows.starts[1:] - rows.starts[:-1])[chosen]
    owner = torch.repeat_interleave(torch.arange(len(chosen)), counts)  # [N]
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    place = rows.starts[chosen][owner] + torch.arange(len(owner)) - first
    result = rows.values.new_zeros(len(chosen), rows.width)
    return result.index_put_((owner, rows.columns[place]), rows.values[place])
