"""Vocabularies: how text becomes token ids and ids become text again.

Four kinds: words from a list, single characters, bytes, and an adapter for Hugging Face
tokenizers, which it never alters. Text is only ever a view of the ids: nothing that was written
as ids is tokenised a second time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from textenv.errors import MissingExtraError, TextenvError


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
        twice = sorted({word for word in listed if listed.count(word) > 1})
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


class TokenizerVocabulary:
    """A Hugging Face tokenizer as a vocabulary; the tokenizer itself is never altered.

    `encode_prompt` adds what the tokenizer itself puts before a text (`<s>`, …) and drops an end
    token that it puts after it, because a prompt goes on. `decode` leaves special tokens out.

    Args:
        tokenizer: A `tokenizers.Tokenizer`, or a `transformers` tokenizer.
        end_token: The id of the end token. None: the transformers tokenizer's own.
        start_token: The id that a model reads before an empty prefix. None: likewise.
        suppressed_tokens: Ids that can be read but should not be written.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        end_token: int | None = None,
        start_token: int | None = None,
        suppressed_tokens: Sequence[int] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self._bare = hasattr(tokenizer, "id_to_token")  # tokenizers.Tokenizer
        self.size = tokenizer.get_vocab_size() if self._bare else len(tokenizer)
        if not self._bare and end_token is None:
            end_token = tokenizer.eos_token_id
        if not self._bare and start_token is None:
            start_token = tokenizer.bos_token_id
        self.end_token = end_token
        self.start_token = start_token if start_token is not None else end_token
        self.suppressed_tokens = tuple(suppressed_tokens)

    @classmethod
    def from_folder(cls, folder: str | Path) -> TokenizerVocabulary:
        """Read `tokenizer.json` and the special ids of `generation_config.json`; no torch.

        Raises:
            TextenvError: the folder has no tokenizer.json, or a damaged one.
            MissingExtraError: the package tokenizers is not installed.
        """
        folder = Path(folder)
        if not (folder / "tokenizer.json").is_file():
            raise TextenvError(f"expected a folder with a tokenizer.json, got {str(folder)!r}")
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtraError("tokenizers", "a language model's vocabulary") from error
        settings: dict[str, Any] = {}
        for name in ("config.json", "generation_config.json"):
            if (folder / name).is_file():
                settings.update(json.loads((folder / name).read_text("utf-8")))
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises nothing more particular
            raise TextenvError(f"{str(folder / 'tokenizer.json')!r} is damaged: {error}") from error
        return cls(
            tokenizer,
            end_token=_first(settings.get("eos_token_id")),
            start_token=_first(settings.get("bos_token_id")),
            suppressed_tokens=settings.get("suppress_tokens") or (),
        )

    def encode(self, text: str) -> list[int]:
        """Turn text into ids, without special tokens."""
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        return list(encoded.ids if self._bare else encoded)

    def encode_prompt(self, text: str) -> list[int]:
        """Turn a prompt into ids, with the tokenizer's own start token if it has one."""
        encoded = self.tokenizer.encode(text)
        ids = list(encoded.ids if self._bare else encoded)
        if len(ids) > 1 and ids[-1] == self.end_token:
            ids.pop()
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text, special tokens left out."""
        return str(self.tokenizer.decode([int(token_id) for token_id in ids], **self._decoding))

    @property
    def _decoding(self) -> dict[str, Any]:
        # transformers would "clean up" blanks before punctuation: the text would no longer be
        # what the ids say.
        return (
            {}
            if self._bare
            else {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        )

    def token(self, token_id: int) -> str:
        """Show the token as the tokenizer stores it."""
        if self._bare:
            return str(self.tokenizer.id_to_token(token_id))
        return str(self.tokenizer.convert_ids_to_tokens(token_id))


def _first(ids: Any) -> int | None:
    """Configurations may list several end tokens: the first one is ours."""
    return ids[0] if isinstance(ids, list) else ids


def save_vocabulary(vocabulary: Vocabulary, folder: Path) -> None:
    """Write a vocabulary into a model's folder, so that `load_vocabulary` finds it."""
    if isinstance(vocabulary, TokenizerVocabulary):
        if vocabulary._bare:
            vocabulary.tokenizer.save(str(folder / "tokenizer.json"))
            special = {
                f"{name}_token": vocabulary.token(token_id)
                for name, token_id in [
                    ("bos", vocabulary.start_token),
                    ("eos", vocabulary.end_token),
                    ("pad", vocabulary.end_token),
                ]
                if token_id is not None
            }
            # Without it transformers guesses the kind of tokenizer from the kind of model.
            config = {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "padding_side": "left",
                "clean_up_tokenization_spaces": False,
                **special,
            }
            (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), "utf-8")
        else:
            vocabulary.tokenizer.save_pretrained(folder)
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
