"""Vocabularies: how text becomes token ids and ids become text again.

Four kinds: words from a list, single characters, bytes, and an adapter for Hugging Face
tokenizers, `tokenizer_vocabulary`, which it never alters. Text is only ever a view of the ids:
nothing that was written as ids is tokenised a second time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from textenv.errors import TextenvError
from textenv.tokenizer_vocabulary import TokenizerVocabulary

__all__ = [
    "ByteVocabulary",
    "CharacterVocabulary",
    "TokenizerVocabulary",
    "Vocabulary",
    "WordVocabulary",
    "load_vocabulary",
    "same_vocabulary",
    "save_vocabulary",
]


@runtime_checkable
class Vocabulary(Protocol):
    """What a task needs of a vocabulary of `size` tokens with ids 0 … size − 1.

    Attributes:
        size: V.
        end_token: The id that ends a text, or None.
        start_token: The id that a model reads before an empty prefix, or None.
        suppressed_tokens: Ids that can be read but should not be written (an `<unk>`).
    """

    size: int
    end_token: int | None
    start_token: int | None
    suppressed_tokens: tuple[int, ...]

    def encode(self, text: str) -> list[int]:
        """Turn text into ids, and nothing else."""

    def encode_prompt(self, text: str) -> list[int]:
        """Turn a prompt into ids, with what the vocabulary puts in front of every text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text."""

    def token(self, token_id: int) -> str:
        """Show one token to a person."""


class WordVocabulary:
    """Words from a list; the id of a word is its place in the list.

    Args:
        words: Unique, non-empty words.
        separator: What stands between two words: " ", or "" for text without blanks, which is
            then encoded by the longest match from the left.
        end: The word that ends a text without being part of it, or None. It may stand in `words`,
            else it becomes the last id.

    Raises:
        ValueError: no words, an empty one, or one that stands there twice.

    >>> vocabulary = WordVocabulary(["我", "爱", "你", "。"], separator="")
    >>> vocabulary.encode("我爱你。"), vocabulary.decode([0, 1])
    ([0, 1, 2, 3], '我爱')
    """

    def __init__(
        self, words: Sequence[str], *, separator: str = " ", end: str | None = None
    ) -> None:
        if isinstance(words, str):
            raise ValueError(f"words must be a list of words, got the text {words!r}")
        listed = list(words)
        if end is not None and end not in listed:
            listed.append(end)
        if not listed or not all(isinstance(word, str) and word for word in listed):
            raise ValueError(f"a vocabulary needs words that are non-empty texts, got {listed!r}")
        twice = sorted(word for word, times in Counter(listed).items() if times > 1)
        if twice:
            raise ValueError(f"each word may stand in a vocabulary once; more than once: {twice}")
        if separator and any(separator in word for word in listed):
            raise ValueError(f"no word may hold the separator {separator!r}")
        self.words = tuple(listed)
        self.separator = separator
        self.size = len(listed)
        self.end_token = None if end is None else listed.index(end)
        self.start_token: int | None = None
        self.suppressed_tokens: tuple[int, ...] = ()
        self._ids = {word: number for number, word in enumerate(listed)}
        self._longest = max(len(word) for word in listed)

    def encode(self, text: str) -> list[int]:
        """Turn text into ids.

        Raises:
            ValueError: a part of the text is no word of the vocabulary.
        """
        if self.separator:
            words = [word for word in text.split(self.separator) if word]
        else:
            words = self._longest_matches(text)
        for word in words:
            if word not in self._ids:
                known = ", ".join(self.words[:20])
                raise ValueError(f"{word!r} is not in the vocabulary of {self.size}: {known} …")
        return [self._ids[word] for word in words]

    def encode_prompt(self, text: str) -> list[int]:
        """Turn a prompt into ids: nothing is put in front."""
        return self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Join the words of the ids with the separator."""
        words = self.words
        return self.separator.join([words[token_id] for token_id in ids])

    def token(self, token_id: int) -> str:
        """Return the word."""
        return self.words[token_id]

    def _longest_matches(self, text: str) -> list[str]:
        words, place = [], 0
        while place < len(text):
            for length in range(min(self._longest, len(text) - place), 0, -1):
                word = text[place : place + length]
                if word in self._ids:
                    break
            words.append(word)
            place += len(word)
        return words


class CharacterVocabulary(WordVocabulary):
    """Single Unicode characters, in the order given.

    >>> CharacterVocabulary("abc").encode("cab")
    [2, 0, 1]
    """

    def __init__(self, characters: str, *, end: str | None = None) -> None:
        super().__init__(list(characters), separator="", end=end)


class ByteVocabulary:
    """The 256 bytes of UTF-8, and the end token 256: every text can be written.

    Bytes that are not (yet) valid UTF-8 are shown as the replacement character.

    >>> ByteVocabulary().decode(ByteVocabulary().encode("é"))
    'é'
    """

    size = 257
    end_token: int | None = 256
    start_token: int | None = 256
    suppressed_tokens: tuple[int, ...] = ()

    def encode(self, text: str) -> list[int]:
        """Turn text into its UTF-8 bytes."""
        return list(text.encode("utf-8"))

    def encode_prompt(self, text: str) -> list[int]:
        """Turn a prompt into its bytes: nothing is put in front."""
        return self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Turn bytes into text; the end token is left out."""
        return bytes(token_id for token_id in ids if token_id < 256).decode("utf-8", "replace")

    def token(self, token_id: int) -> str:
        """Show a byte as its character where it is one by itself, else in hexadecimal."""
        if token_id == 256:
            return "<end>"
        return chr(token_id) if 32 <= token_id < 127 else f"<0x{token_id:02X}>"


def same_vocabulary(one: Vocabulary, other: Vocabulary) -> bool:
    """Whether the same ids mean the same tokens in two vocabularies, the end token included."""
    if one is other:
        return True
    if (one.size, one.end_token) != (other.size, other.end_token):
        return False
    return all(one.token(number) == other.token(number) for number in range(one.size))


def save_vocabulary(vocabulary: Vocabulary, folder: Path) -> None:
    """Write a vocabulary into a model's folder, so that `load_vocabulary` finds it."""
    if isinstance(vocabulary, TokenizerVocabulary):
        vocabulary.save(folder)
        return
    if isinstance(vocabulary, WordVocabulary):
        description: dict[str, Any] = {
            "words": vocabulary.words,
            "separator": vocabulary.separator,
            "end": None if vocabulary.end_token is None else vocabulary.words[vocabulary.end_token],
        }
    elif isinstance(vocabulary, ByteVocabulary):
        description = {"bytes": True}
    else:
        raise TextenvError(f"a {type(vocabulary).__name__} cannot be saved with a model")
    text = json.dumps(description, ensure_ascii=False, indent=1)
    (folder / "vocabulary.json").write_text(text, "utf-8")


def load_vocabulary(folder: Path) -> Vocabulary:
    """Read the vocabulary of a model's folder: `vocabulary.json`, else `tokenizer.json`."""
    if not (folder / "vocabulary.json").is_file():
        return TokenizerVocabulary.from_folder(folder)
    description = json.loads((folder / "vocabulary.json").read_text("utf-8"))
    if "bytes" in description:
        return ByteVocabulary()
    return WordVocabulary(**description)
