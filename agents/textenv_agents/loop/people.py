"""Rounds that people rate while the loop waits: the page beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from textenv.preferences.database import Database
from textenv_agents.loop.config import LoopConfig
from textenv_agents.loop.outcome import Waiting
from textenv_agents.loop.rating import people_left

LOOK_EVERY = 0.5  # seconds between two looks at how far people are


def serve(
    config: LoopConfig, database: Database, number: int, say: Callable[[str], Any]
) -> Waiting | None:
    """Show the page of the ratings until people have rated enough, or until Ctrl-C.

    Args:
        config: The loop's.
        database: Its ratings.
        number: Of the round.
        say: Called with the page's address.

    Returns:
        What is left; None: enough is rated.

    Raises:
        RatingsError: another process, `textenv rate` for one, serves a page on this database.
    """
    from textenv.preferences.page import PageServer

    with PageServer(database.path, raters_per_pair=config.raters_per_pair) as server:
        say(f"round {number}: rate here: {server.address}   (Ctrl-C: later)")
        try:
            while people_left(config, database, number) is not None:
                time.sleep(LOOK_EVERY)
        except KeyboardInterrupt:
            say("all that was rated is in the database")
    return people_left(config, database, number)
