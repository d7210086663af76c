"""Files of questions and answers into a database.

What comes in is checked row by row before anything is kept: all of a file or nothing.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from textenv.preferences import tables
from textenv.preferences.comparisons import LABELS, Comparison, RatedText
from textenv.preferences.exporting import PAIRS, TEXTS
from textenv.preferences.files import read_comparisons, read_ratings
from textenv.preferences.pseudonyms import imported_pseudonym
from textenv.preferences.records import NewPair, NewText
from textenv.preferences.row_files import BadRow, BadRowsError, Line, read_lines
from textenv.preferences.schema import AlreadyRatedError, savepoint

if TYPE_CHECKING:
    from textenv.preferences.database import Database

_OURS = {*PAIRS, *TEXTS, "chosen", "rejected"}
_VERDICTS = {label: verdict for verdict, label in LABELS.items()}
_HINT = "nothing was taken in"


def import_comparisons(
    database: Database, comparisons: Sequence[Comparison], round: int, *, new_prompts: bool = False
) -> int:
    """Take in verdicts on pairs; see `Database.import_comparisons`."""
    said = [_Said.of(row, round, {"columns": row.columns}) for row in comparisons]
    return _import_said(database, "the comparisons", enumerate(said, 1), new_prompts=new_prompts)


class Taken(NamedTuple):
    """What came in from a file.

    what: "verdicts on pairs", "ratings of texts", "pairs to be rated" or "texts to be rated".
    rows: how many.
    left_out: columns that answers had beside ours. They may say who answered, or when, and are
        not kept.
    """

    what: str
    rows: int
    left_out: list[str]


def import_file(
    database: Database, path: Path, round: int | None = None, *, new_prompts: bool = False
) -> Taken:
    """Take in a .jsonl, .csv or .parquet file; its columns say what it is.

    Verdicts on pairs have `label`, or `chosen` and `rejected`; numbers for texts have `rating`;
    pairs to be rated have `prompt`, `first`, `second`, texts to be rated `prompt`, `text`, both
    with `policy_first`, `policy_second` or `policy`, and `flagged`, where these are known. All
    other columns of what is to be rated are known of the prompt, and are kept and exported.

    Args:
        database: Where it goes.
        path: The file.
        round: Where it belongs; None: where its column `round` says, else the last round.
        new_prompts: Take answers about prompts that are not in the database, too.

    Raises:
        BadRowsError: each row that is wrong, with its number and the reason.
        TextenvError: the file cannot be read at all.
    """
    lines = list(read_lines(path))
    names = set(next((line.values for line in lines if line.values), {}))
    read: Any
    last = max(database.rounds(), default=1) if round is None else round
    if names & {"label", "chosen", "rejected"}:
        what, read = "verdicts on pairs", read_comparisons
    elif "rating" in names:
        what, read = "ratings of texts", read_ratings
    else:
        kind, what = (NewPair, "pairs") if {"first", "second"} <= names else (NewText, "texts")
        count = _import_questions(database, path, lines, kind, last)
        return Taken(f"{what} to be rated", count, [])
    said = []
    for line, row in zip(lines, read(path, duplicates="keep"), strict=True):
        values = line.values or {}
        own = values.get("round") if round is None else None
        said.append((line.number, _Said.of(row, last if own in (None, "") else own, values)))
    count = _import_said(database, repr(str(path)), said, new_prompts=new_prompts)
    others = {name for line in lines for name in line.values or ()} - _OURS
    return Taken(what, count, sorted(others))


@dataclass(frozen=True)
class _Said:
    """An answer that comes in: to what, whose, and where it belongs."""

    question: NewPair | NewText
    rater: str
    answer: float
    round: Any

    @classmethod
    def of(cls, row: Comparison | RatedText, round: Any, values: Mapping[str, Any]) -> _Said:
        """Put a row together with what its file says beside the answer, `values`."""
        if isinstance(row, RatedText):
            new = NewText(row.prompt, row.text, values.get("policy") or "")
            return cls(new, row.rater, row.rating, round)
        columns = values.get("columns") or {}  # not `row.columns`, which has all others too
        pair = NewPair(
            row.prompt,
            row.first,
            row.second,
            values.get("policy_first") or "",
            values.get("policy_second") or "",
            columns=json.loads(columns) if isinstance(columns, str) else columns,
        )
        return cls(pair, row.rater, row.label, round)


def _import_said(
    database: Database, what: str, said: Iterable[tuple[int, _Said]], *, new_prompts: bool
) -> int:
    def take(connection: sqlite3.Connection, one: _Said) -> None:
        prompt = one.question.prompt
        if not new_prompts and tables.known(connection, "prompts", prompt=prompt) is None:
            raise ValueError(
                f"the prompt {prompt!r:.60} is not in the database: is this its file? To take it "
                "all the same allow new prompts"
            )
        round = _round(one.round)
        tables.identified(connection, "rounds", number=round)
        who = imported_pseudonym(one.rater, database.salt)
        if isinstance(one.question, NewText):
            number = tables.add_question(connection, round, one.question)
            tables.add_rating(connection, number, who, "number", float(one.answer), single=True)
            return
        if one.answer not in _VERDICTS:
            raise ValueError(f"expected a label of 0, ½ or 1, got {one.answer!r}")
        number, turned = _pair(connection, round, one.question)
        label = 1 - one.answer if turned else one.answer
        tables.add_rating(connection, number, who, _VERDICTS[label])

    return _import(database, what, said, take)


def _import_questions(
    database: Database,
    path: Path,
    lines: Iterable[Line],
    kind: type[NewPair] | type[NewText],
    round: int,
) -> int:
    """Take in pairs or texts that shall be rated; one that is in the round already is an error."""

    def take(connection: sqlite3.Connection, row: NewPair | NewText) -> None:
        tables.identified(connection, "rounds", number=round)
        before = connection.total_changes
        number = tables.add_question(connection, round, row)
        if connection.total_changes == before:
            raise ValueError(f"the same is in round {round} already, with the number {number}")

    return _import(database, "what shall be rated", _new(path, lines, kind), take)


def _import(
    database: Database,
    what: str,
    rows: Iterable[tuple[int, Any]],
    take: Callable[[sqlite3.Connection, Any], None],
) -> int:
    """Take in all rows or none, and say of each that is wrong what is."""
    bad, count = [], 0
    with database.writing("nothing was taken in") as connection:
        for number, row in rows:
            count += 1
            try:
                with savepoint(connection):
                    take(connection, row)
            except AlreadyRatedError:
                bad.append(BadRow(number, "its rater has rated the same before, here or in a row"))
            except ValueError as error:
                bad.append(BadRow(number, str(error)))
        if bad:
            raise BadRowsError(what, bad, _HINT)
    return count


def _round(value: Any) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    whole = whole or (isinstance(value, str) and value.isdecimal())
    if not whole or not 0 <= int(value) < 2**63:
        raise ValueError(f"expected round to be a whole number, got {value!r:.60}")
    return int(value)


def _pair(connection: sqlite3.Connection, round: int, new: NewPair) -> tuple[int, bool]:
    """The number of a pair, which is added if it is not there, and whether it is turned there.

    Where nothing is said of who wrote the texts it is any pair of the two.
    """
    anybody = not new.policy_first and not new.policy_second
    row = connection.execute(
        "SELECT q.id FROM questions q JOIN texts a ON a.id = q.first "
        "JOIN texts b ON b.id = q.second JOIN prompts p ON p.id = a.prompt "
        "WHERE q.round = :round AND p.prompt = :prompt AND ((a.text = :first AND b.text = :second) "
        "OR (a.text = :second AND b.text = :first)) ORDER BY q.id LIMIT 1",
        {"round": round, "prompt": new.prompt, "first": new.first, "second": new.second},
    ).fetchone()
    number = row[0] if anybody and row else tables.add_question(connection, round, new)
    found: Any = tables.questions(connection, number=number)[0]
    if anybody:
        return number, found.first != new.first
    return number, (found.first, found.policy_first) != (new.first, new.policy_first)


def _new(
    path: Path, lines: Iterable[Line], kind: type[NewPair] | type[NewText]
) -> list[tuple[int, NewPair | NewText]]:
    """Pairs or texts to be rated, from a file's rows, by their numbers."""
    fields = [field for field in dataclasses.fields(kind) if field.name != "columns"]
    names = [field.name for field in fields]
    needed = [field.name for field in fields if field.default is dataclasses.MISSING]
    rows: list[tuple[int, NewPair | NewText]] = []
    bad = []
    for number, values, reason in lines:
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
            rows.append((number, kind(**known, columns=columns)))
        except ValueError as error:
            bad.append(BadRow(number, str(error)))
    if bad:
        raise BadRowsError(repr(str(path)), bad, _HINT)
    return rows
