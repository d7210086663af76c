"""What a model says of chosen tokens, without an array of all tokens' probabilities.

`LanguageModel.score` holds the logits of all its positions at once: N·V numbers, several times.
Where the logits are a linear layer of the hidden states, as they nearly always are, log π(a) and
the entropy need them for a few positions at a time only, and so does their gradient:

    ∂ log π(a) / ∂ z = 1[a] − π,    ∂ H / ∂ z = −π·(log π + H),    z = W·h + b.

N = chosen positions, V = vocabulary, H = hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from textenv.models.base import LanguageModel, OutputLayer, entropies
from textenv.prefixes import Prefixes

_KEPT = 2**24  # so many logits are kept for the backward pass, 64 MB; more are computed again
_TILE = 2**19  # logits that are computed together: 2 MB, which stay in the processor's cache
_ROWS = 256  # of a tile at least, where there are so many
_NEVER = -1e30  # a logit whose probability is 0, and 0·log 0 = 0 without a special case

Allowed = Callable[[Int[np.ndarray, " n"]], Bool[np.ndarray, "n vocabulary"]]


class Chosen(NamedTuple):
    """What a model says of N tokens, with gradient.

    log_probs: [N], log π(a | s).
    entropy: [N], of π(· | s); None unless asked for.
    hidden: [N, H], what the token is predicted from.
    """

    log_probs: Tensor
    entropy: Tensor | None
    hidden: Tensor


def chosen(
    lm: LanguageModel,
    prefixes: Prefixes,
    rows: Int[np.ndarray, " n"],
    steps: Int[np.ndarray, " n"],
    *,
    entropy: bool = False,
    allowed: Allowed | None = None,
) -> Chosen:
    """Read whole texts once; return what a model says of some of their tokens.

    Args:
        lm: The model.
        prefixes: Whole texts.
        rows: Which text, for each of N tokens.
        steps: Which of its written tokens.
        entropy: Return the entropies too. Their gradient is computed only where it is used.
        allowed: Says of some of the N, by number, which tokens may be written there; the
            distributions are those over these alone. None: all may.
    """
    lm.check(prefixes)
    written = prefixes.tokens[rows, prefixes.start + steps]
    tokens = torch.as_tensor(written, device=lm.device)
    layer = lm.output_layer
    if layer is None or not len(rows):
        return _from_logits(lm, prefixes, rows, steps, tokens, entropy, allowed)
    states = lm.read_states(prefixes, rows, steps)
    how = _How(lm.vocabulary_size, layer.suppressed, allowed, entropy)
    log_probs, of_all = _FromStates.apply(states, layer.weight, layer.bias, tokens, how)
    return Chosen(log_probs, of_all if entropy else None, states)


def _from_logits(
    lm: LanguageModel,
    prefixes: Prefixes,
    rows: Int[np.ndarray, " n"],
    steps: Int[np.ndarray, " n"],
    tokens: Tensor,
    entropy: bool,
    allowed: Allowed | None,
) -> Chosen:
    """The same from all logits, for models whose logits are more than a linear layer."""
    logits, states = lm.read(prefixes, rows, steps) if len(rows) else lm._no_rows()
    if allowed is not None and len(rows):
        cut = ~torch.as_tensor(allowed(np.arange(len(rows))), device=logits.device)
        logits = logits.masked_fill(cut, -torch.inf)
    log_probs = torch.log_softmax(logits, dim=-1)
    picked = log_probs.gather(-1, tokens[:, None])[:, 0]
    return Chosen(picked, entropies(log_probs) if entropy else None, states)


class _How(NamedTuple):
    """What is no tensor: V, what is never written, what is allowed, and what to return."""

    size: int
    suppressed: tuple[int, ...]
    allowed: Allowed | None
    entropy: bool

    def parts(self, number: int) -> Iterator[slice]:
        """The positions whose logits are computed together."""
        step = max(_ROWS, _TILE // self.size)
        for first in range(0, number, step):
            yield slice(first, min(first + step, number))

    def tiles(
        self,
        part: slice,
        states: Float[Tensor, "n width"],
        weight: Float[Tensor, "ids width"],
        bias: Float[Tensor, " ids"] | None,
    ) -> Iterator[tuple[slice, Float[Tensor, "part tokens"]]]:
        """Yield logits of some positions, z = W·h + b, some tokens at a time; float32 at least."""
        allowed = None
        if self.allowed is not None:
            numbers = np.arange(part.start, part.stop)
            allowed = torch.as_tensor(self.allowed(numbers), device=states.device)
        for columns in self.columns(part):
            own = None if bias is None else bias[columns]
            logits = torch.nn.functional.linear(states[part], weight[columns], own)
            if logits.element_size() < 4:
                logits = logits.float()
            never = [i - columns.start for i in self.suppressed if i in _numbers(columns)]
            if never:
                logits[:, never] = _NEVER
            if allowed is not None:
                logits.masked_fill_(~allowed[:, columns], _NEVER)
            yield columns, logits

    def columns(self, part: slice) -> Iterator[slice]:
        """The tokens whose logits are computed together, for some positions."""
        step = max(_TILE // (part.stop - part.start), _ROWS)
        for first in range(0, self.size, step):
            yield slice(first, min(first + step, self.size))


def _numbers(part: slice) -> range:
    return range(part.start, part.stop)


class _Tile(NamedTuple):
    """Hold exp(z - top) of some positions and tokens, and the top of each position, [n, 1]."""

    weights: Tensor
    top: Tensor


class _FromStates(torch.autograd.Function):
    """(h, W, b) → log π(a) and H, a tile of logits at a time, in both directions."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor, how: _How
    ) -> tuple[Tensor, Tensor]:
        number = len(states)
        dtype = torch.promote_types(states.dtype, torch.float32)
        picked, log_total, entropy = states.new_zeros((3, number), dtype=dtype).unbind()
        kept: list[_Tile] | None = None
        if any(ctx.needs_input_grad) and number * how.size <= _KEPT:
            kept = []
        for part in how.parts(number):
            own = tokens[part]
            top = states.new_full((len(own), 1), -torch.inf, dtype=dtype)
            total, mean = torch.zeros_like(top[:, 0]), torch.zeros_like(top[:, 0])
            for columns, logits in how.tiles(part, states, weight, bias):
                before, top = top, torch.maximum(top, logits.amax(dim=-1, keepdim=True))
                shrunk = (before - top).exp_()[:, 0]
                inside = ((own >= columns.start) & (own < columns.stop)).nonzero()[:, 0]
                picked[part.start + inside] = logits[inside, own[inside] - columns.start]
                weights = (logits - top).exp_()
                total = total * shrunk + weights.sum(dim=-1)
                if how.entropy:
                    mean = mean * shrunk + torch.linalg.vecdot(weights, logits)
                if kept is not None:
                    kept.append(_Tile(weights, top))
            log_total[part] = top[:, 0] + total.log()
            entropy[part] = log_total[part] - mean / total
        ctx.save_for_backward(states, weight, bias, tokens, log_total, entropy)
        ctx.how, ctx.kept = how, kept
        never = picked <= _NEVER
        return (picked - log_total).masked_fill(never, -torch.inf), entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, bias, tokens, log_total, entropy = ctx.saved_tensors
        of_log_probs, of_entropy = gradients
        how: _How = ctx.how
        bends = how.entropy and bool(of_entropy.any())  # else it is unused, or weighed by 0
        # The token's own 1 first: 1[a]·g; then -π·(g + h·(log π + H)) of all tokens.
        scale = of_log_probs[:, None].to(states.dtype)
        to_states = weight[tokens] * scale
        to_weight = to_bias = None
        if ctx.needs_input_grad[1]:
            to_weight = torch.zeros_like(weight).index_add_(0, tokens, states * scale)
        if bias is not None and ctx.needs_input_grad[2]:
            to_bias = torch.zeros_like(bias).index_add_(0, tokens, scale[:, 0])
        kept = iter(ctx.kept) if ctx.kept is not None else None
        for part in how.parts(len(states)):
            height = log_total[part, None]
            for columns, tile in _again(how, kept, part, states, weight, bias):
                shrunk = (tile.top - height).exp()
                if bends:
                    probabilities = tile.weights * shrunk
                    slope = of_log_probs[part] + of_entropy[part] * entropy[part]
                    bent = torch.xlogy(probabilities, probabilities) * -of_entropy[part, None]
                    to_logits = bent - probabilities * slope[:, None]
                else:
                    to_logits = tile.weights * (-of_log_probs[part, None] * shrunk)
                to_logits = to_logits.to(weight.dtype)
                to_states[part].addmm_(to_logits, weight[columns])
                if to_weight is not None:
                    to_weight[columns].addmm_(to_logits.T, states[part])
                if to_bias is not None:
                    to_bias[columns] += to_logits.sum(dim=0)
        return to_states, to_weight, to_bias, None, None


def _again(
    how: _How,
    kept: Iterator[_Tile] | None,
    part: slice,
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> Iterator[tuple[slice, _Tile]]:
    """The tiles of the forward pass: those that were kept, or computed again."""
    if kept is not None:
        for columns in how.columns(part):
            yield columns, next(kept)
        return
    for columns, logits in how.tiles(part, states, weight, bias):
        top = logits.amax(dim=-1, keepdim=True)
        yield columns, _Tile(logits.sub_(top).exp_(), top)


__all__ = ["Allowed", "Chosen", "OutputLayer", "chosen"]
