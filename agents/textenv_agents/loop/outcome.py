"""What a loop has come to, and what is to be done next."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


class Waiting(NamedTuple):
    """People have not rated enough yet.

    round: Its number.
    done: Pairs of which enough has been said; see `rating.people_left`.
    wanted: Pairs that must be.
    """

    round: int
    done: int
    wanted: int


class Outcome(NamedTuple):
    """What a loop has come to.

    folder: Where everything is.
    rounds: The numbers of the start and of each round that is done.
    waiting: What people have to do before it can go on; None: all rounds are done.
    raters_per_pair: How many people see each pair.
    """

    folder: Path
    rounds: list[dict[str, Any]]
    waiting: Waiting | None
    raters_per_pair: int = 1


def what_to_do(outcome: Outcome) -> str:
    """Say where things are, and how a loop that waits for people goes on."""
    folder, waiting = outcome.folder, outcome.waiting
    if waiting is None:
        return (
            f"the loop is in {folder}: summary.md, loop.png, ratings.sqlite; its last policy in "
            f"{folder / 'rounds' / f'{len(outcome.rounds) - 1:02}' / 'policy' / 'checkpoint'}"
        )
    each = outcome.raters_per_pair
    several = f" --raters-per-pair {each}" if each > 1 else ""
    return (
        f"round {waiting.round} waits for people: {waiting.done} of {waiting.wanted} pairs are "
        f"compared\n  textenv rate {folder}{several}\n    shows them the next pairs\n"
        f"  textenv loop --resume {folder}\n    goes on when they are done"
    )
