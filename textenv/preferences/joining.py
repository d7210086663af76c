"""How prompts and texts are handed to the encoders and classifiers of the library transformers."""

from __future__ import annotations

from typing import Any

_EAST_ASIA = 0x2E80  # the scripts from here on are written without blanks, but for Korean


def joined(prompt: str, text: str) -> str:
    """Put a text after its prompt, with a blank where neither brings one.

    >>> joined("a", "b"), joined("a ", "b"), joined("", "b"), joined("我", "爱")
    ('a b', 'a b', 'b', '我爱')
    """
    if not prompt or not text or prompt[-1].isspace() or text[0].isspace():
        return prompt + text
    spaced = ord(prompt[-1]) < _EAST_ASIA or ord(text[0]) < _EAST_ASIA
    return f"{prompt} {text}" if spaced else prompt + text


def tokenised(tokenizer: Any, texts: tuple[list[str], ...], longest: int) -> Any:
    """Return the inputs of a model: tensors [n, L].

    A text without any token is read as one padding token, so that its answer does not hang on the
    texts beside it.

    Args:
        tokenizer: Of the library.
        texts: n texts; or two columns of them, which are read as pairs.
        longest: What is longer loses its end.
    """
    settings = {"truncation": True, "return_tensors": "pt"}
    inputs = tokenizer(*texts, padding=True, max_length=longest, **settings)
    if not inputs["input_ids"].shape[1]:
        inputs = tokenizer(*texts, padding="max_length", max_length=1, **settings)
    seen = inputs["attention_mask"]
    seen[seen.sum(dim=1) == 0, -1 if tokenizer.padding_side == "left" else 0] = 1
    return inputs
