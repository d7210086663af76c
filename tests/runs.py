"""Small training runs, and comparing all that two of them left behind."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.small_tasks import register_tasks
from textenv.models import LSTMLM
from textenv.tasks.i_love_you import WORDS
from textenv.vocabulary import WordVocabulary
from textenv_agents import PolicyGradientConfig
from textenv_agents.train import TrainConfig

AGENT = PolicyGradientConfig(
    episodes=16,
    rows=5,
    group=4,
    baseline="value",
    kl_coefficient=0.1,
    kl_target=0.05,
    loss="ppo",
    epochs=2,
    minibatches=2,
    schedule="linear",
    learning_rate=0.02,
    seed=3,
)


def noisy(prompts, completions, **columns):
    """Draws from every global generator, so that each of them shows in the weights."""
    return [
        text.count("我") + random.random() + np.random.random() + torch.rand(()).item()  # noqa: NPY002
        for text in completions
    ]


register_tasks(
    {
        "Noisy": {"task": "ILoveYou", "reward": f"{__name__}:noisy"},
        "Short": {"task": "Sentiment", "lm": "reviews", "max_tokens": 8},
    }
)


def seed_globals():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)


def settings(folder, tokens=500, **changes):
    given = {"env": "tests/Noisy-v0", "tokens": tokens, "texts": 20, "checkpoint_every": 1}
    return TrainConfig(**{**given, "folder": folder, "agent": AGENT, **changes})


def small_lstm(folder):
    words, generator = WordVocabulary(WORDS, separator=""), torch.Generator().manual_seed(0)
    LSTMLM(4, 8, vocabulary=words, generator=generator).save_pretrained(folder)
    return str(folder)


def assert_equal(ours, theirs, where):
    """Whatever torch.load gave: the same types, the same bits."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, torch.Tensor):
        assert ours.dtype == theirs.dtype, where
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in ours.items():
            assert_equal(value, theirs[key], f"{where}.{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for place, (mine, yours) in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(mine, yours, f"{where}[{place}]")
    else:
        assert ours == theirs, where


def scalars(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def assert_same_run(ours: Path, theirs: Path):
    """Weights, optimizers, generators, environments, logs, evaluations: everything a run leaves."""
    files = [path.relative_to(theirs) for path in sorted(theirs.rglob("*.pt"))]
    assert len(files) == 3  # the last two and the finished agent
    for file in files:
        states = [torch.load(run / file, weights_only=True) for run in (ours, theirs)]
        assert_equal(*states, str(file))
    models = [path.relative_to(theirs) for path in sorted(theirs.rglob("*.safetensors"))]
    assert models
    for file in models:
        assert_equal(*(load_file(run / file) for run in (ours, theirs)), str(file))
    for file in ("progress.csv", "evaluation.json", "before.json", "samples.txt"):
        assert (ours / file).read_text("utf-8") == (theirs / file).read_text("utf-8"), file
    assert scalars(ours) == scalars(theirs)
    assert not list((ours / "checkpoints").glob(".*"))
