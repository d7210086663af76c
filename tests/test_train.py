"""`textenv train`: its folder, its logs, and what it refuses to go on with."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import warnings

import pytest
import torch

from textenv.models import LSTMLM, Sampling
from textenv.tasks.i_love_you import WORDS
from textenv.vocabulary import WordVocabulary
from textenv_agents import CheckpointError, PolicyGradientConfig, logs
from textenv_agents.cli import main
from textenv_agents.run_folder import ResumeWarning, RunError, RunFolder
from textenv_agents.train import TrainConfig, resume, train

AGENT = PolicyGradientConfig(episodes=8, learning_rate=0.1, kl_coefficient=0.1)


def settings(folder, **changes):
    given = {"env": "textenv/ILoveYou-v0", "tokens": 150, "texts": 5, "checkpoint_every": 1}
    return TrainConfig(**{**given, "folder": folder, "agent": AGENT, **changes})


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run that was killed while it was evaluated: all but the last file is there."""
    folder = tmp_path_factory.mktemp("train") / "run"
    train(settings(folder), progress_bar=False)
    (folder / "evaluation.json").unlink()
    return folder


@pytest.fixture
def run(interrupted, tmp_path):
    return shutil.copytree(interrupted, tmp_path / "run")


def newest(run):
    return max((run / "checkpoints").iterdir())


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files_of(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# The folder.


def test_the_last_two_checkpoints_are_kept(interrupted):
    names = sorted(path.name for path in (interrupted / "checkpoints").iterdir())
    last = len(rows(interrupted / "progress.csv"))
    assert names == [f"{last - 1:06}", f"{last:06}"]


def test_a_run_can_be_moved(run, tmp_path):
    moved = run.rename(tmp_path / "elsewhere")
    assert resume(moved, progress_bar=False).folder == moved


def test_a_model_is_found_from_another_folder(tmp_path, monkeypatch):
    words, generator = WordVocabulary(WORDS, separator=""), torch.Generator().manual_seed(0)
    LSTMLM(4, 8, vocabulary=words, generator=generator).save_pretrained(tmp_path / "lstm")
    monkeypatch.chdir(tmp_path)
    train(settings(tmp_path / "run", lm="lstm"), progress_bar=False)
    (tmp_path / "run/evaluation.json").unlink()
    monkeypatch.chdir("/")
    resume(tmp_path / "run", progress_bar=False)
    # The model in that folder is another now: its weights are the reference, too.
    (tmp_path / "run/evaluation.json").unlink()
    generator.manual_seed(1)
    LSTMLM(4, 8, vocabulary=words, generator=generator).save_pretrained(tmp_path / "lstm")
    before = files_of(tmp_path / "run")
    with pytest.raises(CheckpointError, match="not the one that this run began with"):
        resume(tmp_path / "run", progress_bar=False)
    assert files_of(tmp_path / "run") == before


def test_settings_come_back_from_json(tmp_path):
    config = settings(tmp_path, lm="reviews", device="auto")
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


# What cannot go on.


def test_folders_that_hold_no_run(tmp_path):
    with pytest.raises(RunError, match="it does not exist"):
        resume(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"has no config\.json"):
        resume(tmp_path)
    for text in ("{", "[]", '{"env": "textenv/ILoveYou-v0", "unheard_of": 1}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(RunError, match="holds no run's settings"):
            resume(tmp_path)


def test_other_settings_are_refused(run):
    config = json.loads((run / "config.json").read_text())
    config["agent"]["learning_rate"] = 1.0
    config["tokens"] = 7
    (run / "config.json").write_text(json.dumps(config))
    before = files_of(run)
    with pytest.raises(CheckpointError, match=r"agent\.learning_rate: 0\.1 → 1\.0, tokens: 150 →"):
        resume(run, progress_bar=False)
    assert files_of(run) == before


@pytest.mark.parametrize("key", ["torch", "textenv", "threads"])
def test_another_place_is_warned_of(run, key):
    path = newest(run) / "state.json"
    state = json.loads(path.read_text())
    state["made_with"][key] = 0
    path.write_text(json.dumps(state))
    with pytest.warns(ResumeWarning, match=rf"need not be exactly those.*{key} 0 → "):
        resume(run, progress_bar=False)


def test_the_command_line_warns_in_one_line(run, capsys):
    (newest(run) / "training.pt").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("always", ResumeWarning)
        assert main(["train", "--resume", str(run)]) == 0
    lines = capsys.readouterr().err.splitlines()
    (line,) = (line for line in lines if "older checkpoint" in line)
    assert line.startswith("textenv train: the run goes on from an older checkpoint: ")
    assert "ResumeWarning" not in "".join(lines)


@pytest.mark.parametrize("damage", ["half", "bit", "empty", "no state", "half a state", "list"])
def test_a_damaged_checkpoint_falls_back(run, damage):
    whole = files_of(run / "checkpoint")
    training, state = newest(run) / "training.pt", newest(run) / "state.json"
    if damage == "half":
        os.truncate(training, training.stat().st_size // 2)
    elif damage == "bit":
        data = bytearray(training.read_bytes())
        data[len(data) // 2] ^= 4
        training.write_bytes(data)
    elif damage == "empty":
        training.unlink()
    elif damage == "no state":
        state.unlink()
    elif damage == "half a state":
        os.truncate(state, 100)
    else:
        state.write_text("[]")
    with pytest.warns(ResumeWarning, match="goes on from an older checkpoint"):
        resume(run, progress_bar=False)
    assert files_of(run / "checkpoint") == whole  # the same agent in the end


def test_where_no_checkpoint_is_whole_nothing_is_lost(run):
    for folder in (run / "checkpoints").iterdir():
        (folder / "training.pt").write_bytes(b"")
    before = files_of(run)
    with (
        pytest.warns(ResumeWarning, match="older checkpoint"),
        pytest.raises(CheckpointError, match=r"is damaged.*or remove '.*checkpoints' to begin"),
    ):
        resume(run, progress_bar=False)
    assert files_of(run) == before
    shutil.rmtree(run / "checkpoints")
    assert resume(run, progress_bar=False).folder == run


def test_what_is_not_ours_is_left_alone(run):
    """What a kill left is removed; copies that people make, and their systems' files, are not."""
    whole, checkpoints = files_of(run / "checkpoint"), run / "checkpoints"
    shutil.copytree(newest(run), checkpoints / "000009.bak")
    theirs = [".DS_Store", "12a", "777777", "notes.txt"]
    for folder in (checkpoints, run):
        for name in (*theirs, ".000001-no", ".mine-abcdefgh"):
            (folder / name).touch()
    left = [".000003-abc_1234", ".000003-old-abc_1234", ".000002-removed"]
    for path in [*(checkpoints / name for name in left), run / ".checkpoint-abcd1234"]:
        path.mkdir()
        (path / "half").touch()
    for name in ("progress.csv", "before.json", "samples.txt", "evaluation.json", logs.FIRST):
        (run / f".{name}-_bcd1234").touch()
    resume(run, progress_bar=False)
    hidden = {".DS_Store", ".000001-no", ".mine-abcdefgh"}
    for folder in (checkpoints, run):
        assert {path.name for path in folder.glob(".*")} == hidden
        assert {*theirs} <= {path.name for path in folder.iterdir()}
    assert (checkpoints / "000009.bak/training.pt").exists()
    assert files_of(run / "checkpoint") == whole


@pytest.mark.parametrize("text", ["{", "[]", '{"reward": 1}', None])
def test_what_was_measured_before_is_damaged(run, text):
    if text is None:
        (run / "before.json").unlink()  # the policy is another by now
    else:
        (run / "before.json").write_text(text)
    with pytest.raises(RunError, match=r"before\.json' is damaged: .* put it back"):
        resume(run, progress_bar=False)


def test_the_command_line(run, capsys):
    assert main(["train", "--resume", str(run), "--tokens", "1000"]) == 2
    assert "its own settings: expected --resume RUN and nothing else" in capsys.readouterr().err
    assert main(["train", "--resume"]) == 2
    assert "expected --resume RUN" in capsys.readouterr().err
    assert main(["train", "--resume", str(run / "nowhere")]) == 2
    assert "is no run that can go on" in capsys.readouterr().err
    run = run.rename(run.parent / "seed=3")
    assert main(["train", f"--resume={run}"]) == 0
    assert "mean reward" in capsys.readouterr().out
    assert main(["train", "--resume", str(run)]) == 0
    assert "is finished: its agent is in" in capsys.readouterr().out
    arguments = ["train", "textenv/ILoveYou-v0", "--folder", str(run)]
    assert main(arguments) == 2
    assert f"textenv train --resume {run}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 0}, "tokens ≥ 1, got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every ≥ 1"),
        ({"device": "cuda"}, "moves the model of lm="),
    ],
)
def test_settings_out_of_range(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        settings(tmp_path, **changes)


def test_what_is_trained_is_what_is_measured(tmp_path):
    """With the likeliest token alone every text of the evaluations is the same."""
    agent = PolicyGradientConfig(episodes=8, sampling=Sampling(top_k=1))
    done = train(
        TrainConfig(env="textenv/ILoveYou-v0", tokens=30, texts=20, folder=tmp_path, agent=agent),
        progress_bar=False,
    )
    for evaluation in (done.before, done.after):
        assert len({text for _, text, _ in evaluation.texts}) == 1


def test_one_process_at_a_time(run):
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(run / "lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == b"locked\n"
        before = files_of(run)
        with pytest.raises(RunError, match="another process is at work in"):
            resume(run, progress_bar=False)
        assert files_of(run) == before
        other.kill()
    resume(run, progress_bar=False)


def test_a_run_folder_is_opened_without_changing_it(run):
    before = files_of(run)
    assert RunFolder.open(run).config.tokens == 150
    assert files_of(run) == before
