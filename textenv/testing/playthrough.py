"""Play-throughs: one episode written down as plain text, and played again.

A registered environment whose behaviour changes no longer plays as it was recorded: then it needs
a new version, or, before its first release, a new recording.
"""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from textenv.plugins import to_json_form
from textenv.testing.choosing import choose_action
from textenv.testing.compare import CheckError

HEAD = "play-through of a textenv environment; every text is in JSON"


class PlaythroughError(CheckError):
    """An environment does not play as it was recorded, or the recording cannot be read."""


def record_playthrough(
    id: str,  # the word that Gymnasium uses
    path: str | Path | None = None,
    *,
    seed: int = 0,
    **keywords: Any,
) -> str:
    """Play one episode of an environment and write it down as text.

    Args:
        id: The environment's id.
        path: Where to write it, in UTF-8; None: nowhere.
        seed: Seeds the environment and the generator that chooses actions among those that make
            sense (by the action mask).
        **keywords: For `gym.make`, in their JSON form: they are part of the recording.

    Returns:
        The text.
    """
    plain = {key: to_json_form(value) for key, value in keywords.items()}
    generator = np.random.default_rng(seed)
    with contextlib.closing(gym.make(id, **plain)) as env:
        text = _play(env, id, plain, seed, lambda: _sensible(env, generator))
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, "utf-8")
    return text


def replay_playthrough(recording: str | Path) -> None:
    """Play a recorded episode again: same id, keywords, seed and actions.

    Args:
        recording: A file, or the text itself.

    Raises:
        PlaythroughError: something is different now, or it is no recording.
    """
    name = "the recording"
    if isinstance(recording, Path) or "\n" not in recording:
        name = str(recording)
        recording = Path(recording).read_text("utf-8")
    head, actions = _read(recording, name)
    left = iter(actions)
    try:
        with contextlib.closing(gym.make(head["id"], **head["keywords"])) as env:
            played = _play(env, **head, choose=lambda: next(left, None))
    except Exception as error:
        raise PlaythroughError(f"{name} can no longer be played: {error!r}") from error
    if played != recording:
        raise PlaythroughError(_explain(name, recording, played))


def _play(env: gym.Env, id: str, keywords: Mapping, seed: int, choose: Any) -> str:
    inner: Any = env.unwrapped
    env.reset(seed=seed)
    lines = [
        HEAD,
        f"id: {id}",
        f"keywords: {_json(keywords)}",
        f"seed: {seed}",
        f"observation space: {env.observation_space}",
        f"action space: {env.action_space}",
        f"prompt: {_json(inner.prompt)}",
        "",
    ]
    rewards, over = [], False
    while not over and (action := choose()) is not None:
        before = inner.state.length
        _, reward, terminated, truncated, _ = env.step(action)
        rewards.append(float(reward))
        over = terminated or truncated
        lines += [
            f"step {len(rewards)}",
            f"  action: {_json(action)} {_json(_shown(inner, before))}",
            f"  text: {_json(inner.text)}",
            f"  reward: {float(reward)!r}",
            f"  terminated: {terminated}",
        ]
        if truncated:
            lines.append(f"  truncated: {truncated}")
    total = f"return: {sum(rewards)!r}" if over else "the episode has not ended"
    return "\n".join([*lines, "", total, ""])


def _shown(env: Any, before: int) -> str | list[str]:
    """The token that was written since, or a list of them where an action may write several."""
    start = env.task.rules.prompt_length
    written = env.state.tokens[start + before : start + env.state.length].tolist()
    tokens = [env.task.vocabulary.token(token) for token in written]
    return tokens if env.setup.action.several else tokens[0]


def _sensible(env: gym.Env, generator: np.random.Generator) -> Any:
    """Choose an action in its JSON form."""
    inner: Any = env.unwrapped
    if isinstance(inner.action_space, gym.spaces.Discrete):
        return int(generator.choice(np.flatnonzero(inner.action_masks())))
    action = choose_action(inner, generator)
    return action.tolist() if isinstance(action, np.ndarray) else action


def _read(recording: str, name: str) -> tuple[dict[str, Any], list[Any]]:
    """Return id, keywords and seed, and the actions."""
    lines = recording.split("\n")  # not splitlines: texts may hold U+2028
    fields = dict(line.split(": ", 1) for line in lines if ": " in line and line[0] != " ")
    if not lines or lines[0] != HEAD:
        raise PlaythroughError(f"{name} is no play-through: it does not begin with {HEAD!r}")
    try:
        head = {
            "id": fields["id"],
            "keywords": json.loads(fields["keywords"]),
            "seed": int(fields["seed"]),
        }
        read = json.JSONDecoder().raw_decode
        mark = "  action: "
        actions = [read(line.removeprefix(mark))[0] for line in lines if line.startswith(mark)]
    except (KeyError, ValueError, IndexError) as error:
        raise PlaythroughError(f"{name} cannot be read: {error!r}") from error
    return head, actions


def _explain(name: str, recorded: str, played: str) -> str:
    """Say where the two differ first, with the lines around it."""
    before, now = recorded.split("\n"), played.split("\n")
    diff = list(difflib.unified_diff(before, now, "as recorded", "as played now", lineterm="", n=3))
    line = _first_difference(before, now) + 1
    shown = "\n".join(diff[:20])
    return f"{name} plays differently from line {line} on:\n{shown}"


def _first_difference(before: Sequence[str], now: Sequence[str]) -> int:
    same = zip(before, now, strict=False)
    return next((n for n, (a, b) in enumerate(same) if a != b), min(len(before), len(now)))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
