"""Plug-ins by name: `"candidates:32"`, `{"name": "candidates", "k": 32}` or the object itself.

The three forms mean the same, so that an environment's spec goes to JSON and comes back.
"""

from __future__ import annotations

import inspect
import json
import os
from abc import ABC
from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar, Self

import numpy as np
from gymnasium import spaces

from textenv.errors import NotSerialisableError, UnknownNameError


class Plugin(ABC):
    """Something that a name and a few numbers describe: what is seen, or what may be done."""

    name: ClassVar[str]

    def spec(self) -> dict[str, Any]:
        """Return the form that goes to JSON: the name and the constructor's keywords."""
        parameters = inspect.signature(type(self)).parameters
        return {"name": self.name, **{key: getattr(self, key) for key in parameters}}

    def __repr__(self) -> str:
        keywords = ", ".join(f"{k}={v!r}" for k, v in self.spec().items() if k != "name")
        return f"{type(self).__name__}({keywords})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plugin) and self.spec() == other.spec()

    def __hash__(self) -> int:
        return hash(json.dumps(self.spec(), sort_keys=True))

    @classmethod
    def parse(cls, kind: str, value: Any, known: Mapping[str, type[Self]]) -> Self:
        """Make the plug-in from any of its three forms.

        Args:
            kind: What it is called in messages: "observation" or "action".
            value: An object, a string `name` or `name:number,…`, or a dict with "name".
            known: The plug-ins by name.

        Raises:
            UnknownNameError: the name is not known.
            ValueError: it is none of the three forms, or the keywords are wrong.
        """
        if isinstance(value, cls):
            return value
        arguments: list[Any] = []
        keywords: dict[str, Any] = {}
        if isinstance(value, str):
            name, _, rest = value.partition(":")
            arguments = [_number(kind, value, part) for part in rest.split(",") if part]
        elif isinstance(value, Mapping) and isinstance(value.get("name"), str):
            keywords = dict(value)
            name = keywords.pop("name")
        elif isinstance(value, spaces.Space):
            raise ValueError(
                f"{kind}= says what is meant, and the space follows from it, got {value!r}: take "
                f"one of {', '.join(known)}. Observed tokens are a Box and not a MultiDiscrete, "
                "which libraries turn into a 0 or 1 for each token of the vocabulary in each "
                'column; action="fragments:4" is a MultiDiscrete of 4 tokens'
            )
        else:
            raise ValueError(
                f"expected {kind}= to be an object, a name such as {next(iter(known))!r} or a "
                f'dict with "name", got {value!r}'
            )
        if name not in known:
            raise UnknownNameError(kind, name, known)
        try:
            inspect.signature(known[name]).bind(*arguments, **keywords)
        except TypeError as error:
            takes = _form(name, known[name])
            raise ValueError(f"{kind} {name!r} takes {takes}, got {value!r}: {error}") from error
        return known[name](*arguments, **keywords)


def is_count(number: Any, least: int = 1) -> bool:
    """Whether a number is an integer, and no truth value, of at least so much."""
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        return False
    return bool(number >= least)


def check_count(what: str, number: Any, least: int = 1) -> int:
    """Return a plug-in's number as an int.

    Raises:
        ValueError: it is no integer, or too small.
    """
    if not is_count(number, least):
        raise ValueError(f"{what} takes an integer ≥ {least}, got {number!r}")
    return int(number)


class Held:
    """An object in an environment's keywords that lives only in this process.

    Copying a spec (which Gymnasium does at every `env.spec` of a wrapped environment) must not
    copy a language model, so a held object is its own deep copy; and it cannot be pickled.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> Any:
        raise NotSerialisableError(self.reason())

    def __repr__(self) -> str:
        return f"<{type(self.value).__name__} in memory>"

    def reason(self) -> str:
        """Say why it cannot be written down and what to do."""
        return (
            f"this spec holds {self!r}, which no other process can find: pass a registered name "
            'or a folder instead (lm="reviews", lm="path/to/model", reward="sentiment", '
            'reward="package.module:function")'
        )


def release(value: Any) -> Any:
    """Return what a `Held` holds, anything else as it is."""
    return value.value if isinstance(value, Held) else value


def to_json_form(value: Any) -> Any:
    """Return a value that JSON can hold: a plug-in's or reward's spec, or `Held` around it."""
    if callable(getattr(value, "spec", None)):
        try:
            return value.spec()
        except NotSerialisableError:
            return Held(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    try:
        json.dumps(value)
    except TypeError:
        return value if isinstance(value, Held) else Held(value)
    return value


def _form(name: str, plugin: type[Plugin]) -> str:
    """How a plug-in is written as a string."""
    numbers = list(inspect.signature(plugin).parameters)
    if not numbers:
        return "no numbers"
    example = ",".join("32" for _ in numbers)
    return f'{name}:{",".join(numbers)}, as in "{name}:{example}"'


def _number(kind: str, value: str, part: str) -> int | float:
    try:
        return int(part)
    except ValueError:
        try:
            return float(part)
        except ValueError:
            raise ValueError(
                f"expected {kind}={value!r} to be a name and numbers, as in 'name:32', but "
                f"{part!r} is no number"
            ) from None
