"""Heads: from features to one number. Linear, or with one hidden layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from textenv.preferences.reward_model.rows import Rows, times


class Head(nn.Module):
    """r = φ·w + b, or r = tanh(φ·W + c)·w + b; float64.

    Args:
        width: D.
        hidden_units: H, the width of the hidden layer; 0: there is none.
        generator: Draws the first weights of the hidden layer; a linear head begins at 0.
    """

    def __init__(
        self, width: int, hidden_units: int = 0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.hidden_units = hidden_units
        zeros = torch.zeros(hidden_units or width, 1, dtype=torch.float64)
        self.bias = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        if not hidden_units:
            self.weight = nn.Parameter(zeros)
            return
        first = torch.empty(width, hidden_units, dtype=torch.float64)
        first.normal_(std=width**-0.5, generator=generator)
        last = zeros.normal_(std=hidden_units**-0.5, generator=generator)
        self.first = nn.Parameter(first)
        self.first_bias = nn.Parameter(torch.zeros(hidden_units, dtype=torch.float64))
        self.weight = nn.Parameter(last)

    def forward(self, rows: Rows) -> Tensor:
        """Score n rows [n, D]: [n]."""
        if self.hidden_units:
            rows = torch.tanh(times(rows, self.first) + self.first_bias)
        return (times(rows, self.weight) + self.bias)[:, 0]

    def squares(self) -> Tensor:
        """Σ w² over the weights; biases are free."""
        total = self.weight.square().sum()
        return total + self.first.square().sum() if self.hidden_units else total

    @torch.no_grad()
    def fold(self, centre: Tensor, scale: Tensor) -> None:
        """Take raw features from now on, where it was trained on (φ − centre) / scale.

        Args:
            centre: [D].
            scale: [D].
        """
        weight = self.first if self.hidden_units else self.weight
        bias = self.first_bias if self.hidden_units else self.bias
        weight.div_(scale[:, None])
        bias.sub_(centre @ weight)
