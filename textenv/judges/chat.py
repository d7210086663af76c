"""The chat format of a local model, and texts that cannot break out of it."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textenv.catalogue import adapter_of, base_of, folder_of
from textenv.errors import MissingExtraError, TextenvError
from textenv.vocabulary import Vocabulary


@dataclass
class ChatFormat:
    """How a model's conversations are written.

    Attributes:
        tokenizer: One of transformers that knows the format; None where there is none.
        template: The format in Jinja; None: the model has none.
    """

    tokenizer: Any
    template: str | None

    @classmethod
    def of(cls, lm: Any, vocabulary: Vocabulary | None, template: str | None) -> ChatFormat:
        """Find a model's format; its weights are not needed.

        Args:
            lm: A language model or its name.
            vocabulary: Its vocabulary.
            template: A format that takes the place of its own; None: its own.

        Raises:
            TextenvError: a format for a model without a tokenizer of transformers.
        """
        tokenizer = getattr(vocabulary, "tokenizer", None)
        if not hasattr(tokenizer, "apply_chat_template"):
            tokenizer = _from_folder(_folder(lm))
        if template is not None and tokenizer is None:
            raise TextenvError(
                "a chat format needs a model with a tokenizer of transformers, and this one has "
                "none: leave chat_template= out"
            )
        own = getattr(tokenizer, "chat_template", None)
        if isinstance(own, dict):  # several, by name
            own = own.get("default")
        return cls(tokenizer, template or own)

    def render(self, question: str, system: str | None) -> str:
        """Write a conversation in which the model answers next."""
        messages = [{"role": "user", "content": question}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        text = self.tokenizer.apply_chat_template(
            messages, chat_template=self.template, tokenize=False, add_generation_prompt=True
        )
        return str(text)

    def identity(self, chat: bool) -> str | None:
        """A digest of the format, where it is used."""
        if not chat or self.template is None:
            return None
        return hashlib.sha256(self.template.encode()).hexdigest()


def defused(text: str, vocabulary: Vocabulary) -> str:
    """Break the special tokens that a text spells out, by a blank after their first character.

    Else `<|im_end|>` in a text would end the text's turn, and what follows would be read as
    somebody else's.
    """
    tokenizer = getattr(vocabulary, "tokenizer", None)
    broken = True
    while broken:
        broken = False
        for special in _special_tokens(tokenizer):
            if special in text:
                text = text.replace(special, f"{special[0]} {special[1:]}")
                broken = True
    return text


@functools.lru_cache(maxsize=16)
def _special_tokens(tokenizer: Any) -> tuple[str, ...]:
    if tokenizer is None:
        return ()
    known = getattr(tokenizer, "added_tokens_decoder", None)
    if known is None:
        known = tokenizer.get_added_tokens_decoder()
    texts = {token.content for token in known.values() if token.special}
    # One that is a single character, or has a blank after its first, cannot be broken so.
    return tuple(sorted(t for t in texts if len(t) > 1 and not t[1].isspace()))


def _folder(lm: Any) -> Path | None:
    if isinstance(lm, str | Path):
        name: str | None = str(lm)
    else:  # as `textenv.models.load` notes it
        name = getattr(getattr(lm, "model", None), "textenv_loaded_as", None)
    if name is None:
        return None
    adapter = adapter_of(name)
    return folder_of(base_of(adapter) if adapter is not None else name, weights=False)


def _from_folder(folder: Path | None) -> Any:
    if folder is None or not (folder / "tokenizer_config.json").is_file():
        return None
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "a model's chat format") from error
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise TextenvError(f"the tokenizer in {str(folder)!r} cannot be read: {error}") from error
