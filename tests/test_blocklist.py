"""Blocklists: what they find, beside a search that tries each place; their forms; the rewards."""

import json

import numpy as np
import pytest

import textenv
from tests.filtering import holds, promised
from textenv.filters import Blocklist, flag
from textenv.rewards import as_reward, blocklist
from textenv.testing import check_reward

LETTERS = np.array(list("abcABßſ ﬀｂ.\u00ad\u0301e🙂你"))


def random_text(generator, longest, letters=LETTERS):
    return "".join(generator.choice(letters, size=generator.integers(longest + 1)))


def test_it_finds_what_a_search_at_each_place_finds():
    generator = np.random.default_rng(0)
    found = 0
    for _ in range(4000):
        patterns = ["a"]
        while patterns == ["a"] or not all(bare_letters(p) for p in patterns):
            letters = np.array([*"ab?", *LETTERS])
            patterns = [random_text(generator, 4, letters) for _ in range(generator.integers(1, 4))]
        prompt, text = random_text(generator, 5), random_text(generator, 8)
        first = Blocklist(patterns).find(prompt, text)
        assert (first is not None) == holds(patterns, prompt, text), (patterns, prompt, text)
        if first is not None:
            found += 1
            assert holds([first], prompt, text)
        elif "?" not in "".join(patterns):
            # What is clean in the normal form is clean in the form of the promise.
            assert not holds(patterns, prompt, text, promised), (patterns, prompt, text)
    assert 500 < found < 3500


def bare_letters(pattern):
    from textenv.filters import normal_form

    return normal_form(pattern)


def test_a_match_counts_where_it_ends():
    listed = Blocklist(["bad", "b?d"])
    assert listed.find("bad", "") is None
    assert listed.find("bad", " !") is None
    assert listed.find("ba", "d") == "bad"
    assert listed.find("b", "e-D") == "b?d"
    assert listed.find("bad", "bad") == "bad"


def test_patterns_that_are_none():
    with pytest.raises(ValueError, match=r"at least one pattern, got \[\]; .* leave blocklist"):
        Blocklist([])
    with pytest.raises(ValueError, match="list of at least one pattern, got 'bad'"):
        Blocklist("bad")
    with pytest.raises(ValueError, match="of a blocklist is a text, got 3"):
        Blocklist(["a", 3])
    for empty in ("", " .", "?", "\u0301", "? ?"):
        with pytest.raises(ValueError, match="would forbid everything"):
            Blocklist(["bad", empty])


def test_its_forms(tmp_path):
    listed = Blocklist(["a b", "c?"])
    (tmp_path / "list.txt").write_text("# two\na b\n\nc?\n", "utf-8")
    forms = [listed, ["a b", "c?"], ("a b", "c?"), listed.spec(), tmp_path / "list.txt"]
    for form in [*forms, str(tmp_path / "list.txt"), json.loads(json.dumps(listed.spec()))]:
        assert Blocklist.parse(form) == listed
        assert hash(Blocklist.parse(form)) == hash(listed)
    assert repr(listed) == "Blocklist(['a b', 'c?'])"
    assert listed != Blocklist(["a b"])
    # As a Windows editor writes it: a mark in front, and blanks that nobody sees.
    (tmp_path / "list.txt").write_bytes("\ufeff# two\r\n a b \r\n  # or more\r\nc?".encode())
    assert Blocklist.parse(tmp_path / "list.txt") == listed
    for wrong in ({"name": "list", "patterns": ["a"]}, {"patterns": ["a"]}):
        with pytest.raises(ValueError, match="expected blocklist= to be"):
            Blocklist.parse(wrong)
    with pytest.raises(ValueError, match=r"'fuck' is no text file .* or a file with one a line"):
        Blocklist.parse("fuck")
    assert textenv.Blocklist is Blocklist


def test_as_a_reward():
    reward = as_reward({"name": "blocklist", "patterns": ["bad word", "f?ck"]})
    texts = ["a good word", "BAD-word", "d", "word"]
    assert reward(["", "", "ba", "bad"], texts) == [0.0, -1.0, 0.0, -1.0]
    assert reward.spec() == {"name": "blocklist", "patterns": ["bad word", "f?ck"]}
    report = check_reward(blocklist(["good", "爱"]))
    assert (report.minimum, report.maximum) == (-1.0, 0.0)


def test_flags():
    prompts, texts = ["b", "b", "", ""], ["-A-d, you idiot", "ee", "you are an idiot", "bad"]
    assert flag(prompts, texts, blocklist=["bad"]) == [
        "blocklist: 'bad'",
        None,
        "toxicity 1.00",
        "blocklist: 'bad'",
    ]
    assert flag(prompts, texts, toxicity=None) == [None] * 4
    assert flag(prompts[:2], texts[:2], toxicity=1.0) == [None, None]
    assert flag(["x"], ["a fine day"], toxicity=0.0) == ["toxicity 0.02"]
    assert flag([], []) == []
    with pytest.raises(ValueError, match="got 1 prompts and 2 completions"):
        flag([""], ["", ""])
    with pytest.raises(ValueError, match="to be a probability or None, got 2"):
        flag([""], [""], toxicity=2)
