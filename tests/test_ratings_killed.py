"""Eight processes rate at once, with 25 kills: no acknowledged rating is lost or there twice."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from textenv.preferences.database import Database, NewPair

SCRIPT = Path(__file__).with_name("ratings_writers.py")


@pytest.mark.parametrize(
    ("writers", "kills"), [(8, 25), pytest.param(8, 150, marks=pytest.mark.slow)]
)
def test_kills_lose_no_acknowledged_rating(tmp_path, writers, kills):
    path = tmp_path / "ratings.sqlite"
    with Database(path) as database:
        database.add_round(1)
        database.add_pairs(1, [NewPair("p", f"text {n}", "other") for n in range(1000)])
    journals = tmp_path / "journals"
    journals.mkdir()
    command = [sys.executable, str(SCRIPT), str(path), str(journals), str(writers), str(kills)]
    assert subprocess.run(command, check=False, timeout=300).returncode == 0

    # The file itself, as the kills left it, read by SQLite alone.
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    kept = {
        (key, rating): (rater, pair, verdict)
        for key, rating, rater, pair, verdict in connection.execute(
            "SELECT key, ratings.id, pseudonym, question, verdict FROM ratings "
            "JOIN raters ON raters.id = ratings.rater"
        )
    }
    connection.close()
    assert len({key for key, _ in kept}) == len(kept)
    assert len({(rater, pair) for rater, pair, _ in kept.values()}) == len(kept)

    acknowledged, sent, last = {}, {}, {}
    for journal in journals.iterdir():
        for line in journal.read_text().splitlines():
            word, key, *rest = line.split()
            if word == "send":
                sent[key] = (journal.name, int(rest[0]), rest[1])
                last[journal.name] = key
            else:
                acknowledged[key, int(rest[0])] = sent[key]
    assert len(last) == writers
    assert len(acknowledged) > 10 * writers  # they were at work
    for rating, what in acknowledged.items():
        assert kept[rating] == what
    # More can be kept only of what was under way when the last kill came.
    more = {key for key, _ in kept.keys() - acknowledged.keys()}
    assert more <= set(last.values())

    with Database(path) as database:  # and it goes on
        assert len(database.answers()) == len(kept)
        pair = database.next_pair("afterwards", 1000)
        database.rate_pair(pair, "afterwards", "tie")
        assert len(database.answers()) == len(kept) + 1
