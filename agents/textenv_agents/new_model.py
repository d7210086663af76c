"""Small language models with random weights, as `pretrain` starts from them."""

from __future__ import annotations

import torch

from textenv.models import LSTMLM, CausalLM, LanguageModel
from textenv.vocabulary import TokenizerVocabulary
from textenv_agents.pretrain_config import PretrainConfig

ATTENTION_DROPOUT = 0.1  # at most; more of it hurts long before it regularises


def new_model(config: PretrainConfig, vocabulary: TokenizerVocabulary) -> LanguageModel:
    """Draw a model's first weights from torch's global generator, as transformers does."""
    if config.architecture == "lstm":
        return LSTMLM(
            vocabulary.size, config.width, config.layers,
            dropout=config.dropout, vocabulary=vocabulary,
        )  # fmt: skip
    from transformers import GPT2Config, GPT2LMHeadModel

    special = {"bos_token_id": vocabulary.start_token, "eos_token_id": vocabulary.end_token}
    network = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary.size,
            n_positions=config.longest,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=min(config.dropout, ATTENTION_DROPOUT),
            pad_token_id=vocabulary.end_token,
            **special,
        )
    )
    network.generation_config.suppress_tokens = list(vocabulary.suppressed_tokens)
    network.generation_config.do_sample = True
    return CausalLM(network, vocabulary)


@torch.no_grad()
def sharpen(model: LanguageModel, temperature: float) -> None:
    """Divide the logits by a temperature, for good: by what comes last before the softmax."""
    if isinstance(model, LSTMLM):
        last = model.head
    else:
        assert isinstance(model, CausalLM)
        last = model.model.get_submodule("transformer.ln_f")
    for parameter in last.parameters():
        parameter.div_(temperature)
