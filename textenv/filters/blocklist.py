"""A list of patterns that no text may contain, and the automaton that finds them.

`Blocklist` is what `blocklist=` takes; `Automaton` reads one character after another and knows,
as the bits of one integer, how much of which patterns has been read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from textenv.filters.folding import normal_form
from textenv.plugins import release

ANY = "?"  # one character, whichever; as punctuation it cannot stand for itself

Pattern = tuple[str, ...]


class Blocklist:
    r"""Patterns that no finished text may contain: as a reward, or enforced by an action mask.

    The promise of an environment with `blocklist=`: after NFKC, case folding and the removal of
    separators no text contains a listed pattern, at no moment while it is written, the boundary
    included (a match that begins in the prompt and ends in what is written), and however it is
    split over tokens. What counts as a separator, and that accents are removed too, says
    `textenv.filters.normal_form`.

    Outside the promise: what the normal form cannot know. Digits and other letters for letters
    (sh1t, Cyrillic а for a), letters in squares (🅵), symbols and emoji between letters (f☆u), words
    that sound alike, and what the toxicity classifier would say. `python -m textenv.filters.tricks`
    prints what is caught and what is not.

    Within words a pattern is found too: "ass" forbids "class", and "as said". Write what is meant
    longer, or leave it to the classifier.

    Args:
        patterns: Texts. "?" is exactly one character of the normal form, of which a Korean
            syllable has two or three: "f?ck".

    Raises:
        ValueError: no patterns, one that is no text, or one that would forbid everything: nothing
            is left of it in the normal form, or nothing but "?".

    >>> Blocklist(["bad word", "f?ck"]).find("BAD-", "words and fuck")
    'bad word'
    >>> Blocklist(["ass"]).find("", "as said")
    'ass'
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if isinstance(patterns, str) or not isinstance(patterns, Sequence) or not patterns:
            raise ValueError(
                f"a blocklist is a list of at least one pattern, got {patterns!r}; without one, "
                "leave blocklist= out"
            )
        self.patterns = tuple(patterns)
        self.automaton = Automaton([_parsed(pattern) for pattern in self.patterns])

    @classmethod
    def parse(cls, value: Any) -> Blocklist:
        """Make a blocklist from any of the forms that `blocklist=` takes.

        Args:
            value: A `Blocklist`, a list of patterns, `{"name": "blocklist", "patterns": […]}`, or
                the path of a text file with one pattern a line; lines that begin with # are none.

        Raises:
            ValueError: it is none of these, or holds a bad pattern.
        """
        value = release(value)
        if isinstance(value, Blocklist):
            return value
        if isinstance(value, Mapping):
            if set(value) != {"name", "patterns"} or value["name"] != "blocklist":
                raise ValueError(
                    'expected blocklist= to be {"name": "blocklist", "patterns": […]}, got '
                    f"{dict(value)!r}"
                )
            return cls(value["patterns"])
        if isinstance(value, str | Path):
            return cls(_lines(value))
        return cls(value)

    def spec(self) -> dict[str, Any]:
        """Return the form that goes to JSON."""
        return {"name": "blocklist", "patterns": list(self.patterns)}

    def find(self, prompt: str, text: str) -> str | None:
        """Return the first listed pattern that ends in the text; None: there is none.

        Args:
            prompt: What stands before the text; a match may begin in it.
            text: What was written.
        """
        state = self.automaton.read(0, normal_form(prompt)).state
        found = self.automaton.read(state, normal_form(text)).found
        return None if found is None else self.patterns[found]

    def __repr__(self) -> str:
        return f"Blocklist({list(self.patterns)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blocklist) and self.patterns == other.patterns

    def __hash__(self) -> int:
        return hash(self.patterns)


class Reading(NamedTuple):
    """What was read: the state behind it, and the first pattern that ended in it, or None."""

    state: int
    found: int | None


class Automaton:
    """All places in all patterns, one bit each; a state is the set of those just read.

    A bit is set where a pattern is read up to that place (Baeza-Yates & Gonnet 1992, "A New
    Approach to Text Searching"). The last place of a pattern is no part of a state: it was found.

    Args:
        patterns: Non-empty tuples of characters, or `ANY`.
    """

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self.patterns = tuple(patterns)
        self.places: list[tuple[int, int]] = []  # (pattern, place) of each bit
        self._starts = self._ends = self._any = 0
        self._bits: dict[str, int] = {}
        for number, pattern in enumerate(self.patterns):
            self._starts |= 1 << len(self.places)
            for place, character in enumerate(pattern):
                bit = 1 << len(self.places)
                if character == ANY:
                    self._any |= bit
                else:
                    self._bits[character] = self._bits.get(character, 0) | bit
                self.places.append((number, place))
            self._ends |= 1 << (len(self.places) - 1)
        self._bits = {character: bits | self._any for character, bits in self._bits.items()}

    def read(self, state: int, text: str) -> Reading:
        """Read characters, all of them even where a pattern is found on the way.

        Args:
            state: Where to begin; 0: at the beginning of a text.
            text: In the normal form.
        """
        starts, ends, bits, others = self._starts, self._ends, self._bits, self._any
        found = 0
        for character in text:
            state = (state << 1 | starts) & bits.get(character, others)
            if state & ends:
                found = found or state & ends
                state &= ~ends
        return Reading(state, self.places[(found & -found).bit_length() - 1][0] if found else None)

    def rests(self, state: int) -> list[Pattern]:
        """Return what each pattern that is open in a state still needs."""
        rests = []
        while state:
            lowest = state & -state
            number, place = self.places[lowest.bit_length() - 1]
            rests.append(self.patterns[number][place + 1 :])
            state ^= lowest
        return rests


def _parsed(pattern: Any) -> Pattern:
    """A pattern's characters in the normal form."""
    if not isinstance(pattern, str):
        raise ValueError(f"a pattern of a blocklist is a text, got {pattern!r}")
    parts = [normal_form(part) for part in pattern.split(ANY)]
    if not any(parts):
        raise ValueError(
            f"the pattern {pattern!r} has no character that counts: separators, marks and "
            f"{ANY!r} alone would forbid everything"
        )
    return tuple(ANY.join(parts))


def _lines(path: str | Path) -> list[str]:
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()  # some editors put a mark in front
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"blocklist={str(path)!r} is no text file that can be read ({error}): expected a list "
            "of patterns, as in blocklist=['a word', 'f?ck'], or a file with one a line"
        ) from error
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]
