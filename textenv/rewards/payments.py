"""What a reward returned, checked: one finite number a text, or one for each of its tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Any

from textenv.rewards.base import Pays

NOTHING = (0.0, 0.0)  # as a whole and last: see `weighed`


class FaultError(Exception):
    """What a reward did wrong, in words that can follow its name: "returned nan, expected …"."""


def listed(returned: Any, texts: int) -> list[Any]:
    """Return a list with one entry for each of so many texts.

    Raises:
        FaultError: it is none, or has another length.
    """
    if isinstance(returned, (str, bytes, Mapping, Set)) or not hasattr(returned, "__iter__"):
        raise FaultError(
            f"returned {shown(returned)}, expected a list of one number for each of {texts} texts"
        )
    payments = list(returned)
    if len(payments) != texts:
        raise FaultError(f"returned {len(payments)} payments for {texts} texts")
    return payments


def weighed(payment: Any, weight: float, pays: Pays, tokens: int) -> tuple[float, float]:
    """Return what a text earns as a whole, and what its last token earns, times the weight.

    A reward that pays at the end pays both at once.

    Args:
        payment: What the reward said of one text; not None.
        weight: Of the reward in its sum.
        pays: When the reward pays.
        tokens: The number of ids of the text.

    Raises:
        FaultError: it is not one finite number, or not one for each token.
    """
    if pays == "end":
        number = _number(payment, weight)
        return number, number
    numbers = [_number(one, weight) for one in _row(payment, tokens)]
    whole = sum(numbers)
    if not math.isfinite(whole):
        raise FaultError(f"returned numbers whose sum is {whole}")
    return whole, numbers[-1] if numbers else 0.0


def shown(value: Any) -> str:
    """Shorten a value for a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def failure(name: str, texts: list[str], error: BaseException) -> str:
    """Say which reward failed, how, and for which texts."""
    what = str(error) if isinstance(error, FaultError) else raised(error)
    where = f"the text {shown(texts[0])}"
    if len(texts) > 1:
        where = f"{len(texts)} texts, the first of which is {shown(texts[0])}"
    return f"the reward {name!r} {what}; this was for {where}"


def raised(error: BaseException) -> str:
    """Describe an exception so that it can follow the name of what raised it."""
    return f"raised {type(error).__name__}: {error}" if str(error) else f"raised {error!r}"


def _row(payment: Any, tokens: int) -> list[Any]:
    if isinstance(payment, (str, bytes, Mapping, Set)) or not hasattr(payment, "__iter__"):
        raise FaultError(
            f"returned {shown(payment)}, expected a list of numbers, because it pays each token"
        )
    numbers = list(payment)
    if len(numbers) != tokens:
        raise FaultError(f"returned {len(numbers)} numbers for {tokens} tokens")
    return numbers


def _number(value: Any, weight: float) -> float:
    # float("1") would turn a text into a number; hence the question for __float__, which texts
    # lack and NumPy's and torch's scalars have.
    if not hasattr(value, "__float__"):
        hint = '; a reward that pays each token says so by pays = "token"'
        raise FaultError(
            f"returned {shown(value)}, expected a number{hint if isinstance(value, list) else ''}"
        )
    try:
        number = float(value) * weight
    except Exception as error:  # an array with several numbers, an integer beyond all floats, …
        raise FaultError(f"returned {shown(value)}, expected a number") from error
    if not math.isfinite(number):
        raise FaultError(f"returned {shown(value)}, expected a finite number")
    return number
