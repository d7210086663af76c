"""Comparisons and ratings in JSONL, CSV and Parquet: nothing is lost, in silence least of all."""

from __future__ import annotations

import csv
import json
import sys

import pyarrow
import pytest
from pyarrow import parquet

from textenv.errors import MissingExtraError, TextenvError
from textenv.preferences import Comparison, RatedText
from textenv.preferences.files import (
    read_comparisons,
    read_ratings,
    write_comparisons,
    write_ratings,
)
from textenv.preferences.row_files import BadRow, BadRowsError

SUFFIXES = ["jsonl", "csv", "parquet"]
COMPARISONS = [
    Comparison(prompt="A film", first="good", second="bad", label=1.0, rater="r1"),
    Comparison(prompt="A film", first="good", second="bad", label=0.0, rater="r2"),
    Comparison(prompt="", first="two\nlines, \"quoted\"", second="", label=0.5),
    Comparison(prompt="我", first="爱\u2028\r你", second="🙂\r\n", label=0.25,
               columns={"reference": "é", "n": [1, None]}),
]  # fmt: skip
RATINGS = [
    RatedText(prompt="", text="好", rating=-3.5, rater="r1"),
    RatedText(prompt="p", text="a,b\n", rating=2, rater=""),
]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read(suffix, tmp_path):
    path = tmp_path / f"file.{suffix}"
    assert write_comparisons(path, COMPARISONS) == (4, 0)
    assert read_comparisons(path) == COMPARISONS
    write_ratings(path, RATINGS)
    assert read_ratings(path) == RATINGS
    write_comparisons(path, [])
    assert read_comparisons(path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_trl_form_leaves_ties_out_and_counts_them(suffix, tmp_path):
    path = tmp_path / f"file.{suffix}"
    assert write_comparisons(path, COMPARISONS, form="trl") == (3, 1)
    found = read_comparisons(path)
    assert [(row.prompt, row.chosen, row.rejected) for row in found] == [
        ("A film", "good", "bad"),
        ("A film", "bad", "good"),
        ("我", "🙂\r\n", "爱\u2028\r你"),
    ]
    assert {row.label for row in found} == {1.0}


def test_trl_form_has_the_columns_that_others_expect(tmp_path):
    path = tmp_path / "file.jsonl"
    write_comparisons(path, COMPARISONS[:1], form="trl")
    assert json.loads(path.read_text()) == {"prompt": "A film", "chosen": "good", "rejected": "bad"}
    write_comparisons(path.with_suffix(".parquet"), COMPARISONS, form="trl")
    table = parquet.read_table(path.with_suffix(".parquet"))
    assert table.column_names == ["prompt", "chosen", "rejected"]
    write_comparisons(path.with_suffix(".csv"), COMPARISONS, form="trl")
    with path.with_suffix(".csv").open(newline="") as file:
        assert [row["chosen"] for row in csv.DictReader(file)] == ["good", "bad", "🙂\r\n"]


def messages(role, *texts):
    return [{"role": role, "content": text} for text in texts]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_conversations_of_one_message(suffix, tmp_path):
    path = tmp_path / f"file.{suffix}"
    row = {
        "prompt": messages("user", "Hello"),
        "chosen": messages("assistant", "Hi"),
        "rejected": messages("user", "Hello") + messages("assistant", "Go away"),
        "source": "somewhere",
    }
    if suffix == "jsonl":
        path.write_text(json.dumps(row) + "\n")
    else:
        parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    assert read_comparisons(path) == [
        Comparison(prompt="Hello", first="Hi", second="Go away", label=1,
                   columns={"source": "somewhere"})
    ]  # fmt: skip


GOOD = '{"prompt": "p", "chosen": "a", "rejected": "b"}'
LONG = {
    "prompt": messages("user", "1", "2"),
    "chosen": messages("assistant", "a"),
    "rejected": messages("assistant", "b"),
}
BAD_LINES = {
    "no JSON": b"{'prompt': 1}",
    "no JSON in UTF-8": b'{"prompt": "\xff", "chosen": "a", "rejected": "b"}',
    "expected an object": b'["p", "a", "b"]',
    "missing are rejected, there are prompt, chosen": b'{"prompt": "p", "chosen": "a"}',
    "prompt, chosen, rejected, or prompt, first": b'{"prompt": "p", "completion": "a"}',
    "expected chosen to be a text, got 7": b'{"prompt": "p", "chosen": 7, "rejected": "b"}',
    "expected prompt to be a text, got nothing": b'{"prompt": null, "chosen": "a", "rejected":"b"}',
    "expected a label in 0": b'{"prompt": "p", "first": "a", "second": "b", "label": 2}',
    "expected label to be a number, got True":
        b'{"prompt": "p", "first": "a", "second": "b", "label": true}',
    "expected a label in 0 … 1, got nan":
        b'{"prompt": "p", "first": "a", "second": "b", "label": NaN}',
    "expected label to be a number, got 1000":
        b'{"prompt": "p", "first": "a", "second": "b", "label": 1' + b"0" * 400 + b"}",
    "maximum recursion depth": b"[" * 100_000,
    "expected chosen to be valid Unicode":
        b'{"prompt": "p", "chosen": "\\ud800", "rejected": "b"}',
    "expected prompt to be a text or one message, got 2 messages": json.dumps(LONG).encode(),
    "expected columns to be an object":
        b'{"prompt": "p", "chosen": "a", "rejected": "c", "columns": 3}',
    "says the same as row 1": GOOD.encode(),
    "says the same as row": b'{"prompt": "p", "first": "b", "second": "a", "label": 0}',
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD_LINES)
def test_a_bad_row_is_reported_with_its_number(reason, tmp_path):
    path = tmp_path / "file.jsonl"
    other = b'{"prompt": "q", "chosen": "a", "rejected": "b"}\n'
    path.write_bytes(GOOD.encode() + b"\n\n" + BAD_LINES[reason] + b"\n" + other)
    with pytest.raises(BadRowsError, match="nothing was taken") as caught:
        read_comparisons(path)
    assert [row.number for row in caught.value.rows] == [3]  # the blank line counts as a line
    assert reason in str(caught.value)
    found = read_comparisons(path, on_error="report")
    assert [row.prompt for row in found.rows] == ["p", "q"]
    assert found.bad == caught.value.rows


def test_no_row_is_lost(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_bytes(b"\n".join([GOOD.encode(), *BAD_LINES.values()]))
    found = read_comparisons(path, on_error="report")
    assert [len(found.rows), len(found.bad)] == [1, len(BAD_LINES)]
    with pytest.raises(BadRowsError, match=f"{len(BAD_LINES) - 5} more") as caught:
        read_comparisons(path)
    assert len(caught.value.rows) == len(BAD_LINES)


def test_csv_rows(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text(
        '\ufeffprompt,chosen,rejected\np,"a\nb",c\np,a\np,a,c,d\n"p" x,a,c\np,a,b\n',
        "utf-8",
    )
    found = read_comparisons(path, on_error="report")
    assert [row.first for row in found.rows] == ["a\nb", "a"]
    assert [row.number for row in found.bad] == [2, 3, 4]
    assert "expected 3 fields, got 4" in found.bad[1].reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"prompt,chosen\np,a\n", "missing are rejected"),
        (b"", "expected a header"),
        (b"prompt,prompt\n", "expected a header of different names"),
        (b'prompt,chosen,rejected\np,a,"b', "no CSV"),
        (b"prompt,chosen,rejected\np,a,\xff\n", "row 1: expected rejected to be valid Unicode"),
        (b"prompt,first,second,label\np,a,b,yes\n", "expected label to be a number, got 'yes'"),
    ],
)
def test_bad_csv_files(content, reason, tmp_path):
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    with pytest.raises(BadRowsError, match=reason):
        read_comparisons(path)


