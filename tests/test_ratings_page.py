"""What the server of the page answers; in a browser it is tested in test_ratings_browser.py."""

# ruff: noqa: F811 (fixtures are named twice: where they come from and where they are used)
import json

import pytest

from tests.ratings_client import Browser, browser, path, server  # noqa: F401 (fixtures)
from textenv.preferences.database import Database
from textenv.preferences.sides import first_is_left

# A session


def test_a_session_keeps_the_right_text(browser, path):
    _, state = browser.post("state")
    chosen = []
    while state["question"]["kind"] == "pair":
        asked = state["question"]
        side = "left" if asked["id"] % 2 else "right"
        chosen.append(asked[side])
        status, state = browser.rate(state, side, f"key number {asked['id']}")
        assert status == 200
    assert browser.rate(state, -4, "a last key")[1]["question"] is None
    with Database(path) as database:
        assert [each.chosen for each in database.comparisons()] == chosen
        assert [each.rating for each in database.ratings()] == [-4.0]
        sides = [each.first_left for each in database.answers()]
    rater = state["rater"]
    with Database(path) as database:
        assert sides[:6] == [first_is_left(database.salt, n, rater) for n in range(1, 7)]


def test_sides_are_shuffled_over_pairs_and_raters_and_stay():
    sides = [first_is_left("salt", pair, f"r{rater}") for pair in range(80) for rater in range(50)]
    assert abs(sum(sides) / 4000 - 0.5) < 0.03
    assert sides == [first_is_left("salt", p, f"r{r}") for p in range(80) for r in range(50)]
    of_one_pair = [first_is_left("salt", 1, f"r{rater}") for rater in range(200)]
    assert 60 < sum(of_one_pair) < 140
    assert sides != [first_is_left("pepper", p, f"r{r}") for p in range(80) for r in range(50)]


def test_a_rater_sees_nothing_of_policies_and_of_others(browser):
    browser.post("state")
    _, state = browser.post("state")
    assert set(state) == {"rater", "question", "done", "total", "elsewhere", "scale", "last"}
    assert set(state["question"]) == {"id", "kind", "prompt", "flagged", "left", "right"}


def test_an_answer_that_is_sent_twice_is_kept_once(browser, path):
    _, state = browser.post("state")
    first = browser.rate(state, "left", "the same key")
    assert browser.rate(state, "left", "the same key") == first
    status, other = browser.rate(state, "right", "another key")
    assert (status, other["note"]) == (200, "already rated")
    with Database(path) as database:
        assert len(database.answers()) == 1


def test_undo_that_is_sent_twice_takes_back_one(browser, path):
    _, state = browser.post("state")
    first = state["question"]
    _, state = browser.rate(state, "tie", "the first key")
    _, state = browser.rate(state, "flag", "the second key")
    request = {"rater": state["rater"], "rating": state["last"]}
    _, undone = browser.post("undo", **request)
    assert browser.post("undo", **request)[1] == undone
    assert undone["question"]["id"] != first["id"]
    _, again = browser.post("undo", rater=state["rater"], rating=undone["last"])
    assert again["question"] == first  # on the same sides
    assert again["last"] is None
    with Database(path) as database:
        assert database.answers() == []


def test_each_browser_gets_a_pseudonym_and_can_go_on_with_a_code(server):
    one, other = Browser(server), Browser(server)
    first, second = one.post("state")[1], other.post("state")[1]
    assert first["rater"] != second["rater"]
    assert first["question"]["id"] != second["question"]["id"]
    assert one.post("state")[1] == {**first, "elsewhere": 1}
    assert other.post("enter", code=f"  {first['rater'].upper()} ")[1]["rater"] == first["rater"]
    assert other.post("state")[1]["rater"] == first["rater"]
    assert other.post("leave")[1]["rater"] not in (first["rater"], second["rater"])
    status, answer = other.post("enter", code="no-such-1234")
    assert status == 400
    assert "nobody has the code 'no-such-1234'" in answer["error"]


