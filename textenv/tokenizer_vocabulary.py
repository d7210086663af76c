"""A Hugging Face tokenizer as a vocabulary; `textenv.vocabulary` has the others."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textenv.errors import MissingExtraError, TextenvError

# Where tokenizers were kept before there was tokenizer.json.
_OLDER_FILES = (
    "merges.txt",
    "sentencepiece.bpe.model",
    "source.spm",
    "spiece.model",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)


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
        self._bare = hasattr(tokenizer, "id_to_token")  # tokenizers.Tokenizer
        self.tokenizer = _without_cutting(tokenizer, self._bare)
        self.size = tokenizer.get_vocab_size() if self._bare else len(tokenizer)
        if not self._bare and end_token is None:
            end_token = tokenizer.eos_token_id
        if not self._bare and start_token is None:
            start_token = tokenizer.bos_token_id
        self.end_token = end_token
        self.start_token = start_token if start_token is not None else end_token
        self.suppressed_tokens = tuple(token for token in suppressed_tokens if token < self.size)

    @classmethod
    def from_folder(cls, folder: str | Path) -> TokenizerVocabulary:
        """Read the tokenizer and the special ids of `generation_config.json`; no torch.

        A folder without `tokenizer.json`, but with the files of an older tokenizer, is read by
        transformers.

        Raises:
            TextenvError: the folder has no tokenizer, or a damaged one.
            MissingExtraError: the package tokenizers, or transformers, is not installed.
        """
        folder = Path(folder)
        settings = _read(folder, "config.json") | _read(folder, "generation_config.json")
        if (folder / "tokenizer.json").is_file():
            tokenizer = _from_file(folder / "tokenizer.json")
            own = _own_end(folder, tokenizer)
        elif any((folder / name).is_file() for name in _OLDER_FILES):
            tokenizer = _older(folder)
            own = tokenizer.eos_token_id
        else:
            raise TextenvError(f"expected a folder with a tokenizer.json, got {str(folder)!r}")
        return cls(tokenizer, **special_tokens(settings, own))

    def save(self, folder: Path) -> None:
        """Write the tokenizer so that `from_folder` and transformers find it."""
        if not self._bare:
            self.tokenizer.save_pretrained(folder)
            return
        self.tokenizer.save(str(folder / "tokenizer.json"))
        named = {"bos": self.start_token, "eos": self.end_token, "pad": self.end_token}
        # Without it transformers guesses the kind of tokenizer from the kind of model.
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "padding_side": "left",
            "clean_up_tokenization_spaces": False,
            **{f"{name}_token": self.token(id_) for name, id_ in named.items() if id_ is not None},
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), "utf-8")

    def encode(self, text: str) -> list[int]:
        """Turn text into ids, without special tokens.

        Raises:
            ValueError: the text is no valid Unicode.
        """
        return self._encode(text, add_special_tokens=False)

    def encode_prompt(self, text: str) -> list[int]:
        """Turn a prompt into ids, with the tokenizer's own start token if it has one."""
        ids = self._encode(text)
        if len(ids) > 1 and ids[-1] == self.end_token:
            ids.pop()
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text, special tokens left out."""
        return str(self.tokenizer.decode([int(token_id) for token_id in ids], **self._decoding))

    def _encode(self, text: str, **settings: Any) -> list[int]:
        try:
            encoded = self.tokenizer.encode(text, **settings)
        except TypeError as error:  # what the library says to half a surrogate pair
            raise ValueError(f"{text!r} cannot be written in UTF-8") from error
        return list(encoded.ids if self._bare else encoded)

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


def special_tokens(settings: Mapping[str, Any], own_end: int | None) -> dict[str, Any]:
    """Return the keywords of `TokenizerVocabulary` that a model's settings name.

    Settings may list several end tokens; ours is the tokenizer's own if it is among them (the one
    that ends a turn), else the first.

    Args:
        settings: Of config.json, overridden by those of generation_config.json.
        own_end: The tokenizer's own end token.

    >>> special_tokens({"eos_token_id": [7, 9], "suppress_tokens": [3]}, 9)
    {'end_token': 9, 'start_token': None, 'suppressed_tokens': (3,)}
    """
    ends = _listed(settings.get("eos_token_id"))
    starts = _listed(settings.get("bos_token_id"))
    return {
        "end_token": own_end if own_end in ends or not ends else ends[0],
        "start_token": starts[0] if starts else None,
        "suppressed_tokens": tuple(settings.get("suppress_tokens") or ()),
    }


def _listed(ids: int | Sequence[int] | None) -> list[int]:
    if ids is None:
        return []
    return [ids] if isinstance(ids, int) else list(ids)


def _read(folder: Path, name: str) -> dict[str, Any]:
    """The settings in a file that need not be there."""
    if not (folder / name).is_file():
        return {}
    try:
        return json.loads((folder / name).read_text("utf-8"))
    except ValueError as error:
        raise TextenvError(f"{str(folder / name)!r} is no JSON: {error}") from error


def _from_file(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("tokenizers", "a language model's vocabulary") from error
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more particular
        raise TextenvError(f"{str(path)!r} is damaged: {error}") from error


def _older(folder: Path) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "a tokenizer without tokenizer.json") from error
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        raise TextenvError(f"the tokenizer in {str(folder)!r} cannot be read: {error}") from error


def _own_end(folder: Path, tokenizer: Any) -> int | None:
    """The end token that tokenizer_config.json names."""
    named = _read(folder, "tokenizer_config.json").get("eos_token")
    text = named.get("content") if isinstance(named, Mapping) else named
    return None if text is None else tokenizer.token_to_id(text)


def _without_cutting(tokenizer: Any, bare: bool) -> Any:
    """The tokenizer, or its copy where its settings would cut or pad every text."""
    backend = tokenizer if bare else getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or (backend.truncation is None and backend.padding is None):
        return tokenizer
    own = copy.deepcopy(tokenizer)
    backend = own if bare else own.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return own
