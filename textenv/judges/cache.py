"""What judges said, kept in an SQLite file, so that no question is asked and paid twice.

A row is a SHA-256 of (who was asked, the template, the question) and the answers'
log-probabilities: no text, no key, no address.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from textenv.errors import TextenvError
from textenv.judges.backend import Float64
from textenv.sources.cached import cache_folder

VERSION = 1
_APPLICATION = 0x74786A64  # "txjd": tells our files from another program's
_AT_ONCE = 500  # SQLite takes 999 parameters in old builds
_WAIT = 60.0  # seconds for another process's write


class Cache:
    """Answers by key. Several processes and threads may use one file at once.

    Args:
        path: The file. None: `judgements.sqlite` in the cache folder.

    Raises:
        TextenvError: the file cannot be written, is another program's, damaged, or of a newer
            version.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = cache_folder() / "judgements.sqlite" if path is None else Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        with self._open() as database:
            self._prepare(database)

    def get(self, keys: Sequence[str]) -> dict[str, Float64]:
        """Return what is known of them."""
        known: dict[str, Float64] = {}
        with self._open() as database:
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = database.execute(
                    f"SELECT key, log_probs FROM judgements WHERE key IN ({marks})", some
                )
                known |= {key: np.frombuffer(blob, dtype="<f8").copy() for key, blob in rows}
        return known

    def put(self, answers: Mapping[str, Float64]) -> dict[str, Float64]:
        """Keep answers, and return those that count: another process's if it was there first."""
        rows = [(key, values.astype("<f8").tobytes()) for key, values in answers.items()]
        with self._open() as database, database:
            database.executemany("INSERT OR IGNORE INTO judgements VALUES (?, ?)", rows)
        return self.get(list(answers))

    def count(self) -> int:
        """Return how many answers it holds."""
        with self._open() as database:
            return int(database.execute("SELECT count(*) FROM judgements").fetchone()[0])

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # A connection for each use: it costs 0.1 ms, and outlives neither a fork nor a thread.
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=_WAIT)) as database:
                database.execute("PRAGMA synchronous=NORMAL")
                yield database
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _prepare(self, database: sqlite3.Connection) -> None:
        if not self._is_ours(database):
            with database:
                database.execute("BEGIN IMMEDIATE")  # another process may be making it right now
                if not self._is_ours(database):
                    self._make(database)
        with contextlib.suppress(sqlite3.OperationalError):  # somebody writes; the next one does it
            database.execute("PRAGMA journal_mode=WAL")

    def _is_ours(self, database: sqlite3.Connection) -> bool:
        application = database.execute("PRAGMA application_id").fetchone()[0]
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if application == _APPLICATION and version > VERSION:
            raise TextenvError(
                f"the cache {str(self.path)!r} has the version {version}, this textenv knows "
                f"{VERSION}: update textenv, or give another cache="
            )
        return bool(application == _APPLICATION and version == VERSION)

    def _make(self, database: sqlite3.Connection) -> None:
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise TextenvError(
                f"{str(self.path)!r} is a database, but no cache of judgements: give another cache="
            )
        database.execute(
            "CREATE TABLE judgements (key TEXT PRIMARY KEY, log_probs BLOB NOT NULL) WITHOUT ROWID"
        )
        database.execute(f"PRAGMA application_id={_APPLICATION}")
        database.execute(f"PRAGMA user_version={VERSION}")

    def _unusable(self, error: Exception) -> TextenvError:
        return TextenvError(
            f"the cache of judgements {str(self.path)!r} cannot be used: {error}. Give another "
            "cache=, a file in a folder that can be written and has room, or cache=False"
        )


class Memory:
    """Answers by key, as long as a judge lives; the oldest go first where there are too many."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._answers: dict[str, Float64] = {}

    def get(self, keys: Sequence[str]) -> dict[str, Float64]:
        """As `Cache.get`."""
        found = {key: self._answers.get(key) for key in keys}
        return {key: values for key, values in found.items() if values is not None}

    def put(self, answers: Mapping[str, Float64]) -> dict[str, Float64]:
        """As `Cache.put`."""
        kept = {key: self._answers.setdefault(key, values) for key, values in answers.items()}
        while len(self._answers) > self._most:
            del self._answers[next(iter(self._answers))]
        return kept
