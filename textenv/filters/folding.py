"""The form in which texts and patterns are compared: without case, width, accents or separators.

It is a map of single characters, so that the form of a text is that of its parts, one behind the
other, however the text is cut into tokens: N(xy) = N(x)·N(y).
"""

from __future__ import annotations

import unicodedata

# Dotless letters are small letters of i and j in the Turkish alphabet alone; nothing folds them.
_FOLDED = {"ı": "i", "ȷ": "j"}

# What shows nothing, or stands for what could not be read, and is in none of the categories below.
_UNSEEN = frozenset(
    "\N{COMBINING GRAPHEME JOINER}\N{HANGUL CHOSEONG FILLER}\N{HANGUL JUNGSEONG FILLER}"
    "\N{ARABIC TATWEEL}\N{BRAILLE PATTERN BLANK}\N{REPLACEMENT CHARACTER}"
    "\u17b4\u17b5"  # vowels of Khmer that are never shown
    + "".join(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))),
)


def normal_form(text: str) -> str:
    r"""Return what is left of a text where only letters, digits, symbols and emoji count.

    Each character c becomes N(c): decomposed (NFKD) and case-folded, over and over until nothing
    changes, and then left out if it is

    - a mark on the letter before it (a combining class other than 0, or one that encloses it),
    - a separator: blanks and lines (Z), punctuation (P), control, format and unassigned characters
      (C: the soft hyphen, zero-width joiners), mathematical signs (Sm) and modifiers (Sk),
    - a character that shows nothing: a variation selector, a filler, U+FFFD.

    It is coarser than NFKC, case folding and removal of separators: if f does these three, in any
    order and number, N(f(x)) = N(x); so what is found under f is found under N. Accents are gone
    (é is e), and a Korean syllable is its two or three letters.

    >>> normal_form("Ｆ-Ｕ.\u00adc\u200dK!"), normal_form("Straße"), normal_form("ﬁx café 你 好 🙂")
    ('fuck', 'strasse', 'fixcafe你好🙂')
    """
    return text.translate(_TABLE)


def _normal_character(character: str) -> str:
    """N(c): c itself where nothing folds it any more, "" where it does not count."""
    folded = unicodedata.normalize("NFKD", character).casefold()
    folded = "".join(_FOLDED.get(each, each) for each in folded)
    if folded != character:
        return "".join(map(_normal_character, folded))
    return "" if _left_out(character) else character


def _left_out(character: str) -> bool:
    category = unicodedata.category(character)
    separates = category[0] in "ZPC" or category in ("Sm", "Sk", "Me")
    return separates or unicodedata.combining(character) != 0 or character in _UNSEEN


class _Table(dict[int, str]):
    """What `str.translate` reads: filled as characters are met."""

    def __missing__(self, code: int) -> str:
        self[code] = _normal_character(chr(code))
        return self[code]


_TABLE = _Table()
