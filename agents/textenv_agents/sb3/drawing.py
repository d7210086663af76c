"""Draw tokens from logits: what `Categorical` does, in fewer passes over the vocabulary.

B = batch, V = vocabulary.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textenv.models.sampling import below, check_drawable

_BLOCK = 256


def draw_tokens(
    logits: Float[Tensor, "batch vocabulary"],
    *,
    deterministic: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Draw a token of each row from softmax(logits); return them and log π of each.

    The token is the first whose cumulative probability lies above one uniform number, so never one
    of probability 0. The sums are those of blocks first, then of the block where it lies: V
    exponentials, one sum, and no V logarithms, random numbers or running sums.

    Args:
        logits: Left as they are.
        deterministic: Take the likeliest token instead.
        generator: Draws the uniform numbers; None: torch's, which SB3 seeds.

    Raises:
        ValueError: the logits of a row are no distribution: NaN, +∞ or nothing but −∞.
    """
    rows, size = logits.shape
    top, likeliest = logits.max(dim=-1, keepdim=True)
    blocks = -(-size // _BLOCK)
    weights = logits.new_empty(rows, blocks * _BLOCK)
    weights[:, size:] = 0.0
    torch.sub(logits, top, out=weights[:, :size])
    weights[:, :size].exp_()
    sums = weights.view(rows, blocks, _BLOCK).sum(dim=-1).double().cumsum(dim=-1)  # [B, blocks]
    total = sums[:, -1:]
    check_drawable(total)
    if deterministic:
        tokens = likeliest
    else:
        uniform = torch.rand(rows, 1, dtype=torch.float64, generator=generator, device=sums.device)
        before = below(uniform * total, total)
        block = torch.searchsorted(sums, before, right=True)  # [B, 1]
        sums = torch.nn.functional.pad(sums, (1, 0))
        within = weights.view(rows, blocks, _BLOCK)[
            torch.arange(rows, device=block.device), block[:, 0]
        ]
        inner = within.double().cumsum(dim=-1)  # [B, 256]
        rest = below(before - sums.gather(-1, block), inner[:, -1:])
        tokens = block * _BLOCK + torch.searchsorted(inner, rest, right=True)
    log_total = top[:, 0].double() + total[:, 0].log()
    log_probs = logits.gather(-1, tokens)[:, 0].double() - log_total
    return tokens[:, 0], log_probs.to(logits.dtype)
