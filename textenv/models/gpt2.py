"""The forward pass of GPT-2, written out.

The library's pass spends about a third of a small model's decoding step outside matrix products
and attention, and keeps six intermediate results of each activation for the gradient. Here is the
same arithmetic with fused operations. `CausalLM` uses it only where it agrees with the library's
own pass (checked when the model is made); linear layers that an adapter wraps are called as they
are. There is no dropout, because `next` and `score` run without it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import Cache

from textenv.models.modules import parts_of


def applies(model: Any) -> bool:
    """Whether a model is GPT-2 with the usual settings, in no subclass, and agrees with this."""
    from transformers import GPT2LMHeadModel

    if type(model) is not GPT2LMHeadModel:
        return False
    config = model.config
    usual = config.activation_function == "gelu_new" and not config.reorder_and_upcast_attn
    return usual and not config.add_cross_attention and _agrees(model)


def is_plain(model: Any) -> bool:
    """Whether nobody listens to its parts: forward hooks are called by the library's pass only."""
    return not any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks
        for part in parts_of(model)
    )


def forward(
    model: Any,
    ids: Int[Tensor, "batch time"],
    *,
    positions: Int[Tensor, "batch time"] | None = None,
    seen: Int[Tensor, "batch columns"] | None = None,
    cache: Cache | None = None,
    real: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, "batch time width"] | Float[Tensor, "n width"]:
    """Read tokens, without dropout; return the last hidden states.

    Args:
        model: A `GPT2LMHeadModel`.
        ids: The tokens; padding stands on the right, where it is seen by nobody else.
        positions: Of the tokens in their rows; None: 0, 1, …
        seen: With a cache that holds something: 1 for each column that the row sees, the new one
            included; then there is one token a row. None: all.
        cache: What was read before, and where this is kept; None: nothing, nowhere.
        real: Which of the B·T tokens are no padding, where some are: the others are not computed,
            and the states of these come back, [n, H]. Without a cache.
    """
    body, heads = model.transformer, model.config.n_head
    batch, time = ids.shape
    if positions is None:
        positions = torch.arange(time, device=ids.device)[None]
    hidden = F.embedding(ids, body.wte.weight) + F.embedding(positions, body.wpe.weight)
    hidden = hidden.flatten(0, 1)  # [B·T, H]
    if real is not None:
        hidden = hidden.index_select(0, real)  # [n, H]
    mask = None
    if seen is not None:
        mask = hidden.new_zeros(seen.shape).masked_fill_(seen == 0, -torch.inf)[:, None, None]
    for number, block in enumerate(body.h):
        projected = _linear(block.attn.c_attn, _layer_norm(block.ln_1, hidden))
        if real is not None:  # attention alone needs rows and columns
            empty = projected.new_zeros(batch * time, projected.shape[1])
            projected = empty.index_copy(0, real, projected)
        split = projected.view(batch, time, 3, heads, -1).permute(2, 0, 3, 1, 4)
        query, keys, values = split.unbind(0)  # [B, heads, T, width] each
        if cache is not None:
            keys, values = cache.update(keys, values, number)
        attended = _attend(query, keys, values, mask, block.attn.scaling)
        attended = attended.transpose(1, 2).reshape(batch * time, -1)  # [B·T, H]
        if real is not None:
            attended = attended.index_select(0, real)
        hidden = hidden + _linear(block.attn.c_proj, attended)
        inner = _linear(block.mlp.c_fc, _layer_norm(block.ln_2, hidden))
        hidden = hidden + _linear(block.mlp.c_proj, F.gelu(inner, approximate="tanh"))
    hidden = _layer_norm(body.ln_f, hidden)
    return hidden.view(batch, time, -1) if real is None else hidden


@torch.no_grad()
def _agrees(model: Any) -> bool:
    """Whether this says what the library says of a few tokens, up to float arithmetic."""
    weight = model.transformer.wte.weight
    columns = min(3, model.config.n_positions)
    ids = torch.arange(2 * columns, device=weight.device).view(2, columns) % len(weight)
    training = model.training
    model.eval()
    theirs = model.transformer(input_ids=ids, use_cache=False).last_hidden_state
    model.train(training)
    error = (forward(model, ids) - theirs).abs().max()
    return bool(error <= 100 * torch.finfo(weight.dtype).eps * theirs.abs().max())


def _attend(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """Attention of tokens to themselves and those before, [B, heads, T, width]."""
    if query.shape[2] > 1 or query.device.type != "cpu":
        causal = query.shape[2] > 1
        return F.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, is_causal=causal, scale=scale
        )
    # One query a row: two plain products take two thirds of the time of the library's kernel.
    scores = torch.matmul(query * scale, keys.transpose(-1, -2))
    if mask is not None:
        scores = scores + mask
    return torch.matmul(torch.softmax(scores, dim=-1), values)


def _layer_norm(module: Any, states: Tensor) -> Tensor:
    return F.layer_norm(states, module.normalized_shape, module.weight, module.bias, module.eps)


def _linear(module: Any, states: Tensor) -> Tensor:
    if type(module).__name__ != "Conv1D":  # an adapter's
        return module(states)
    return torch.addmm(module.bias, states, module.weight)
