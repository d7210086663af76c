"""From a row of numbers and a mask to probabilities and to one action: pure functions.

B = batch, A = actions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def chooser(kind: str, epsilon: float, temperature: float) -> Callable[[Array, Mask], Array]:
    """Return the function values, masks [B, A] → probabilities [B, A] of this name.

    Raises:
        ValueError: the kind is unknown, ε outside 0 … 1, or the temperature not above 0.
    """
    if not 0 <= epsilon <= 1 or not 0 < temperature < np.inf:
        raise ValueError(
            f"expected 0 ≤ epsilon ≤ 1 < ∞ and temperature > 0, got {epsilon}, {temperature}"
        )
    if kind == "greedy":
        return greedy
    if kind == "epsilon_greedy":
        return lambda values, allowed: epsilon_greedy(values, allowed, epsilon)
    if kind == "softmax":
        return lambda values, allowed: softmax(values, allowed, temperature)
    raise ValueError(f'expected "greedy", "epsilon_greedy" or "softmax", got {kind!r}')


def greedy(values: Array, allowed: Mask) -> Array:
    """π(a|s) = 1/m for each of the m largest values of s among what is allowed, else 0."""
    shown = np.where(allowed, values, -np.inf)
    best = allowed & (shown == shown.max(axis=-1, keepdims=True))
    return best / best.sum(axis=-1, keepdims=True)


def epsilon_greedy(values: Array, allowed: Mask, epsilon: float | Array) -> Array:
    """π = (1 − ε)·greedy + ε·uniform among what is allowed."""
    uniform = allowed / allowed.sum(axis=-1, keepdims=True)
    return (1 - epsilon) * greedy(values, allowed) + epsilon * uniform


def softmax(values: Array, allowed: Mask, temperature: float = 1.0) -> Array:
    """π(a|s) ∝ exp(Q(s, a)/τ) among what is allowed."""
    shown = np.where(allowed, values, -np.inf)
    weights = np.exp((shown - shown.max(axis=-1, keepdims=True)) / temperature)
    return weights / weights.sum(axis=-1, keepdims=True)


def draw(probabilities: Array, generator: np.random.Generator) -> int:
    """Draw an action by probabilities [A]; one of probability 0 never comes."""
    cumulated = probabilities.cumsum()
    drawn = int(cumulated.searchsorted(generator.random() * cumulated[-1], side="right"))
    # Rounding could put the draw at the very end: then it is the last that is possible.
    return min(drawn, int(np.flatnonzero(probabilities)[-1]))
