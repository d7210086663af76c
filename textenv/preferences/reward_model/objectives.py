"""What a head is trained for: pure functions of scores.

Bradley & Terry (1952): P(a is preferred to b) = σ(r_a − r_b). As a loss for reward models:
Christiano et al. 2017 (https://arxiv.org/abs/1706.03741).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from textenv.preferences.comparisons import Comparison, RatedText


class Pairs(NamedTuple):
    """m comparisons of texts by their numbers.

    first: int64 [m].
    second: int64 [m].
    labels: float64 [m], how far the first was preferred, 0 … 1.
    """

    first: Tensor
    second: Tensor
    labels: Tensor

    def losses(self, scores: Tensor) -> Tensor:
        """−[y·log σ(r₁ − r₂) + (1 − y)·log σ(r₂ − r₁)] of each comparison."""
        return bradley_terry(scores[self.first] - scores[self.second], self.labels)

    def rows(self, chosen: Tensor) -> Pairs:
        """Take some comparisons."""
        return Pairs(self.first[chosen], self.second[chosen], self.labels[chosen])


class Ratings(NamedTuple):
    """m ratings of texts by their numbers.

    text: int64 [m].
    values: float64 [m].
    """

    text: Tensor
    values: Tensor

    def losses(self, scores: Tensor) -> Tensor:
        """(r − y)² of each rating."""
        return (scores[self.text] - self.values).square()

    def rows(self, chosen: Tensor) -> Ratings:
        """Take some ratings."""
        return Ratings(self.text[chosen], self.values[chosen])


Objective = Pairs | Ratings


class Table(NamedTuple):
    """Rows of a data set whose texts are numbered, each different text once.

    prompts: n texts.
    texts: n texts.
    objective: m rows.
    """

    prompts: list[str]
    texts: list[str]
    objective: Objective


def bradley_terry(differences: Tensor, labels: Tensor) -> Tensor:
    """−[y·log σ(d) + (1 − y)·log σ(−d)]: log 2 where d = 0, never infinite.

    Args:
        differences: d = r₁ − r₂, [m].
        labels: y, [m], 0 … 1; ½ for a tie.
    """
    return functional.softplus(differences) - labels * differences


def number_texts(data: Sequence[Comparison] | Sequence[RatedText]) -> Table:
    """Number the different texts of m rows, so that features are computed once.

    Args:
        data: Comparisons, or ratings; m ≥ 1.
    """
    numbers: dict[tuple[str, str], int] = {}

    def number(prompt: str, text: str) -> int:
        return numbers.setdefault((prompt, text), len(numbers))

    pairs = [row for row in data if isinstance(row, Comparison)]
    rated = [row for row in data if isinstance(row, RatedText)]
    objective: Objective
    if pairs:
        sides = [(number(r.prompt, r.first), number(r.prompt, r.second)) for r in pairs]
        first, second = torch.tensor(sides).unbind(dim=1)
        labels = torch.tensor([row.label for row in pairs], dtype=torch.float64)
        objective = Pairs(first, second, labels)
    else:
        text = [number(row.prompt, row.text) for row in rated]
        values = torch.tensor([row.rating for row in rated], dtype=torch.float64)
        objective = Ratings(torch.tensor(text), values)
    return Table([prompt for prompt, _ in numbers], [text for _, text in numbers], objective)
