"""Rows of JSONL, CSV and Parquet files, each with its number, and what is wrong with them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from textenv.errors import MissingExtraError, TextenvError
from textenv.files import replace_file

SUFFIXES = (".jsonl", ".csv", ".parquet")
_SHOWN = 5  # bad rows in a message


class BadRow(NamedTuple):
    """A row that cannot be read.

    number: in JSONL the line, else the row below the header, both from 1; 0: the whole file.
    reason: what was expected and what came.
    """

    number: int
    reason: str


class BadRowsError(TextenvError, ValueError):
    """Rows are wrong, so nothing was taken.

    Attributes:
        rows: All of them.
    """

    def __init__(self, where: str, rows: Sequence[BadRow], hint: str = "") -> None:
        """Name the first few, and say how many there are.

        Args:
            where: The file, or what the rows are of.
            rows: Number and reason of each.
            hint: What to do.
        """
        self.rows = list(rows)
        shown = "".join(f"\n  row {row.number}: {row.reason}" for row in self.rows[:_SHOWN])
        more = len(self.rows) - _SHOWN
        rest = f"\n  and {more:,} more (all in the error's .rows)" if more > 0 else ""
        count = "1 row" if len(self.rows) == 1 else f"{len(self.rows):,} rows"
        super().__init__(
            f"{where}: {count} cannot be read{hint and ' (' + hint + ')'}:{shown}{rest}"
        )


class Line(NamedTuple):
    """One row as it was found.

    number: as in `BadRow`.
    values: by column; None where the row has none.
    reason: why it has none.
    """

    number: int
    values: dict[str, Any] | None
    reason: str = ""


def read_lines(path: str | Path) -> Iterator[Line]:
    """Read a file row by row; its suffix says how.

    Raises:
        TextenvError: there is no such file, it is none of the three kinds, or cannot be read.
        MissingExtraError: pyarrow is not installed, for Parquet.
    """
    path = Path(path)
    _check_suffix(path)
    read = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}[path.suffix.lower()]
    try:
        yield from read(path)
    except OSError as error:
        raise TextenvError(f"{str(path)!r} cannot be read: {error}") from error


def write_lines(
    path: str | Path, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Write rows into a file, whole or not at all; its suffix says how.

    Args:
        path: What is there is replaced.
        columns: "string", "double", "integer" or "json" by name. In JSONL the last is an object,
            elsewhere its text.
        rows: A value for each column; in JSONL an empty "json" is left out.

    Raises:
        ValueError: a text that is no valid Unicode, or an object that is no JSON.
        TextenvError: it cannot be written there.
    """
    path = Path(path)
    _check_suffix(path)
    kinds: dict[str, Callable[[Mapping[str, str], list[Mapping[str, Any]]], str | bytes]] = {
        ".jsonl": _to_jsonl,
        ".csv": _to_csv,
        ".parquet": _to_parquet,
    }
    try:
        replace_file(path, kinds[path.suffix.lower()](columns, list(rows)))
    except (UnicodeEncodeError, TypeError) as error:
        raise ValueError(f"the rows cannot be written to {str(path)!r}: {error}") from error
    except OSError as error:
        raise TextenvError(f"{str(path)!r} cannot be written: {error}") from error


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise TextenvError(f"expected a file that ends in {', '.join(SUFFIXES)}, got {str(path)!r}")


def _jsonl(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:  # not as text: U+2028 and the like end no line
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                values = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError) as error:
                yield Line(number, None, f"no JSON in UTF-8: {error}")
                continue
            if isinstance(values, dict):
                yield Line(number, values)
            elif line.strip():
                yield Line(number, None, f"expected an object {{…}}, got {line.strip()[:60]!r}")


def _csv(path: Path) -> Iterator[Line]:
    # What is no UTF-8 becomes half a surrogate pair, which is refused with its row.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
        except csv.Error as error:
            yield Line(0, None, f"the header is no CSV: {error}")
            return
        if len(set(header)) != len(header) or not header:
            yield Line(0, None, f"expected a header of different names, got {header!r}")
            return
        number = 0
        while True:
            number += 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Line(number, None, f"no CSV: {error}")
                continue
            if len(fields) == len(header):
                yield Line(number, dict(zip(header, fields, strict=True)))
            elif fields:  # a blank line is no row
                yield Line(number, None, f"expected {len(header)} fields, got {len(fields)}")


def _parquet(path: Path) -> Iterator[Line]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "a Parquet file") from error
    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for row in range(batch.num_rows):
                    number += 1
                    try:
                        values = batch.slice(row, 1).to_pylist()[0]
                    except ValueError as error:
                        yield Line(number, None, f"no row in UTF-8: {error}")
                    else:
                        yield Line(number, values)
    except pyarrow.ArrowException as error:
        raise TextenvError(f"{str(path)!r} is no whole Parquet file: {error}") from error


def _to_jsonl(columns: Mapping[str, str], rows: list[Mapping[str, Any]]) -> str:
    kept = ({n: row[n] for n in columns if columns[n] != "json" or row[n]} for row in rows)
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in kept]
    # Lines of their own for JSON are ended by \n alone, and it escapes the one in a text.
    return "".join(lines)


def _to_csv(columns: Mapping[str, str], rows: list[Mapping[str, Any]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file)  # its lines end in \r\n, so that it puts a text with either in quotes
    writer.writerow(columns)
    for number, row in enumerate(rows, start=1):
        fields = [_flat(row[name], kind) for name, kind in columns.items()]
        longest = max(len(str(field)) for field in fields)
        if longest > csv.field_size_limit():
            raise ValueError(
                f"row {number} has a text of {longest:,} letters, CSV is read up to "
                f"{csv.field_size_limit():,}: write .jsonl or .parquet"
            )
        writer.writerow(fields)
    return file.getvalue()


def _to_parquet(columns: Mapping[str, str], rows: list[Mapping[str, Any]]) -> bytes:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "a Parquet file") from error
    types = {"string": pyarrow.string(), "json": pyarrow.string()}
    types |= {"double": pyarrow.float64(), "integer": pyarrow.int64()}
    arrays = [
        pyarrow.array([_flat(row[name], kind) for row in rows], types[kind])
        for name, kind in columns.items()
    ]
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(arrays, names=list(columns)), file)
    return file.getvalue()


def _flat(value: Any, kind: str) -> Any:
    if kind == "json":
        return json.dumps(value, ensure_ascii=False, allow_nan=False) if value else ""
    return value
