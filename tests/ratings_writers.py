"""Processes that rate at once and are killed: the script behind tests/test_ratings_killed.py.

python tests/ratings_writers.py DATABASE JOURNALS WRITERS KILLS

Each writer is a process with a rater of its own. Its journal, a file, gets "send KEY PAIR ANSWER"
before each rating and "done KEY RATING" when it is acknowledged. A writer that was killed is
replaced by another with the same rater and journal, which sends again what was not acknowledged.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from textenv.preferences.database import Database

ANSWERS = ("better", "worse", "tie", "skip", "flag")


def write(database_path: Path, journal: Path, seed: int) -> None:
    """Rate until somebody kills it or all is rated."""
    rater, draw = journal.name, random.Random(seed)
    lines = [line.split() for line in journal.read_text().splitlines()]
    with Database(database_path) as database, journal.open("ab", buffering=0) as file:

        def rate(key: str, pair: int, answer: str) -> None:
            rating = database.rate_pair(pair, rater, answer, key=key)
            file.write(f"done {key} {rating}\n".encode())
            os.fsync(file)

        if lines and lines[-1][0] == "send":
            rate(lines[-1][1], int(lines[-1][2]), lines[-1][3])
        while (pair := database.next_pair(rater, raters_per_pair=1000)) is not None:
            key, answer = f"{draw.getrandbits(64):x}", draw.choice(ANSWERS)
            file.write(f"send {key} {pair.id} {answer}\n".encode())
            rate(key, pair.id, answer)
            if draw.random() < 0.05:  # as a page does that did not hear the answer
                assert database.rate_pair(pair.id, rater, answer, key=key)


def fork(database_path: Path, journal: Path, seed: int) -> int:
    """Start a writer and give its process id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        write(database_path, journal, seed)
        status = 0
    finally:
        os._exit(status)


def wait_for_work(journals: list[Path], seconds: float = 60) -> None:
    """Wait until each writer had its turn: on a busy machine the kills may come too soon."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done = [journal.read_text().count("done") for journal in journals]
        if all(done) and sum(done) > 10 * len(journals):
            return
        time.sleep(0.1)


def main(database_path: Path, folder: Path, writers: int, kills: int) -> int:
    """Start the writers, kill at random moments, then end them all; 0 if none failed by itself."""
    draw = random.Random(0)
    journals = [folder / f"writer-{number}" for number in range(writers)]
    for journal in journals:
        journal.touch()
    running = {fork(database_path, journal, n): journal for n, journal in enumerate(journals)}
    failed = 0
    for number in range(kills + writers):
        if number < kills:
            time.sleep(draw.uniform(0.01, 0.2))
        elif number == kills:
            wait_for_work(journals)
        process = draw.choice(sorted(running))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        failed += os.waitstatus_to_exitcode(status) not in (0, -signal.SIGKILL)
        journal = running.pop(process)
        if number < kills:
            running[fork(database_path, journal, 1000 + number)] = journal
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
