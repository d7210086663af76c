"""How many tokens a language model can read at once, by its configuration; no torch.

P = the longest prompt, T = the longest completion, in tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Their positions are relative without an end, or they have none: a number in their
# configurations is a training length, not a limit.
_WITHOUT_LIMIT = frozenset(
    (
        "bloom",
        "longt5",
        "mamba",
        "mamba2",
        "mpt",
        "mt5",
        "rwkv",
        "switch_transformers",
        "t5",
        "umt5",
    )
)


def max_positions(config: Any) -> int | None:
    """Return how many positions a model has, or None where nothing limits them.

    Args:
        config: What config.json holds, or the configuration object of a transformers model.

    >>> max_positions({"model_type": "gpt2", "n_positions": 1024})
    1024
    >>> max_positions({"model_type": "t5", "n_positions": 512}) is None
    True
    """
    fields = _fields(config)
    if fields.get("model_type") in _WITHOUT_LIMIT:
        return None
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        if isinstance(fields.get(name), int) and fields[name] > 0:  # XLNet says −1: no limit
            return int(fields[name])
    inner = fields.get("text_config")  # of models that see pictures too
    return max_positions(inner) if inner else None


def check_length(positions: int | None, length: int) -> None:
    """Refuse a text that is longer than the model's positions, before it is an index error.

    Args:
        positions: Of `max_positions`.
        length: How many tokens of one text are read.

    Raises:
        ValueError: it is longer.
    """
    if positions is not None and length > positions:
        raise ValueError(
            f"the language model has {positions} positions, and is asked to read {length} tokens "
            "of one text: give it shorter prompts or lower max_tokens="
        )


def check_room(config: Any, prompt_length: int, max_tokens: int, model: str) -> None:
    """Refuse a task whose longest text does not fit into a model's positions.

    A causal model reads the prompt, or its start token where that is empty, and what is written
    but for the last token. An encoder reads the prompt and its end token, the decoder the rest.

    Args:
        config: As in `max_positions`.
        prompt_length: P.
        max_tokens: T.
        model: What to call the model.

    Raises:
        ValueError: it does not.
    """
    positions = max_positions(config)
    if positions is None:
        return
    if _fields(config).get("is_encoder_decoder"):
        longest_prompt, longest_text = positions - 1, positions
        fits = prompt_length <= longest_prompt and max_tokens <= longest_text
    else:
        longest_prompt = positions - max_tokens + 1
        longest_text = positions - max(prompt_length, 1) + 1
        fits = max(prompt_length, 1) + max_tokens - 1 <= positions
    if fits:
        return
    remedies = []
    if longest_prompt > 0:
        remedies.append(f"prompts (and prompt_length=) of at most {longest_prompt} tokens")
    if longest_text > 0:
        remedies.append(f"max_tokens={longest_text} or less")
    remedies.append("a model with more positions")
    raise ValueError(
        f"{model} has {positions} positions, too few for this task: prompts have up to "
        f"{prompt_length} tokens and max_tokens={max_tokens}. Use {' or '.join(remedies)}"
    )


def _fields(config: Any) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return config
    fields = config.to_dict()
    # GPT-2's `n_positions` and the like are found under their common name too.
    common = getattr(config, "max_position_embeddings", None)
    return fields if common is None else {"max_position_embeddings": common, **fields}
