"""A ratings database as a file: opening and closing it, and what its errors say."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from textenv.preferences.schema import connect, explained, transaction


class RatingsFile:
    """The open file; one connection, which the threads of a process share.

    Args:
        path: The file; made if it is not there.
        clock: Tells the seconds, for leases; since this machine was started, so that no time of day
            is written.

    Raises:
        RatingsError: the file is none of ours, is of a newer version, or cannot be written.
    """

    def __init__(self, path: str | Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = Path(path)
        self._clock = clock
        self._lock = threading.RLock()
        self._connection = connect(self.path)
        rows = self._connection.execute("SELECT name, value FROM meta")
        self._meta = {row["name"]: row["value"] for row in rows}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        with self._lock:
            self._connection.close()

    @property
    def id(self) -> str:
        """A random name of this database."""
        return self._meta["id"]

    @property
    def salt(self) -> str:
        """A random text that shuffles sides and hides imported names."""
        return self._meta["salt"]

    @contextmanager
    def writing(self, what: str) -> Iterator[sqlite3.Connection]:
        """Give the connection in a transaction, which is on the disk when the block has ended.

        Args:
            what: What an error says did not happen.
        """
        told = explained(self.path, f"is as it was, {what}")
        with self._lock, told, transaction(self._connection) as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock, explained(self.path, "could not be read"):
            yield

    def _read(self, statement: str, values: Any = ()) -> list[sqlite3.Row]:
        with self._reading():
            return self._connection.execute(statement, values).fetchall()
