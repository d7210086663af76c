"""Comparisons and ratings in files: JSONL, CSV or Parquet, by the suffix.

Two forms of comparisons are read. TRL's and Hugging Face's: `prompt`, `chosen`, `rejected`, each a
text, or a list of one message {"role", "content"} as chat data sets have it; it cannot say a tie.
Our own: `prompt`, `first`, `second`, `label` (1: the first was preferred, ½: a tie, 0: the second).
Ratings: `text`, `rating`. Optional in all: `rater`, and `columns`, an object (in CSV and Parquet
its text); for ratings `prompt` too. Other columns join `columns`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args, overload

from textenv.preferences.comparisons import Comparison, RatedText
from textenv.preferences.row_files import BadRow, BadRowsError, read_lines, write_lines

T = TypeVar("T", Comparison, RatedText)
OnError = Literal["raise", "report"]
Duplicates = Literal["error", "keep"]
Form = Literal["textenv", "trl"]

_TRL = ("prompt", "chosen", "rejected")
_OWN = {"prompt": "string", "first": "string", "second": "string", "label": "double"}
_MORE = {"rater": "string", "columns": "json"}


class Read(NamedTuple, Generic[T]):
    """What was found in a file.

    rows: those that are right, in the file's order.
    bad: number and reason of all others.
    contradictions: pairs (or texts) of which somebody said two different things; these rows are
        kept.
    """

    rows: list[T]
    bad: list[BadRow]
    contradictions: int


class Written(NamedTuple):
    """What went into a file.

    rows: how many.
    ties: how many were left out, because TRL's form cannot say them.
    """

    rows: int
    ties: int


@overload
def read_comparisons(
    path: str | Path, *, on_error: Literal["raise"] = ..., duplicates: Duplicates = ...
) -> list[Comparison]: ...
@overload
def read_comparisons(
    path: str | Path, *, on_error: Literal["report"], duplicates: Duplicates = ...
) -> Read[Comparison]: ...
def read_comparisons(
    path: str | Path, *, on_error: OnError = "raise", duplicates: Duplicates = "error"
) -> list[Comparison] | Read[Comparison]:
    """Read comparisons.

    Args:
        path: A .jsonl, .csv or .parquet file.
        on_error: "raise", or "report": return the rows that are right beside those that are not.
        duplicates: "error": a row that says the same of the same pair as one before, by the same
            rater, is wrong. "keep": it counts again, as where raters have no names.

    Returns:
        The comparisons; with on_error="report" a `Read`.

    Raises:
        BadRowsError: rows are wrong; nothing is returned, and each is in its `.rows`.
        TextenvError: the file cannot be read at all.
    """
    return _read(path, _comparison, _pair, on_error, duplicates)


@overload
def read_ratings(
    path: str | Path, *, on_error: Literal["raise"] = ..., duplicates: Duplicates = ...
) -> list[RatedText]: ...
@overload
def read_ratings(
    path: str | Path, *, on_error: Literal["report"], duplicates: Duplicates = ...
) -> Read[RatedText]: ...
def read_ratings(
    path: str | Path, *, on_error: OnError = "raise", duplicates: Duplicates = "error"
) -> list[RatedText] | Read[RatedText]:
    """Read ratings; see `read_comparisons`."""
    return _read(path, _rating, _rated, on_error, duplicates)


def write_comparisons(
    path: str | Path, comparisons: Iterable[Comparison], *, form: Form = "textenv"
) -> Written:
    """Write comparisons.

    Args:
        path: A .jsonl, .csv or .parquet file; what is there is replaced.
        comparisons: What to write.
        form: "textenv" keeps everything. "trl" has prompt, chosen and rejected alone: ties are left
            out and counted, and how sure a label was, the rater and the columns are lost.

    Raises:
        ValueError: another form, or what cannot be written.
    """
    if form not in get_args(Form):
        raise ValueError(f"form must be one of {list(get_args(Form))}, got {form!r}")
    rows = list(comparisons)
    if form == "textenv":
        names = {**_OWN, **_MORE}
        write_lines(path, names, [{n: getattr(row, n) for n in names} for row in rows])
        return Written(len(rows), 0)
    decided = [{n: getattr(row, n) for n in _TRL} for row in rows if row.chosen is not None]
    write_lines(path, dict.fromkeys(_TRL, "string"), decided)
    return Written(len(decided), len(rows) - len(decided))


def write_ratings(path: str | Path, ratings: Iterable[RatedText]) -> Written:
    """Write ratings; see `write_comparisons`."""
    names = {"prompt": "string", "text": "string", "rating": "double", "rater": "string"}
    rows = [{n: getattr(row, n) for n in names} for row in ratings]
    write_lines(path, names, rows)
    return Written(len(rows), 0)


def _read(
    path: str | Path,
    make: Callable[[Mapping[str, Any]], T],
    said: Callable[[T], tuple[Any, float]],
    on_error: OnError,
    duplicates: Duplicates,
) -> list[T] | Read[T]:
    for what, value, known in (
        ("on_error", on_error, get_args(OnError)),
        ("duplicates", duplicates, get_args(Duplicates)),
    ):
        if value not in known:
            raise ValueError(f"{what} must be one of {list(known)}, got {value!r}")
    rows: list[T] = []
    bad: list[BadRow] = []
    seen: dict[Any, dict[float, int]] = {}  # what was said of each pair, and in which row
    for number, values, reason in read_lines(path):
        try:
            if values is None:
                raise ValueError(reason)
            row = make(values)
            pair, answer = said(row)
            first = seen.setdefault(pair, {}).setdefault(answer, number)
            if first != number and duplicates == "error":
                raise ValueError(
                    f"says the same as row {first}; where several people without names may say so, "
                    'read with duplicates="keep"'
                )
        except ValueError as error:
            bad.append(BadRow(number, str(error)))
        else:
            rows.append(row)
    if bad and on_error == "raise":
        hint = 'nothing was taken; on_error="report" takes the others'
        raise BadRowsError(repr(str(path)), bad, hint)
    contradictions = sum(len(answers) > 1 for answers in seen.values())
    return rows if on_error == "raise" else Read(rows, bad, contradictions)


def _comparison(values: Mapping[str, Any]) -> Comparison:
    if "chosen" in values or "rejected" in values:
        _check_columns(values, _TRL)
        before = values["prompt"]
        texts = {
            "first": _text(values["chosen"], "chosen", before),
            "second": _text(values["rejected"], "rejected", before),
        }
        label, known = 1.0, {*_TRL, *_MORE}
    else:
        _check_columns(values, tuple(_OWN), "prompt, chosen, rejected, or prompt, first, …")
        texts = {side: _text(values[side], side) for side in ("first", "second")}
        label, known = _number(values["label"], "label"), {*_OWN, *_MORE}
    prompt, more = _text(values["prompt"], "prompt"), _more(values, known)
    return Comparison(prompt=prompt, **texts, label=label, rater=_rater(values), columns=more)


def _rating(values: Mapping[str, Any]) -> RatedText:
    _check_columns(values, ("text", "rating"))
    return RatedText(
        prompt=_text(values.get("prompt", ""), "prompt"),
        text=_text(values["text"], "text"),
        rating=_number(values["rating"], "rating"),
        rater=_rater(values),
    )


def _pair(row: Comparison) -> tuple[Any, float]:
    """A pair in one order, and what was said of it in that order."""
    one, other = (row.prompt, row.first), (row.prompt, row.second)
    if one <= other:
        return (one, other, row.rater), row.label
    return (other, one, row.rater), 1 - row.label


def _rated(row: RatedText) -> tuple[Any, float]:
    return (row.prompt, row.text, row.rater), row.rating


def _check_columns(values: Mapping[str, Any], needed: tuple[str, ...], known: str = "") -> None:
    missing = [name for name in needed if name not in values]
    if missing:
        raise ValueError(
            f"expected the columns {known or ', '.join(needed)}; missing are "
            f"{', '.join(missing)}, there are {', '.join(map(str, values)) or 'none'}"
        )


def _text(value: Any, name: str, before: Any = None) -> str:
    """A text, or the content of a single message; what goes before it may be repeated."""
    if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        if isinstance(before, list) and value[: len(before)] == before:
            value = value[len(before) :]
        if len(value) != 1:
            raise ValueError(
                f"expected {name} to be a text or one message, got {len(value)} messages: join the "
                "earlier ones to the prompt's text as your model's chat template does"
            )
        value = value[0].get("content")
    if not isinstance(value, str):
        raise ValueError(f"expected {name} to be a text, got {_shown(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"expected {name} to be valid Unicode: {error}") from error
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            return float(value)  # text is all that CSV knows
    raise ValueError(f"expected {name} to be a number, got {_shown(value)}")


def _rater(values: Mapping[str, Any]) -> str:
    rater = values.get("rater")
    return "" if rater is None else _text(rater, "rater")


def _more(values: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """What is in `columns`, and all columns that have no other meaning."""
    inner = values.get("columns") or {}
    if isinstance(inner, str):
        try:
            inner = json.loads(inner)
        except ValueError as error:
            raise ValueError(f"expected columns to be an object in JSON: {error}") from error
    if not isinstance(inner, Mapping):
        raise ValueError(f"expected columns to be an object, got {_shown(inner)}")
    return {**{name: value for name, value in values.items() if name not in known}, **inner}


def _shown(value: Any) -> str:
    return f"{value!r:.60}" if value is not None else "nothing"