def test_an_answer_belongs_to_whom_it_was_shown(server, path):
    """Another tab of the same browser may have become somebody else meanwhile."""
    browser = Browser(server)
    _, state = browser.post("state")
    browser.post("leave")
    _, after = browser.rate(state, "left", "an old tab's")
    assert after["rater"] == state["rater"]
    with Database(path) as database:
        assert database.comparisons()[0].chosen == state["question"]["left"]
        assert database.comparisons()[0].rater == state["rater"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "middle"}, "expected one of left, right"),
        ({"answer": None}, "expected one of left, right"),
        ({"question": 99}, "no pair to rate has the number 99"),
        ({"question": True}, "expected \"question\", a number"),
        ({"question": "1"}, "expected \"question\", a number"),
        ({"question": 10**30}, "a number of one, got 1000000"),
        ({"question": -1}, "a number of one, got -1"),
        ({"key": ""}, "\"key\", a text of 8 … 80"),
        ({"key": 12345678}, "\"key\", a text of 8 … 80"),
        ({"rater": "nobody-here-1"}, "nobody has the code"),
        ({"rater": ["a"]}, "nobody has the code"),
        ({"rater": "\ud800"}, "surrogates not allowed"),
        ({"key": "\ud800 and more"}, "surrogates not allowed"),
        ({"kind": "text", "question": 7, "answer": 5}, "whole number of -4 … 4, got 5"),
        ({"kind": "text", "question": 7, "answer": 1.5}, "got 1.5"),
        ({"kind": "text", "question": 7, "answer": True}, "got True"),
        ({"kind": "text", "answer": 1}, "no text to rate"),
        ({"kind": "pair", "question": 7}, "no pair to rate"),
    ],
)  # fmt: skip
def test_wrong_answers_are_refused(browser, path, changes, message):
    _, state = browser.post("state")
    status, answer = browser.rate(state, "left", "some good key", changes)
    assert status == 400
    assert message in answer["error"]
    with Database(path) as database:
        assert database.answers() == []


def test_results_name_nobody(browser):
    _, state = browser.post("state")
    browser.rate(state, "left", "some good key")
    _, _, content = browser.ask("POST", "api/results", {})
    assert state["rater"].encode() not in content
    results = json.loads(content)
    assert results["counts"]["better"] + results["counts"]["worse"] == 1
    assert results["left"] == {"share": 1.0, "n": 1}
    assert results["win_rates"][0]["policy"] == "new"
    assert results["agreement"]["alpha"] is None


def test_what_was_flagged_is_reviewed(browser, path):
    _, state = browser.post("state")
    browser.rate(state, "flag", "some good key")
    pair = state["question"]["id"]
    status, results = browser.post("review", question=pair, review="removed")
    assert (status, results["flagged"][0]["review"]) == (200, "removed")
    with Database(path) as database:
        assert pair not in [each.id for each in database.pairs()]
    for wrong in ({"question": 99}, {"question": None}, {"review": "gone"}, {"review": [1]}):
        assert browser.post("review", **{"question": pair, "review": "fine", **wrong})[0] == 400
    assert browser.post("review", question=pair, review=None)[1]["flagged"][0]["review"] is None


def test_a_full_disk_is_no_answer_but_the_page_may_try_again(server, browser):
    _, state = browser.post("state")
    database = server.session.database
    used = database._connection.execute("PRAGMA page_count").fetchone()[0]
    database._connection.execute(f"PRAGMA max_page_count = {used}")
    statuses = set()
    for number in range(400):
        status, answer = browser.rate(state, "skip", f"key {number:070}")
        statuses.add(status)
        if status != 200:
            break
        state = answer
        state = browser.post("undo", rater=state["rater"], rating=state["last"])[1]
    assert statuses == {200, 507}
    assert "the disk is full" in answer["error"]
    database._connection.execute("PRAGMA max_page_count = 100000")
    assert browser.rate(state, "skip", f"key {number:070}")[0] == 200
