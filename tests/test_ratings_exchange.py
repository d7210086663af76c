"""Ratings out of a database and into it: no names, nothing lost on the way, bad rows named."""

import csv
import json

import pytest

from textenv.errors import TextenvError
from textenv.preferences.comparisons import Comparison
from textenv.preferences.database import Database, NewPair, NewText, RatingsError
from textenv.preferences.files import read_comparisons, read_ratings
from textenv.preferences.row_files import BadRowsError
from textenv_agents.cli import main


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ratings.sqlite"
    with Database(path) as database:
        database.add_round(1)
        database.add_pairs(1, [NewPair(f"p{i}", f"a{i}", f"b{i}", "new", "old") for i in range(4)])
    return path


# Out


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_what_is_exported_names_nobody(path, tmp_path, suffix):
    with Database(path) as database:
        for rater in ("ann", "bob@example.org"):
            database.rate_pair(1, rater, "better", key="a secret key")
            database.rate_pair(2, rater, "worse", first_left=True)
        database.rate_pair(3, "ann", "flag")
        (text,) = database.add_texts(1, [NewText("p", "t", "new")])
        database.rate_text(text, "bob@example.org", 2)
        files = database.export(tmp_path / f"out.{suffix}")
    assert [file.name for file in files] == [f"out.{suffix}", f"out-ratings.{suffix}"]
    comparisons = read_comparisons(files[0])
    assert [(c.prompt, c.first, c.second, c.label, c.rater) for c in comparisons] == [
        ("p0", "a0", "b0", 1.0, "rater-1"), ("p0", "a0", "b0", 1.0, "rater-2"),
        ("p1", "a1", "b1", 0.0, "rater-1"), ("p1", "a1", "b1", 0.0, "rater-2"),
    ]  # fmt: skip
    assert [(r.text, r.rating, r.rater) for r in read_ratings(files[1])] == [("t", 2.0, "rater-2")]
    written = b"".join(file.read_bytes() for file in files)
    for secret in (b"ann", b"bob", b"example", b"secret", b"202"):
        assert secret not in written


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_what_goes_out_comes_in_again(path, tmp_path, suffix):
    """Rounds, policies, columns, ties, equal texts, and two pairs that differ in a policy alone."""
    columns = {"reference": "我爱你。", "label": 1}
    with Database(path) as database:
        database.add_round(3)
        database.add_pairs(3, [NewPair("p0", "a0", "b0", "new", "old", columns=columns),
                               NewPair("p0", "a0", "b0", "new", "older"),
                               NewPair("p0", "b0", "a0", "old", "new"),  # is the first
                               NewPair("مرحبا", "x\n,\"", "x\n,\"", "new", "new")])  # fmt: skip
        for number, pair in enumerate(database.pairs()):
            for rater in ("ann", "bob"):
                database.rate_pair(pair, rater, ("better", "tie", "worse")[number % 3])
        (text,) = database.add_texts(3, [NewText("p1", "t", "new")])
        database.rate_text(text, "bob", -1)
        files = database.export(tmp_path / f"out.{suffix}")
        before = [(p.round, p.policy_first, p.policy_second, p.columns) for p in database.pairs()]
        said = [(c.prompt, c.first, c.second, c.label) for c in database.comparisons()]
        pairs_of = [(a.question, a.answer) for a in database.answers()]
    other = tmp_path / "other.sqlite"
    for file in files:
        assert taken(other, file, "--new-prompts") == 0
    with Database(other) as database:
        after = [(p.round, p.policy_first, p.policy_second, p.columns) for p in database.pairs()]
        assert after == before
        assert [(c.prompt, c.first, c.second, c.label) for c in database.comparisons()] == said
        assert [(a.question, a.answer) for a in database.answers()] == pairs_of
        assert len({c.rater for c in database.comparisons()}) == 2
        assert [(t.round, t.policy) for t in database.texts()] == [(3, "new")]
    assert taken(other, files[0]) == 2  # its raters have said so already


