"""Rating in the terminal, the command `textenv rate`, and files in and out."""

import csv
import json
import os
import pty
import subprocess
import sys
import time

import pytest

from textenv.errors import TextenvError
from textenv.preferences.comparisons import Comparison
from textenv.preferences.database import Database, NewPair, NewText, RatingsError
from textenv.preferences.files import read_comparisons, read_ratings
from textenv.preferences.row_files import BadRowsError
from textenv.preferences.terminal import rate_in_terminal
from textenv_agents.cli import main


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ratings.sqlite"
    with Database(path) as database:
        database.add_round(1)
        database.add_pairs(1, [NewPair(f"p{i}", f"a{i}", f"b{i}", "new", "old") for i in range(4)])
    return path


def rated(path, *typed, ending=EOFError, **settings):
    """Rate with these lines, then the end of the input; return all that was shown and the count."""
    lines, shown = iter(typed), []

    def type_next(prompt):
        shown.append(prompt)
        try:
            return next(lines)
        except StopIteration:
            raise ending from None

    with Database(path) as database:
        kept = rate_in_terminal(database, input=type_next, output=shown.append, **settings)
    assert next(lines, None) is None, "not all was read"
    return shown, kept


def answers(path):
    with Database(path) as database:
        return database.answers()


# In the terminal


def test_a_session_keeps_the_right_texts(path):
    shown, kept = rated(path, "1", " 2 ", "0", "u", "=", "S")
    assert kept == 4
    assert shown[-1] == "All done. Thank you."
    pages = [page for page in shown if page.startswith("\n──")]
    assert "── 1 of 4 ─" in pages[0]
    with Database(path) as database:
        verdicts = database.comparisons()
        sides = [each.first_left for each in database.answers()]
    for page, verdict, key in zip(pages, verdicts, "12", strict=False):
        lines = page.splitlines()
        assert lines[lines.index(f"{key}:") + 1].strip() == verdict.chosen
    assert verdicts[2].chosen is None
    assert len(verdicts) == 3  # the last was skipped
    assert None not in sides


def test_single_texts_are_given_numbers(path):
    with Database(path) as database:
        database.add_texts(1, [NewText("p", f"t{i}", flagged="listed word") for i in range(3)])
    shown, kept = rated(path, "5", "-5", "1.5", "x", "²", "−4", "f", "+1", "3", "q")
    assert kept == 3
    assert [each.answer for each in answers(path)] == [-4.0, "flag", 3.0]
    assert sum(line == "type -4 … 4 or h, not '5'" for line in shown) == 1
    assert sum(line.startswith("type -4 … 4") for line in shown if line) == 6
    assert any("flagged for review: listed word" in line for line in shown)


def test_bad_input_and_help(path):
    shown, kept = rated(path, "", "h", "u", "left", "q")
    assert kept == 0
    assert "type 1, 2, 0 or h, not ''" in shown
    assert "there is nothing to undo" in shown
    assert any(line.startswith("1, 2   this text is better") for line in shown)


@pytest.mark.parametrize("ending", [EOFError, KeyboardInterrupt])
def test_the_end_of_the_input_keeps_what_was_answered(path, ending):
    _, kept = rated(path, "1", "2", ending=ending)
    assert kept == len(answers(path)) == 2


def test_a_rater_goes_on_with_the_code(path):
    shown, _ = rated(path, "1", "q")
    code = shown[0].split()[2].rstrip(";")
    _, kept = rated(path, "2", "2", "2", rater=code)
    assert kept == 3
    assert {each.rater for each in answers(path)} == {code}
    with pytest.raises(ValueError, match="nobody has the code 'who-knows-1'"):
        rated(path, rater="who-knows-1")


def test_what_was_answered_elsewhere_meanwhile_stands(path):
    with Database(path) as database:
        code = database.add_rater()
        typed = iter(["1", "q"])

        def type_next(prompt):
            if not database.answers():
                database.rate_pair(1, code, "tie")
            return next(typed)

        shown = []
        kept = rate_in_terminal(database, rater=code, input=type_next, output=shown.append)
        assert kept == 0
        assert any("has answered the pair 1 already" in line for line in shown)
        assert [each.answer for each in database.answers()] == ["tie"]