def test_a_text_that_is_too_long_for_csv(tmp_path):
    long = Comparison(prompt="", first="a" * 131_073, second="b", label=1.0)
    with pytest.raises(ValueError, match=r"row 2 has a text of 131,073 letters.*jsonl"):
        write_comparisons(tmp_path / "file.csv", [COMPARISONS[0], long])
    assert not list(tmp_path.iterdir())


def test_a_row_of_parquet_that_is_no_unicode(tmp_path):
    path = tmp_path / "file.parquet"
    ends = pyarrow.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0")
    texts = pyarrow.Array.from_buffers(
        pyarrow.string(), 2, [None, ends, pyarrow.py_buffer(b"\xffa")]
    )
    table = pyarrow.table({"prompt": ["p", "q"], "chosen": texts, "rejected": ["b", "c"]})
    parquet.write_table(table, path)
    found = read_comparisons(path, on_error="report")
    assert [row.prompt for row in found.rows] == ["q"]
    assert found.bad[0].number == 1
    assert "no row in UTF-8" in found.bad[0].reason


def test_columns_of_the_other_form_are_kept(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_text('{"prompt": "p", "chosen": "a", "rejected": "b", "label": 3, "first": "x"}\n')
    assert read_comparisons(path)[0].columns == {"label": 3, "first": "x"}


def test_duplicates_may_be_kept_and_contradictions_are(tmp_path):
    path = tmp_path / "file.jsonl"
    row = COMPARISONS[0]
    turned = Comparison(prompt=row.prompt, first="bad", second="good", label=1.0, rater=row.rater)
    write_comparisons(path, [row, row, turned])
    with pytest.raises(BadRowsError, match="row 2: says the same as row 1"):
        read_comparisons(path)
    found = read_comparisons(path, on_error="report", duplicates="keep")
    assert found == ([row, row, turned], [], 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"text": "a", "rating": "good"}', "expected rating to be a number, got 'good'"),
        ('{"text": "a", "rating": null}', "expected rating to be a number, got nothing"),
        ('{"text": "a", "rating": Infinity}', "finite rating"),
        ('{"rating": 1}', "missing are text"),
        ('{"text": "a", "rating": 1, "rater": 3}', "expected rater to be a text"),
    ],
)
def test_bad_ratings(content, reason, tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_text(content)
    with pytest.raises(BadRowsError, match=reason):
        read_ratings(path)


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(TextenvError, match="cannot be read"):
        read_comparisons(tmp_path / "none.jsonl")
    with pytest.raises(TextenvError, match=r"ends in .jsonl, .csv, .parquet"):
        read_comparisons(tmp_path / "file.txt")
    (tmp_path / "file.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(TextenvError, match="no whole Parquet file"):
        read_comparisons(tmp_path / "file.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"textenv\[feedback\]"):
        read_comparisons(tmp_path / "file.parquet")
    with pytest.raises(MissingExtraError, match=r"textenv\[feedback\]"):
        write_comparisons(tmp_path / "file.parquet", COMPARISONS)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.jsonl"
    write_comparisons(path, COMPARISONS)
    before = path.read_bytes()
    for wrong in ({"text": "\ud800"}, {"object": object()}):
        row = Comparison(prompt="", first="a", second="b", label=1, columns=wrong)
        with pytest.raises(ValueError, match="cannot be written"):
            write_comparisons(path, [row])
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="form must be one of"):
        write_comparisons(path, COMPARISONS, form="hf")
    with pytest.raises(ValueError, match="on_error must be one of"):
        read_comparisons(path, on_error="ignore")


def test_bad_rows_error_counts():
    assert "1 row cannot be read" in str(BadRowsError("a file", [BadRow(3, "wrong")]))
