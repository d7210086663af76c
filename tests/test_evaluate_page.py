"""The page of samples in a real browser: nothing runs, nothing is asked for; sorting, finding."""

from __future__ import annotations

import pytest

from tests.ratings_browser import chromium  # noqa: F401
from tests.test_evaluate_measures import a_report
from textenv.evaluate import page


@pytest.fixture
def opened(chromium, tmp_path):  # noqa: F811
    path = tmp_path / "samples.html"
    path.write_text(page(a_report()), "utf-8")
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    tab = context.new_page()
    asked, errors = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text))
    tab.goto(path.as_uri())
    yield tab
    assert asked == [path.as_uri()]
    assert errors == []
    context.close()


def numbers(tab):
    return [int(text) for text in tab.locator("article:visible .number").all_inner_texts()]


def test_texts_stay_texts(opened):
    assert opened.title().endswith("textenv/Small-v0")
    shown = opened.locator("article").first
    assert "<script>document.title = 'out'</script>" in shown.inner_text()
    assert "<img src=x onerror=alert(1)>" in shown.inner_text()
    direction = "element => getComputedStyle(element).direction"
    texts = opened.locator("article").nth(2).locator(".text").first
    assert texts.evaluate(direction) == "rtl"
    assert opened.evaluate("document.documentElement.scrollWidth") == 390  # fits a phone


def test_finding_choosing_and_sorting(opened):
    assert numbers(opened) == [1, 2, 3, 4, 5]
    opened.fill("#find", "我爱你")
    assert numbers(opened) == [2]
    opened.fill("#find", "")
    opened.select_option("#show", "better")
    assert numbers(opened) == [1, 5]
    opened.select_option("#show", "flagged")
    assert numbers(opened) == [1]
    opened.select_option("#show", "all")
    opened.select_option("#sort", "reward down")
    assert numbers(opened) == [5, 4, 3, 2, 1]
    assert opened.inner_text("#count") == "5 of 5"