def test_the_last_ones_are_with_others(path):
    with Database(path) as database:
        for number in range(1, 4):
            database.rate_pair(number, "ann", "tie")
        database.next_pair("bob")
    assert rated(path)[0][-1] == "The last ones are with other raters."


def test_a_text_cannot_steer_the_terminal(tmp_path):
    path = tmp_path / "r.sqlite"
    with Database(path) as database:
        database.add_round(1)
        database.add_pairs(1, [NewPair("p\x1b[2J", "a\x07\u202eb\r", " \n", flagged="\x1b]0;x")])
    shown = "".join(rated(path, "q")[0])
    assert "p␛[2J" in shown
    assert "a␇�b␍" in shown
    assert "flagged for review: ␛]0;x" in shown
    assert "(no text)" in shown
    assert not {"\x1b", "\x07", "\u202e", "\r"} & set(shown)


def test_a_real_terminal(path):
    """The command itself, in a terminal of its own."""
    process, terminal = pty.fork()
    if not process:
        os.execv(sys.executable, [sys.executable, "-m", "textenv_agents.cli", "rate", str(path),
                                  "--terminal"])  # fmt: skip
    shown = b""
    for key in (b"1\n", b"u\n", b"0\n", b"s\n", b"f\n", b"2\n"):
        while not shown.rstrip().endswith(b"1, 2, 0 or h:"):
            shown += os.read(terminal, 4096)
        os.write(terminal, key)
        time.sleep(0.05)
        shown += key
    deadline = time.monotonic() + 20
    while b"3 answers kept" not in shown and b"4 answers kept" not in shown:
        assert time.monotonic() < deadline
        shown += os.read(terminal, 4096)
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert status == 0
    assert b"All done. Thank you." in shown
    assert [each.answer for each in answers(path)][:3] == ["tie", "skip", "flag"]


# The command


def test_the_command_says_what_is_wrong(path, tmp_path, capsys):
    for arguments, message in [
        (["rate", str(tmp_path / "nowhere")], "there is no ratings database at"),
        (["rate", str(path), "--rater", "calm-heron-4821"], "--rater belongs to --terminal"),
        (["rate", str(path), "--raters-per-pair", "0"], "expected --raters-per-pair ≥ 1, got 0"),
        (["rate", str(path), "--export", "x.txt"], "nothing is rated"),
        (["rate", str(path), "--terminal", "--rater", "no-body-1"], "nobody has the code"),
        (["rate", str(path), "--import", str(tmp_path / "no.jsonl")], "no.jsonl"),
    ]:
        assert main(arguments) == 2, arguments
        assert message in capsys.readouterr().err


def test_a_runs_folder_stands_for_its_database(path, tmp_path, capsys):
    with Database(path) as database:
        database.rate_pair(1, "ann", "better")
    assert main(["rate", str(tmp_path), "--export", str(tmp_path / "out.csv")]) == 0
    assert "written: " in capsys.readouterr().out
    assert len(read_comparisons(tmp_path / "out.csv")) == 1


def test_rate_loads_no_torch(path):
    code = (
        "import sys; from textenv_agents.cli import main; "
        f"main(['rate', {str(path)!r}, '--terminal']); sys.exit('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], input="q\n", text=True, check=False)
    assert run.returncode == 0


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


def test_there_must_be_something_to_export(path, tmp_path):
    with Database(path) as database, pytest.raises(TextenvError, match="nothing is rated"):
        database.export(tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


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
    assert "2 pairs to be rated were added to round 1" in capsys.readouterr().out
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
        (GOOD, "row 2: says the same as row 1"),
        ({**GOOD, "label": 0}, "row 2: its rater has rated the same before"),
        ({**GOOD, "first": "b0", "second": "a0", "label": 0}, "row 2: says the same as row 1"),
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
