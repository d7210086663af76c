"""`python -m benchmarks libraries`: a row is a line, and what is missing says so."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from benchmarks import libraries
from benchmarks.libraries import LibrariesBenchmark, Row, table
from benchmarks.libraries_training import Training, allowed_only, greedy, sampled, task_of

ROOT = Path(__file__).parent.parent
CHINESE = "textenv/ILoveYou-v0"


def counts(environment_id, seed):
    assert environment_id == CHINESE
    return Training(before=0.0, after=0.5 * seed, greedy=0.9 * seed, steps=1000 + 2 * seed)


def test_the_table(monkeypatch):
    here = f"{__name__}:counts"
    rows = (Row("A", "numpy", "PPO", here), Row("B", "no-such-package", "DQN", here))
    monkeypatch.setattr(libraries, "ROWS", rows)
    head, _, first, second = table(LibrariesBenchmark(ids=(CHINESE,), seeds=3))
    assert first.split(" | ")[:-1] == [
        "| A",
        np.__version__,
        "PPO",
        "ILoveYou-v0",
        "0.000 [0.000, 0.000] → 0.500 [0.000, 1.000]",
        "2 of 3",
        "1,002",
    ]
    assert second == "| B | – | DQN | ILoveYou-v0 | not installed | | | |"
    assert head.count("|") == first.count("|") == second.count("|")
    only = LibrariesBenchmark(ids=(CHINESE,), only=("B",))
    assert [line[:3] for line in table(only)][2:] == ["| B"]
    with pytest.raises(ValueError, match="expected --only to name some of A, B; got 'C'"):
        list(table(LibrariesBenchmark(only=("C",))))


def test_every_row_has_its_function():
    """Read, not imported: some want environments of their own."""
    for row in libraries.ROWS:
        module, name = row.function.split(":")
        places = [ROOT / folder / f"{module.replace('.', '/')}.py" for folder in (".", "agents")]
        source = next(path for path in places if path.is_file()).read_text("utf-8")
        defined = [
            node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)
        ]
        assert name in defined


def test_what_scores_are_worth():
    """Of four words at each step one is right, four times: (1/4)⁴; and the best text pays 1."""
    task = task_of(CHINESE)
    right = np.array([0, 1, 2, 3])  # 我爱你。

    def knows(tokens):
        step = (tokens != 4).sum(axis=1)
        return 10.0 * np.eye(4)[right[step]]

    assert sampled(task, lambda tokens: np.zeros((len(tokens), 4))) == pytest.approx(1 / 256)
    share = np.exp(10) / (np.exp(10) + 3)
    assert sampled(task, knows) == pytest.approx(share**4)
    assert greedy(task, knows) == 1.0
    keywords = {"mask": "observation", "blocklist": ["爱你"]}
    assert greedy(task, allowed_only(CHINESE, keywords, knows)) == 0.0
    keywords["blocklist"] = ["我我"]
    assert greedy(task, allowed_only(CHINESE, keywords, knows)) == 1.0
