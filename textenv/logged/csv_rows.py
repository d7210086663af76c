"""The rows of a CSV file, each with the line where it begins, and what its cells say.

Every error names the file, the line, the column, what was expected and what came.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from textenv.errors import TextenvError
from textenv.logged.checks import HIGHEST_LOG_PROB

_SHOWN = 80  # letters of a cell in a message
# Narrower than Python, for which 1_000 and full-width digits are numbers too.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)


class CsvError(TextenvError, ValueError):
    """A CSV file holds something else than logged texts."""


class Row(NamedTuple):
    """One row.

    path: The file.
    line: The line where the row begins, from 1; cells may hold line breaks.
    cells: By column.
    """

    path: Path
    line: int
    cells: dict[str, str]

    def wrong(self, column: str, expected: str) -> CsvError:
        """Say what a cell should have been."""
        cell = self.cells[column]
        shown = f"{cell!r}" if len(cell) <= _SHOWN else f"{cell[:_SHOWN]!r} …"
        where = f"{self.path}, line {self.line}, column {column!r}"
        return CsvError(f"{where}: expected {expected}, got {shown}")

    def number(self, column: str) -> float:
        """Read a finite number."""
        cell = self.cells[column].strip()
        number = float(cell) if _NUMBER.fullmatch(cell) else math.nan
        if not math.isfinite(number):
            raise self.wrong(column, "a finite number such as 0.5")
        return number

    def numbers(self, column: str, count: int) -> list[float]:
        """Read one number for each of `count` tokens, a JSON list; a number alone is the last's."""
        if not self.cells[column].strip().startswith("["):
            return [0.0] * (count - 1) + [self.number(column)]
        values = self._list(column, count)
        if values is None:
            raise self.wrong(
                column, f"a list of {count} finite numbers, one for each token, or one number"
            )
        return values

    def log_probs(self, column: str, count: int) -> list[float]:
        """Read one log-probability for each of `count` tokens, a JSON list."""
        values = self._list(column, count)
        if values is None or any(value > HIGHEST_LOG_PROB for value in values):
            raise self.wrong(column, f"a list of {count} finite numbers ≤ 0, one for each token")
        return values

    def log_prob(self, column: str) -> float:
        """Read a log-probability."""
        value = self.number(column)
        if value > HIGHEST_LOG_PROB:
            raise self.wrong(column, "a finite number ≤ 0")
        return value

    def flag(self, column: str) -> bool:
        """Read true or false; 1 and 0 too."""
        flags = {"true": True, "1": True, "false": False, "0": False}
        said = flags.get(self.cells[column].strip().casefold())
        if said is None:
            raise self.wrong(column, "true or false")
        return said

    def ids(self, column: str, size: int) -> list[int]:
        """Read token ids: "1 2 3", or a JSON list of them."""
        cell = self.cells[column].strip()
        words = cell.strip("[]").replace(",", " ").split()
        if not all(_INTEGER.fullmatch(word) for word in words):
            raise self.wrong(column, "token ids such as 1 2 3")
        ids = [int(word) for word in words]
        if not all(0 <= token < size for token in ids):
            raise self.wrong(column, f"token ids in 0 … {size - 1}")
        return ids

    def _list(self, column: str, count: int) -> list[float] | None:
        """So many finite numbers, None where the cell holds anything else."""
        try:
            values = json.loads(self.cells[column], parse_int=float)
        except ValueError:
            return None
        if not isinstance(values, list) or len(values) != count:
            return None
        right = all(isinstance(value, float) and math.isfinite(value) for value in values)
        return values if right else None


class Form(NamedTuple):
    """The columns that a kind of file must have and may have."""

    required: tuple[str, ...]
    optional: tuple[str, ...]


def read_rows(path: str | Path, forms: Sequence[Form]) -> tuple[Form, list[str], Iterator[Row]]:
    """Open a CSV file in UTF-8, with a byte-order mark or without.

    Args:
        path: The file.
        forms: The kinds of files that can be read.

    Returns:
        The form whose columns the file has, its header, and its rows.

    Raises:
        CsvError: the file's columns are those of no form. The rows raise it for a row with other
            columns, broken quotes, or bytes that are no UTF-8.
        TextenvError: the file cannot be read.
    """
    path = Path(path)
    rows = _rows(path)
    line, header = next(rows, (1, []))
    header = [name.strip() for name in header]
    where = f"{path}, line {line}"
    known = " or ".join(", ".join(form.required) for form in forms)
    form = max(forms, key=lambda form: len(set(form.required) & set(header)))
    missing = [name for name in form.required if name not in header]
    if not set(form.required) & set(header):
        hint = _hint(header, [name for form in forms for name in form.required])
        raise CsvError(f"{where}: expected the columns {known}, got the header {header!r}{hint}")
    if missing:
        raise CsvError(
            f"{where}: the column {missing[0]!r} is missing: expected the columns {known}, got the "
            f"header {header!r}{_hint(header, missing)}"
        )
    unknown = [name for name in header if name not in form.required + form.optional]
    if unknown or len(set(header)) != len(header):
        what = (
            f"the column {unknown[0]!r} is not known" if unknown else "a column stands there twice"
        )
        raise CsvError(
            f"{where}: {what}: expected {', '.join(form.required)}, and perhaps "
            f"{', '.join(form.optional)}, got the header {header!r}"
        )
    return form, header, _checked(path, header, rows)


def _checked(path: Path, header: list[str], rows: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    for line, cells in rows:
        if len(cells) != len(header):
            raise CsvError(
                f"{path}, line {line}: expected {len(header)} cells, one for each of "
                f"{', '.join(header)}, got {len(cells)}: {cells!r:.200}. A text with a comma, a "
                'quote or a line break stands in quotes, "like, this"'
            )
        yield Row(path, line, dict(zip(header, cells, strict=True)))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row with its first line; blank lines are none."""
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                if cells:
                    yield line, cells
                line = reader.line_num + 1
    except csv.Error as error:
        raise CsvError(f"{path}, line {line}: no CSV from there on: {error}") from error
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise CsvError(
            f"{path}, line {_line_of_bad_byte(path)}: expected UTF-8, got the byte 0x{byte:02x}: "
            "save the file as UTF-8"
        ) from error
    except OSError as error:
        raise TextenvError(f"{str(path)!r} cannot be read: {error}") from error


def _line_of_bad_byte(path: Path) -> int:
    """The line of the first byte that is no UTF-8; a file is decoded in blocks of many lines."""
    data = path.read_bytes()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        data = data[: error.start + 1]
    return len(data.splitlines())


def _hint(header: list[str], wanted: Sequence[str]) -> str:
    """What is probably wrong with a header; nothing where nobody knows."""
    for separator in (";", "\t", "|"):
        if any(separator in name for name in header):
            return (
                f". The cells are separated by {separator!r}, it seems: save the file with commas "
                "between cells, and numbers with a point (0.5)"
            )
    written = [name for name in header if name not in wanted and name.casefold() in wanted]
    return f". Write {written[0]!r} in small letters" if written else ""
