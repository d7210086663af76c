"""Rows of a ratings database: writing and reading them inside a transaction that is open."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from textenv.preferences import assignment
from textenv.preferences.records import NewPair, NewText, PairToRate, Question, TextToRate
from textenv.preferences.schema import AlreadyRatedError

_QUESTIONS = """SELECT q.id, q.round, q.flagged, q.columns, p.prompt, a.text AS first,
    b.text AS second, c.name AS policy_first, d.name AS policy_second
    FROM questions q JOIN texts a ON a.id = q.first JOIN prompts p ON p.id = a.prompt
    JOIN policies c ON c.id = a.policy
    LEFT JOIN texts b ON b.id = q.second LEFT JOIN policies d ON d.id = b.policy"""
# What people hand over as text, by table.
_TEXT = {"policies": "name", "prompts": "prompt", "raters": "pseudonym", "texts": "text"}
# The same words as in the schema's index, which makes this fast.
_SAME = """SELECT id FROM questions WHERE round = :round
    AND min(first, ifnull(second, first)) = min(:first, ifnull(:second, :first))
    AND max(first, ifnull(second, first)) = max(:first, ifnull(:second, :first))
    AND (second IS NULL) = (:second IS NULL)"""


def known(connection: sqlite3.Connection, table: str, **where: Any) -> int | None:
    """The number of the row with these values, or None; names come from our own code only."""
    tests = " AND ".join(f"{name} = :{name}" for name in where)
    row = connection.execute(f"SELECT rowid FROM {table} WHERE {tests}", where).fetchone()
    return None if row is None else int(row[0])


def identified(connection: sqlite3.Connection, table: str, **values: Any) -> int:
    """The number of the row with these values, which is added if it is not there.

    Raises:
        ValueError: what should be a text is none, or cannot be written as UTF-8.
    """
    if table in _TEXT:
        _check_text(_TEXT[table], values[_TEXT[table]])
    found = known(connection, table, **values)
    if found is not None:
        return found
    names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
    cursor = connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)
    return int(cursor.lastrowid or 0)


def add_question(connection: sqlite3.Connection, round: int, new: NewPair | NewText) -> int:
    """Add a pair or a text and give its number; one that is there already keeps it."""
    prompt = identified(connection, "prompts", prompt=new.prompt)
    if isinstance(new, NewPair):
        written = [(new.policy_first, new.first), (new.policy_second, new.second)]
    else:
        written = [(new.policy, new.text)]
    texts = [
        identified(
            connection,
            "texts",
            prompt=prompt,
            policy=identified(connection, "policies", name=policy),
            text=text,
        )
        for policy, text in written
    ]
    if new.flagged is not None:
        _check_text("flagged", new.flagged)
    values = {
        "round": round,
        "first": texts[0],
        "second": texts[1] if len(texts) == 2 else None,
        "flagged": new.flagged,
        "columns": json.dumps(dict(new.columns), ensure_ascii=True),
    }
    same = connection.execute(_SAME, values).fetchone()
    if same is not None:
        return int(same[0])
    cursor = connection.execute(
        "INSERT INTO questions (round, first, second, flagged, columns) "
        "VALUES (:round, :first, :second, :flagged, :columns)",
        values,
    )
    return int(cursor.lastrowid or 0)


def questions(
    connection: sqlite3.Connection, round: int | None = None, number: int | None = None
) -> list[Question]:
    """The pairs and texts of a round, or the one with a number, or all; in their order.

    Those that a reviewer removed are among them.
    """
    where = "WHERE ifnull(q.round = :round, 1) ORDER BY q.id"
    if number is not None:  # a comparison that SQLite can look up
        where = "WHERE q.id = :number"
    values = {"round": round, "number": number}
    return [_question(row) for row in connection.execute(f"{_QUESTIONS} {where}", values)]


def add_rating(
    connection: sqlite3.Connection,
    question: int,
    rater: str,
    verdict: str,
    number: float | None = None,
    *,
    single: bool = False,
    key: str | None = None,
    first_left: bool | None = None,
) -> int:
    """Add a rating and give its number; one that was sent before with the same key keeps it.

    Raises:
        AlreadyRatedError: the rater has answered this.
        ValueError: no such question.
    """
    kind = "text" if single else "pair"
    asked = connection.execute("SELECT second IS NULL FROM questions WHERE id = ?", (question,))
    if (asked.fetchone() or (None,))[0] != single:
        raise ValueError(f"no {kind} to rate has the number {question!r}")
    by = identified(connection, "raters", pseudonym=rater)
    if key is not None:
        sent = known(connection, "ratings", rater=by, key=key, question=question)
        if sent is not None:
            return sent
        if known(connection, "ratings", rater=by, key=key) is not None:
            raise ValueError(f"the key {key!r} names another answer of {rater!r}: take a new one")
    if known(connection, "ratings", rater=by, question=question, undone=0) is not None:
        raise AlreadyRatedError(
            f"{rater!r} has answered the {kind} {question} already, and that answer stands: undo "
            "it first"
        )
    cursor = connection.execute(
        "INSERT INTO ratings (question, rater, verdict, number, key, first_left) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (question, by, verdict, number, key, first_left),
    )
    assignment.release(connection, by, question)
    return int(cursor.lastrowid or 0)


def undo(
    connection: sqlite3.Connection, rater: str, rating: int | None, now: float
) -> Question | None:
    """Mark a rater's last rating as undone, if it is the one that is meant."""
    last = connection.execute(
        "SELECT r.id, r.question, r.rater FROM ratings r JOIN raters w ON w.id = r.rater "
        "WHERE w.pseudonym = ? AND NOT r.undone ORDER BY r.id DESC LIMIT 1",
        (rater,),
    ).fetchone()
    if last is None or rating not in (None, last["id"]):
        return None
    connection.execute("UPDATE ratings SET undone = 1 WHERE id = ?", (last["id"],))
    assignment.lease(connection, last["question"], last["rater"], now)
    return questions(connection, number=last["question"])[0]


def review(connection: sqlite3.Connection, question: int, said: str | None) -> None:
    """Keep what a reviewer says of a question.

    Raises:
        ValueError: no such question.
    """
    values = (said, question)
    if not connection.execute("UPDATE questions SET review = ? WHERE id = ?", values).rowcount:
        raise ValueError(f"nothing to rate has the number {question!r}")


def _question(row: sqlite3.Row) -> Question:
    shared = {name: row[name] for name in ("id", "round", "prompt", "flagged")}
    shared["columns"] = json.loads(row["columns"])
    if row["second"] is None:
        return TextToRate(text=row["first"], policy=row["policy_first"], **shared)
    names = ("first", "second", "policy_first", "policy_second")
    return PairToRate(**shared, **{name: row[name] for name in names})


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(f"expected {name} to be a text, got {value!r:.80}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"expected {name} to be a text that UTF-8 can write, got half a surrogate pair in "
            f"{value!r:.80}"
        ) from error
