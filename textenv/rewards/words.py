"""Word preference: wanted words earn, unwanted ones cost."""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from textenv.rewards.base import Payments, Pays, Reward
from textenv.rewards.registry import register

if TYPE_CHECKING:
    from textenv.vocabulary import Vocabulary

_DEFAULT = {"good": 1.0, "bad": -1.0}
_PUNCTUATION = string.punctuation + "…–—“”‘’«»„¿¡。，、！？；：（）《》「」『』"
# How Unicode names the characters of scripts that put no blank between two words.
_WITHOUT_BLANKS = (
    *("CJK", "IDEOGRAPHIC", "FULLWIDTH", "HIRAGANA", "KATAKANA"),
    *("THAI", "LAO", "KHMER", "MYANMAR"),
)


@register("word_preference")
class WordPreference(Reward):
    """Sum of the weights of a text's words: by default "good" earns 1 and "bad" costs 1.

    What counts as a word:

    - A piece between blanks that is a weighted word, as it stands or without punctuation at its
      edges: "good" is found in "good." but not in "goodness". Capitals matter.
    - Words in scripts without blanks (我, ことば) are found wherever they stand in such a piece,
      from left to right and the longest first. Where a longer word should not count for a
      shorter one inside it, give it the weight 0: {"我": 1, "我们": 0}.

    With pays="token" each token is paid what its own text is worth, by a table. For a
    vocabulary of words that is the same sum, unless the words are written without blanks and a
    weighted word arises across two of them. With sub-word tokens it is another reward: the token
    "good" is paid in "goodness" too.

    Range: a token's pay lies between the least and the greatest weight (and 0); a text's has
    no bounds.

    Args:
        weights: What each word earns; may be negative.
        preferred: Words that earn 1.
        unwanted: Words that cost 1.
        separator: What stands between words. None: as above. "": nothing, whatever the script,
            so that words are found everywhere (for a `CharacterVocabulary`).
        pays: "end", or "token" for each word when it is written.

    Raises:
        ValueError: a word that is empty, holds the separator or stands there twice; a weight
            that is not finite.

    >>> WordPreference()([""] * 3, ["good", "goodness", "bad, bad"])
    [1.0, 0.0, -2.0]
    >>> WordPreference({"我": 1, "爱": 2})([""], ["我爱你。"])
    [3.0]
    """

    name = "word_preference"

    def __init__(
        self,
        weights: Mapping[str, float] | None = None,
        *,
        preferred: Sequence[str] = (),
        unwanted: Sequence[str] = (),
        separator: str | None = None,
        pays: Pays = "end",
    ) -> None:
        for name, words in (("preferred", preferred), ("unwanted", unwanted)):
            if isinstance(words, str):  # or each of its characters would be a word
                raise ValueError(f"{name} must be a list of words, got the text {words!r}")
        if pays not in ("end", "token"):
            raise ValueError(f'pays must be "end" or "token", got {pays!r}')
        self.weights = None if weights is None else dict(weights)
        self.preferred, self.unwanted = tuple(preferred), tuple(unwanted)
        self.separator = separator
        self.pays = pays
        self._weights = self._all_weights()
        self._anywhere = self._words_found_anywhere()
        low, high = min(0.0, *self._weights.values()), max(0.0, *self._weights.values())
        if pays == "end":  # a text may hold a word any number of times
            low, high = (-math.inf if low else 0.0), (math.inf if high else 0.0)
        self.range = (low, high)

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> Payments:
        """Pay each text or each token.

        Raises:
            ValueError: pays="token" and a text has not one word for each of its
                `completion_ids`; environments know the vocabulary and use `token_table`.
        """
        if self.pays == "end":
            return [self._worth(text) for text in completions]
        payments = []
        for text, ids in zip(completions, columns["completion_ids"], strict=True):
            pieces = self._pieces(text)
            if len(pieces) != len(ids):
                raise ValueError(
                    f"{text!r:.80} has {len(pieces)} words and {len(ids)} ids: without the "
                    "vocabulary nobody can say which id wrote what; pay by token_table, or call "
                    "total() for the sum"
                )
            payments.append([self._pay(piece) for piece in pieces])
        return payments

    def total(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> list[float | None]:
        """Pay each whole text, whatever `pays` says."""
        return [self._worth(text) for text in completions]

    def token_table(self, vocabulary: Vocabulary) -> npt.NDArray[np.float64] | None:
        """Pay each token for its own text, float64 [V]; None if it pays at the end."""
        if self.pays == "end":
            return None
        texts = (vocabulary.decode([token]) for token in range(vocabulary.size))
        return np.array([self._worth(text) for text in texts], dtype=np.float64)

    def _worth(self, text: str) -> float:
        return float(sum(self._pay(piece) for piece in self._pieces(text)))

    def _pieces(self, text: str) -> list[str]:
        if self.separator is None:
            return text.split()
        pieces = text.split(self.separator) if self.separator else [text]
        return [piece for piece in map(str.strip, pieces) if piece]

    def _pay(self, piece: str) -> float:
        pay = self._weights.get(piece)
        if pay is not None:
            return pay
        if self._anywhere is not None:
            found = self._anywhere.findall(piece)
            if found:
                return sum(self._weights[word] for word in found)
        return self._weights.get(piece.strip(_PUNCTUATION), 0.0)

    def _all_weights(self) -> dict[str, float]:
        pairs = [*(self.weights or {}).items()]
        pairs += [(word, 1.0) for word in self.preferred]
        pairs += [(word, -1.0) for word in self.unwanted]
        weights: dict[str, float] = {}
        for word, weight in pairs or _DEFAULT.items():
            if not isinstance(word, str) or self._pieces(word) != [word]:
                raise ValueError(f"a preference needs single words, got {word!r}")
            if word in weights:
                raise ValueError(f"the word {word!r} has two weights: {weights[word]} and {weight}")
            if not math.isfinite(weight):
                raise ValueError(f"the weight of {word!r} must be a finite number, got {weight!r}")
            weights[word] = float(weight)
        return weights

    def _words_found_anywhere(self) -> re.Pattern[str] | None:
        words = [w for w in self._weights if self.separator == "" or _is_without_blanks(w)]
        if not words or self.separator:
            return None
        # The longest first: an alternation takes the first word that matches, not the longest.
        return re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))))


def _is_without_blanks(word: str) -> bool:
    return any(unicodedata.name(character, "").startswith(_WITHOUT_BLANKS) for character in word)


word_preference = WordPreference
