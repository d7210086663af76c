"""A client for the tests of the page's server, which knows as much as the server can tell."""

from __future__ import annotations

import http.client
import json

import pytest

from textenv.preferences.database import Database, NewPair, NewText
from textenv.preferences.page import PageServer


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ratings.sqlite"
    with Database(path) as database:
        database.add_round(1)
        database.add_pairs(1, [NewPair("p", f"a{i}", f"b{i}", "new", "old") for i in range(6)])
        database.add_texts(1, [NewText("p", "alone", "new")])
    return path


@pytest.fixture
def server(path):
    with PageServer(path) as server:
        yield server


class Browser:
    """As much of one as the server can tell."""

    def __init__(self, server):
        self.server, self.cookie = server, None

    def ask(self, method, path, body=None, token=None, **headers):
        """Return status, headers and body; a header that is None is left out."""
        address = self.server.address
        connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=10)
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Host": address.host, "Cookie": self.cookie}
        if method == "POST":
            sent |= {"Origin": f"http://{address.host}", "Content-Type": "application/json"}
            sent |= {"Content-Length": str(len(content or b"")), "Sec-Fetch-Site": "same-origin"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, f"/{token or address.token}/{path}", skip_host=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(content)
        response = connection.getresponse()
        found = response.status, dict(response.headers), response.read()
        connection.close()
        if "Set-Cookie" in found[1]:
            self.cookie = found[1]["Set-Cookie"].partition(";")[0]
        return found

    def post(self, path, **body):
        status, _, content = self.ask("POST", f"api/{path}", body)
        return status, json.loads(content)

    def rate(self, state, answer, key, changes=None):
        asked = state["question"]
        body = {"rater": state["rater"], "question": asked["id"], "kind": asked["kind"]}
        return self.post("rate", **{**body, "answer": answer, "key": key, **(changes or {})})


@pytest.fixture
def browser(server):
    return Browser(server)