def test_a_pair_that_is_turned_comes_in_turned(path, tmp_path):
    row = {"prompt": "p0", "first": "b0", "second": "a0", "label": 1, "rater": "r",
           "policy_first": "old", "policy_second": "new", "round": 1}  # fmt: skip
    assert taken(path, file_of(tmp_path, row)) == 0
    with Database(path) as database:
        assert [(c.first, c.label) for c in database.comparisons()] == [("a0", 0.0)]
        assert len(database.pairs()) == 4


def test_columns_that_may_name_somebody_are_left_out(path, tmp_path, capsys):
    row = {"prompt": "p", "chosen": "x", "rejected": "y", "annotator": "Ann Smith", "when": "1999",
           "columns": {"reference": "z"}}  # fmt: skip
    assert taken(path, file_of(tmp_path, row), "--new-prompts") == 0
    said = "not kept, because it may be about who answered: annotator, when"
    assert said in capsys.readouterr().out
    with Database(path) as database:
        (pair,) = [pair for pair in database.pairs() if pair.prompt == "p"]
        assert pair.columns == {"reference": "z"}
        database.export(tmp_path / "out.jsonl")
    assert "Smith" not in (tmp_path / "out.jsonl").read_text()


def test_a_row_is_named_by_its_line(path, tmp_path, capsys):
    file = file_of(tmp_path, {"prompt": "p0", "first": "a0", "second": "b0", "label": 1})
    file.write_text("\n\n" + file.read_text() * 2)
    assert taken(path, file) == 2
    assert "row 4: its rater has rated the same before" in capsys.readouterr().err


def test_there_must_be_something_to_export(path, tmp_path):
    with Database(path) as database, pytest.raises(TextenvError, match="nothing is rated"):
        database.export(tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_file_that_cannot_be_written_is_named(path, tmp_path):
    with Database(path) as database:
        database.rate_pair(1, "ann", "tie")
        with pytest.raises(TextenvError, match=r"nowhere/out\.csv' cannot be written: .*No such"):
            database.export(tmp_path / "nowhere" / "out.csv")


# In


def file_of(tmp_path, *rows, name="in.jsonl"):
    file = tmp_path / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def taken(path, file, *more):
    return main(["rate", str(path), "--import", str(file), *more])


def test_pairs_to_be_rated_come_in(tmp_path, capsys):
    rows = [
        {"prompt": "p", "first": "a", "second": "b", "policy_first": "new", "label_of": 3},
        {"prompt": "p", "first": "a", "second": "c", "flagged": "toxicity 0.9"},
    ]
    path = tmp_path / "fresh.sqlite"
    assert taken(path, file_of(tmp_path, *rows)) == 0
    assert "2 pairs to be rated were added to " in capsys.readouterr().out
    with Database(path) as database:
        first, second = database.pairs()
    assert (first.policy_first, first.policy_second, first.columns) == ("new", "", {"label_of": 3})
    assert second.flagged == "toxicity 0.9"
    assert taken(path, file_of(tmp_path, rows[0])) == 2
    assert "row 1: the same is in round 1 already" in capsys.readouterr().err
    assert taken(path, file_of(tmp_path, rows[0]), "--round", "2") == 0


def test_texts_to_be_rated_come_in_as_csv(tmp_path):
    file = tmp_path / "texts.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(
            [["prompt", "text", "flagged"], ["p", "我", ""], ["p", "b,\n", "x"]]
        )
    path = tmp_path / "fresh.sqlite"
    assert taken(path, file) == 0
    with Database(path) as database:
        assert [(each.text, each.flagged) for each in database.texts()] == [
            ("我", None),
            ("b,\n", "x"),
        ]


def test_verdicts_come_in_and_names_do_not(path, tmp_path):
    rows = [
        {"prompt": "p0", "first": "a0", "second": "b0", "label": 0, "rater": "Ann Smith"},
        {"prompt": "p1", "first": "b1", "second": "a1", "label": 1, "rater": "Ann Smith"},  # turned
        {"prompt": "p1", "first": "a1", "second": "b1", "label": 0.5, "rater": ""},
        {"prompt": "p2", "chosen": "a2", "rejected": "something new"},
    ]
    assert taken(path, file_of(tmp_path, *rows)) == 0
    with Database(path) as database:
        assert len(database.pairs()) == 5
        found = [(c.first, c.second, c.label) for c in database.comparisons()]
        raters = {c.rater for c in database.comparisons()}
    assert found == [
        ("a0", "b0", 0.0),
        ("a1", "b1", 0.0),
        ("a1", "b1", 0.5),
        ("a2", "something new", 1.0),
    ]
    assert len(raters) == 2
    assert b"Smith" not in path.read_bytes()


