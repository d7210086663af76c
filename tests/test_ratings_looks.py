"""How the page looks in a real browser: all kinds of text, dark and light, narrow, accessible."""

# ruff: noqa: F811 (fixtures are named twice: where they come from and where they are used)
import re

import pytest

from tests.ratings_browser import (  # noqa: F401 (fixtures)
    add,
    chromium,
    numbered,
    path,
    raters_per_pair,
    server,
    visit,
)
from textenv.preferences.database import Database, NewText

SCRIPT = "<script>window.hacked = true</script><img src=x onerror='window.hacked = true'>"
CHINESE = "真好，我们一起去公园散步吧。"
ARABIC = "رائعًا من البداية إلى النهاية (2024)."
HEBREW = "סרט טוב, גם הסוף!"


# Texts of all kinds


def test_a_generated_script_is_shown_and_not_run(visit, path):
    add(path, (SCRIPT, SCRIPT, "\n\n"), flagged=f"listed {SCRIPT}")
    page = visit().open()
    assert page.text("#prompt") == SCRIPT
    assert sorted(page.sides()) == sorted([SCRIPT, "(no text)"])
    assert SCRIPT in page.text("#flagged")
    page.press("f", "finished")
    page.open("results.html")
    assert SCRIPT in page.text("#flagged-list")
    assert page.page.evaluate("window.hacked") is None
    assert page.page.evaluate("document.querySelectorAll('main script, main img').length") == 0


def test_chinese_and_right_to_left_text(visit, path):
    add(path, ("كان الفيلم", ARABIC, HEBREW), ("今天的天气", CHINESE, f"3 {ARABIC}\nthen English"))
    page = visit().open()

    def directions(*ids):
        style = "id => getComputedStyle(document.getElementById(id)).direction"
        return [page.page.evaluate(style, name) for name in ids]

    assert sorted(page.sides()) == sorted([ARABIC, HEBREW])
    assert directions("prompt", "left", "right") == ["rtl"] * 3
    assert page.page.evaluate("document.querySelector('#left').parentElement.dir") == "rtl"
    # It begins at the right edge of its card: the first letter's box is the rightmost.
    edges = """id => {
        const range = document.createRange(), node = document.getElementById(id).firstChild;
        range.setStart(node, 0); range.setEnd(node, 1);
        const card = document.getElementById(id).getBoundingClientRect();
        return card.right - range.getBoundingClientRect().right;
    }"""
    assert page.page.evaluate(edges, "left") < 3
    page.press("1")
    assert directions("prompt") == ["ltr"]
    side = "left" if page.sides()[0] == CHINESE else "right"
    other = {"left": "right", "right": "left"}[side]
    assert directions(side, other) == ["ltr", "rtl"]  # a digit has no direction, Arabic has
    assert page.text(f"#{other}").endswith("\nthen English")


# Looks and access


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_and_light(visit, path, scheme):
    add(path, *numbered(1))
    page = visit(color_scheme=scheme).open()
    dark = "getComputedStyle(document.body).backgroundColor"
    colours = {"light": "rgb(246, 245, 241)", "dark": "rgb(20, 23, 26)"}
    other = {"light": "dark", "dark": "light"}[scheme]
    assert page.page.evaluate(dark) == colours[scheme]
    assert page.page.get_attribute("#theme", "aria-label") == f"Switch to {other}"
    page.page.click("#theme")
    assert page.page.evaluate(dark) == colours[other]
    page.open("results.html")
    assert page.page.evaluate(dark) == colours[other]  # it is remembered


LONG = ("words and words " * 60, "x" * 3000, "y\n" * 40)


@pytest.mark.parametrize("width", [360, pytest.param(768, marks=pytest.mark.slow), 1280])
def test_it_fits_every_width(visit, path, width):
    add(path, LONG)
    with Database(path) as database:
        database.add_texts(1, [NewText("p", "z" * 500)])
    page = visit(viewport={"width": width, "height": 740}, has_touch=True).open()
    box = {name: page.page.locator(f"#{name}").bounding_box() for name in ("left", "right")}
    stacked = box["right"]["y"] >= box["left"]["y"] + box["left"]["height"]
    assert stacked == (width < 704)
    wide = "document.documentElement.scrollWidth"
    assert page.page.evaluate(wide) <= width
    assert page.page.locator("button[data-answer=tie]").is_visible()
    page.page.tap("button[data-answer=tie]")
    page.wait()
    page.page.wait_for_selector("#single:not([hidden])")
    page.wait()
    assert page.page.evaluate(wide) <= width
    page.page.click("#help-open")
    assert page.page.evaluate(wide) <= width
    page.page.keyboard.press("Escape")
    for button in page.page.locator("button:visible").all():
        size = button.bounding_box()
        assert size["height"] >= 24, button.inner_text()
        assert size["width"] >= 24, button.inner_text()
    page.open("results.html")
    assert page.page.evaluate(wide) <= width


CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const part = (c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] > 200) return colour;
    }
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility() || element.closest("[aria-disabled=true]")) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, element.id || element.className || element.tagName]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(visit, path, scheme):
    """WCAG 2.2 AA: 4.5 for every text that is shown."""
    add(path, *numbered(2), flagged="listed word")
    with Database(path) as database:
        database.add_texts(1, [NewText("p", "alone", "new")])
    page = visit(color_scheme=scheme, reduced_motion="reduce").open()
    found = page.page.evaluate(CONTRASTS)
    page.page.click("#help-open")
    found += page.page.evaluate(CONTRASTS)
    page.page.keyboard.press("Escape")
    page.press("1").press("2")
    found += page.page.evaluate(CONTRASTS)
    page.press("9", "finished")
    found += page.page.evaluate(CONTRASTS)
    page.open("results.html")
    found += page.page.evaluate(CONTRASTS)
    assert len(found) > 100
    assert [each for each in found if each[0] < 4.5] == []


def test_names_and_focus(visit, path):
    """Each control has a name, Tab reaches all of them, and focus is seen."""
    add(path, *numbered(2))
    page = visit().open()
    for role in ("button", "link", "progressbar", "textbox"):
        for control in page.page.get_by_role(role).all():
            tree = control.aria_snapshot()
            assert re.search(r'"[^"]+"', tree), tree
    reached = []
    for _ in range(14):
        page.page.keyboard.press("Tab")
        reached.append(page.page.evaluate(
            "(e => [e.id || e.dataset.answer || e.className || e.textContent,"
            " getComputedStyle(e).outlineStyle, getComputedStyle(e).outlineWidth])"
            "(document.activeElement)"
        ))  # fmt: skip
    names = {each[0] for each in reached}
    assert {"jump", "Results", "theme", "help-open", "left", "tie", "right", "skip"} <= names
    focused = [each for each in reached if each[0] in ("theme", "left", "tie", "undo")]
    assert all(each[1:] == ["solid", "3px"] for each in focused)
    page.page.focus("button[data-answer=tie]")
    page.press("Enter")
    assert page.text("#status") == "Kept. 1 of 2 done."
    assert page.page.get_attribute("#status", "aria-live") == "polite"
    assert page.page.get_attribute("html", "lang") == "en"


def test_motion_can_be_reduced(visit, path):
    add(path, *numbered(2))
    page = visit(reduced_motion="reduce").open()
    page.page.evaluate("document.querySelector('main').dataset.state = 'pause'")
    style = "getComputedStyle(document.querySelector('#asked')).animationName"
    assert page.page.evaluate(style) == "none"


# Foreign pages


def test_a_foreign_page_gets_nothing(chromium, path, server):
    """Another origin that knows the address, secret and all, can neither read nor rate."""
    add(path, *numbered(1))
    context = chromium.new_context()
    page = context.new_page()
    page.route("http://foreign.example/**", lambda route: route.fulfill(
        body="<p>foreign</p>", content_type="text/html"))  # fmt: skip
    page.goto("http://foreign.example/")
    tried = page.evaluate(
        """async (address) => {
            const tries = [
                fetch(address),
                fetch(address + "api/state", { method: "POST", body: "{}",
                    headers: { "Content-Type": "application/json" } }),
                fetch(address + "api/state", { method: "POST", body: "{}", mode: "no-cors" }),
            ];
            const all = await Promise.allSettled(tries);
            return all.map((each) => each.value ? each.value.status : "refused");
        }""",
        str(server.address),
    )
    assert tried[:2] == ["refused", "refused"]
    assert tried[2] in (0, "refused")  # opaque: it was answered 403
    context.close()
    with Database(path) as database:
        assert database._connection.execute("SELECT count(*) FROM raters").fetchone()[0] == 0
