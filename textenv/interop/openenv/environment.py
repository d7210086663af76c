"""One session of a served environment: a `TextEnv` as OpenEnv's `Environment`."""

from __future__ import annotations

import copy
import json
import threading
import uuid
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from textenv import mdp
from textenv.actions import AllTokens, Strings
from textenv.env import TextEnv
from textenv.errors import InvalidActionError, ResetNeededError
from textenv.interop.openenv.messages import FIELDS, TextObservation, TextState, action_class
from textenv.interop.openenv.package import Action, Environment

SPLIT = "train"  # OpenEnv's task API: the prompts of a task are one split
# OpenEnv's name for a malformed action, by which clients tell it from a failure of the server.
INVALID = "VALIDATION_ERROR"


class ServedEnvironment(Environment):
    """A session with an environment of its own; sessions share the task and the language model.

    Args:
        env: The session's environment, wrapped or not.
        lock: Held while it computes: language models and rewards are not made for several threads.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, env: gym.Env, lock: threading.Lock | None = None) -> None:
        super().__init__()
        if not isinstance(env.unwrapped, TextEnv):
            raise TypeError(f"expected an environment of textenv, got {env.unwrapped!r}")
        self._env, self._inner = env, env.unwrapped
        # Gymnasium's TimeLimit cannot take back the steps that it has counted.
        self._limited = env.spec is not None and env.spec.max_episode_steps is not None
        self._lock = threading.Lock() if lock is None else lock
        self._field = FIELDS[action_class(self._inner.setup.action)]
        self._state = TextState()
        self._over = False

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        split: str | None = None,
        index: int | None = None,
        **options: Any,
    ) -> TextObservation:
        """Start an episode.

        Args:
            seed: Fixes which prompts are drawn from now on.
            episode_id: A name for it. None: a fresh one.
            split: "train", where OpenEnv's task API chose the prompt.
            index: Which prompt; the same as `prompt_index`.
            **options: Those of `TextEnv.reset`: `prompt` or `prompt_index`, `prefix`, `columns`.

        Raises:
            ValueError: an option is unknown or does not fit the task.
        """
        self._check_split(SPLIT if split is None else split)
        if index is not None:
            options["prompt_index"] = index
        with self._lock:
            seen, info = self._env.reset(seed=seed, options=options or None)
            self._state = TextState(episode_id=episode_id or str(uuid.uuid4()), step_count=0)
            self._over = False
            return self._observation(seen, info, None, over=False)

    def step(self, action: Action, timeout_s: float | None = None, **more: Any) -> TextObservation:
        """Write what the action says.

        Raises:
            InvalidActionError: it is none of the environment's; nothing was written.
            ResetNeededError: there is no episode, or it is over.
            RewardFaultError: the reward failed; nothing was written.
        """
        with self._lock:
            if not self._state.episode_id:
                raise ResetNeededError("step() was called before reset(): call reset() first")
            if self._over:  # which a wrapper may have said, that the environment knows nothing of
                raise ResetNeededError(
                    "step() was called after the end of the episode: call reset() first"
                )
            try:
                seen, info, reward, self._over = self._write(self._meant(action))
            except InvalidActionError as error:
                raise InvalidActionError(f"{error} ({INVALID})") from error
            self._state.step_count += 1
            return self._observation(seen, info, reward, self._over)

    @property
    def state(self) -> TextState:
        """Where the session stands."""
        if not self._state.episode_id:
            return self._state
        written = {"prompt": self._inner.prompt, "text": self._inner.text}
        return self._state.model_copy(update=written)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    # OpenEnv's task API: each prompt is a task.

    def list_splits(self) -> list[str]:
        """Name the only split."""
        return [SPLIT]

    def num_tasks(self, split: str) -> int:
        """Count the prompts."""
        self._check_split(split)
        return len(self._inner.task.prompts)

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        """Return a prompt; `reset(split=…, index=…)` starts from it.

        Raises:
            IndexError: there are fewer.
        """
        if not 0 <= index < self.num_tasks(split):
            raise IndexError(f"{self._inner.task.name} has {self.num_tasks(split)} prompts")
        return {"index": index, "prompt": self._inner.task.prompts[index]}

    def get_task_range(
        self, split: str, start: int | None = None, stop: int | None = None
    ) -> list[dict[str, Any]]:
        """Return some prompts, as a slice does."""
        chosen = range(self.num_tasks(split))[start:stop]
        return [self.get_task(split, index) for index in chosen]

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        """Return all prompts."""
        return self.get_task_range(split)

    def _check_split(self, split: str) -> None:
        if split != SPLIT:
            raise ValueError(f"the prompts are one split, {SPLIT!r}, got {split!r}")

    def _meant(self, action: Action) -> list[Any]:
        """What to hand to the environment's steps, one after another."""
        given = action.model_dump(exclude={"metadata"}, exclude_unset=True)
        if set(given) != {self._field}:
            raise InvalidActionError(
                f"expected an action with the field {self._field!r} and no other, as in "
                f"{_example(self._field)}, got {given!r:.200}: the environment's action= is "
                f"{self._inner.setup.action.name!r}"
            )
        value = given[self._field]
        kind = self._inner.setup.action
        if isinstance(kind, Strings):
            return [_reply(value)]
        if self._field == "candidate":
            return [value]
        if isinstance(kind, AllTokens):
            return self._ids(value)
        try:
            return [np.asarray(value) if isinstance(value, list) else value]
        except ValueError as error:  # lists of several lengths in a list
            raise InvalidActionError(f"expected a list of token ids, got {value!r:.80}") from error

    def _ids(self, value: Any) -> list[int]:
        """Check all ids before the first is written."""
        ids = value if isinstance(value, list) else [value]
        last = self._inner.task.rules.vocabulary_size - 1
        for token in ids:
            if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token <= last:
                raise InvalidActionError(f"expected token ids in 0 … {last}, got {token!r}")
        if not ids:
            raise InvalidActionError("expected at least one token id, got []")
        return ids

    def _write(self, meant: list[Any]) -> tuple[Any, dict[str, Any], float, bool]:
        """Step until the text ends; if a step fails, the text is as it was."""
        before = self._inner.state
        kept = copy.deepcopy(self._env) if self._limited and len(meant) > 1 else None
        total, over = 0.0, False
        seen: Any = None
        said: dict[str, Any] = {}
        for action in meant:
            try:
                seen, reward, terminated, truncated, said = self._env.step(action)
            except Exception:
                if kept is not None:
                    assert isinstance(kept.unwrapped, TextEnv)
                    self._env, self._inner = kept, kept.unwrapped
                elif self._inner.state.length > before.length:  # an action before it was written
                    self._inner.set_state(before)
                raise
            total += float(reward)
            over = terminated or truncated
            if over:
                said = {**said, "truncated": True} if truncated and not terminated else said
                break
        return seen, said, total, over

    def _observation(
        self, seen: Any, info: Mapping[str, Any], reward: float | None, over: bool
    ) -> TextObservation:
        inner = self._inner
        rules, state = inner.task.rules, inner.state
        kind = inner.setup.action
        said = {key: value for key, value in info.items() if not isinstance(value, np.ndarray)}
        mask = info.get("action_mask")
        if inner.setup.mask == "observation":
            seen = dict(seen)
            mask = seen.pop("action_mask")
            seen = seen["observation"] if set(seen) == {"observation"} else seen
        elif inner.setup.mask == "method":
            mask = inner.action_masks()
        shows_tokens = type(inner.setup.observation).name == "tokens"
        return TextObservation(
            done=over,
            reward=reward,
            metadata=plain({key: said[key] for key in said if key not in ("prompt", "text")}),
            prompt=inner.prompt,
            text=inner.text,
            tokens=state.tokens[rules.prompt_length :][: int(state.length)].tolist(),
            prompt_tokens=(
                None if isinstance(kind, Strings) else mdp.prompt_ids(rules, state.tokens)
            ),
            action_mask=None if mask is None else np.asarray(mask).astype(int).tolist(),
            candidates=plain(info.get("candidates")),
            candidate_log_probs=plain(info.get("candidate_log_probs")),
            seen=None if shows_tokens else plain(seen),
        )


def plain(value: Any) -> Any:
    """Return a value with lists and Python numbers in place of arrays and NumPy's.

    >>> plain({"a": np.arange(2), "b": np.float64(0.5)})
    {'a': [0, 1], 'b': 0.5}
    """
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value


def _reply(value: Any) -> Any:
    """Write a number, a truth value or null as JSON: clients such as verifiers' read a reply so.

    >>> _reply(12), _reply(True), _reply("twelve")
    ('12', 'true', 'twelve')
    """
    return json.dumps(value) if value is None or isinstance(value, int | float) else value


def _example(field: str) -> str:
    return {"tokens": '{"tokens": [3, 1]}', "candidate": '{"candidate": 0}'}.get(
        field, '{"text": "good"}'
    )
