"""The tables of a ratings database, how they came to be, and opening a file that may be old.

Each entry of MIGRATIONS takes a file one version further; SQLite's `user_version` says how far it
is. A file of a newer version is refused, never changed.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from textenv.errors import TextenvError

APPLICATION = 0x74786E76  # "txnv" in the file's header: this is one of ours
BUSY_SECONDS = 30.0  # how long a process waits for others that write
FILE = "ratings.sqlite"  # its name in the folder of a run

FIRST = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE rounds (number INTEGER PRIMARY KEY, meta TEXT NOT NULL DEFAULT '{}')",
    "CREATE TABLE policies (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE prompts (id INTEGER PRIMARY KEY, prompt TEXT NOT NULL UNIQUE)",
    """CREATE TABLE texts (
        id INTEGER PRIMARY KEY,
        prompt INTEGER NOT NULL REFERENCES prompts,
        policy INTEGER NOT NULL REFERENCES policies,
        text TEXT NOT NULL,
        UNIQUE (prompt, policy, text))""",
    # A question is what raters are asked: a pair, or, where `second` is NULL, one text.
    """CREATE TABLE questions (
        id INTEGER PRIMARY KEY,
        round INTEGER NOT NULL REFERENCES rounds,
        first INTEGER NOT NULL REFERENCES texts,
        second INTEGER REFERENCES texts,
        flagged TEXT,
        columns TEXT NOT NULL DEFAULT '{}')""",
    # In one round the same two texts are one pair, whichever comes first.
    """CREATE UNIQUE INDEX one_question ON questions
        (round, min(first, ifnull(second, first)), max(first, ifnull(second, first)),
         second IS NULL)""",
    """CREATE VIEW pairs AS SELECT
        q.id, q.round, p.prompt, a.text AS first, b.text AS second, q.flagged
        FROM questions q JOIN texts a ON a.id = q.first JOIN texts b ON b.id = q.second
        JOIN prompts p ON p.id = a.prompt""",
    "CREATE TABLE raters (id INTEGER PRIMARY KEY, pseudonym TEXT NOT NULL UNIQUE)",
    # Nothing is ever deleted here; AUTOINCREMENT gives no number twice.
    """CREATE TABLE ratings (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        question INTEGER NOT NULL REFERENCES questions,
        rater INTEGER NOT NULL REFERENCES raters,
        verdict TEXT NOT NULL
            CHECK (verdict IN ('better', 'worse', 'tie', 'number', 'skip', 'flag')),
        number REAL CHECK ((number IS NOT NULL) = (verdict = 'number')),
        undone INTEGER NOT NULL DEFAULT 0)""",
    "CREATE UNIQUE INDEX one_rating ON ratings (question, rater) WHERE NOT undone",
    "CREATE INDEX rated_by ON ratings (rater, id)",
)

# What several raters at once need: who is at which question, which verdict was sent twice, and on
# which side each text was shown.
SECOND = (
    """CREATE TABLE leases (
        question INTEGER NOT NULL REFERENCES questions,
        rater INTEGER NOT NULL REFERENCES raters,
        until REAL NOT NULL,
        PRIMARY KEY (question, rater))""",
    "ALTER TABLE ratings ADD COLUMN key TEXT",
    "ALTER TABLE ratings ADD COLUMN first_left INTEGER",
    "CREATE UNIQUE INDEX sent_once ON ratings (rater, key) WHERE key IS NOT NULL",
)

# What a reviewer says of a question that was flagged.
THIRD = ("ALTER TABLE questions ADD COLUMN review TEXT CHECK (review IN ('fine', 'removed'))",)

MIGRATIONS = (FIRST, SECOND, THIRD)
VERSION = len(MIGRATIONS)


class RatingsError(TextenvError):
    """A ratings database cannot be opened, read or written."""


class AlreadyRatedError(RatingsError, ValueError):
    """A rater has answered this before; the earlier answer stands."""


def connect(path: Path) -> sqlite3.Connection:
    """Open a ratings database, which is made if it is not there and taken to today's version.

    Raises:
        RatingsError: the file is none of ours, is of a newer version, or cannot be written.
    """
    with explained(path, "was not opened"):
        with contextlib.suppress(OSError):  # SQLite says better why not
            path.touch(mode=0o600)  # a new one is its owner's alone; one that is there stays
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            _refuse_foreign(connection, path)  # before anything is changed
            _version(connection, path)
            _set_up(connection, path)
            _migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Write all of a block or nothing; when it ends well, what was written is on the disk."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled back already
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def savepoint(connection: sqlite3.Connection) -> Iterator[None]:
    """Inside a transaction write all of a block or, at an error, nothing of it."""
    connection.execute("SAVEPOINT block")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK TO block")
        raise
    finally:
        connection.execute("RELEASE block")


@contextlib.contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Turn SQLite's errors into ours, which say what became of the ratings.

    Args:
        path: The file.
        what: What did not happen, such as "was not opened".
    """
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
        if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
            raise
        raise RatingsError(f"{str(path)!r} {what}: {_reason(error)}") from error


def _reason(error: sqlite3.Error) -> str:
    text = str(error)
    kept = "; every rating that was acknowledged before is kept"
    if "is full" in text:
        return f"the disk is full: make room, then send it again{kept}"
    if "disk I/O error" in text:
        return f"the disk cannot be written (disk I/O error): is it full or gone?{kept}"
    if "locked" in text or "busy" in text:
        return f"another process has been writing for more than {BUSY_SECONDS:g} s: try again{kept}"
    if "readonly" in text:
        return "the file may not be written: look at its permissions and at those of its folder"
    if "not a database" in text or "malformed" in text:
        return f"it is no SQLite database, or a damaged one ({text}): put it back from a copy"
    if "unable to open" in text:
        return "it cannot be opened: is its folder there, and may files be made in it?"
    return text


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # a commit is on the disk, also in WAL mode
    # Where several processes make one new file, the change to WAL does not wait by itself.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    """Leave other programs' databases alone."""
    # In this order: another process may make the tables and the id, at once, between the two.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if tables and application != APPLICATION:
        raise RatingsError(
            f"{str(path)!r} is a SQLite database, but none of ratings: expected a file that "
            "textenv made, or one that is not there yet"
        )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection, path) == VERSION:
        return
    with transaction(connection):
        _refuse_foreign(connection, path)
        found = _version(connection, path)  # another process may have been faster
        for statements in MIGRATIONS[found:]:
            for statement in statements:
                connection.execute(statement)
        if found == 0:
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            for name in ("id", "salt"):
                value = secrets.token_hex(8)
                connection.execute("INSERT INTO meta VALUES (?, ?)", (name, value))
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise RatingsError(
            f"{str(path)!r} is of version {version}, written by a newer textenv; this one knows "
            f"versions up to {VERSION}: update textenv. Nothing was changed"
        )
    return version
