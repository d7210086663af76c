"""One HTTP request that ends by its deadline, whatever the server does. The standard library only.

No redirect is followed: it would carry the key to another host. The proxies that the environment
names (`HTTPS_PROXY`, `NO_PROXY`, …) are used, but never for this machine itself.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

from textenv.judges.addresses import is_local

MOST_BYTES = 4 << 20  # of a reply; a sane one has a few thousand


class Reply(NamedTuple):
    """What a server replied.

    status: Of HTTP.
    body: Bytes.
    retry_after: What the header of that name says, or None.
    """

    status: int
    body: bytes
    retry_after: str | None


class ConnectionFault(Exception):
    """No whole reply came; the words can follow "the endpoint …".

    Attributes:
        there: Whether something answered the connection at all.
    """

    def __init__(self, words: str, *, there: bool) -> None:
        super().__init__(words)
        self.there = there


def post(address: str, body: bytes, headers: dict[str, str], seconds: float) -> Reply:
    """Send a body and return the reply, also one that says no.

    Args:
        address: http:// or https://.
        body: What is sent.
        headers: Of the request.
        seconds: When it is given up, however far it is. (Asking for the host's name is the
            system's own, and can take longer.)

    Raises:
        ConnectionFault: there is nobody, the connection is cut, or it takes too long.
    """
    request = urllib.request.Request(address, data=body, headers=headers, method="POST")
    with _Cutter(seconds) as cutter:
        try:
            with _opener(address, cutter).open(request, timeout=seconds) as reply:
                return _read(reply, cutter)
        except urllib.error.HTTPError as error:
            with error:
                return _read(error, cutter)
        except (OSError, http.client.HTTPException, UnicodeError) as error:  # a host's name, too
            raise _fault(error, cutter, seconds) from error


def _read(reply: Any, cutter: _Cutter) -> Reply:
    body = reply.read(MOST_BYTES + 1)
    if cutter.cut:  # a body without a length ends there in silence
        raise TimeoutError
    if len(body) > MOST_BYTES:
        raise ConnectionFault(f"sent more than {MOST_BYTES:,} bytes", there=True)
    length = reply.headers.get("Content-Length")
    if length is not None and length.isdigit() and len(body) < int(length):
        raise ConnectionFault("cut the connection in the middle of its reply", there=True)
    return Reply(reply.status, body, reply.headers.get("Retry-After"))


def _fault(error: Exception, cutter: _Cutter, seconds: float) -> ConnectionFault:
    reason = getattr(error, "reason", error)  # urllib wraps what happens before the reply
    if cutter.cut or isinstance(reason, TimeoutError):
        return ConnectionFault(f"did not reply within {seconds:.3g} s", there=cutter.connected)
    if isinstance(reason, ConnectionRefusedError | socket.gaierror):
        return ConnectionFault(f"is not there ({reason})", there=False)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return ConnectionFault(f"has no valid certificate ({reason.verify_message})", there=False)
    why = f"({type(reason).__name__}: {reason})"
    if isinstance(reason, http.client.HTTPException | ConnectionError):
        return ConnectionFault(f"cut the connection {why}", there=True)
    return ConnectionFault(f"cannot be reached {why}", there=False)


class _Cutter:
    """Shuts a connection down after so many seconds: a time limit of a socket is for each read."""

    def __init__(self, seconds: float) -> None:
        self.cut = False
        self._ends = time.monotonic() + seconds
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    @property
    def connected(self) -> bool:
        return bool(self._sockets)

    def watch(self, opened: socket.socket) -> None:
        self._sockets.append(opened)
        if time.monotonic() >= self._ends:
            self._end()

    def _end(self) -> None:
        self.cut = True
        for opened in self._sockets:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> _Cutter:
        self._timer.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._timer.cancel()


class _Connection(http.client.HTTPConnection):
    def __init__(self, *arguments: Any, cutter: _Cutter, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._cutter = cutter

    def connect(self) -> None:
        super().connect()
        self._cutter.watch(self.sock)


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    """The same, encrypted: `super().connect()` is then HTTPSConnection's."""


class _Http(urllib.request.HTTPHandler):
    def __init__(self, cutter: _Cutter) -> None:
        super().__init__()
        self._cutter = cutter

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(functools.partial(_Connection, cutter=self._cutter), request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, cutter: _Cutter) -> None:
        super().__init__(context=_certificates())
        self._cutter = cutter

    def https_open(self, request: urllib.request.Request) -> Any:
        connection = functools.partial(
            _SecureConnection, cutter=self._cutter, context=_certificates()
        )
        return self.do_open(connection, request)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any) -> None:
        return None  # then it is an HTTPError like any other


def _opener(address: str, cutter: _Cutter) -> urllib.request.OpenerDirector:
    proxies = urllib.request.ProxyHandler({} if is_local(address) else None)
    return urllib.request.build_opener(proxies, _NoRedirect, _Http(cutter), _Https(cutter))


@functools.cache
def _certificates() -> ssl.SSLContext:
    return ssl.create_default_context()


def headers_with(key: str | None) -> Iterator[tuple[str, str]]:
    """Give the headers of a JSON request."""
    yield "Content-Type", "application/json"
    yield "Accept", "application/json"
    yield "User-Agent", "textenv"
    if key is not None:
        yield "Authorization", f"Bearer {key}"
