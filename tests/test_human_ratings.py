"""The shipped ratings: what is in them, who said it, and how they were made."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from benchmarks.convert_human_ratings import converted
from textenv.errors import UnknownNameError
from textenv.preferences.human_ratings import (
    BLOCK,
    FILES,
    FOLDER,
    as_comparisons,
    as_ratings,
    load,
)


@pytest.mark.parametrize(
    ("source", "texts", "doubled"),
    [("movies", 10_605, 2), ("amazon", 3_708, 10), ("news", 5_190, 72), ("tweets", 4_200, 0)],
)
def test_each_source_is_whole(source, texts, doubled):
    rows = load(source)
    assert len(rows) == texts
    assert sum(count > 1 for count in Counter(row.text for row in rows).values()) == doubled
    for row in rows:
        assert row.text.strip()
        assert "&amp;" not in row.text
        assert "&#" not in row.text
        assert len(row.ratings) >= 15
        assert all(-4 <= rating <= 4 for rating in row.ratings)
        assert row.mean == sum(row.ratings) / len(row.ratings)


def test_the_files_are_small_and_bring_their_notice():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2.5e6
    notice = (FOLDER / "NOTICE").read_text("utf-8")
    assert "MIT License" in notice
    assert "Hutto" in notice


def test_one_place_in_a_block_is_one_person():
    """What the comparisons rest on: deviations at one place go together inside a block only."""
    rows = load()
    deviations = [np.array(row.ratings) - row.mean for row in rows]

    def together(pairs):
        found = [
            np.mean(a * b) / np.sqrt(a.var() * b.var())
            for a, b in ((deviations[i], deviations[j]) for i, j in pairs)
            if len(a) == len(b) and a.var() * b.var() > 0
        ]
        return np.mean(found)

    whole = range(0, len(rows) - len(rows) % BLOCK, BLOCK)
    inside = [(start, start + BLOCK - 1) for start in whole]  # the farthest apart in a block
    over = [(start + BLOCK - 10, start + BLOCK) for start in whole[:-1]]  # nearer, next block
    assert together(inside) > 0.15
    assert abs(together(over)) < 0.03
    assert all(len({len(row.ratings) for row in rows[start : start + BLOCK]}) == 1
               for start in whole)  # fmt: skip


def test_comparisons_are_what_each_person_said():
    rows = load()
    by_text = {row.text: (number, row) for number, row in enumerate(rows)}
    found = as_comparisons()
    partner = {}
    for row in found[::97]:
        (one, first), (other, second) = by_text[row.first], by_text[row.second]
        block, person = map(int, row.rater.split("-")[1:])
        assert one // BLOCK == other // BLOCK == block
        ahead = first.ratings[person] - second.ratings[person]
        assert row.label == {1: 1.0, 0: 0.5, -1: 0.0}[np.sign(ahead)]
    for row in found:
        assert partner.setdefault(row.first, row.second) == row.second  # one pair a text
    assert 0.3 < np.mean([row.label == 0.5 for row in found]) < 0.33
    assert len(as_comparisons(ties=False)) == sum(row.label != 0.5 for row in found)
    assert as_comparisons(seed=1)[0] != found[0]


def test_comparisons_by_people_count_all_their_ratings():
    by_text = {row.text: row for row in load("amazon")}
    found = as_comparisons("amazon", by="people")
    assert len(found) == 3_708 // 2
    assert len({text for row in found for text in (row.first, row.second)}) > 3_690  # 11 doubled
    for row in found[:20]:
        pairs = [
            (one > other) + 0.5 * (one == other)
            for one in by_text[row.first].ratings
            for other in by_text[row.second].ratings
        ]
        assert row.label == pytest.approx(sum(pairs) / len(pairs))
    assert all(row.label != 0.5 for row in as_comparisons("amazon", by="people", ties=False))
    with pytest.raises(ValueError, match="by must be one of"):
        as_comparisons(by="everybody")


def test_ratings_are_the_means():
    assert [row.rating for row in as_ratings("tweets")] == [row.mean for row in load("tweets")]


def test_unknown_sources():
    with pytest.raises(UnknownNameError, match="amazon, movies, news, tweets"):
        load("films")
    with pytest.raises(ValueError, match=r"nobody knows which ratings.*use by='people'"):
        as_comparisons("news")
    assert set(FILES) == {"movies", "amazon", "news", "tweets"}


def originals(folder, texts, ratings):
    (folder / "x_GroundTruth.txt").write_bytes(texts)
    (folder / "x_anonDataRatings.txt").write_bytes(ratings)
    return folder


def test_conversion(tmp_path):
    """A byte-order mark, Windows line ends, another order, HTML entities."""
    texts = b"1_1\t0.5\tsalt &amp;amp; pepper\r\n1_2\t-1\tna\xc3\xafve\r\n"
    ratings = b"\xef\xbb\xbf1_2\t-1\t0\t[-1, -1]\r\n1_1\t0.5\t0.5\t[0, 1]\r\n"
    assert converted(originals(tmp_path, texts, ratings), "x") == [
        "1_1\t0 1\tsalt & pepper",
        "1_2\t-1 -1\tnaïve",
    ]


@pytest.mark.parametrize(
    ("texts", "ratings", "message"),
    [
        (b"1\t0\ta\n1\t0\tb\n", b"1\t0\t0\t[0]\n", "each id once"),
        (b"1\t0\ta\n", b"2\t0\t0\t[0]\n", "same ids"),
        (b"1\t0\ta\tb\n", b"1\t0\t0\t[0]\n", "expected 3 columns"),
    ],
)
def test_conversion_refuses(texts, ratings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        converted(originals(tmp_path, texts, ratings), "x")
