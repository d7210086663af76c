"""One request: who may ask, and which answer is whose. What it means is in `session.py`.

The page is for this machine and its own browser tab only. Refused are: another Host (a foreign
name that was pointed at this machine), another Origin or a request that a browser says comes from
another site, an address without the token, and bodies that are too large or no JSON.
"""

from __future__ import annotations

import hmac
import json
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler
from importlib import resources
from typing import TYPE_CHECKING, Any

from textenv.preferences.page.session import RequestError
from textenv.preferences.schema import RatingsError

if TYPE_CHECKING:
    from textenv.preferences.page.server import PageServer

LARGEST_BODY = 64 * 1024
YEAR = 365 * 24 * 3600

_CLOSED = "HttpOnly; SameSite=Strict"  # to scripts, and to other sites

_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS = {
    # Nothing but our own files, no script in the page, in nobody's frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Handler(BaseHTTPRequestHandler):
    """Answers requests for a `PageServer`."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "textenv", ""
    timeout = 60  # seconds that a silent connection keeps its thread

    def do_GET(self) -> None:
        """Send one of the page's files."""
        path = self._allowed()
        if path is None:
            return
        name = path or "index.html"
        folder = resources.files("textenv.preferences.page") / "static"
        known = {each.name for each in folder.iterdir()}
        if name not in known:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
            return
        self._send((folder / name).read_bytes(), _KINDS[name.rpartition(".")[2]])

    def do_POST(self) -> None:
        """Answer a question of the page, JSON for JSON."""
        path = self._allowed()
        if path is None:
            return
        try:
            body = self._body()
            answer, rater = self._answer(path, body)
        except RequestError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except RatingsError as error:  # a full disk: the page keeps the rating and tries again
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, str(error))
        else:
            self._send_json(answer, rater=rater)

    def _answer(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """The answer, and the rater that the browser shall remember."""
        session, database = self.server.session, self.server.session.database
        if path == "api/results":
            return session.results(), None
        if path == "api/review":
            return session.review(body), None
        if path in ("api/rate", "api/undo"):
            # Whose answer it is stands in it: another tab may have changed the cookie since.
            answer = session.rate if path == "api/rate" else session.undo
            return answer(self._known(body.get("rater")), body), None
        if path == "api/enter":
            code = self._known("-".join(str(body.get("code", "")).lower().split()))
            return session.state(code), code
        if path == "api/state" and self._is_known(body.get("rater")):
            return session.state(body["rater"]), None
        remembered = self._remembered() if path == "api/state" else None
        if path in ("api/state", "api/leave"):
            rater = remembered or database.add_rater()
            return session.state(rater), rater
        raise RequestError(f"there is no {path!r}")

    # Who may ask

    def _allowed(self) -> str | None:
        """Return the path behind the token; None where an error was sent."""
        hosts = self.server.hosts
        if self.headers.get("Host") not in hosts:
            self._refuse(HTTPStatus.FORBIDDEN, "this page is for this machine only")
            return None
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in hosts}:
            self._refuse(HTTPStatus.FORBIDDEN, "a request from another page")
            return None
        if not self._own_site():
            self._refuse(HTTPStatus.FORBIDDEN, "a request from another site")
            return None
        token, slash, path = self.path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), self.server.address.token.encode()):
            message = "the address is not whole: take the one that textenv rate printed"
            self._refuse(HTTPStatus.NOT_FOUND, message)
            return None
        if not slash:
            self._refuse(HTTPStatus.NOT_FOUND, "the address ends with a slash")
            return None
        return path.partition("?")[0]

    def _own_site(self) -> bool:
        """Whether the browser, if it says, means our own page or an address that was typed.

        A link in another page, as in a terminal that is one, may lead here: it only shows the page
        and tells the other nothing.
        """
        site = self.headers.get("Sec-Fetch-Site", "same-origin")
        linked = (
            self.command == "GET"
            and self.headers.get("Sec-Fetch-Mode") == "navigate"
            and self.headers.get("Sec-Fetch-Dest") == "document"
        )
        return site in ("same-origin", "none") or linked

    def _is_known(self, rater: Any) -> bool:
        return isinstance(rater, str) and self.server.session.database.has_rater(rater)

    def _known(self, rater: Any) -> str:
        if not self._is_known(rater):
            raise RequestError(f"nobody has the code {rater!r:.60} here: look at its spelling")
        return str(rater)

    def _remembered(self) -> str | None:
        """The pseudonym that the browser remembers, if it is one of this database."""
        try:
            cookies = SimpleCookie(self.headers.get("Cookie", ""))
        except CookieError:
            return None
        cookie = cookies.get(self.server.cookie)
        return cookie.value if cookie is not None and self._is_known(cookie.value) else None

    def _body(self) -> dict[str, Any]:
        kind = self.headers.get_content_type()
        if kind != "application/json":  # which no form of another page can send
            raise RequestError(f"expected application/json, got {kind}")
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or int(length) > LARGEST_BODY:
            self.close_connection = True  # what follows is not read
            raise RequestError(f"expected a body of up to {LARGEST_BODY} bytes, got {length!r:.20}")
        try:
            body = json.loads(self.rfile.read(int(length)))
            json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair is no text
        except (ValueError, RecursionError) as error:
            raise RequestError(f"the body is no JSON: {error}") from error
        if not isinstance(body, dict):
            raise RequestError("expected a JSON object")
        return body

    # Answers

    def _send_json(
        self, content: dict[str, Any], status: int = HTTPStatus.OK, rater: str | None = None
    ) -> None:
        data = json.dumps(content).encode()
        cookie = None
        if rater is not None:
            # Only under the secret: another server on this machine shall not be told the code.
            where = f"Path=/{self.server.address.token}/"
            cookie = f"{self.server.cookie}={rater}; {where}; Max-Age={YEAR}; {_CLOSED}"
        self._send(data, "application/json", status, cookie)

    def _refuse(self, status: int, message: str) -> None:
        if self.command == "POST":  # its body may not have been read
            self.close_connection = True
        self._send_json({"error": message}, status)

    def _send(
        self, data: bytes, kind: str, status: int = HTTPStatus.OK, cookie: str | None = None
    ) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if cookie is not None:
            self.send_header("Set-Cookie", cookie)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what the standard library refuses, such as other methods, in our own way."""
        self.close_connection = True
        self._send_json({"error": message or HTTPStatus(code).phrase}, code)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep no log: it would say when somebody rated."""
