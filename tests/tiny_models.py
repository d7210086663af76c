"""Tiny random language models of many architectures, in float64."""

from __future__ import annotations

import torch
import transformers as tf

from textenv.models import LSTMLM, CausalLM, TabularLM
from textenv.vocabulary import WordVocabulary

V = 13
VOCABULARY = WordVocabulary([f"w{i}" for i in range(V - 1)], end="$")
VOCABULARY.start_token = 0

_IDS = {"vocab_size": V, "bos_token_id": 0, "eos_token_id": V - 1}
_LLAMA = _IDS | {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "initializer_range": 0.3, "max_position_embeddings": 64,
    "pad_token_id": None,
}  # fmt: skip
_NEOX = {key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"}
_GPT2 = _IDS | {
    "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.3,
    "resid_pdrop": 0.5, "attn_pdrop": 0.5, "embd_pdrop": 0.5,
}  # fmt: skip
_OPT = _IDS | {
    "hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 64, "word_embed_proj_dim": 16, "pad_token_id": 1, "init_std": 0.3,
}  # fmt: skip
_BLOOM = _IDS | {"hidden_size": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.3}

CAUSAL = {
    "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(**_GPT2)),
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**_LLAMA)),
    "opt": lambda: tf.OPTForCausalLM(tf.OPTConfig(**_OPT)),
    "gpt_neox": lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**_NEOX)),
    "qwen3": lambda: tf.Qwen3ForCausalLM(tf.Qwen3Config(**_LLAMA, head_dim=8)),
    "mistral, window of 4": lambda: tf.MistralForCausalLM(
        tf.MistralConfig(**_LLAMA, sliding_window=4)
    ),
    "gemma2, window of 4": lambda: tf.Gemma2ForCausalLM(
        tf.Gemma2Config(**_LLAMA, head_dim=8, sliding_window=4)
    ),
    "bloom": lambda: tf.BloomForCausalLM(tf.BloomConfig(**_BLOOM)),
}


def library_model(kind):
    """A Hugging Face model whose weights are large enough that a wrong position shows."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CAUSAL[kind]().double()


def causal(kind, **keywords):
    return CausalLM(library_model(kind), VOCABULARY, **keywords)


def lstm():
    generator = torch.Generator().manual_seed(0)
    return LSTMLM(V, 8, 2, dropout=0.5, vocabulary=VOCABULARY, generator=generator).double()


def tabular():
    model = TabularLM(V, order=2, vocabulary=VOCABULARY)
    with torch.no_grad():
        model.logits.normal_(generator=torch.Generator().manual_seed(0))
    return model


def make(kind):
    return {"lstm": lstm, "tabular": tabular}[kind]() if kind not in CAUSAL else causal(kind)