def test_ratings_come_in(path, tmp_path):
    rows = [{"prompt": "p0", "text": "t", "rating": n, "rater": f"r{n}"} for n in (1, -2.5)]
    assert taken(path, file_of(tmp_path, *rows)) == 0
    with Database(path) as database:
        assert [each.rating for each in database.ratings()] == [1.0, -2.5]
        assert len(database.texts()) == 1


GOOD = {"prompt": "p0", "first": "a0", "second": "b0", "label": 1, "rater": "r"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**GOOD, "prompt": "unknown"}, "row 2: the prompt 'unknown' is not in the database"),
        (GOOD, "row 2: its rater has rated the same before"),
        ({**GOOD, "label": 0}, "row 2: its rater has rated the same before"),
        ({**GOOD, "first": "b0", "second": "a0"}, "row 2: its rater has rated the same before"),
        (
            {**GOOD, "rater": "s", "round": "x"},
            "row 2: expected round to be a whole number, got 'x'",
        ),
        ({**GOOD, "rater": "s", "label": 0.7}, "row 2: expected a label of 0, ½ or 1, got 0.7"),
        ({**GOOD, "label": "yes"}, "row 2: expected label to be a number, got 'yes'"),
        ({"prompt": "p0", "first": "a0", "label": 1}, "row 2: expected the columns"),
        ({**GOOD, "second": None}, "row 2: expected second to be a text"),
        ({**GOOD, "second": "\ud800"}, "row 2: expected second to be valid Unicode"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_taken(path, tmp_path, capsys, row, message):
    before = path.read_bytes()
    assert taken(path, file_of(tmp_path, GOOD, row, {**GOOD, "prompt": "p1", "first": "a1"})) == 2
    assert message in capsys.readouterr().err
    with Database(path) as database:
        assert database.comparisons() == []
        assert len(database.pairs()) == 4
    assert path.read_bytes() == before


def test_all_bad_rows_are_reported(path):
    unknown = [Comparison(prompt=f"x{i}", first="a", second="b", label=1.0) for i in range(7)]
    with Database(path) as database, pytest.raises(BadRowsError) as caught:
        database.import_comparisons(unknown, round=1)
    assert [row.number for row in caught.value.rows] == list(range(1, 8))
    with Database(path) as database:
        assert database.import_comparisons(unknown, round=1, new_prompts=True) == 7


def test_bad_questions_are_named(path, tmp_path, capsys):
    good = {"prompt": "p", "first": "a", "second": "b"}
    for row, message in [
        ({"prompt": "p", "first": "a"}, "row 2: expected the columns prompt, first, second"),
        (good, "row 2: the same is in round 1 already"),
        ({**good, "second": 3}, "row 2: expected text to be a text, got 3"),
    ]:
        assert taken(path, file_of(tmp_path, good, row)) == 2
        assert message in capsys.readouterr().err
    with Database(path) as database:
        assert len(database.pairs()) == 4


def test_prompts_that_are_new_can_be_allowed(path, tmp_path):
    file = file_of(tmp_path, {**GOOD, "prompt": "unknown"})
    assert taken(path, file) == 2
    assert taken(path, file, "--new-prompts") == 0


def test_an_import_and_raters_at_work_do_not_mix_up(path):
    """A pair that somebody has rated keeps that rating when others' come in."""
    with Database(path) as database:
        database.rate_pair(1, "ann", "better")
        both = [Comparison(prompt="p0", first="a0", second="b0", label=0.0, rater="x")]
        database.import_comparisons(both, round=1)
        assert [each.label for each in database.comparisons()] == [1.0, 0.0]
        with pytest.raises(RatingsError):
            database.rate_pair(1, "ann", "worse")
