"""The space of all texts: Gymnasium's own `Text` cannot hold a blank or a Chinese character.

Batches of it are tuples of texts, as Gymnasium makes them of spaces that are no arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import gymnasium as gym

from textenv.vocabulary import Vocabulary

# Where `sample` takes characters from if it knows no vocabulary: first and last of each block.
BLOCKS = ((" ", "~"), ("À", "ÿ"), ("Α", "Ω"), ("а", "я"), ("一", "龥"), ("😀", "😏"))
SAMPLED_LENGTH = 16  # characters, or tokens, of a sample at most
TRIES = 100


class UnicodeText(gym.Space[str]):
    """Any text that can be written in UTF-8, the empty one included.

    Args:
        vocabulary: Whose tokens `sample` writes, so that a sampled text can be encoded by it; it
            limits nothing else. None: characters of several scripts.
        seed: Seeds `sample`.

    >>> " 我爱你" in UnicodeText(), 3 in UnicodeText()
    (True, False)
    """

    def __init__(self, vocabulary: Vocabulary | None = None, *, seed: int | None = None) -> None:
        super().__init__(dtype=str, seed=seed)
        self.vocabulary = vocabulary

    @property
    def is_np_flattenable(self) -> bool:
        """False: a text is no array."""
        return False

    def sample(self, mask: None = None, probability: None = None) -> str:
        """Return a random text of up to 16 tokens, at least one, or of up to 16 characters.

        Raises:
            ValueError: a mask or probabilities are given.
        """
        if mask is not None or probability is not None:
            raise ValueError("a space of texts has no mask and no probabilities")
        if self.vocabulary is None:
            return "".join(self._characters())
        for _ in range(TRIES):
            text = self._written(self.vocabulary)
            if text:
                return text
        return ""

    def contains(self, x: Any) -> bool:
        """Say whether it is a text without lone surrogates."""
        if not isinstance(x, str):
            return False
        try:
            x.encode("utf-8")
        except UnicodeEncodeError:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UnicodeText):
            return False
        return self.vocabulary is other.vocabulary or self._key() == other._key()

    def __hash__(self) -> int:
        own = self.vocabulary
        return hash(() if own is None else (type(own), own.size))

    def __repr__(self) -> str:
        return "UnicodeText()"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Batches copy their space once for each row, and a tokenizer is large.
        copy = type(self)(self.vocabulary)
        if self._np_random is not None:
            copy.np_random.bit_generator.state = self._np_random.bit_generator.state
        return copy

    def _key(self) -> tuple[Any, ...]:
        """What samples are made of."""
        own = self.vocabulary
        if own is None:
            return ()
        special = (own.end_token, own.start_token, own.suppressed_tokens)
        return type(own), [own.token(number) for number in range(own.size)], special

    def _characters(self) -> Iterator[str]:
        for _ in range(self.np_random.integers(SAMPLED_LENGTH + 1)):
            first, last = BLOCKS[self.np_random.integers(len(BLOCKS))]
            yield chr(self.np_random.integers(ord(first), ord(last) + 1))

    def _written(self, vocabulary: Vocabulary) -> str:
        """Some tokens as a text; "" where they make none that could be encoded."""
        count = int(self.np_random.integers(1, SAMPLED_LENGTH + 1))
        ids = self.np_random.integers(vocabulary.size, size=count).tolist()
        special = {vocabulary.end_token, vocabulary.start_token, *vocabulary.suppressed_tokens}
        text = vocabulary.decode([token for token in ids if token not in special])
        try:
            return text if vocabulary.encode(text) else ""
        except ValueError:
            return ""
