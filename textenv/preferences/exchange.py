"""Ratings out of a database, without anything about a person, and into it.

What comes in is checked row by row before anything is kept: all of a file or nothing.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textenv.errors import TextenvError
from textenv.preferences import tables
from textenv.preferences.comparisons import LABELS, Comparison, RatedText
from textenv.preferences.files import (
    read_comparisons,
    read_ratings,
    write_comparisons,
    write_ratings,
)
from textenv.preferences.pseudonyms import imported_pseudonym
from textenv.preferences.records import NewPair, NewText
from textenv.preferences.row_files import BadRow, BadRowsError, read_lines
from textenv.preferences.schema import AlreadyRatedError

if TYPE_CHECKING:
    from textenv.preferences.database import Database

_VERDICTS = {label: verdict for verdict, label in LABELS.items()}
_HINT = "nothing was taken in"


def export(database: Database, path: Path, round: int | None = None) -> list[Path]:
    """Write what was rated; raters are rater-1, rater-2, …, and no time is known. See `Database`.

    Raises:
        TextenvError: there is nothing to write.
    """
    comparisons, ratings = database.comparisons(round), database.ratings(round)
    names: dict[str, str] = {}
    for rater in [row.rater for row in comparisons] + [row.rater for row in ratings]:
        names.setdefault(rater, f"rater-{len(names) + 1}")
    if not names:
        raise TextenvError(f"nothing is rated in {str(database.path)!r} yet: nothing was written")
    written = []
    if comparisons or not ratings:
        hidden = [dataclasses.replace(row, rater=names[row.rater]) for row in comparisons]
        write_comparisons(path, hidden)
        written.append(path)
    if ratings:
        beside = path.with_name(f"{path.stem}-ratings{path.suffix}")
        write_ratings(beside, [dataclasses.replace(r, rater=names[r.rater]) for r in ratings])
        written.append(beside)
    return written


def import_comparisons(
    database: Database, comparisons: Sequence[Comparison], round: int, *, new_prompts: bool = False
) -> int:
    """Take in verdicts on pairs; see `Database.import_comparisons`."""

    def take(connection: sqlite3.Connection, row: Comparison) -> None:
        if row.label not in _VERDICTS:
            raise ValueError(f"expected a label of 0, ½ or 1, got {row.label!r}")
        new = NewPair(row.prompt, row.first, row.second, columns=row.columns)
        found = _existing_pair(connection, round, new)
        label = row.label
        if found is None:
            pair = tables.add_question(connection, round, new)
        else:
            pair, same_order = found
            label = label if same_order else 1 - label
        who = imported_pseudonym(row.rater, database.salt)
        tables.add_rating(connection, pair, who, _VERDICTS[label])

    return _import(database, "the comparisons", comparisons, round, take, new_prompts=new_prompts)


def import_ratings(
    database: Database, ratings: Sequence[RatedText], round: int, *, new_prompts: bool = False
) -> int:
    """Take in numbers given to single texts; for the rest as `import_comparisons`."""

    def take(connection: sqlite3.Connection, row: RatedText) -> None:
        text = tables.add_question(connection, round, NewText(row.prompt, row.text))
        who = imported_pseudonym(row.rater, database.salt)
        tables.add_rating(connection, text, who, "number", float(row.rating), single=True)

    return _import(database, "the ratings", ratings, round, take, new_prompts=new_prompts)


def import_questions(
    database: Database, new: Sequence[NewPair] | Sequence[NewText], round: int
) -> int:
    """Take in pairs or texts that shall be rated; one that is in the round already is an error."""

    def take(connection: sqlite3.Connection, row: NewPair | NewText) -> None:
        before = connection.total_changes
        number = tables.add_question(connection, round, row)
        if connection.total_changes == before:
            raise ValueError(f"the same is in round {round} already, with the number {number}")

    return _import(database, "what shall be rated", new, round, take, new_prompts=True)


def import_file(
    database: Database, path: Path, round: int, *, new_prompts: bool = False
) -> tuple[str, int]:
    """Take in a .jsonl, .csv or .parquet file; its columns say what it is.

    Verdicts on pairs have `label`, or `chosen` and `rejected`; numbers for texts have `rating`;
    pairs to be rated have `prompt`, `first`, `second`, texts to be rated `prompt`, `text`, both
    with `policy_first`, `policy_second` or `policy`, and `flagged`, where these are known.

    Returns:
        What it was, and how many rows.

    Raises:
        BadRowsError: each row that is wrong, with its number and the reason.
        TextenvError: the file cannot be read at all.
    """
    names = set(next((line.values for line in read_lines(path) if line.values), {}))
    if names & {"label", "chosen", "rejected"}:
        comparisons = read_comparisons(path)
        count = import_comparisons(database, comparisons, round, new_prompts=new_prompts)
        return "verdicts on pairs", count
    if "rating" in names:
        ratings = read_ratings(path)
        return "ratings of texts", import_ratings(database, ratings, round, new_prompts=new_prompts)
    if {"first", "second"} <= names:
        return "pairs to be rated", import_questions(database, _new(path, NewPair), round)
    return "texts to be rated", import_questions(database, _new(path, NewText), round)


def _import(
    database: Database,
    what: str,
    rows: Sequence[Any],
    round: int,
    take: Callable[[sqlite3.Connection, Any], None],
    *,
    new_prompts: bool,
) -> int:
    """Take in all rows or none, and say of each that is wrong what is."""
    bad = []
    with database.writing("nothing was taken in") as connection:
        tables.identified(connection, "rounds", number=round)
        for number, row in enumerate(rows, start=1):
            try:
                with _savepoint(connection):
                    if not new_prompts and not tables.known(
                        connection, "prompts", prompt=row.prompt
                    ):
                        raise ValueError(
                            f"the prompt {row.prompt!r:.60} is not in the database: is this its "
                            "file? To take it all the same allow new prompts"
                        )
                    take(connection, row)
            except AlreadyRatedError:
                bad.append(BadRow(number, "its rater has rated the same before, here or in a row"))
            except ValueError as error:
                bad.append(BadRow(number, str(error)))
        if bad:
            raise BadRowsError(what, bad, _HINT)
    return len(rows)


@contextmanager
def _savepoint(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("SAVEPOINT one_row")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK TO one_row")
        raise
    finally:
        connection.execute("RELEASE one_row")


def _existing_pair(
    connection: sqlite3.Connection, round: int, new: NewPair
) -> tuple[int, bool] | None:
    """The pair of these two texts, whoever wrote them, and whether its first is the first."""
    row = connection.execute(
        "SELECT q.id, a.text = :first FROM questions q JOIN texts a ON a.id = q.first "
        "JOIN texts b ON b.id = q.second JOIN prompts p ON p.id = a.prompt "
        "WHERE q.round = :round AND p.prompt = :prompt AND ((a.text = :first AND b.text = :second) "
        "OR (a.text = :second AND b.text = :first)) ORDER BY q.id LIMIT 1",
        {"round": round, "prompt": new.prompt, "first": new.first, "second": new.second},
    ).fetchone()
    return None if row is None else (row[0], bool(row[1]))


def _new(path: Path, kind: type[NewPair] | type[NewText]) -> list[Any]:
    """Pairs or texts to be rated, from a file."""
    names = [field.name for field in dataclasses.fields(kind) if field.name != "columns"]
    needed = [each.name for each in dataclasses.fields(kind) if each.default is dataclasses.MISSING]
    needed = [name for name in needed if name != "columns"]
    rows, bad = [], []
    for number, values, reason in read_lines(path):
        try:
            if values is None:
                raise ValueError(reason)
            missing = [name for name in needed if name not in values]
            if missing:
                raise ValueError(
                    f"expected the columns {', '.join(needed)}; missing are {', '.join(missing)}"
                )
            columns = {name: value for name, value in values.items() if name not in names}
            known = {n: values[n] for n in names if values.get(n) not in (None, "") or n in needed}
            rows.append(kind(**known, columns=columns))
        except ValueError as error:
            bad.append(BadRow(number, str(error)))
    if bad:
        raise BadRowsError(repr(str(path)), bad, _HINT)
    return rows
