"""What each token adds to a text, in the normal form: the key to a promise about tokens.

Three kinds of vocabularies put texts together in three ways. Words, characters, WordPiece and the
like: each token has a text of its own. Bytes: each token has bytes, and a character may be spread
over tokens. Bytes as a fallback (SentencePiece): bytes side by side are a character if all of them
together are valid, else nothing but replacement characters.

V = vocabulary.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from textenv.errors import TextenvError
from textenv.filters.folding import normal_form
from textenv.filters.token_bytes import token_bytes
from textenv.vocabulary import Vocabulary

T = TypeVar("T")

Extend = Callable[[T, str], T | None]

_BROKEN = b"\xff"  # a tail that no byte makes valid again
_CHARACTERS = "aé你z🙂Ｆжß한"  # of one to four bytes
_ROW = 16  # tokens of one text of the self-check


class Place(NamedTuple, Generic[T]):
    """Where reading stands behind some tokens.

    read: What became of the characters so far, whatever the reader extends.
    tail: The bytes of a character that is not whole yet.
    before: What `read` was before the bytes side by side began, of which this is the last: what
        stays if they turn out to be invalid. None where there are none.
    """

    read: T
    tail: bytes = b""
    before: T | None = None


class Pieces:
    """What the tokens of a vocabulary add to a text.

    Args:
        vocabulary: Which is asked to decode each token, and some thousands of random texts.

    Attributes:
        texts: The normal form of what each token adds where no character is begun, V of them.
        loose: int64, the tokens whose text depends on the bytes before them.
        falls_back: Whether bytes side by side are a character only if all of them are valid.

    Raises:
        TextenvError: texts of this vocabulary are not put together from left to right, so that
            nothing can be promised of them token by token.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._bytes, self.falls_back, self._silent = token_bytes(vocabulary)
        if self._bytes is None:
            self.texts = [normal_form(text) for text in _decoded(vocabulary)]
            loose = []
        elif self.falls_back:
            own = zip(_decoded(vocabulary), self._bytes, strict=True)
            self.texts = ["" if byte else normal_form(text) for text, byte in own]
            loose = [token for token, byte in enumerate(self._bytes) if byte]
        else:
            self.texts = [
                normal_form(b.decode("utf-8", "ignore")) if b else "" for b in self._bytes
            ]
            loose = [token for token, b in enumerate(self._bytes) if b and 0x80 <= b[0] < 0xC0]
        self.loose: npt.NDArray[np.int64] = np.array(loose, dtype=np.int64)
        self._check()

    def adds_nothing(self, token: int) -> bool:
        """Whether a token adds no character, whatever stands before it."""
        if token in self._silent:
            return True
        own = None if self._bytes is None else self._bytes[token]
        if self.falls_back and own is not None:
            return False
        whole = own is None or codecs.utf_8_decode(own, "ignore", False)[1] == len(own)
        return not self.texts[token] and whole and token not in self.loose

    def settled(self, place: Place[T]) -> T:
        """Return what was read where the text ends here: bytes without an end are no character."""
        return place.before if place.tail and place.before is not None else place.read

    def follow(self, place: Place[T], token: int, extend: Extend[T]) -> Place[T] | None:
        """Read one more token.

        Args:
            place: Where reading stands.
            token: Which is read.
            extend: Adds characters, in the normal form, to what was read; None: it refuses to.

        Returns:
            Where it stands then, or None where `extend` refuses.
        """
        if token in self._silent:
            return place
        if self._bytes is None:
            return _placed(extend(place.read, self.texts[token]))
        own = self._bytes[token]
        if not self.falls_back:
            return self._follow_bytes(place, own or b"", extend)
        if own is None:
            return _placed(extend(self.settled(place), self.texts[token]))
        return self._fall_back(place, own, extend)

    def text(self, ids: Sequence[int]) -> str:
        """Return the normal form of what tokens decode to, token by token."""
        place: Place[str] = Place("")
        for token in ids:
            following = self.follow(place, token, lambda text, more: text + more)
            assert following is not None
            place = following
        return self.settled(place)

    def _follow_bytes(self, place: Place[T], own: bytes, extend: Extend[T]) -> Place[T] | None:
        data = place.tail + own
        text, used = codecs.utf_8_decode(data, "ignore", False)
        return _placed(extend(place.read, normal_form(text)), data[used:])

    def _fall_back(self, place: Place[T], own: bytes, extend: Extend[T]) -> Place[T] | None:
        before = place.read if place.before is None else place.before
        data = place.tail + own
        try:
            text, used = codecs.utf_8_decode(data, "strict", False)
        except UnicodeDecodeError:
            return Place(before, _BROKEN, before)
        return _placed(extend(place.read, normal_form(text)), data[used:], before)

    def _check(self) -> None:
        """Compare texts that were put together token by token with what the vocabulary says."""
        for ids in self._samples():
            decoded = normal_form(self._vocabulary.decode(ids))
            own = self.text(ids)
            if decoded != own:
                raise TextenvError(
                    "blocklist= cannot promise anything for this vocabulary: its texts are not put "
                    f"together token by token from left to right. The ids {ids} decode to "
                    f"{decoded!r} in the normal form, one by one to {own!r}"
                )

    def _samples(self) -> list[list[int]]:
        """Random texts in which each token stands, and characters in bytes with others between."""
        generator = np.random.default_rng(0)
        size = self._vocabulary.size
        order = generator.permutation(size).tolist()
        rows = [order[start : start + _ROW] for start in range(0, size, _ROW)]
        rows += [[token, token] for token in order[:100]]
        with suppress(ValueError):  # a vocabulary of a few words cannot write them
            rows.append(self._vocabulary.encode(_CHARACTERS * 3))
        single = {
            own: token for token, own in enumerate(self._bytes or ()) if own and len(own) == 1
        }
        bytes_of_characters = [bytes([byte]) for byte in _CHARACTERS.encode("utf-8")]
        if single and all(byte in single for byte in bytes_of_characters):
            spelt = [single[byte] for byte in bytes_of_characters]
            between = [*order[:200], *self._silent, *self.loose.tolist()]
            for token in between:
                places = generator.integers(len(spelt), size=4)
                row = np.insert(
                    np.array(spelt), places[:3], [token, token, *generator.choice(between, 1)]
                )
                rows.append(np.delete(row, places[3]).tolist())
        return rows


def _placed(read: T | None, tail: bytes = b"", before: T | None = None) -> Place[T] | None:
    return None if read is None else Place(read, tail, before)


def _decoded(vocabulary: Vocabulary) -> list[str]:
    return [vocabulary.decode([token]) for token in range(vocabulary.size)]
