"""What OpenEnv's protocol costs: `python -m benchmarks serve`.

Steps a second through OpenEnv's own client, with the server in another process of this machine,
beside the same episodes of the same environment here. Rows take turns; the best of each counts.
CPU-seconds are those of client and server together, so that other programs change them little.
"""

from __future__ import annotations

import multiprocessing
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import tyro

import textenv  # noqa: F401  (registers the ids)

TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "a token a step": ("textenv/WordPreference-v0", {"end": False}),
    "all tokens at once": ("textenv/WordPreference-v0", {"end": False}),
    "candidates:8 of a language model": (
        "textenv/Sentiment-v0",
        {"action": "candidates:8", "end": False},
    ),
    "a text an episode": ("textenv/ReasoningGym-v0", {"action": "completion"}),
}


@dataclass(frozen=True, kw_only=True)
class ServeBenchmarkConfig:
    """The benchmark."""

    seconds: float = 2.0
    """How long each row plays, each time."""
    repeats: int = 3
    """How often; the best counts."""


class Rate(NamedTuple):
    """Messages (or steps) a second of the clock, and a second of all processors."""

    wall: float
    cpu: float


def main() -> None:
    """Print the table."""
    config = tyro.cli(ServeBenchmarkConfig, prog="python -m benchmarks serve", description=__doc__)
    print(
        f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, "
        f"openenv {version('openenv')}; a step is a message\n"
    )
    print(f"{'':34}{'local steps/s':>14}{'served steps/s':>15}{'of local':>9}"
          f"{'CPU ms a served step':>22}")  # fmt: skip
    for name, (environment_id, keywords) in TASKS.items():
        local, served = measured(name, environment_id, keywords, config)
        print(f"{name:34}{local.wall:14,.0f}{served.wall:15,.0f}{served.wall / local.wall:9.4f}"
              f"{1000 / served.cpu:22.2f}")  # fmt: skip


def measured(
    name: str, environment_id: str, keywords: dict[str, Any], config: ServeBenchmarkConfig
) -> tuple[Rate, Rate]:
    """Play here and through a server, in turns; the best of each."""
    from openenv.core.generic_client import GenericEnvClient

    whole = name == "all tokens at once"
    env = gym.make(environment_id, disable_env_checker=True, **keywords)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, environment_id, keywords), daemon=True)
    process.start()
    try:
        with GenericEnvClient(base_url=ours.recv()).sync() as client:

            def cpu() -> float:
                ours.send("time")
                return time.process_time() + ours.recv()

            def here() -> int:
                return local_episode(env, whole)

            def there() -> int:
                return served_episode(client, env, whole)

            runs = [(rate(here, time.process_time, config.seconds),
                     rate(there, cpu, config.seconds)) for _ in range(config.repeats)]  # fmt: skip
        ours.send("stop")
        process.join(10)
    finally:
        process.kill()
    locals_, serveds = zip(*runs, strict=True)
    return max(locals_), max(serveds)


def actions(env: Any) -> list[Any]:
    """The actions of one episode, always the same."""
    if env.unwrapped.setup.action.name == "completion":
        return ["42"]
    rules = env.unwrapped.task.rules
    size = int(env.action_space.n)
    return np.random.default_rng(0).integers(size, size=rules.max_tokens).tolist()


def local_episode(env: Any, whole: bool) -> int:
    """Play an episode here; the number of steps, one where a message holds all of them."""
    env.reset(options={"prompt_index": 0})
    steps = 0
    for action in actions(env):
        steps += 1
        if env.step(action)[2]:
            break
    return 1 if whole else steps


def served_episode(client: Any, env: Any, whole: bool) -> int:
    """Play the same episode through the client; the number of messages."""
    client.reset(prompt_index=0)
    field = {"completion": "text", "all_tokens": "tokens"}.get(
        env.unwrapped.setup.action.name, "candidate"
    )
    messages = 0
    for action in [actions(env)] if whole else actions(env):
        messages += 1
        if client.step({field: action}).done:
            break
    return messages


def rate(episode: Callable[[], int], clock: Callable[[], float], seconds: float) -> Rate:
    """Play for some seconds, resets included."""
    episode()
    start, used, steps = time.perf_counter(), clock(), 0
    while time.perf_counter() - start < seconds:
        steps += episode()
    return Rate(steps / (time.perf_counter() - start), steps / (clock() - used))


def _serve(pipe: Any, environment_id: str, keywords: dict[str, Any]) -> None:
    """The server's process: its address, then its CPU-seconds whenever it is asked."""
    from textenv.interop.openenv import Server

    with Server(environment_id, **keywords) as server:
        pipe.send(server.address)
        while pipe.recv() == "time":
            pipe.send(time.process_time())
