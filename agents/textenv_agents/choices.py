"""What a person can choose in `textenv play`, and what is meant by what they type.

No input and no output here: `read` turns a typed line into an `Order`, `Menu` makes the list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from textenv.layout import cell_width, label, token_label
from textenv.vocabulary import Vocabulary

WIDTH = 78  # of a list without probabilities, in terminal cells
HELP = """\
  3        write token 3 of the list
  good     write this token; the beginning of tokens lists those
  :id 17   write the token with this id (which a token that looks like a number needs)
  :end     write the end token
  :more    go on with the list
  :undo    take the last token back
  :quit    stop"""
COMMANDS = (":id", ":end", ":more", ":undo", ":quit", ":help")


class Order(NamedTuple):
    """What is to be done.

    Attributes:
        verb: "write" (a token), "list" (these tokens), "more", "undo", "quit" or "say".
        tokens: The token, or the tokens to list.
        message: What to say.
    """

    verb: str
    tokens: tuple[int, ...] = ()
    message: str = ""


@dataclass
class Menu:
    """The tokens in the order in which they are offered, and what of them has been shown.

    Attributes:
        ranking: All tokens that are offered, the likeliest first or by id.
        probabilities: By token, float64 [V]; None without a language model.
        size: How many are shown at once.
        listed: Those that numbers mean; all, or the result of a search.
        shown: How many of `listed` have been shown.
    """

    ranking: list[int]
    probabilities: npt.NDArray[np.float64] | None
    size: int
    listed: list[int]
    shown: int = 0

    @classmethod
    def of(
        cls,
        vocabulary: Vocabulary,
        probabilities: npt.NDArray[np.float64] | None,
        size: int,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> Menu:
        """Rank the tokens that may be written: −p, then id.

        Args:
            vocabulary: Of the task.
            probabilities: By token, float64 [V]; None without a language model.
            size: How many are shown at once.
            allowed: What a blocklist allows, bool [V]; None: there is none.
        """
        ids = np.arange(vocabulary.size)
        order = ids if probabilities is None else np.lexsort((ids, -probabilities))
        if allowed is not None:
            order = order[allowed[order]]
        ranking = [token for token in order.tolist() if token not in vocabulary.suppressed_tokens]
        return cls(ranking, probabilities, size, ranking)

    @classmethod
    def offering(cls, tokens: Sequence[int], log_probs: Sequence[float], size: int) -> Menu:
        """Offer these tokens and no others, in the order given; `size` is V."""
        probabilities = np.zeros(size)
        probabilities[list(tokens)] = np.exp(log_probs)
        return cls(list(tokens), probabilities, len(tokens), list(tokens))

    def search(self, tokens: Sequence[int]) -> None:
        """List only these."""
        self.listed, self.shown = list(tokens), 0

    def page(self, labels: Labels) -> str:
        """Return the next page of the list, numbered; say how many are left."""
        start, self.shown = self.shown, min(self.shown + self.size, len(self.listed))
        rows = list(enumerate(self.listed[start : self.shown], start + 1))
        shown = [(number, labels(token)) for number, token in rows]
        if self.probabilities is None:
            lines = list(_filled(f"{number} {label}" for number, label in shown))
        else:
            width = max((cell_width(label) for _, label in shown), default=0)
            lines = [
                f"{number:4}  {label}{' ' * (width - cell_width(label))}  "
                f"{100 * self.probabilities[token]:5.1f} %"
                for (number, label), (_, token) in zip(shown, rows, strict=True)
            ]
        left = len(self.listed) - self.shown
        return "\n".join([*lines, f"  … {left} more (:more)"] if left else lines)


class Labels:
    """How tokens are shown: a blank in front as ␣, a new line as ↵."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._label = cache(partial(token_label, vocabulary))

    def __call__(self, token: int) -> str:
        """Return the label of a token."""
        return self._label(token)


def read(typed: str, menu: Menu, labels: Labels) -> Order:
    """Understand a typed line; what cannot be understood becomes one line of explanation."""
    word, _, argument = typed.strip().partition(" ")
    if word in COMMANDS:
        return _command(word, argument.strip(), labels.vocabulary)
    if not word:
        return Order("say", message="type a number of the list, a token, or :help")
    if word.isdecimal() and not argument and 1 <= int(word) <= menu.shown:
        return Order("write", (menu.listed[int(word) - 1],))
    return _token(typed, menu, labels)


def _command(word: str, argument: str, vocabulary: Vocabulary) -> Order:
    if word == ":help":
        return Order("say", message=HELP)
    if word == ":end":
        if vocabulary.end_token is None:
            return Order("say", message="this vocabulary has no end token")
        return Order("write", (vocabulary.end_token,))
    if word == ":id":
        if argument.isdecimal() and int(argument) < vocabulary.size:
            return Order("write", (int(argument),))
        wanted = f":id needs a number in 0 … {vocabulary.size - 1}"
        return Order("say", message=f"{wanted}, got {argument!r}")
    return Order(word.removeprefix(":"))


def _token(typed: str, menu: Menu, labels: Labels) -> Order:
    """Find the token: as typed, then but for a blank in front, as encoded, or as a beginning."""
    wanted, bare = label(typed.rstrip()), label(typed.strip())
    alike = [token for token in menu.ranking if labels(token).lstrip("␣") == bare]
    exact = [token for token in alike if labels(token) == wanted] or alike
    if exact:
        return Order("write", (exact[0],))
    ids = _encoded(typed.strip(), labels.vocabulary)
    if len(ids) == 1:
        return Order("write", (ids[0],))
    beginning = tuple(token for token in menu.ranking if labels(token).lstrip("␣").startswith(bare))
    if beginning:
        return Order("list", beginning, f"tokens that begin with {bare!r}:")
    if ids:
        parts = " ".join(map(labels, ids))
        message = f"{bare!r} is {len(ids)} tokens: {parts} (write one at a time)"
    elif bare.isdecimal():
        message = f"the list has the numbers 1 … {menu.shown}, and no token is {bare!r}"
    elif bare.startswith(":"):
        message = f"no command and no token is {bare!r}; :help lists the commands"
    else:
        message = f"no token is {bare!r} or begins with it; :help says what can be typed"
    return Order("say", message=message)


def _encoded(text: str, vocabulary: Vocabulary) -> list[int]:
    try:
        ids = vocabulary.encode(text)
    except ValueError:
        return []
    return [] if set(ids) & set(vocabulary.suppressed_tokens) else ids


def _filled(entries: Iterator[str]) -> Iterator[str]:
    line = ""
    for entry in entries:
        if line and cell_width(line) + 3 + cell_width(entry) > WIDTH:
            yield line
            line = ""
        line += ("   " if line else "  ") + entry
    if line:
        yield line
