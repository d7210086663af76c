"""Play-throughs, and what the checkers stand on."""

from __future__ import annotations

import re

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from tests.small_tasks import small_task
from textenv.testing import (
    PlaythroughError,
    record_playthrough,
    replay_playthrough,
)
from textenv.testing.compare import choose, difference


def test_playthrough_is_readable_and_replays(tmp_path):
    path = tmp_path / "one.txt"
    text = record_playthrough("textenv/ILoveYou-v0", path, seed=4, reward="length", end=False)
    replay_playthrough(path)
    replay_playthrough(str(path))
    replay_playthrough(text)
    assert path.read_text("utf-8") == text
    assert 'keywords: {"reward": "length", "end": false}' in text
    assert re.search(r'  action: \d "[我爱你。]"\n  text: "[我爱你。]+"\n  reward: ', text)
    assert text == record_playthrough("textenv/ILoveYou-v0", seed=4, reward="length", end=False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("reward: 0.0", "reward: 0.5", r"(?s)differently from line \d+ on.*-  reward: 0.5\n\+"),
        ("Discrete(4)", "Discrete(5)", "line 6"),
        ('"。"', '"."', "differently"),
        ("ILoveYou-v0", "ILoveYou-v7", "no longer be played"),
        ("seed: 0", "seed: none", "cannot be read"),
        ("play-through of", "story of", "is no play-through"),
        ("  action: ", "  action: 9", "no longer be played"),
        ("  terminated: True\n", "  terminated: False\nstep 9\n  action: 0\n", "differently"),
    ],
)
def test_playthrough_that_differs(old, new, message):
    text = record_playthrough("textenv/ILoveYou-v0")
    assert old in text
    with pytest.raises(PlaythroughError, match=message):
        replay_playthrough(text.replace(old, new))


def test_playthrough_that_was_cut_short():
    text = record_playthrough("textenv/WordPreference-v0", seed=1)
    with pytest.raises(PlaythroughError, match=r"\+the episode has not ended"):
        replay_playthrough(text[: text.index("step 3")] + "\nreturn: 0.0\n")


# What the checkers stand on.


@pytest.mark.parametrize(
    ("ours", "expected", "message"),
    [
        (1, 1.0, "int"),
        (np.zeros(2), np.zeros(2, np.float32), "dtype float64"),
        (np.zeros(2), np.zeros(3), "shape"),
        (np.array([1, 2]), np.array([1, 3]), r"first at \[1\]"),
        ({"a": (1, 2)}, {"a": (1, 3)}, r"\['a'\]\[1\] is 2"),
        ({"a": 1}, {"b": 1}, "keys"),
        ([1], [1, 2], "1 parts, expected 2"),
        (np.array([None, "x"]), np.array([None, "y"]), "'x'"),
        (float("nan"), 0.0, "nan"),
    ],
)
def test_difference(ours, expected, message):
    assert re.search(message, difference(ours, expected))
    assert difference(ours, ours) is None
    assert difference(expected, expected) is None


def test_difference_with_a_tolerance():
    assert difference([1.0, np.array([1.0])], [1.1, np.array([0.9])], tolerance=0.11) is None
    assert difference(1.0, 1.1, tolerance=0.01)


def test_chosen_tokens_end_texts_and_reach_all():
    rules = small_task().rules
    generator = np.random.default_rng(0)
    tokens = [choose(rules, generator) for _ in range(1000)]
    assert set(tokens) == set(range(5))
    # 0.15 + 0.85·2/5 = 0.49 end the text, by 3 or by 4; the deviation is 0.016.
    assert np.isin(tokens, [3, 4]).mean() == pytest.approx(0.49, abs=0.05)


def test_modes_are_all_checked():
    assert len(AutoresetMode) == 3  # a fourth one needs its own case in check_vector_env
