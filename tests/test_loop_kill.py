"""A loop that is killed at any moment ends as one that never was; no rating is lost or repeated."""

from __future__ import annotations

import multiprocessing
import threading
import time

import numpy as np
import pytest
import torch
from tqdm.auto import tqdm

from tests.loops import assert_same_loop, settings
from textenv.preferences.database import Database
from textenv_agents.loop import loop, resume
from textenv_agents.loop.folder import SUMMARY

# The steps, by what each leaves behind: kills are spread over them.
STEPS = (
    "rounds/00/evaluation.json",
    "rounds/01/samples.jsonl",
    "rounds/01/comparisons.jsonl",
    "rounds/01/reward_model",
    "rounds/01/policy/checkpoints",
    "rounds/01/policy/checkpoint",
    "rounds/01/evaluation.json",
    "rounds/02/samples.jsonl",
    "rounds/02/reward_model",
    "rounds/02/policy/checkpoint",
)


def work(folder, config):
    """One process of a loop: begins it, or goes on with it."""
    tqdm.set_lock(threading.RLock())  # a lock between processes would outlive a kill
    torch.set_num_threads(1)
    if (folder / "config.json").exists():
        resume(folder)
    else:
        loop(config)


def answers(folder):
    """What was acknowledged: each answer by its number."""
    path = folder / "ratings.sqlite"
    if not path.exists():
        return {}
    with Database(path) as database:
        return {each.id: (each.question, each.rater, each.answer) for each in database.answers()}


def killed(process, folder, step, seconds):
    """Kill so long after a step's result is there; returns whether the process was at work."""
    process.start()
    until = time.monotonic() + 120.0
    while process.is_alive() and not (folder / step).exists() and time.monotonic() < until:
        time.sleep(0.001)
    process.join(seconds)
    at_work = process.is_alive()
    process.kill()  # SIGKILL
    process.join()
    return at_work


def kill_and_compare(tmp_path, kills, seed):
    """Chains of killed processes until there were so many kills; each chain ends as it should."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])

    def process(folder):
        return processes.Process(target=work, args=(folder, settings(folder)))

    def finished(folder):
        last = process(folder)
        last.start()
        last.join()
        assert last.exitcode == 0
        return folder

    whole = finished(tmp_path / "whole")
    generator = np.random.default_rng(seed)
    done = chains = 0
    while done < kills:
        folder = tmp_path / f"chain-{chains}"
        chains += 1
        steps = sorted(generator.choice(len(STEPS), size=min(6, kills - done), replace=False))
        for step in steps:
            before = answers(folder)
            done += killed(process(folder), folder, STEPS[step], generator.uniform(0.0, 0.15))
            after = answers(folder)
            assert before.items() <= after.items()  # nothing that was acknowledged is lost
        finished(folder)
        assert_same_loop(folder, whole)
        asked = [(question, rater) for question, rater, _ in answers(folder).values()]
        assert len(asked) == len(set(asked)) == 120  # each pair of two rounds, once
        assert all((folder / name).exists() for name in SUMMARY)
    return chains


def test_killed_at_six_moments(tmp_path):
    assert kill_and_compare(tmp_path, 6, seed=0) < 4


@pytest.mark.slow
def test_killed_at_many_moments(tmp_path):
    assert kill_and_compare(tmp_path, 25, seed=1) < 15
