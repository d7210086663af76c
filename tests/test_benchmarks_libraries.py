"""`python -m benchmarks libraries`: a row is a line, and what is missing says so."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from benchmarks import libraries
from benchmarks.libraries import LibrariesBenchmark, Row, table
from benchmarks.libraries_training import Training, allowed_only, greedy, sampled, task_of, worth
from textenv.models import TabularLM

ROOT = Path(__file__).parent.parent
CHINESE = "textenv/ILoveYou-v0"


def counts(environment_id, seed):
    assert environment_id == CHINESE
    return Training(before=0.0, after=0.5 * seed, greedy=0.9 * seed, steps=1000 + 2 * seed)


def test_the_table(monkeypatch):
    here = f"{__name__}:counts"
    rows = (
        Row("A", "numpy", "PPO", here, (CHINESE,)),  # it has an environment of its own
        Row("B", "no-such-package", "DQN", here),
    )
    monkeypatch.setattr(libraries, "ROWS", rows)
    asked = LibrariesBenchmark(ids=("textenv/GoodBad-v0",), seeds=3)
    head, _, first, second = table(asked)
    assert first.split(" | ")[:-1] == [
        "| A",
        np.__version__,
        "PPO",
        "ILoveYou-v0",
        "0.000 [0.000, 0.000] → 0.500 [0.000, 1.000]",
        "2 of 3",
        "1,002",
    ]
    assert second == "| B | – | DQN | GoodBad-v0 | not installed | | | |"
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


def test_what_a_language_model_is_worth():
    """The starting policy: ½ · 0.6 · 0.8 · 1, and its likeliest text is the right one."""
    task = task_of(CHINESE)
    value, likeliest = worth(task, task.starting_policy())
    assert (round(value, 12), likeliest) == (0.24, 1.0)
    assert worth(task, TabularLM(4, order=0))[0] == pytest.approx(1 / 256)


def test_our_own_agents_learn():
    from benchmarks import libraries_own

    for train in (libraries_own.policy_gradient, libraries_own.single_file):
        run = train(CHINESE, 0, steps=8_192)
        assert run.before < 0.3
        assert run.after > 0.9
        assert run.greedy == 1.0
        assert 8_192 <= run.steps < 8_192 + 256
    with pytest.raises(ValueError, match="too many texts for an exact J"):
        libraries_own.single_file("textenv/WordPreference-v0", 0, steps=512)


def test_sb3_learns_under_a_blocklist_and_with_a_language_model():
    from benchmarks import libraries_sb3

    for train in (libraries_sb3.maskable, libraries_sb3.lm_policy):
        run = train(CHINESE, 0)
        assert run.before < 0.3
        assert run.after > 0.9
        assert run.greedy == 1.0
        assert run.steps == 10_240


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is dep:FutureWarning")
def test_trl_learns_the_same_from_a_served_environment():
    """Through OpenEnv's protocol come the same rewards, so that the same model comes out."""
    pytest.importorskip("trl", exc_type=ImportError)
    pytest.importorskip("openenv")
    from benchmarks import libraries_trl

    words = "textenv/WordPreference-v0"
    here = libraries_trl.grpo(words, 0, updates=20)
    assert libraries_trl.served(words, 0, updates=20) == here
    assert here.before < 0.3
    assert here.after > 0.9
    assert libraries_trl.rloo(words, 0, updates=20).after > 0.9
    taught = libraries_trl.reasoning("textenv/ReasoningGym-v0", 0, updates=40)
    assert taught.before < 0.1
    assert taught.after > 0.5
