"""The database's file: old, newer and foreign ones, a full disk, many that open it at once."""

import sqlite3
import stat
import subprocess
import sys
import threading

import pytest

from textenv.errors import TextenvError
from textenv.preferences.database import Database, NewPair, RatingsError


def pairs(n):
    return [NewPair("p", f"a{i}", f"b{i}", "new", "old") for i in range(n)]


VERSION_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE rounds (number INTEGER PRIMARY KEY, meta TEXT NOT NULL DEFAULT '{}');
CREATE TABLE policies (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE prompts (id INTEGER PRIMARY KEY, prompt TEXT NOT NULL UNIQUE);
CREATE TABLE texts (id INTEGER PRIMARY KEY, prompt INTEGER NOT NULL REFERENCES prompts,
    policy INTEGER NOT NULL REFERENCES policies, text TEXT NOT NULL,
    UNIQUE (prompt, policy, text));
CREATE TABLE questions (id INTEGER PRIMARY KEY, round INTEGER NOT NULL REFERENCES rounds,
    first INTEGER NOT NULL REFERENCES texts, second INTEGER REFERENCES texts, flagged TEXT,
    columns TEXT NOT NULL DEFAULT '{}');
CREATE UNIQUE INDEX one_question ON questions
    (round, min(first, ifnull(second, first)), max(first, ifnull(second, first)), second IS NULL);
CREATE VIEW pairs AS SELECT q.id, q.round, p.prompt, a.text AS first, b.text AS second, q.flagged
    FROM questions q JOIN texts a ON a.id = q.first JOIN texts b ON b.id = q.second
    JOIN prompts p ON p.id = a.prompt;
CREATE TABLE raters (id INTEGER PRIMARY KEY, pseudonym TEXT NOT NULL UNIQUE);
CREATE TABLE ratings (id INTEGER PRIMARY KEY AUTOINCREMENT,
    question INTEGER NOT NULL REFERENCES questions, rater INTEGER NOT NULL REFERENCES raters,
    verdict TEXT NOT NULL CHECK (verdict IN ('better', 'worse', 'tie', 'number', 'skip', 'flag')),
    number REAL CHECK ((number IS NOT NULL) = (verdict = 'number')),
    undone INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX one_rating ON ratings (question, rater) WHERE NOT undone;
CREATE INDEX rated_by ON ratings (rater, id);
INSERT INTO meta VALUES ('id', 'abcd'), ('salt', 'ef01');
INSERT INTO rounds (number) VALUES (1);
INSERT INTO policies VALUES (1, 'new'), (2, 'old');
INSERT INTO prompts VALUES (1, 'p');
INSERT INTO texts VALUES (1, 1, 1, 'a'), (2, 1, 2, 'b'), (3, 1, 2, 'c');
INSERT INTO questions (id, round, first, second) VALUES (1, 1, 1, 2), (2, 1, 1, 3);
INSERT INTO raters VALUES (1, 'calm-heron-4821');
INSERT INTO ratings (id, question, rater, verdict) VALUES (1, 1, 1, 'worse');
PRAGMA application_id = 1954049654;
PRAGMA user_version = 1;
"""


def test_an_old_file_is_taken_to_todays_version(tmp_path):
    path = tmp_path / "old.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1)
    connection.close()
    for _ in range(2):  # the second time nothing is left to do
        with Database(path) as database:
            assert database.id == "abcd"
            assert [(each.first, each.label) for each in database.comparisons()] == [("a", 0.0)]
    with Database(path) as database:
        pair = database.next_pair("calm-heron-4821")
        assert pair.second == "c"
        database.rate_pair(pair, "calm-heron-4821", "tie", key="k", first_left=True)
        assert database.answers()[1].first_left is True
        database.review(pair, "removed")
        assert [each.second for each in database.pairs()] == ["b"]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_newer_file_is_refused_and_stays_as_it_is(tmp_path):
    path = tmp_path / "new.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE ratings (id); PRAGMA application_id = 1954049654;"
                             "PRAGMA user_version = 7")  # fmt: skip
    connection.close()
    before = path.read_bytes()
    with pytest.raises(RatingsError, match=r"version 7, written by a newer textenv.* up to 3"):
        Database(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["new.sqlite"]


def test_what_is_no_ratings_database_is_refused(tmp_path):
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE recipes (name)")
    connection.commit()
    connection.close()
    before = other.read_bytes()
    with pytest.raises(RatingsError, match="none of ratings"):
        Database(other)
    assert other.read_bytes() == before
    connection = sqlite3.connect(other)
    connection.execute("PRAGMA user_version = 77")  # a number of its own is no newer textenv
    connection.close()
    with pytest.raises(RatingsError, match="none of ratings"):
        Database(other)
    text = tmp_path / "notes.txt"
    text.write_text("Dear diary, " * 100)
    with pytest.raises(RatingsError, match="no SQLite database"):
        Database(text)
    with pytest.raises(RatingsError, match="is its folder there"):
        Database(tmp_path / "nowhere" / "ratings.sqlite")
    with pytest.raises(RatingsError, match="is its folder there"):
        Database(tmp_path)


def test_a_new_file_is_its_owners_alone(tmp_path):
    path = tmp_path / "ratings.sqlite"
    with Database(path) as database:
        database.add_round(1)
        modes = {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
        assert len(list(tmp_path.iterdir())) == 3  # with SQLite's own two beside it
    assert modes == {0o600}
    path.chmod(0o664)
    Database(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o664  # who opened it to others meant it


def test_the_file_is_kept_safely(tmp_path):
    database = Database(tmp_path / "ratings.sqlite")

    def pragma(name):
        return database._connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2  # FULL
    assert pragma("foreign_keys") == 1
    assert pragma("busy_timeout") == 30_000


def test_a_full_disk_loses_no_rating(tmp_path):
    path = tmp_path / "ratings.sqlite"
    with Database(path) as database:
        database.add_round(1)
        numbers = database.add_pairs(1, pairs(3000))
        used = database._connection.execute("PRAGMA page_count").fetchone()[0]
        database._connection.execute(f"PRAGMA max_page_count = {used + 4}")
        kept = []

        def rate_until_full():
            for number in numbers:
                kept.append(database.rate_pair(number, "ann", "better", key=f"key {number}"))

        with pytest.raises(TextenvError) as caught:
            rate_until_full()
        assert "the disk is full: make room" in str(caught.value)
        assert "this rating was not kept" in str(caught.value)
        assert 0 < len(kept) < 3000
        assert [each.id for each in database.answers()] == kept
        # There is room again: it is sent again with the same key, and goes on.
        database._connection.execute("PRAGMA max_page_count = 1000000")
        number = numbers[len(kept)]
        database.rate_pair(number, "ann", "better", key=f"key {number}")
    with Database(path) as database:
        assert len(database.answers()) == len(kept) + 1


def test_a_writer_that_blocks_all_others_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("textenv.preferences.schema.BUSY_SECONDS", 0.05)
    with Database(tmp_path / "r.sqlite") as one, Database(tmp_path / "r.sqlite") as other:
        one.add_round(1)
        with (
            one.writing("…"),
            pytest.raises(RatingsError, match="another process has been writing"),
        ):
            other.add_round(2)
        other.add_round(2)
        assert list(one.rounds()) == [1, 2]


def test_a_file_system_that_takes_no_more(tmp_path):
    """Not SQLite's own limit but the system's: a process that may write 400 kB to a file."""
    path = tmp_path / "ratings.sqlite"
    code = (
        "import resource, sys\n"
        "from textenv.preferences.database import Database, NewPair, RatingsError\n"
        "with Database(sys.argv[1]) as database:\n"
        "    database.add_round(1)\n"
        "    numbers = database.add_pairs(1, [NewPair('p', f'a{n}', 'b') for n in range(400)])\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))\n"
        "    for number in numbers:\n"
        "        try:\n"
        "            print(database.rate_pair(number, 'ann', 'tie'), flush=True)\n"
        "        except RatingsError as error:\n"
        "            sys.exit(str(error))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "this rating was not kept: the disk" in run.stderr
    kept = [int(line) for line in run.stdout.splitlines()]
    assert 0 < len(kept) < 400
    with Database(path) as database:
        assert [each.id for each in database.answers()] == kept


def test_many_make_one_new_file_at_once(tmp_path):
    for attempt in range(5):
        path, names = tmp_path / f"{attempt}.sqlite", []
        start = threading.Barrier(8)

        def make(path=path, names=names, start=start):
            start.wait()
            with Database(path) as database:
                names.append(database.id)

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(names) == 8
        assert len(set(names)) == 1
