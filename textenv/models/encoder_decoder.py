"""How the library's encoder–decoder models are asked: encoder, decoder and head, one by one.

B = batch, S = source, L = the decoder's columns, N = the answers that are wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from textenv.models.encoded import Sources
from textenv.models.memory import Ids
from textenv.models.modules import dropout_off

Head = Callable[[Any, Tensor], Tensor]


def encode(
    model: Any, sources: Sources
) -> tuple[Float[Tensor, "batch source width"], Int[Tensor, "batch source"]]:
    """Read sources; return the encoder's states, and where the sources are."""
    inputs = sources.inputs(next(model.parameters()).device)
    return model.get_encoder()(**inputs).last_hidden_state, inputs["attention_mask"]


def decode(
    model: Any,
    head: Head | None,
    tokens: Ids,
    encoded: Float[Tensor, "batch source width"],
    mask: Int[Tensor, "batch source"],
    rows: Int[np.ndarray, " n"],
    places: Int[np.ndarray, " n"],
    *,
    past: Any = None,
    seen: Ids | None = None,
) -> tuple[Float[Tensor, "n ids"], Float[Tensor, "n width"]]:
    """One pass of the decoder: logits and last hidden states of some of its columns.

    Args:
        model: The model.
        head: As `find_head` found it.
        tokens: int64 [B, L].
        encoded: The encoder's states.
        mask: Where the sources are.
        rows: Which row, for each of n answers.
        places: Which column.
        past: The library's cache.
        seen: The decoder's attention mask, int64 [B, columns before + L]; None: all.
    """
    seen = np.ones_like(tokens) if seen is None else seen
    ids, own = (torch.as_tensor(array, device=mask.device) for array in (tokens, seen))
    cache = {"past_key_values": past, "use_cache": past is not None}
    if head is not None:
        states = _states(model, ids, own, encoded, mask, **cache)[rows, places]  # [N, H]
        return head(model, states), states
    output = _forward(model, ids, own, encoded, mask, **cache, output_hidden_states=True)
    return output.logits[rows, places], output.decoder_hidden_states[-1][rows, places]


@torch.no_grad()
def find_head(model: Any) -> Head | None:
    """Return how the logits come from the last hidden state; None: in a way that is not known.

    Where it is known, the head is computed for the tokens that count and for no padding; other
    models are asked for all of their logits.
    """
    ids = torch.tensor([[0, 1]], device=next(model.parameters()).device)
    mask = torch.ones_like(ids)
    heads: list[Head] = [_plain, _scaled]
    if hasattr(model, "final_logits_bias"):
        heads = [_biased]  # also where it is 0: somebody may set it
    with dropout_off(model):
        encoded = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        logits = _forward(model, ids, mask, encoded, mask, use_cache=False).logits
        try:
            states = _states(model, ids, mask, encoded, mask, use_cache=False)
        except (AttributeError, TypeError):
            return None
        return next((head for head in heads if torch.equal(head(model, states), logits)), None)


def decoder_start(model: Any) -> int:
    """Return the token that the decoder reads first.

    Raises:
        ValueError: the model has no encoder, or does not say.
    """
    if not getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"expected an encoder–decoder model, got {type(model).__name__}: use CausalLM, or "
            "textenv.models.load, which chooses"
        )
    for config in (model.config, getattr(model, "generation_config", None)):
        start = getattr(config, "decoder_start_token_id", None)
        if start is not None:
            return int(start)
    raise ValueError(
        f"{type(model).__name__} does not say which token its decoder reads first: set "
        "model.config.decoder_start_token_id"
    )


def number_of_ids(model: Any) -> int:
    """Return how many ids both ends have."""
    both = (model.get_input_embeddings(), model.get_output_embeddings())
    return min(embedding.weight.shape[0] for embedding in both)


def bad_words(model: Any) -> list[int]:
    """Return the single ids that `generate` never writes (Marian's padding)."""
    bad = getattr(getattr(model, "generation_config", None), "bad_words_ids", None) or []
    return [int(word[0]) for word in bad if len(word) == 1]


def _states(
    model: Any, ids: Tensor, own: Tensor, encoded: Tensor, mask: Tensor, **keywords: Any
) -> Tensor:
    """The decoder's last hidden states, [B, L, H]."""
    output = model.get_decoder()(
        input_ids=ids,
        attention_mask=own,
        encoder_hidden_states=encoded,
        encoder_attention_mask=mask,
        **keywords,
    )
    return output.last_hidden_state


def _forward(
    model: Any, ids: Tensor, own: Tensor, encoded: Tensor, mask: Tensor, **keywords: Any
) -> Any:
    """The model's own forward after the encoder."""
    from transformers.modeling_outputs import BaseModelOutput

    return model(
        encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
        attention_mask=mask,
        decoder_input_ids=ids,
        decoder_attention_mask=own,
        **keywords,
    )


def _plain(model: Any, states: Tensor) -> Tensor:
    return model.get_output_embeddings()(states)


def _biased(model: Any, states: Tensor) -> Tensor:
    """BART's and Marian's."""
    return _plain(model, states) + model.final_logits_bias


def _scaled(model: Any, states: Tensor) -> Tensor:
    """T5's, where its embeddings are tied."""
    return _plain(model, states * states.shape[-1] ** -0.5)
