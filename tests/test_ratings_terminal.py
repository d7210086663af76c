"""Rating in the terminal, and the command `textenv rate`."""

import json
import os
import pty
import subprocess
import sys
import time

import pytest

from tests.keyboard import typing
from textenv.preferences.database import Database, NewPair, NewText
from textenv.preferences.files import read_comparisons
from textenv.preferences.terminal import rate_in_terminal
from textenv_agents.cli import main
from textenv_agents.rate import RateConfig, rate


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ratings.sqlite"
    with Database(path) as database:
        database.add_round(1)
        database.add_pairs(1, [NewPair(f"p{i}", f"a{i}", f"b{i}", "new", "old") for i in range(4)])
    return path


def rated(path, *typed, ending=EOFError, **settings):
    """Rate with these lines, then the end of the input; return all that was shown and the count."""
    shown = []
    type_next = typing(typed, shown, ending)
    with Database(path) as database:
        kept = rate_in_terminal(database, input=type_next, output=shown.append, **settings)
    assert not type_next.left(), "not all was read"
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


def test_nobody_waits_for_what_was_shown_last(path):
    rated(path, "1", "1", "1")  # the fourth pair was shown, then the input ended
    shown, kept = rated(path, "1")
    assert kept == 1
    assert shown[-1] == "All done. Thank you."


def test_a_rater_goes_on_with_the_code(path):
    shown, _ = rated(path, "1", "q")
    code = shown[0].split()[2].rstrip(";")
    _, kept = rated(path, "2", "2", "2", rater=code)
    assert kept == 3
    assert {each.rater for each in answers(path)} == {code}
    with pytest.raises(ValueError, match="nobody has the code 'who-knows-1'"):
        rated(path, rater="who-knows-1")


def test_a_session_that_only_undoes_says_so(path):
    code = rated(path, "1", "2", "q")[0][0].split()[2].rstrip(";")
    typed, shown = iter(["u", "u", "q", "1", "q"]), []
    for said in ("2 answers undone", "1 answer kept"):
        config = RateConfig(run=path, terminal=True, rater=code)
        rate(config, input=lambda prompt: next(typed), output=shown.append)
        assert shown[-1] == f"{said} in {path}"


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
        (["rate", str(path), "--export", "x.jsonl", "--trl"], "no text is preferred to another"),
        (["rate", str(path), "--trl"], "--trl says how --export writes"),
        (["rate", str(path), "--round", "1"], "--round belongs to --export and --import"),
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


def test_what_trl_reads(path, tmp_path, capsys):
    with Database(path) as database:
        database.rate_pair(1, "ann", "worse")
        database.rate_pair(2, "ann", "tie")
    file = tmp_path / "out.jsonl"
    assert main(["rate", str(path), "--export", str(file), "--trl"]) == 0
    assert "1 comparisons; 1 ties were left out" in capsys.readouterr().out
    assert json.loads(file.read_text()) == {"prompt": "p0", "chosen": "b0", "rejected": "a0"}


def test_rate_loads_no_torch(path):
    code = (
        "import sys; from textenv_agents.cli import main; "
        f"main(['rate', {str(path)!r}, '--terminal']); sys.exit('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], input="q\n", text=True, check=False)
    assert run.returncode == 0
