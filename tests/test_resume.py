"""Exact resume: whatever interrupts a run, its end is bit for bit that of one never interrupted."""

from __future__ import annotations

import json
import multiprocessing
import random
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tqdm.auto import tqdm

from tests.runs import AGENT, assert_same_run, seed_globals, settings, small_lstm
from textenv_agents.run_folder import RunFinishedError, RunFolder
from textenv_agents.train import resume, train

KILLS = 25


# Interrupted by an exception.


class InterruptedRun(Exception):
    pass


@pytest.mark.parametrize("model", ["table", "lstm", "gpt2", "adapter"])
def test_a_run_interrupted_at_every_iteration(model, tmp_path, monkeypatch):
    """After odd iterations just before their checkpoint is written, after even ones just behind."""
    changes = {
        "table": {},
        "lstm": {"lm": small_lstm(tmp_path / "lstm") if model == "lstm" else None},
        "gpt2": {"env": "tests/Short-v0", "lm": "reviews"},
        "adapter": {"env": "tests/Short-v0", "lm": "reviews", "agent": replace(AGENT, lora_rank=2)},
    }[model]
    seed_globals()
    train(settings(tmp_path / "whole", **changes), progress_bar=False)
    write, saved = RunFolder.save, []

    def save(run, agent):
        late = agent.updates % 2 == 0
        if late:
            write(run, agent)
        if len(saved) < 40 and saved.count(agent.updates) < 2:
            saved.append(agent.updates)
            raise InterruptedRun
        if not late:
            write(run, agent)

    monkeypatch.setattr(RunFolder, "save", save)
    folder = tmp_path / "parts"
    seed_globals()
    with pytest.raises(InterruptedRun):
        train(settings(folder, **changes), progress_bar=False)
    interruptions = 1
    while True:
        if not (folder / "checkpoints").exists():
            seed_globals()  # nothing was saved: the run begins again
        else:
            torch.rand(7), random.random(), np.random.random()  # noqa: NPY002  (other work)
        try:
            resume(folder, progress_bar=False)
            break
        except InterruptedRun:
            interruptions += 1
    assert set(saved) == set(range(max(saved) + 1))
    assert interruptions == len(saved) > 6
    assert_same_run(folder, tmp_path / "whole")


def test_checkpoints_need_not_be_written_at_every_iteration(tmp_path, monkeypatch):
    seed_globals()
    train(settings(tmp_path / "whole", checkpoint_every=3), progress_bar=False)
    dump, dumped = RunFolder.finish, []

    def finish(run, before, after):
        dumped.append(run)
        if len(dumped) == 1:
            raise InterruptedRun
        dump(run, before, after)

    monkeypatch.setattr(RunFolder, "finish", finish)
    seed_globals()
    with pytest.raises(InterruptedRun):
        train(settings(tmp_path / "parts", checkpoint_every=3), progress_bar=False)
    rows = (tmp_path / "parts/progress.csv").read_text().count("\n") - 1
    newest = max(int(path.name) for path in (tmp_path / "parts/checkpoints").iterdir())
    assert newest % 3 == 0
    assert newest < rows  # some iterations have to be done again
    resume(tmp_path / "parts", progress_bar=False)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_what_was_measured_before_is_not_measured_again(tmp_path, monkeypatch):
    from textenv_agents import train as module

    evaluate, calls = module.evaluate, []

    def counted(*arguments, **keywords):
        calls.append(keywords)
        if len(calls) == 2:
            raise InterruptedRun
        return evaluate(*arguments, **keywords)

    monkeypatch.setattr(module, "evaluate", counted)
    seen = []
    with pytest.raises(InterruptedRun):
        train(settings(tmp_path / "run"), progress_bar=False, before_training=seen.append)
    run = resume(tmp_path / "run", progress_bar=False, before_training=seen.append)
    assert len(calls) == 3  # before; after, interrupted; after
    assert seen == [run.before, run.before]


# Killed.


def work(folder, lm):
    """One process of a run: begins it, or goes on with it."""
    tqdm.set_lock(threading.RLock())  # a lock between processes would outlive a kill
    torch.set_num_threads(1)
    seed_globals()
    if (folder / "config.json").exists():
        resume(folder, progress_bar=False)
    else:
        train(settings(folder, tokens=1600, lm=lm), progress_bar=False)


def names(folder):
    """Whole checkpoints, and those that are being written."""
    found = {path.name for path in (folder / "checkpoints").glob("*")}
    hidden = {name for name in found if name.startswith(".")}
    return found - hidden, hidden


def killed(process, folder, iterations, seconds, *, writing):
    """Kill after so many iterations and seconds, or then as soon as a checkpoint is being written.

    Returns how many checkpoints there were to go on from, whether the process was still at work,
    and whether it left half a checkpoint.
    """
    before, left = names(folder)
    process.start()
    until = time.monotonic() + 60.0

    def wait_for(condition):
        while process.is_alive() and not condition() and time.monotonic() < until:
            time.sleep(0.0005)

    goal = f"{int(max(before, default='-1')) + iterations:06}"
    wait_for(lambda: iterations == 0 or max(names(folder)[0], default="") >= goal)
    process.join(seconds)
    wait_for(lambda: not writing or names(folder)[1] - left)
    at_work = process.is_alive()
    process.kill()  # SIGKILL
    process.join()
    return len(before), at_work, bool(names(folder)[1] - left)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    """Real processes, SIGKILL, about half of them while a checkpoint is being written."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    lm = small_lstm(tmp_path / "lstm")

    def process(folder):
        return processes.Process(target=work, args=(folder, lm))

    def finished(folder):
        last = process(folder)
        last.start()
        last.join()
        assert last.exitcode == 0
        return folder

    whole = finished(tmp_path / "whole")
    generator = np.random.default_rng(0)
    kills, chains = [], 0
    while len(kills) < KILLS:
        folder = tmp_path / f"chain-{chains}"
        chains += 1
        while len(kills) < KILLS and not (folder / "evaluation.json").exists():
            kill = killed(
                process(folder),
                folder,
                iterations=int(generator.integers(4)),
                seconds=generator.uniform(0.0, 0.1),
                writing=generator.random() < 0.5,
            )
            kills += [kill] if kill[1] else []
        if not (folder / "evaluation.json").exists():
            finished(folder)
        assert_same_run(folder, whole)
    assert sum(going_on > 0 for going_on, _, _ in kills) >= KILLS // 2
    assert sum(half for _, _, half in kills) >= KILLS // 5
    with pytest.raises(RunFinishedError, match="is finished"):
        resume(folder)
    assert json.loads((folder / "config.json").read_text())["lm"] == str(Path(lm).resolve())
