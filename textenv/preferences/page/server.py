"""The server of the page: standard library only, one thread a connection, this machine only."""

from __future__ import annotations

import contextlib
import errno
import socketserver
import sys
import threading
import webbrowser
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from textenv.preferences.database import Database
from textenv.preferences.page.handler import Handler
from textenv.preferences.page.lock import Address, Lock
from textenv.preferences.page.session import Session
from textenv.preferences.schema import RatingsError


class PageServer(ThreadingHTTPServer):
    """Serves the page of one database; a context manager.

    Args:
        database: A file of ratings, which must be there.
        raters_per_pair: How many verdicts each pair and text needs.
        scale: The least and the greatest number that a text can be given.
        port: Where; 0: where the last page on this database was, or any that is free.

    Attributes:
        address: Where the page is; its secret part lets nobody else in.

    Raises:
        RatingsError: another process serves a page on this database, the port is taken, or the
            database cannot be opened.
        ValueError: a number out of its range.
    """

    daemon_threads = True
    _closed = False

    def __init__(
        self,
        database: str | Path,
        *,
        raters_per_pair: int = 1,
        scale: tuple[int, int] = (-4, 4),
        port: int = 0,
    ) -> None:
        if not 0 <= port < 65536:
            raise ValueError(f"expected a port in 0 … 65535, got {port!r}")
        path = existing(database)
        self._ends = contextlib.ExitStack()
        try:
            opened = self._ends.enter_context(Database(path))
            self.session = Session(database=opened, raters_per_pair=raters_per_pair, scale=scale)
            lock = Lock(path)
            address = self._ends.enter_context(lock.held())
            self._bind(port, address)
            self.address = Address(self.server_port, address.token)
            lock.write(self.address)
        except BaseException:
            self._ends.close()
            raise
        self.hosts = {self.address.host, f"localhost:{self.address.port}"}
        self.cookie = f"textenv-rater-{opened.id}"

    def _bind(self, port: int, address: Address) -> None:
        tried = [port] if port else [address.port, 0]
        for number in tried:
            try:
                super().__init__(("127.0.0.1", number), Handler)
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE or (number == 0 and port == 0):
                    raise RatingsError(f"the page cannot be served: {error}") from error
        if port:
            raise RatingsError(f"the port {port} is taken: choose another, or 0 for any")

    def server_bind(self) -> None:
        """Bind without asking a name server who 127.0.0.1 is."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def __enter__(self) -> PageServer:
        """Begin to serve, beside whatever the program does."""
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.shutdown()
        self.server_close()

    def server_close(self) -> None:
        """Close the port, the database and the lock."""
        self._closed = True
        super().server_close()
        self._ends.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of browsers that went away, or came too late; print our own faults."""
        if not self._closed and not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def serve(
    database: str | Path,
    *,
    raters_per_pair: int = 1,
    scale: tuple[int, int] = (-4, 4),
    port: int = 0,
    open_browser: bool = False,
    output: Callable[[str], Any] = print,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        database: A file of ratings, which must be there.
        raters_per_pair: How many verdicts each pair and text needs.
        scale: The least and the greatest number that a text can be given.
        port: 0: the last one on this database, or any that is free.
        open_browser: Show the page in this machine's browser.
        output: Shows a line.

    Raises:
        RatingsError: as `PageServer`.
        ValueError: a number out of its range.
    """
    server = PageServer(database, raters_per_pair=raters_per_pair, scale=scale, port=port)
    try:
        output(f"Rate here: {server.address}")
        output(f"Results:   {server.address}results.html")
        output("Only browsers on this machine get in. Each gets a pseudonym; Ctrl-C ends it all.")
        if open_browser:
            webbrowser.open(str(server.address))
        server.serve_forever()
    except KeyboardInterrupt:
        output("\nAll that was acknowledged is in the database.")
    finally:
        server.server_close()


def existing(database: str | Path) -> Path:
    """Return the path of a database that is there.

    Raises:
        RatingsError: it is not.
    """
    path = Path(database)
    if not path.is_file():
        raise RatingsError(
            f"there is no ratings database at {str(path)!r}: expected the folder of a textenv loop "
            "or a file that Database(path) made"
        )
    return path
