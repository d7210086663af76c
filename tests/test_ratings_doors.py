"""Whom the server of the page lets in, and one server for each database."""

# ruff: noqa: F811 (fixtures are named twice: where they come from and where they are used)
import http.client
import os
import re
import stat
import subprocess
import sys

import pytest

from tests.ratings_client import Browser, browser, path, server  # noqa: F401 (fixtures)
from textenv.preferences.database import Database, RatingsError
from textenv.preferences.page import PageServer, serve
from textenv.preferences.page.lock import Address, Lock

# Who is let in


def test_files_are_sent_with_closed_doors(browser):
    for name, kind in [("", "text/html"), ("results.html", "text/html"), ("style.css", "text/css"),
                       ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")]:  # fmt: skip
        status, headers, content = browser.ask("GET", name)
        assert status == 200
        assert content
        assert headers["Content-Type"].startswith(kind)
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"


def test_no_file_has_a_script_inside_or_an_outside_address(browser):
    for name in ("", "results.html"):
        page = browser.ask("GET", name)[2].decode()
        assert re.findall(r"<script(?![^>]* src=)", page) == []
        assert re.findall(r'\son\w+="|style="|https?:', page) == []
    for name in ("page.js", "results.js", "server.js", "theme.js", "style.css"):
        source = browser.ask("GET", name)[2].decode()
        assert (
            re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", source) == []
        )
        assert re.findall(r"https?:|@import|url\(", source) == []


@pytest.mark.parametrize("name", ["nothing.js", "../handler.py", "..%2fhandler.py", "__init__.py"])
def test_no_other_file_is_sent(browser, name):
    assert browser.ask("GET", name)[0] == 404


def test_the_address_needs_its_secret(browser, server):
    assert len(server.address.token) >= 22  # 128 bits
    for token in ("x", server.address.token[:-1], server.address.token + "x"):
        assert browser.ask("GET", "", token=token)[0] == 404
        assert browser.ask("POST", "api/state", {}, token=token)[0] == 404
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=10)
    for where in ("/", f"/{server.address.token}"):
        connection.request("GET", where, headers={"Host": server.address.host})
        response = connection.getresponse()
        assert response.status == 404
        assert server.address.token.encode() not in response.read()
    connection.close()


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"Host": "evil.example"}),  # a name that was pointed at 127.0.0.1
        ("GET", {"Host": "127.0.0.1:1"}),
        ("GET", {"Host": None}),
        ("POST", {"Host": "evil.example"}),
        ("POST", {"Origin": "http://evil.example"}),
        ("POST", {"Origin": "null"}),
        ("POST", {"Origin": "http://127.0.0.1:1"}),  # another server on this machine
        ("POST", {"Origin": None, "Sec_Fetch_Site": "cross-site"}),
        ("POST", {"Origin": None, "Sec_Fetch_Site": "same-site"}),
        ("GET", {"Sec_Fetch_Site": "cross-site"}),
        ("GET", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors",
                 "Sec_Fetch_Dest": "script"}),
        ("GET", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate",
                 "Sec_Fetch_Dest": "iframe"}),
        ("POST", {"Origin": None, "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate",
                  "Sec_Fetch_Dest": "document"}),
    ],
)  # fmt: skip
def test_foreign_pages_are_refused(browser, path, method, headers):
    body = {} if method == "POST" else None
    status, _, content = browser.ask(method, "api/state" if body == {} else "", body, **headers)
    assert status == 403
    assert b"rater" not in content
    with Database(path) as database:
        assert database._connection.execute("SELECT count(*) FROM raters").fetchone()[0] == 0


def test_a_link_in_another_page_may_lead_here(browser, server):
    arriving = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate",
                "Sec_Fetch_Dest": "document"}  # fmt: skip
    assert browser.ask("GET", "", **arriving)[0] == 200
    assert browser.ask("GET", "", Sec_Fetch_Site="none")[0] == 200
    assert browser.ask("GET", "", Host=f"localhost:{server.address.port}")[0] == 200


