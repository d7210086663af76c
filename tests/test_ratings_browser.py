"""People at the page: whole sessions in a real browser, several raters, a server that goes away."""

# ruff: noqa: F811 (fixtures are named twice: where they come from and where they are used)
import pytest

from tests.ratings_browser import (  # noqa: F401 (fixtures)
    Page,
    add,
    chromium,
    numbered,
    path,
    raters_per_pair,
    server,
    visit,
)
from textenv.preferences.database import Database, NewText, RatingsError
from textenv.preferences.page import PageServer

# A person's whole session


def test_a_whole_session(visit, path):
    """Choose by key and by click, tie, skip, flag, undo, rate one text, finish, see the results."""
    add(path, *numbered(6))
    with Database(path) as database:
        database.add_texts(1, [NewText("the service was", "slow", "new")])
    page = visit().open()
    assert page.text("#count") == "0 of 7"
    assert page.text("#prompt") == "prompt 0"
    assert page.page.get_attribute("#undo", "aria-disabled") == "true"

    chosen = [page.sides()[0]]
    page.press("1")
    chosen.append(page.sides()[1])
    page.press("ArrowRight")
    chosen.append(page.sides()[0])
    page.click("button[data-answer=left]")
    assert page.text("#count") == "3 of 7"
    page.press("=")  # equal, but on second thoughts:
    page.click("#undo")
    assert page.text("#prompt") == "prompt 3"
    assert "Taken back" in page.text("#status")
    chosen.append(page.sides()[1])
    page.click("button[data-answer=right]")
    page.press("s")
    page.press("f")
    assert page.text("#text") == "slow"
    assert page.page.is_hidden("#pair")
    assert page.text("#steps") == "−4−3−2−101234"
    page.press("2", "finished")
    assert page.text("#heading") == "All done. Thank you."
    assert page.page.is_hidden("#choices")
    page.press("u")
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("ArrowRight")  # from the middle, 0, to 1
    page.press("Enter", "finished")

    with Database(path) as database:
        assert [each.chosen for each in database.comparisons()] == chosen
        assert [each.rating for each in database.ratings()] == [1.0]
        assert [each.answer for each in database.answers()][4:6] == ["skip", "flag"]
    page.page.click("text=See the results")
    page.wait()
    assert page.text("#counts") == "one preferred4equal0numbers1skipped1flagged1"
    assert "new against old" in page.text("#wins")
    assert "4 pairs" in page.text("#wins")
    assert "prompt 5" in page.text("#flagged-list")
    page.page.click("nav a")
    page.wait("finished")


def test_a_reviewer_removes_and_puts_back(visit, path):
    add(path, ("bad prompt", "bad", "worse"), flagged="listed word")
    page = visit().open("results.html")
    page.page.click("text=Remove")
    page.page.wait_for_selector("text=Removed: nobody is asked")
    page.open(state="finished")
    page.open("results.html")
    page.page.click("text=Review again")
    page.page.click("text=Fine")
    page.page.wait_for_selector("text=Reviewed: fine.")
    page.open()
    assert page.text("#prompt") == "bad prompt"


def test_a_double_click_is_one_answer(visit, path):
    add(path, *numbered(3))
    page = visit(hurry=False).open()
    page.page.dblclick("button[data-answer=left]")
    page.wait()
    assert page.text("#count") == "1 of 3"
    page.page.keyboard.down("1")
    for _ in range(5):  # held down: it repeats
        page.page.keyboard.down("1")
    page.page.keyboard.up("1")
    page.page.wait_for_selector("#count:text('2 of 3')")
    page.page.wait_for_timeout(300)  # for a third one, which would be wrong
    assert page.text("#count") == "2 of 3"


def test_a_page_that_is_loaded_again_looks_the_same(visit, path):
    add(path, *numbered(8))
    page = visit().open()
    for _ in range(4):
        shown = page.shown()
        page.open()
        assert page.shown() == shown
        page.press("0")


def test_tabs_keep_out_of_each_others_way(visit, path):
    """Two tabs of one browser show one question; the second answer to it is not kept."""
    add(path, *numbered(3))
    page = visit().open()
    other = page.context.new_page()
    other.goto(page.address)
    other.wait_for_selector("main[data-state=ready]")
    page.press("0")
    other.keyboard.press("1")
    other.wait_for_selector("text=You had answered this already")
    with Database(path) as database:
        assert [each.answer for each in database.answers()] == ["tie"]


