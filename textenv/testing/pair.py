"""A vector environment and its yardstick: Gymnasium's `SyncVectorEnv` of single environments."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from textenv.testing.compare import expect_same
from textenv.vector_env import TextVectorEnv

Make = Callable[..., Any]


class Pair:
    """How to make the vector environment, and its yardstick."""

    def __init__(
        self, vector: Make, single: Make, keywords: dict[str, Any], seed: int, tolerance: float
    ) -> None:
        self._vector, self._single, self._keywords = vector, single, keywords
        self.seed, self.tolerance = seed, tolerance

    @contextlib.contextmanager
    def ours(self, rows: int, mode: AutoresetMode, **keywords: Any) -> Iterator[TextVectorEnv]:
        """The vector environment, inside its wrappers."""
        keywords = {**self._keywords, **keywords}
        with contextlib.closing(
            self._vector(num_envs=rows, autoreset_mode=mode, **keywords)
        ) as envs:
            yield envs.unwrapped

    @contextlib.contextmanager
    def singles(
        self, rows: int, mode: AutoresetMode, limit: int | None = None
    ) -> Iterator[SyncVectorEnv]:
        """The yardstick, with a time limit if one is given."""

        def make() -> gym.Env:
            env = self._single(**self._keywords)
            return env if limit is None else TimeLimit(env, limit)

        with contextlib.closing(SyncVectorEnv([make] * rows, autoreset_mode=mode)) as envs:
            yield envs

    def expect_same(self, ours: Any, expected: Any, what: str) -> None:
        """Compare what reset or step returned, infos row by row."""
        rows = len(ours[1]) if len(ours) == 5 else None
        names = ("observation", "reward", "terminated", "truncated")
        for name, a, b in zip(names, ours[:-1], expected[:-1], strict=False):
            expect_same(a, b, f"{name} of {what}", self.tolerance)
        if rows is None:
            first = ours[0]
            rows = len(next(iter(first.values())) if isinstance(first, dict) else first)
        for row in range(rows):
            expect_same(
                _info_of(ours[-1], row),
                _info_of(expected[-1], row),
                f"info of row {row} of {what}",
                self.tolerance,
            )


def _info_of(infos: dict[str, Any], row: int) -> dict[str, Any]:
    """One row's own info out of a vector's: the keys that the row has, by their masks `_key`."""
    own: dict[str, Any] = {}
    for key, value in infos.items():
        if infos.get(f"_{key}", {row: False})[row]:  # a mask itself has no mask
            own[key] = _info_of(value, row) if isinstance(value, dict) else value[row]
    return own
