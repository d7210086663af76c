"""The command `textenv`, one run folder, and the demo's toys; what needs no torch loads none."""

from __future__ import annotations

import json
import subprocess
import sys

import gymnasium as gym
import pytest

from textenv_agents import PolicyGradient, demo
from textenv_agents.cli import main
from textenv_agents.train import TrainConfig, train


def test_list_names_every_id(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "textenv/GoodBad-v0",
        "textenv/ILoveYou-v0",
        "textenv/WordPreference-v0",
        "textenv/Sentiment-v0",
        "textenv/ToyTranslation-v0",
        "textenv/ReasoningGym-v0",
    ]
    assert all(len(line.split()) > 4 for line in lines)


@pytest.mark.parametrize("arguments", [["list"], ["play", "textenv/GoodBad-v0"]])
def test_what_needs_no_torch_loads_none(arguments):
    code = (
        "import sys; from textenv_agents.cli import main; "
        f"main({arguments!r}); sys.exit('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], input=":quit\n", text=True, check=False)
    assert run.returncode == 0


def test_help_and_mistakes(capsys):
    assert main([]) == 0
    assert "pretrain" in capsys.readouterr().out
    assert main(["trian"]) == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err
    assert main(["train", "textenv/GodBad-v0"]) == 2
    assert "GoodBad" in capsys.readouterr().err
    assert main(["pretrain", "--text", "nowhere.txt", "--folder", "x"]) == 2
    assert "nowhere.txt" in capsys.readouterr().err
    assert main(["train", "textenv/Sentiment-v0", "--lm", "revews"]) == 2
    assert "Did you mean 'reviews'?" in capsys.readouterr().err
    assert main(["play", "not_there:mine/Toy-v0"]) == 2
    error = capsys.readouterr().err  # no package of ours is missing
    assert "No module named 'not_there'" in error
    assert "pip install" not in error


def test_a_run_folder_is_whole(tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["train", "textenv/ILoveYou-v0", "--tokens", "1000", "--texts", "50"]
    arguments += ["--folder", str(folder), "--agent.seed", "3", "--agent.learning-rate", "0.1"]
    assert main(arguments) == 0
    assert "mean reward" in capsys.readouterr().out
    names = {path.name.split(".")[0] for path in folder.iterdir()}
    assert names == {
        "config", "progress", "events", "checkpoint", "curve", "samples", "evaluation",
        "before", "checkpoints", "lock",
    }  # fmt: skip
    assert json.loads((folder / "config.json").read_text())["agent"]["seed"] == 3
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "我" in (folder / "samples.txt").read_text("utf-8")
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["before"]["kl"] == [0.0, 0.0, 0.0]
    assert evaluation["after"]["kl"][0] > 0
    assert PolicyGradient.load(folder / "checkpoint").tokens >= 1000
    assert main(arguments) == 2
    assert "is not empty" in capsys.readouterr().err


def test_the_demos_smollm2_learns_for_a_while():
    part = demo.LAST_PARTS["smollm2"]
    longest = gym.make("textenv/Sentiment-v0").unwrapped.task.rules.max_tokens
    assert part.agent.lora_rank == 8
    assert part.tokens / (part.agent.texts * longest) > 20  # updates


def test_the_demos_toys(capsys):
    demo.good_bad(seed=0)
    demo.i_love_you(seed=0)
    printed = capsys.readouterr().out
    for number in ("0.5000", "0.7311", "0.8808", "+0.5000", "0.4338", "J = 0.2400"):
        assert number in printed
    after = next(line for line in printed.splitlines() if line.startswith("after 40,000"))
    assert float(after.split("J = ")[1].split()[0]) > 0.95


@pytest.mark.slow
def test_the_reviewer_learns(tmp_path):
    """An eighth of the demo's tokens: the mean reward rises by 0.3 at least."""
    config = TrainConfig(
        env="textenv/Sentiment-v0",
        tokens=30_000,
        texts=200,
        folder=tmp_path / "run",
        agent=demo.REVIEWS,
    )
    run = train(config, progress_bar=False)
    assert run.after.reward.low - run.before.reward.high > 0.3
    assert run.after.texts[0][0] == run.before.texts[0][0]  # the same prompts