# Several raters


@pytest.mark.parametrize("raters_per_pair", [2])
def test_several_raters_agree(visit, path, raters_per_pair):
    add(path, *numbered(4))
    pages = [visit().open(), visit().open()]
    assert pages[0].text("#who") != pages[1].text("#who")
    for page in pages:
        for number in range(4):
            left = page.sides()[0].startswith("first")
            page.press("1" if left else "2", "ready" if number < 3 else "finished")
    third = visit().open(state="finished")
    assert third.text("#heading") == "Nothing to rate now."
    third.open("results.html")
    assert "By 2 raters (4, 4 answers)" in third.text("#raters")
    assert "Cohen's κ, rater 1 and rater 2" in third.text("#agreement")
    assert pages[0].text("#who") not in third.page.content()


def test_the_last_places_are_with_others(visit, path):
    add(path, *numbered(1))
    one, other = visit().open(), visit().open(state="finished")
    assert other.text("#heading") == "Nearly done."
    one.press("1", "finished")


def test_a_rater_goes_on_with_a_code(visit, path):
    add(path, *numbered(3))
    one = visit().open().press("1")
    other = visit().open()
    other.page.click("#who")
    other.page.fill("#enter-code", "no-such-code")
    other.page.click("#enter")
    other.page.wait_for_selector("text=nobody has the code")
    other.errors.clear()  # the browser's own line about the status 400
    other.page.fill("#enter-code", one.text("#who"))
    other.page.keyboard.press("Enter")
    other.page.wait_for_selector("#help", state="hidden")
    other.wait()
    assert other.text("#count") == "1 of 3"
    assert other.text("#who") == one.text("#who")
    other.page.keyboard.press("?")
    other.page.click("#leave")
    other.page.wait_for_selector("#help", state="hidden")
    assert other.text("#who") != one.text("#who")


# Where the server goes away


def test_an_answer_waits_for_the_server(visit, path, server):
    add(path, *numbered(3))
    page = visit().open()
    chosen = page.sides()[0]
    page.offline = True
    page.context.set_offline(True)
    page.page.keyboard.press("1")
    page.wait("waiting")
    assert page.text("#status").startswith("The server does not answer. Your answer is kept")
    page.page.keyboard.press("2")  # takes nothing meanwhile
    page.context.set_offline(False)
    page.wait()
    assert page.text("#count") == "1 of 3"
    with Database(path) as database:
        assert [each.chosen for each in database.comparisons()] == [chosen]


def test_an_answer_outlives_the_server_and_the_tab(path, chromium):
    add(path, *numbered(3))
    with PageServer(path) as server:
        page = Page(chromium, server).open()
        chosen = page.sides()[1]
        page.offline = True
    page.page.keyboard.press("2")  # nobody is there
    page.wait("waiting")
    page.page.close()
    with PageServer(path) as server:  # the same address again
        page.page = page.context.new_page()
        page.open()
        assert page.text("#count") == "1 of 3"
    page.context.close()
    with Database(path) as database:
        assert [each.chosen for each in database.comparisons()] == [chosen]


def test_an_answer_whose_acknowledgement_is_lost_is_kept_once(visit, path):
    add(path, *numbered(3))
    page = visit().open()
    lost = []
    losing = True

    def lose(route):
        if losing:
            lost.append(route.fetch())  # it arrives, and the answer does not
            route.abort()
        else:
            route.continue_()

    page.offline = True
    page.page.route("**/api/rate", lose)
    page.page.keyboard.press("1")
    page.wait("waiting")  # until it is seen: the state itself is short
    losing = False
    page.wait("ready")
    assert lost
    assert all(each.ok for each in lost)
    with Database(path) as database:
        assert len(database.answers()) == 1
    assert page.text("#count") == "1 of 3"


def test_a_full_disk_is_said_and_the_answer_kept(visit, path, server, monkeypatch):
    add(path, *numbered(2))
    page = visit().open()
    page.offline = True
    with monkeypatch.context() as patch:

        def full(*arguments, **keywords):
            raise RatingsError("the disk is full")

        patch.setattr(server.session.database, "rate_pair", full)
        page.page.keyboard.press("1")
        page.wait("waiting")
        assert "The server says: the disk is full." in page.text("#status")
    page.wait()
    assert page.text("#count") == "1 of 2"
