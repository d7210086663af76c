"""Comparing what environments return, exactly, and saying where the first difference is."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from textenv import mdp
from textenv.errors import TextenvError


class CheckError(TextenvError, AssertionError):
    """An environment or a reward does not keep what it promises."""


def expect(holds: Any, message: str) -> None:
    """Raise a CheckError with this message unless it holds."""
    if not holds:
        raise CheckError(message)


def expect_same(ours: Any, expected: Any, what: str, tolerance: float = 0.0) -> None:
    """Raise a CheckError that shows the first difference, if there is one."""
    found = difference(ours, expected, tolerance, what)
    if found:
        raise CheckError(found)


def difference(ours: Any, expected: Any, tolerance: float = 0.0, place: str = "it") -> str | None:
    """Say where two values differ first, in words; None where they are the same.

    Types, shapes and dtypes count. NaN equals NaN.

    Args:
        ours: Nested dicts, tuples and lists of arrays, numbers, texts and None.
        expected: What it should be.
        tolerance: By how much two floats may differ.
        place: What is compared, for the message.
    """
    if isinstance(expected, Mapping) and isinstance(ours, Mapping):
        if ours.keys() != expected.keys():
            return f"{place} has the keys {sorted(ours)}, expected {sorted(expected)}"
        pairs = [(f"{place}[{key!r}]", ours[key], expected[key]) for key in expected]
        return _first_difference(pairs, tolerance)
    if isinstance(expected, tuple | list) and isinstance(ours, tuple | list):
        if len(ours) != len(expected):
            return f"{place} has {len(ours)} parts, expected {len(expected)}"
        fields = getattr(expected, "_fields", None) or range(len(expected))
        zipped = zip(fields, ours, expected, strict=True)
        return _first_difference([(f"{place}[{key}]", a, b) for key, a, b in zipped], tolerance)
    if isinstance(expected, np.ndarray) and isinstance(ours, np.ndarray):
        return _array_difference(ours, expected, tolerance, place)
    if type(ours) is not type(expected):
        return f"{place} is {ours!r} ({type(ours).__name__}), expected {expected!r}"
    if isinstance(expected, float):
        same = ours == expected or (math.isnan(ours) and math.isnan(expected))
        same = same or abs(ours - expected) <= tolerance
    else:
        same = bool(ours == expected)
    return None if same else f"{place} is {ours!r}, expected {expected!r}"


@contextmanager
def refused(error: type[Exception], what: str) -> Iterator[list[str]]:
    """Raise a CheckError unless the block raises this error; yields a list, then the message."""
    message: list[str] = []
    try:
        yield message
    except error as raised:
        message.append(str(raised))
    except Exception as other:
        raise CheckError(f"{what} must raise {error.__name__}, raised {other!r}") from other
    else:
        raise CheckError(f"{what} must raise {error.__name__}, raised nothing")


def arrays_in(value: Any) -> Iterator[npt.NDArray]:
    """Find all arrays inside nested dicts, tuples, lists and arrays of objects."""
    if isinstance(value, np.ndarray):
        yield value
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.ravel().tolist()
    parts = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | tuple | list):
        for part in parts:
            yield from arrays_in(part)


def vandalise(value: Any) -> None:
    """Change every array inside: if an environment lent its own memory, it shows later."""
    for array in arrays_in(value):
        if not array.flags.writeable:
            continue
        if array.dtype == object:
            array[...] = None
        else:
            array[...] = ~array if array.dtype == np.bool_ else array + 1


def texts_in(value: Any) -> list[str]:
    """List all texts among the values inside nested dicts, tuples, lists and arrays."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, np.ndarray):
        value = value.ravel().tolist() if value.dtype.kind in "OSU" else []
    parts = value.values() if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping | tuple | list):
        return []
    return [text for part in parts for text in texts_in(part)]


def choose(rules: mdp.Rules, generator: np.random.Generator) -> int:
    """Choose any token; one that ends the text more often than chance would, so that some do."""
    if rules.ending_tokens and generator.random() < 0.15:
        return int(generator.choice(rules.ending_tokens))
    return int(generator.integers(rules.vocabulary_size))


@contextmanager
def global_generators_untouched(what: str) -> Iterator[None]:
    """Raise a CheckError if the block reads or sets a generator that the process shares.

    Inside they are in states that no seed gives, or a block that sets the seed that somebody has
    just set would not be seen; behind it they are as they were.
    """
    before = _global_generators()
    try:
        _set_global_generators(_unpredictable(before))
        inside = _global_generators()
        yield
        for name, state in _global_generators().items():
            # One that was not there before: the block was the first to import torch.
            if name in inside:
                found = difference(state, inside[name])
                expect(not found, f"{what} read or set the global generator of {name}")
    finally:
        _set_global_generators(before)


def _global_generators() -> dict[str, Any]:
    states: dict[str, Any] = {
        "random": random.getstate(),
        "numpy.random": np.random.get_state(),  # noqa: NPY002  (the legacy one is the point)
    }
    if "torch" in sys.modules:
        states["torch"] = sys.modules["torch"].get_rng_state().numpy()
    return states


def _set_global_generators(states: dict[str, Any]) -> None:
    random.setstate(states["random"])
    np.random.set_state(states["numpy.random"])  # noqa: NPY002
    if "torch" in states:
        torch = sys.modules["torch"]
        torch.set_rng_state(torch.from_numpy(states["torch"]))


def _unpredictable(states: dict[str, Any]) -> dict[str, Any]:
    """States drawn from the system's entropy, for the generators that there are."""
    drawn: dict[str, Any] = {
        "random": random.Random().getstate(),
        "numpy.random": np.random.RandomState().get_state(),
    }
    if "torch" in states:
        generator = sys.modules["torch"].Generator()
        generator.seed()
        drawn["torch"] = generator.get_state().numpy()
    return drawn


def _first_difference(pairs: list[tuple[str, Any, Any]], tolerance: float) -> str | None:
    for place, ours, expected in pairs:
        found = difference(ours, expected, tolerance, place)
        if found:
            return found
    return None


def _array_difference(
    ours: npt.NDArray, expected: npt.NDArray, tolerance: float, where: str
) -> str | None:
    for name in ("dtype", "shape"):
        if getattr(ours, name) != getattr(expected, name):
            return f"{where} has the {name} {getattr(ours, name)}, not {getattr(expected, name)}"
    if expected.dtype == object:
        return difference(ours.tolist(), expected.tolist(), tolerance, where)
    if expected.dtype.kind == "f":
        wrong = ~np.isclose(ours, expected, rtol=0, atol=tolerance, equal_nan=True)
    else:
        wrong = ours != expected
    if not wrong.any():
        return None
    place = tuple(int(index) for index in np.argwhere(wrong)[0])
    return (
        f"{where} differs first at {list(place)}: {ours[place]!r}, expected {expected[place]!r}; "
        f"the whole is {ours.tolist()!r:.300}, expected {expected.tolist()!r:.300}"
    )
