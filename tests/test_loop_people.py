"""A loop whose texts people compare: it stops for them, and goes on when they are done."""

from __future__ import annotations

import re
import threading
import time
from urllib.request import urlopen

import pytest

from tests.loops import ENV, numbers, settings
from textenv.preferences.database import Database
from textenv.preferences.page import PageServer
from textenv.preferences.schema import RatingsError
from textenv.preferences.scripted import ScriptedRater
from textenv.rewards import word_preference
from textenv_agents.cli import main
from textenv_agents.loop import LoopError, loop, people, resume, what_to_do
from textenv_agents.loop.rating import people_left

LIKES = word_preference({"good": 1.0, "great": 1.0, "bad": -1.0, "awful": -1.0})


def rate(folder, people, number, *, each=1):
    """Let so many people compare pairs, as on the page: one after the other, until none is left."""
    taste = ScriptedRater(LIKES, scale=float("inf"))
    with Database(folder / "ratings.sqlite") as database:
        for person in people:
            for _ in range(number):
                pair = database.next_pair(person, each)
                if pair is None:
                    break
                (verdict,) = taste.compare([pair.prompt], [pair.first], [pair.second])
                database.rate_pair(pair, person, verdict)


def test_from_the_first_pair_to_the_end(tmp_path):
    folder = tmp_path / "run"
    config = settings(folder, rater="people", raters_per_pair=2, pairs=40, texts=40)
    outcome = loop(config)
    assert outcome.waiting == (1, 0, 40)
    assert [each["round"] for each in outcome.rounds] == [0]

    rate(folder, ["one"], 100, each=2)  # who sees every pair once: that is half of what is needed
    assert resume(folder).waiting == (1, 0, 40)
    rate(folder, ["two"], 10, each=2)
    assert resume(folder).waiting == (1, 10, 40)
    rate(folder, ["two"], 100, each=2)
    assert resume(folder).waiting == (2, 0, 40)  # the first round is done, the second is asked

    rate(folder, ["one", "three"], 100, each=2)
    outcome = resume(folder)
    assert outcome.waiting is None
    assert [each.get("comparisons") for each in outcome.rounds] == [None, 80, 160]
    assert outcome.rounds[2]["win_rate_by"] == "round-02's reward model"
    assert outcome.rounds[2]["true_reward"][0] > outcome.rounds[0]["true_reward"][0]
    with Database(folder / "ratings.sqlite") as database:
        assert len(database.answers()) == 160  # all that they said, and each once


def test_skipped_pairs_are_answered_and_not_learned_from(tmp_path):
    folder = tmp_path / "run"
    loop(settings(folder, rater="people", rounds=1, pairs=40, texts=20, enough=0.9))
    with Database(folder / "ratings.sqlite") as database:
        for answer in ("skip", "flag"):
            database.rate_pair(database.next_pair("one"), "one", answer)
    assert resume(folder).waiting == (1, 2, 36)
    rate(folder, ["one"], 34)
    assert resume(folder).waiting is None
    assert numbers(folder)[1]["comparisons"] == 34


def test_what_one_person_skips_is_asked_of_another_first(tmp_path):
    folder = tmp_path / "run"
    loop(settings(folder, rater="people", rounds=1, pairs=40, texts=20))
    with Database(folder / "ratings.sqlite") as database:
        skipped = database.next_pair("one")
        database.rate_pair(skipped, "one", "skip")
        flagged = database.next_pair("one")
        database.rate_pair(flagged, "one", "flag")
    rate(folder, ["one"], 19)
    rate(folder, ["two"], 100)  # who sees those two as well
    assert resume(folder).waiting is None
    assert numbers(folder)[1]["comparisons"] == 40


def test_a_round_waits_for_one_more_where_two_people_rate(tmp_path):
    folder = tmp_path / "run"
    config = settings(folder, rater="people", rounds=1, pairs=40, texts=20)
    loop(config)
    with Database(folder / "ratings.sqlite") as database:
        first, second = database.pairs(1)[:2]
        database.rate_pair(first, "one", "skip")
        database.rate_pair(second, "two", "better")
        rate(folder, ["one"], 100)
        assert people_left(config, database, 1) == (1, 39, 40)
        database.rate_pair(first, "two", "skip")  # nobody has an opinion: it is done
        assert people_left(config, database, 1) is None


def test_when_nobody_has_an_opinion(tmp_path):
    folder = tmp_path / "run"
    loop(settings(folder, rater="people", rounds=1, pairs=5, texts=20))
    with Database(folder / "ratings.sqlite") as database:
        for pair in database.pairs(1):
            database.rate_pair(pair, "one", "skip")
    with pytest.raises(LoopError, match="no reward model can be trained on the 0 comparisons"):
        resume(folder)


def test_the_page_beside_the_loop(tmp_path):
    folder, lines = tmp_path / "run", []

    def person():
        deadline = time.monotonic() + 60
        while not any("rate here" in line for line in lines) and time.monotonic() < deadline:
            time.sleep(0.05)
        address = re.search(r"http://127\.0\.0\.1\S+", lines[-1])[0]
        pages.append(urlopen(address).read().decode())
        rate(folder, ["one"], 100)

    pages = []
    thread = threading.Thread(target=person)
    thread.start()
    config = settings(folder, rater="people", serve=True, rounds=1, pairs=40, texts=20)
    outcome = loop(config, say=lines.append)
    thread.join()
    assert outcome.waiting is None
    assert "<html" in pages[0]


def test_leaving_the_page_loses_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "run"

    def leave(seconds):
        rate(folder, ["one"], 3)
        raise KeyboardInterrupt

    monkeypatch.setattr(people.time, "sleep", leave)
    config = settings(folder, rater="people", serve=True, rounds=1, pairs=40, texts=20)
    outcome = loop(config)
    assert outcome.waiting == (1, 3, 40)
    assert "3 of 40 pairs" in what_to_do(outcome)
    monkeypatch.undo()
    rate(folder, ["one"], 37)
    assert resume(folder).waiting is None


def test_two_pages_on_one_database(tmp_path):
    folder = tmp_path / "run"
    config = settings(folder, rater="people", serve=True, rounds=1, pairs=10, texts=20)
    opened = []

    def say(line):
        if "compare" in line or "writes for the raters" in line:
            Database(folder / "ratings.sqlite").close()
            opened.append(PageServer(folder / "ratings.sqlite"))

    with pytest.raises(RatingsError):
        loop(config, say=say)
    (page,) = opened
    page.server_close()


def test_the_command_says_what_to_do(tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["loop", "--env", ENV, "--rater", "people", "--folder", str(folder)]
    assert main([*arguments, "--pairs", "10", "--texts", "20", "--rounds", "1"]) == 0
    shown = capsys.readouterr().out
    assert f"textenv rate {folder}" in shown
    assert f"textenv loop --resume {folder}" in shown
    assert "0 of 10 pairs" in shown
    assert main(["loop", "--resume", str(folder)]) == 0
    assert "0 of 10 pairs" in capsys.readouterr().out
