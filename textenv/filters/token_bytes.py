"""The bytes of tokens, for vocabularies that write characters in bytes."""

from __future__ import annotations

import json
import re
from typing import Any

from textenv.errors import TextenvError
from textenv.filters.folding import normal_form
from textenv.tokenizer_vocabulary import TokenizerVocabulary
from textenv.vocabulary import ByteVocabulary, Vocabulary

# Decoders of tokenizers that put texts together from left to right …
_KNOWN = {"ByteFallback", "ByteLevel", "BPEDecoder", "Fuse", "Metaspace", "Replace", "Strip",
          "WordPiece"}  # fmt: skip
# … those that make one text of several tokens, and what the others may change behind them.
_JOINING = {"ByteFallback", "ByteLevel", "Fuse"}
_CHANGED = {"Metaspace": "replacement", "Replace": "pattern", "Strip": "content"}


def token_bytes(vocabulary: Vocabulary) -> tuple[list[bytes | None] | None, bool, frozenset[int]]:
    """Return what a vocabulary says of bytes.

    Returns:
        The bytes of each token, None for one without; None where characters are not written so.
        Whether they are a fallback, beside tokens with texts of their own. The tokens that
        decoding leaves out.

    Raises:
        TextenvError: a tokenizer has a decoder of which nobody knows what it does.
    """
    nothing: frozenset[int] = frozenset()
    if isinstance(vocabulary, ByteVocabulary):
        own = [bytes([token]) if token < 256 else None for token in range(vocabulary.size)]
        return own, False, frozenset((256,))
    if not isinstance(vocabulary, TokenizerVocabulary):
        return None, False, nothing
    backend = getattr(vocabulary.tokenizer, "backend_tokenizer", vocabulary.tokenizer)
    parts = _decoders(backend)
    _check(parts)
    decoders = {part["type"] for part in parts}
    if not decoders & {"ByteLevel", "ByteFallback"}:
        return None, False, nothing
    names = [backend.id_to_token(token) for token in range(vocabulary.size)]
    silent = _special(backend) | {token for token, name in enumerate(names) if not name}
    if "ByteLevel" in decoders:
        read: Any = _level
    else:
        read = _single_byte
    found = [None if token in silent else read(name) for token, name in enumerate(names)]
    falls_back = "ByteLevel" not in decoders
    return found, falls_back, frozenset(silent)


def _decoders(backend: Any) -> list[dict[str, Any]]:
    """What a tokenizer's decoder is made of, in order; [] for one that is no `tokenizers`."""
    decoder = getattr(backend, "decoder", None)
    if decoder is None:
        return []
    state = json.loads(decoder.__getstate__())
    parts: list[dict[str, Any]] = state["decoders"] if state["type"] == "Sequence" else [state]
    return parts


def _check(parts: list[dict[str, Any]]) -> None:
    """Refuse decoders that nobody knows, and those that find letters across tokens."""
    joined = False
    for part in parts:
        known = part["type"] in _KNOWN
        if not known or (joined and part["type"] != "Fuse" and not _changes_separators(part)):
            raise TextenvError(
                "blocklist= cannot promise anything for this tokenizer: nobody has said that its "
                f"decoder {part['type']!r} puts texts together from left to right"
                + (", because it changes letters of several tokens at once" if known else "")
            )
        joined |= part["type"] in _JOINING


def _changes_separators(part: dict[str, Any]) -> bool:
    """Whether a decoder takes nothing but separators out, and puts nothing else in."""
    taken = part.get(_CHANGED.get(part["type"], ""))
    if isinstance(taken, dict):  # {"String": …}; another is {"Regex": …}
        taken = taken.get("String")
    return taken is not None and not normal_form(taken + part.get("content", ""))


def _special(backend: Any) -> set[int]:
    """Tokens that decoding leaves out."""
    added: dict[int, Any] = getattr(backend, "get_added_tokens_decoder", dict)()
    return {number for number, token in added.items() if token.special}


def _level(name: str) -> bytes:
    """The bytes of a byte-level token; an added one is written as it is."""
    try:
        return bytes([_BYTES[character] for character in name])
    except KeyError:
        return name.encode("utf-8")


def _single_byte(name: str) -> bytes | None:
    """The byte that SentencePiece's <0x41> means."""
    found = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", name)
    return bytes([int(found[1], 16)]) if found else None


def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level tokenizers write bytes (Radford et al. 2019)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {
        chr(256 + number): byte for number, byte in enumerate(hidden)
    }


_BYTES = _byte_alphabet()
