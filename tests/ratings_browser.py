"""A browser for the tests of the page: headless Chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
from urllib.parse import urlsplit

import pytest

from textenv.preferences.database import Database, NewPair
from textenv.preferences.page import PageServer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
# The page waits after each answer (so that a double click is one) and before it tries again: a
# tenth of that is long enough for a script.
HURRY = """(() => {
    const later = setTimeout;
    window.setTimeout = (call, wait, ...more) => later(call, wait / 10, ...more);
})()"""


@pytest.fixture(scope="module")
def chromium():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if sync_playwright is None or CHROMIUM is None:
        message = "needs playwright and a Chromium: apt-get install chromium fonts-wqy-microhei"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ratings.sqlite"
    with Database(path) as database:
        database.add_round(1)
    return path


@pytest.fixture
def raters_per_pair():
    """A test with another number has a fixture or parameter of this name."""
    return 1


@pytest.fixture
def server(path, raters_per_pair):
    with PageServer(path, raters_per_pair=raters_per_pair) as server:
        yield server


class Page:
    """One browser with a rater; what went wrong in it and what it asked for is written down."""

    def __init__(self, chromium, server, *, hurry=True, **settings):
        self.context = chromium.new_context(**settings)
        if hurry:
            self.context.add_init_script(HURRY)
        self.address = str(server.address)
        self.page = self.context.new_page()
        self.asked, self.errors = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._console)
        self.offline = False  # then failed requests are no errors

    def _console(self, message):
        if message.type in ("error", "warning") and not self.offline:
            self.errors.append(message.text)

    def open(self, name="", state="ready"):
        self.page.goto(self.address + name)
        return self.wait(state)

    def wait(self, state="ready"):
        self.page.wait_for_selector(f"main[data-state={state}]", timeout=20_000)
        return self

    def press(self, key, state="ready"):
        """Press a key and wait until the next question, or the end, is there."""
        before = self.text("#count"), self.shown()
        self.page.keyboard.press(key)
        self.page.wait_for_function(
            "([count, shown]) => document.querySelector('#count').textContent !== count"
            " || document.querySelector('#asked').innerText !== shown",
            arg=list(before),
        )
        return self.wait(state)

    def click(self, selector, state="ready"):
        self.page.click(selector)
        self.page.wait_for_selector("main:not([data-state=busy])")
        return self.wait(state)

    def shown(self):
        return self.page.eval_on_selector("#asked", "element => element.innerText")

    def text(self, selector):
        return self.page.text_content(selector)

    def sides(self):
        return self.text("#left"), self.text("#right")


@pytest.fixture
def visit(chromium, server):
    pages = []

    def visit(**settings):
        pages.append(Page(chromium, server, **settings))
        return pages[-1]

    yield visit
    for page in pages:
        assert page.errors == []
        hosts = {urlsplit(url).netloc for url in page.asked}
        assert hosts == {server.address.host}, "a request went elsewhere"
        page.context.close()


def add(path, *pairs, **more):
    with Database(path) as database:
        database.add_pairs(1, [NewPair(*pair, "new", "old", **more) for pair in pairs])


def numbered(n):
    return [(f"prompt {i}", f"first {i}", f"second {i}") for i in range(n)]
