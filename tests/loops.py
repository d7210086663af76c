"""Small loops, and comparing all that two of them left behind."""

from __future__ import annotations

import json

from safetensors.torch import load_file

from tests.small_tasks import register_tasks
from textenv.vocabulary import WordVocabulary
from textenv_agents import PolicyGradientConfig
from textenv_agents.loop import LoopConfig

AGENT = PolicyGradientConfig(
    episodes=32, group=8, learning_rate=0.1, kl_coefficient=0.1, schedule="linear"
)
ENV = "tests/Words-v0"
WORDS = 'scripted:{"name": "length", "unit": "words"}'  # a rater who likes long texts

register_tasks({
    "Words": {"task": "WordPreference", "prompt_length": 2, "max_tokens": 6},
    "Unpaid": {"task": "WordPreference", "prompt_length": 2, "max_tokens": 6, "reward": "zero"},
    "OneText": {
        "task": "WordPreference", "vocabulary": WordVocabulary(["good"]), "max_tokens": 1,
        "prompts": ["good", "good good"],
    },
    "Reviews": {"task": "Sentiment", "lm": "reviews", "max_tokens": 8},
})  # fmt: skip


def settings(folder, **changes):
    given = {
        "env": ENV, "folder": folder, "rounds": 2, "pairs": 60, "tokens": 1000, "texts": 200,
        "checkpoint_every": 1, "agent": AGENT,
    }  # fmt: skip
    return LoopConfig(**{**given, **changes})


def numbers(folder):
    return json.loads((folder / "summary.json").read_text("utf-8"))["rounds"]


def assert_same_loop(ours, theirs):
    """Numbers, texts, comparisons, pictures and weights: everything but the times of day."""
    names = ["summary.json", "summary.md", "loop.png"]
    for pattern in ("evaluation.json", "*.jsonl", "policy/progress.csv", "reward_model/*"):
        found = sorted(theirs.glob(f"rounds/*/{pattern}"))
        assert found, pattern
        names += [path.relative_to(theirs) for path in found]
    for name in names:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    models = sorted(theirs.glob("rounds/*/policy/checkpoint/**/*.safetensors"))
    assert models
    for path in models:
        mine, yours = load_file(ours / path.relative_to(theirs)), load_file(path)
        assert mine.keys() == yours.keys()
        assert all(mine[key].equal(yours[key]) for key in yours), path
    half_written = [path for path in (ours / "rounds").glob("*/.*") if path.name != ".gitkeep"]
    assert not half_written