def test_bodies_are_json_and_small(browser):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        assert browser.ask("POST", "api/state", {}, Content_Type=kind)[0] == 400
    status, _, content = browser.ask("POST", "api/state", None, Content_Length=str(2**17))
    assert status == 400
    assert b"up to 65536 bytes" in content
    assert browser.ask("POST", "api/state", None, Content_Length="-1")[0] == 400
    assert browser.ask("POST", "api/state", None, Content_Length=None)[0] == 400
    for wrong in (b"{", b"[]", b"\xff", b"[" * 60_000, b'{"rater": "\\ud800"}'):
        assert browser.ask("POST", "api/state", wrong)[0] == 400
    assert browser.ask("POST", "api/nothing", {})[0] == 400


def test_other_methods_are_refused(browser):
    for method in ("PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"):
        status, headers, _ = browser.ask(method, "")
        assert status == 501
        assert "Access-Control-Allow-Origin" not in headers


def test_the_pseudonym_is_kept_closed(browser, server):
    _, headers, _ = browser.ask("POST", "api/state", {})
    cookie = headers["Set-Cookie"]
    assert f"Path=/{server.address.token}/;" in cookie  # no other server here is told
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    browser.cookie = browser.cookie.partition("=")[0] + "=forged-name-1"
    assert browser.post("state")[1]["rater"] != "forged-name-1"


def test_only_this_machine_is_listened_to(server):
    assert server.server_address[0] == "127.0.0.1"


# One page for each database


def test_two_pages_on_one_database_are_refused(server, path):
    with pytest.raises(RatingsError, match=rf"the process {os.getpid()} serves a page"):
        PageServer(path)


def test_the_lock_ends_with_its_process(path):
    code = (
        "import sys, time\n"
        "from textenv.preferences.page import PageServer\n"
        "with PageServer(sys.argv[1]) as server:\n"
        "    print(server.address, flush=True)\n"
        "    time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    address = other.stdout.readline().strip()
    with pytest.raises(RatingsError, match=f"the process {other.pid} serves"):
        PageServer(path)
    other.kill()
    other.wait()
    other.stdout.close()
    with PageServer(path) as server:  # an open page and a bookmark go on
        assert str(server.address) == address
    file = path.with_name("ratings.sqlite.page")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.unlink()
    with PageServer(path) as server:
        assert str(server.address) != address


@pytest.mark.parametrize("left", ["", "{", "[]", '{"port": "x", "token": 1}', '{"port": 99999999}'])
def test_a_damaged_lock_file_is_written_anew(path, left):
    path.with_name("ratings.sqlite.page").write_text(left)
    with PageServer(path) as server:
        assert Browser(server).ask("GET", "")[0] == 200


def test_a_port_that_is_taken(server, path, tmp_path):
    other = tmp_path / "other.sqlite"
    Database(other).close()
    with pytest.raises(RatingsError, match=f"port {server.address.port} is taken"):
        PageServer(other, port=server.address.port)
    with PageServer(other) as elsewhere:
        assert elsewhere.address.port != server.address.port


def test_what_cannot_be_served_is_an_error(path, tmp_path):
    with pytest.raises(RatingsError, match="no ratings database at"):
        PageServer(tmp_path / "nowhere.sqlite")
    with pytest.raises(ValueError, match="port in 0 … 65535, got 70000"):
        PageServer(path, port=70000)
    with pytest.raises(ValueError, match="raters_per_pair ≥ 1"):
        PageServer(path, raters_per_pair=0)
    with pytest.raises(ValueError, match="2 … 21 whole numbers, got 3 … 3"):
        PageServer(path, scale=(3, 3))
    PageServer(path).server_close()  # nothing is left locked
    lock = path.with_name("ratings.sqlite.page")
    lock.unlink()
    lock.mkdir()
    with pytest.raises(RatingsError, match="needs a file beside its database"):
        PageServer(path)
    with pytest.raises(RatingsError, match=r"sqlite\.page' cannot be written"):
        Lock(path).write(Address(1, "x"))


def test_serve_says_where_and_ends_quietly(path, monkeypatch):
    shown = []

    def interrupted(self, *arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(PageServer, "serve_forever", interrupted)
    serve(path, output=shown.append)
    assert re.match(r"Rate here: http://127\.0\.0\.1:\d+/[\w-]{22}/$", shown[0])
    assert "acknowledged" in shown[-1]
    serve(path, output=shown.append)  # the lock was let go


def test_a_page_loads_no_torch():
    code = "import sys, textenv.preferences.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
