"""One head, trained without privacy: L-BFGS on all rows at once, stopped early.

The problem of a linear head is convex and small, so the minimum is found to the last digits, and no
learning rate has to be chosen (Nocedal 1980). An epoch is one iteration.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor

from textenv.preferences.reward_model.heads import Head
from textenv.preferences.reward_model.objectives import Objective, Ratings
from textenv.preferences.reward_model.rows import Rows

_FLAT = 1e-8  # the largest slope at which the minimum counts as found


class Fitted(NamedTuple):
    """A head, and how it was found.

    head: the best one.
    epochs: after how many iterations.
    loss: the mean loss over the validation rows; over the training rows where there are none.
    """

    head: Head
    epochs: int
    loss: float


def objective_value(
    head: Head, rows: Rows, objective: Objective, weights: Tensor, l2: float
) -> Tensor:
    """(Σ weight·loss + l2·Σ w²) / Σ weight.

    For ratings that is ridge regression with the penalty l2 (scikit-learn's `alpha`).

    Args:
        head: What is trained.
        rows: The features of all texts, [n, D].
        objective: m rows of data.
        weights: [m], how often each counts.
        l2: The price of the squared weights.
    """
    losses = objective.losses(head(rows))
    return (weights @ losses + l2 * head.squares()) / weights.sum()


def fit(
    head: Head,
    rows: Rows,
    train: Objective,
    validation: Objective | None,
    weights: Tensor,
    *,
    l2: float,
    epochs: int,
    patience: int,
) -> Fitted:
    """Train a head; what is returned is the one with the smallest validation loss.

    Args:
        head: As it begins; changed.
        rows: The features of all texts, [n, D].
        train: Training rows.
        validation: Rows that say when to stop; None: go on to the minimum.
        weights: How often each training row counts.
        l2: The price of the squared weights.
        epochs: Iterations at most.
        patience: Iterations without a better validation loss before it stops.
    """
    if isinstance(train, Ratings):
        with torch.no_grad():
            head.bias.fill_(float(weights @ train.values / weights.sum()))
    optimiser = torch.optim.LBFGS(
        head.parameters(), max_iter=1, max_eval=25, history_size=20, tolerance_grad=0,
        tolerance_change=0, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = objective_value(head, rows, train, weights, l2)
        loss.backward()
        return loss

    watched = train if validation is None else validation
    best = Fitted(copy.deepcopy(head), 0, _mean_loss(head, rows, watched))
    value = math.inf
    for epoch in range(1, epochs + 1):
        optimiser.step(closure)
        # Once more: the line search may have asked for value and slope somewhere else last.
        before, value = value, closure().item()
        loss = _mean_loss(head, rows, watched)
        if validation is None or loss < best.loss:
            best = Fitted(copy.deepcopy(head), epoch, loss)
        if epoch - best.epochs >= patience or _slope(head) < _FLAT or value == before:
            break
    return best


@torch.no_grad()
def _mean_loss(head: Head, rows: Rows, objective: Objective) -> float:
    return float(objective.losses(head(rows)).mean())


def _slope(head: Head) -> float:
    return max(float(p.grad.abs().max()) for p in head.parameters() if p.grad is not None)
