"""The worker process of `timeout=`: it runs rewards, and is killed where one takes too long.

One process by pebble's pool, spawned afresh and not forked, because the caller may hold threads
and a GPU. What cannot be imported there (closures, rewards that hold a model) is refused.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import multiprocessing
import traceback
import weakref
from collections.abc import Sequence
from typing import Any

from textenv.errors import MissingExtraError, NotSerialisableError, TextenvError
from textenv.rewards import registry
from textenv.rewards.base import Reward
from textenv.rewards.convert import as_reward
from textenv.rewards.payments import FaultError, listed, raised

_LOOK_AGAIN = 1.0  # seconds after which a waiting caller asks whether the worker is still there


class WorkerBrokenError(TextenvError, RuntimeError):
    """The worker process cannot be started: no fault of a text, so no policy hides it."""


class RewardTimeoutError(FaultError):
    """A reward took longer than it may."""


class RewardWorker:
    """Rewards in a process of their own, started by the first call.

    A copy, by deepcopy or pickle, starts a process of its own.

    Args:
        rewards: What it runs.
        timeout: Seconds for one call; starting the process and importing are not counted.

    Raises:
        ValueError: the timeout is not positive, or a reward cannot be imported elsewhere.
        MissingExtraError: pebble is not installed.
    """

    def __init__(self, rewards: Sequence[Reward], timeout: float) -> None:
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout must be a positive number of seconds, got {timeout!r}")
        if importlib.util.find_spec("pebble") is None:
            raise MissingExtraError("pebble", "timeout=")
        self._specs = [_importable_spec(reward) for reward in rewards]
        self._timeout = timeout
        self._pool: Any = None
        self._stop_pool: Any = None

    def call(self, number: int, texts: tuple[Any, ...]) -> list[Any]:
        """Run one of the rewards on (prompts, completions, columns).

        Raises:
            RewardTimeoutError: it took too long; the process is killed and replaced.
            WorkerBrokenError: the process does not start.
            FaultError: it raised, which is described, or did not return one payment a text.
            Exception: the texts cannot be sent there, or the process died.
        """
        pool = self._running_pool()
        try:
            future = pool.schedule(_call, args=(number, *texts), timeout=self._timeout)
        except RuntimeError as broken:  # it broke between the two lines
            raise self._broken() from broken
        try:
            while True:
                # Not future.result() alone: a pool that breaks in the wrong moment never answers.
                with contextlib.suppress(TimeoutError):
                    error = future.exception(timeout=_LOOK_AGAIN)
                    break
                if not pool.active and not future.done():
                    raise self._broken()
        except BaseException:
            future.cancel()  # Ctrl-C must not leave the process at work
            raise
        if isinstance(error, TimeoutError):
            raise RewardTimeoutError(f"ran longer than {self._timeout:g} seconds")
        if type(error).__name__ == "BrokenProcessPool":
            raise self._broken() from error
        returned, fault, trace = future.result()
        if fault is None:
            return list(returned)
        described = FaultError(fault)
        described.add_note(trace)
        raise described

    def close(self) -> None:
        """Stop the process, if there is one; the next call starts another."""
        if self._pool is not None:
            self._stop_pool()
        self._pool = self._stop_pool = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None, "_stop_pool": None}

    def _running_pool(self) -> Any:
        if self._pool is not None and not self._pool.active:
            self.close()
        if self._pool is None:
            from pebble import ProcessPool

            self._pool = ProcessPool(
                max_workers=1,
                initializer=_prepare,
                initargs=(self._specs,),
                context=multiprocessing.get_context("spawn"),
            )
            self._stop_pool = weakref.finalize(self, _stop, self._pool)
        return self._pool

    def _broken(self) -> WorkerBrokenError:
        self.close()
        return WorkerBrokenError(
            "the worker process of timeout= stopped before it could run a reward. In a script, "
            'what runs must stand under `if __name__ == "__main__":`, because the process imports '
            "the script; else see what the process printed"
        )


def _stop(pool: Any) -> None:
    pool.stop()
    pool.join()


def _importable_spec(reward: Reward) -> str | dict[str, Any]:
    """Return the spec with a name that another process can import."""
    try:
        spec = reward.spec()
    except NotSerialisableError as error:
        raise ValueError(
            f"timeout= runs the reward {reward.name!r} in another process, which must import it: "
            f"{error}"
        ) from error
    name = spec if isinstance(spec, str) else spec["name"]
    if ":" not in name:
        # The other process knows the names that textenv registers, but not the caller's.
        factory = registry.find(name)
        name = registry.importable_name(factory)
        if name is None:
            raise ValueError(
                f"timeout= runs the reward {reward.name!r} in another process, which cannot "
                f'import {factory!r} as "module:name": define it at the top of a module'
            )
    return name if isinstance(spec, str) else {**spec, "name": name}


# In the worker process: what it runs.
_rewards: list[Reward] = []


def _prepare(specs: list[str | dict[str, Any]]) -> None:
    _rewards[:] = [as_reward(spec) for spec in specs]


def _call(
    number: int, prompts: list[str], completions: list[str], columns: dict[str, Any]
) -> tuple[list[Any], str | None, str]:
    """Return the payments, and if there are none: what happened, with the traceback.

    Words and not the exception, because not every exception survives the way back.
    """
    try:
        return listed(_rewards[number](prompts, completions, **columns), len(completions)), None, ""
    except FaultError as error:
        return [], str(error), traceback.format_exc()
    except (Exception, SystemExit) as error:
        return [], raised(error), traceback.format_exc()
