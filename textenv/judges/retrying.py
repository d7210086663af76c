"""Asking again what may go well another time, within a number of tries and a time."""

from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Callable
from typing import Any

from textenv.judges.request import Reply


class PassingFault(Exception):
    """Something that may go well another time; the words can follow the endpoint's name.

    Attributes:
        there: Whether somebody answers at that address.
        seconds: How long the server asks to wait, at least.
    """

    def __init__(self, words: str, *, there: bool = True, retry_after: str | None = None) -> None:
        super().__init__(words)
        self.there = there
        self.seconds = _seconds(retry_after)


def persist(
    send: Callable[[], Reply],
    *,
    retries: int,
    deadline: float,
    wait: float,
    longest_wait: float,
    stop: threading.Event,
    count: Callable[[], None],
) -> Reply:
    """Send until there is a reply, or tries or time are used up.

    Args:
        send: Sends once; may raise `PassingFault`.
        retries: How often it is sent again.
        deadline: Seconds for all of it; a wait that would pass it is not begun.
        wait: Seconds before the first retry; twice as long each next time, and chance is added.
        longest_wait: Seconds; also for what the server asks for.
        stop: Ends all waiting when it is set.
        count: Called before each retry.

    Raises:
        PassingFault: the last one, with how often it was tried.
    """
    import tenacity

    growing = tenacity.wait_exponential(multiplier=wait, max=longest_wait)
    growing += tenacity.wait_random(0, wait)

    def waiting(state: Any) -> float:
        asked = state.outcome.exception().seconds
        return max(growing(state), min(asked, longest_wait))

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(PassingFault),
        stop=(
            tenacity.stop_after_attempt(retries + 1)
            | tenacity.stop_before_delay(deadline)
            | tenacity.stop_when_event_set(stop)
        ),
        wait=waiting,
        sleep=tenacity.sleep_using_event(stop),
        before_sleep=lambda state: count(),
        reraise=True,
    )
    begin = time.monotonic()
    try:
        return retrying(send)
    except PassingFault as fault:
        tried, took = retrying.statistics["attempt_number"], time.monotonic() - begin
        asked = f"; it asks to wait {fault.seconds:.3g} s" if fault.seconds else ""
        last = PassingFault(
            f"{fault} (tried {tried} times in {took:.3g} s{asked})", there=fault.there
        )
        raise last from fault


def _seconds(retry_after: str | None) -> float:
    """Read the header: seconds, or a date."""
    if retry_after is None:
        return 0.0
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0
