"""Prompts and completions as TRL writes them: plain texts, or lists of chat messages; their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textenv.catalogue import ModelHandle
from textenv.rewards.payments import shown
from textenv.tokenizer_vocabulary import TokenizerVocabulary
from textenv.vocabulary import Vocabulary

Message = dict[str, Any]


def text_of(value: Any, what: str) -> str:
    r"""Return the text of a prompt or completion; several messages stand in lines of their own.

    Args:
        value: A text, or messages {"role": …, "content": …}, whose content is a text, parts
            {"type": "text", "text": …} or None (a call of a tool).
        what: It is called in messages of errors.

    Raises:
        ValueError: it is neither.

    >>> text_of([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], "")
    'Be brief.\nHi'
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise _neither(value, what)
    return "\n".join(text for message in value if (text := _content(message, what)) is not None)


def as_messages(text: str, role: str) -> list[Message]:
    """Return a text as a conversation of one message."""
    return [{"role": role, "content": text}]


def vocabulary_of(value: Any) -> Vocabulary | None:
    """Return the vocabulary that a user means by a tokenizer, a model's name or folder, or itself.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, str | Path):
        return ModelHandle(value).vocabulary()
    if value is None or hasattr(value, "encode_prompt"):
        return value
    if hasattr(value, "get_vocab_size") or hasattr(value, "eos_token_id"):
        return TokenizerVocabulary(value)
    raise ValueError(
        "expected vocabulary= to be a tokenizer, a vocabulary, or a model's name or folder, got "
        f"{value!r:.80}"
    )


def written(row: Sequence[int], vocabulary: Vocabulary | None) -> list[int]:
    """Return the ids of a completion; with a vocabulary, those before its end token.

    Raises:
        ValueError: the vocabulary lacks one of them.
    """
    ids = [int(token) for token in row]
    if vocabulary is None:
        return ids
    if ids and not 0 <= min(ids) <= max(ids) < vocabulary.size:
        raise ValueError(
            f"the ids {shown(ids)} are none of the vocabulary, which has {vocabulary.size}: "
            "vocabulary= must be that of the model that is trained"
        )
    end = vocabulary.end_token
    return ids[: ids.index(end)] if end in ids else ids


def _content(message: Any, what: str) -> str | None:
    if not isinstance(message, Mapping) or not message.keys() & {"role", "content"}:
        raise _neither(message, what)
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or not all(map(_is_text, content)):
        raise ValueError(
            f"a message of the {what} holds {shown(content)}: rewards of textenv read text alone, "
            "no images and no sound"
        )
    return "".join(part["text"] for part in content)


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("text"), str)


def _neither(value: Any, what: str) -> ValueError:
    return ValueError(
        f'expected the {what} to be a text or a list of messages {{"role": …, "content": …}}, got '
        f"{shown(value)}"
    )
