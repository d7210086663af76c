"""What other processes do to one cache of judgements; light to import, for they begin afresh."""

from __future__ import annotations

import multiprocessing

import numpy as np

from textenv.judges.cache import Cache

SPAWN = multiprocessing.get_context("spawn")


def make_and_fill(path, start, barrier):
    """Open a cache that is not there at the same moment as others, and write what they write."""
    barrier.wait()
    cache = Cache(path)
    for number in range(start, start + 50):
        cache.put({f"{number}": np.array([float(number), -np.inf])})
        cache.put({"shared": np.array([float(start)])})


def run(path, starts):
    """Do it in several processes at once; return their exit codes."""
    barrier = SPAWN.Barrier(len(starts))
    processes = [
        SPAWN.Process(target=make_and_fill, args=(path, start, barrier)) for start in starts
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]
