"""One page for each database: a lock that ends with the process, and the page's address."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from textenv.files import lock
from textenv.preferences.schema import RatingsError


@dataclass
class Address:
    """Where the page is.

    Attributes:
        port: On this machine; 0: none yet.
        token: The secret part of the address.
    """

    port: int
    token: str

    @property
    def host(self) -> str:
        """What a browser says it asks: the number, never a name."""
        return f"127.0.0.1:{self.port}"

    def __str__(self) -> str:
        return f"http://{self.host}/{self.token}/"


class Lock:
    """The file beside the database, NAME.page, which only its owner may read.

    While a page is served it is locked and holds the process and the address. The address is used
    again by the next page on this database, so that an open page and a bookmark go on. Remove the
    file to have a new one.
    """

    def __init__(self, database: Path) -> None:
        database = database.resolve()  # by whatever links it is reached
        self.path = database.with_name(f"{database.name}.page")

    @contextmanager
    def held(self) -> Iterator[Address]:
        """Hold the lock; give the last address, or a new one without a port.

        Raises:
            RatingsError: another process serves a page on this database, or the file cannot be
                opened.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise RatingsError(f"the page needs a file beside its database: {error}") from error
        with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
            known = _read(file.read())
            if not lock(file, of_process=False):
                process = known.get("process", "that is not known")
                raise RatingsError(
                    f"the process {process} serves a page on this database already: use that one, "
                    "or end it first (Ctrl-C there)"
                )
            yield Address(_port(known), _token(known))

    def write(self, address: Address) -> None:
        """Keep the address, and whose it is; while the lock is held.

        Raises:
            RatingsError: the disk is full.
        """
        known = {"process": os.getpid(), "port": address.port, "token": address.token}
        # In place: the lock is on the file, and a new one of its name would have none.
        try:
            with self.path.open("r+", encoding="utf-8") as file:
                file.write(json.dumps(known))
                file.truncate()
        except OSError as error:
            raise RatingsError(f"{str(self.path)!r} cannot be written: {error}") from error


def _read(text: str) -> dict[str, object]:
    try:
        known = json.loads(text)
    except ValueError:  # new, or cut short by a kill
        return {}
    return known if isinstance(known, dict) else {}


def _port(known: dict[str, object]) -> int:
    port = known.get("port")
    return port if isinstance(port, int) and 0 < port < 65536 else 0


def _token(known: dict[str, object]) -> str:
    token = known.get("token")
    if isinstance(token, str) and len(token) >= 22 and token.isascii():
        return token
    return secrets.token_urlsafe(16)
