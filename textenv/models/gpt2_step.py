"""One decoding step of GPT-2, written out.

The library's forward pass spends about a third of a small model's step outside matrix products and
attention. Here is the same arithmetic with fused operations and without modules around it, for one
new token a row. `CausalLM` uses it only where it agrees with the library's own pass (`self_check`);
linear layers that an adapter wraps are called as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from textenv.models.cache import ColumnCache


def applies(model: Any) -> bool:
    """Whether a model is GPT-2 with the usual settings, exactly and in no subclass."""
    from transformers import GPT2LMHeadModel

    if type(model) is not GPT2LMHeadModel:
        return False
    config = model.config
    usual = config.activation_function == "gelu_new" and not config.reorder_and_upcast_attn
    return usual and not config.add_cross_attention


def step(
    model: Any,
    ids: Int[Tensor, " batch"],
    positions: Int[Tensor, " batch"],
    seen: Int[Tensor, "batch columns"] | None,
    cache: ColumnCache,
) -> Float[Tensor, "batch width"]:
    """Read one token a row, in evaluation mode; return the last hidden states.

    Args:
        model: A `GPT2LMHeadModel`.
        ids: The tokens.
        positions: Their positions in their rows.
        seen: 1 for each column that the row sees, the new one included; None: all.
        cache: What was read before.
    """
    body, heads = model.transformer, model.config.n_head
    batch, width = len(ids), model.config.n_embd
    hidden = body.wte.weight[ids] + body.wpe.weight[positions]
    mask = None
    if seen is not None:
        mask = hidden.new_zeros(seen.shape).masked_fill_(seen == 0, -torch.inf)[:, None, None]
    for number, block in enumerate(body.h):
        normed = _layer_norm(block.ln_1, hidden)
        query, key, value = (
            _linear(block.attn.c_attn, normed).view(batch, 3, heads, 1, -1).unbind(1)
        )
        keys, values = cache.update(key, value, number)
        attended = F.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, scale=block.attn.scaling
        )
        hidden = hidden + _linear(block.attn.c_proj, attended.reshape(batch, width))
        inner = _linear(block.mlp.c_fc, _layer_norm(block.ln_2, hidden))
        hidden = hidden + _linear(block.mlp.c_proj, F.gelu(inner, approximate="tanh"))
    return _layer_norm(body.ln_f, hidden)


def _layer_norm(module: Any, states: Tensor) -> Tensor:
    return F.layer_norm(states, module.normalized_shape, module.weight, module.bias, module.eps)


def _linear(module: Any, states: Tensor) -> Tensor:
    if type(module).__name__ != "Conv1D":  # an adapter's
        return module(states)
    return torch.addmm(module.bias, states, module.weight)
