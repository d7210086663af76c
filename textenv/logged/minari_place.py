"""Where Minari's datasets are, what they are called, and what they must show to hold texts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from textenv.errors import MissingExtraError, TextenvError
from textenv.task import Task

KEY = "textenv"  # of what we remember, in the dataset's metadata
LOG_PROB = "log_prob"  # of the behaviour policy's log-probabilities, in the infos
_ROOT = "MINARI_DATASETS_PATH"


def get_minari() -> Any:
    """Return the module minari.

    Raises:
        MissingExtraError: it is not installed, or what its files need.
    """
    for name in ("h5py", "PIL", "minari"):
        try:
            minari = import_module(name)
        except ImportError as error:
            # Pillow too comes with this extra, though EXTRAS knows another one that has it.
            raise MissingExtraError(name, "a Minari dataset", extra="data") from error
    return minari


def check_dataset_id(dataset_id: str) -> str | None:
    """Return the namespace of a dataset's name, None where it has none.

    Raises:
        ValueError: it is no name of Minari's.
    """
    try:
        return get_minari().dataset.minari_dataset.parse_dataset_id(dataset_id)[0]
    except (TypeError, ValueError) as error:  # without a version it is the former
        raise ValueError(
            "expected a Minari dataset's name as in 'sentiment-v0' or 'textenv/sentiment-v0', with "
            f"a version behind it and two characters or more before the stroke, got {dataset_id!r}"
        ) from error


def check_free(dataset_id: str, folder: str | Path | None) -> None:
    """Refuse a name that is taken, before anything is written for it.

    Args:
        dataset_id: The dataset's name.
        folder: As for `save_minari`.

    Raises:
        ValueError: it is no name of Minari's, it is taken, or it lies inside another dataset,
            where Minari would not find it.
        TextenvError: the folder cannot be one.
        MissingExtraError: minari or h5py is not installed.
    """
    check_dataset_id(dataset_id)
    with datasets_in(folder):
        try:
            target = get_minari().storage.get_dataset_path(dataset_id)
        except OSError as error:
            raise TextenvError(f"datasets cannot be written into {folder}: {error}") from error
    outer = Path(dataset_id)
    for above in target.parents[: len(outer.parts) - 1]:
        outer = outer.parent
        if (above / "data").exists():
            raise ValueError(
                f"{dataset_id!r} would lie inside the dataset {outer.as_posix()!r}, where Minari "
                "does not look for any: take another name"
            )
    if target.exists():
        raise ValueError(
            f"there is a dataset {dataset_id!r} in {str(target)!r} already: take another name "
            f"or version, or delete it by minari delete {dataset_id}"
        )


@contextmanager
def datasets_in(folder: str | Path | None) -> Iterator[None]:
    """Let Minari look into a folder; it knows no other way than the environment variable."""
    before = os.environ.get(_ROOT)
    if folder is not None:
        os.environ[_ROOT] = str(Path(folder).absolute())
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_ROOT, None)
        else:
            os.environ[_ROOT] = before


def task_of(env: Any) -> Task:
    """Return an environment's task.

    Raises:
        ValueError: it is no environment of ours.
    """
    task = getattr(env.unwrapped, "task", None)
    if not isinstance(task, Task):
        raise ValueError(
            f"expected an environment of textenv, such as gym.make('textenv/GoodBad-v0'), got {env}"
        )
    return task


def check_spaces(observation: spaces.Space, action: spaces.Space, task: Task, where: str) -> None:
    """Refuse other observations than tokens, with or without a mask, and other actions.

    Raises:
        ValueError: they are.
    """
    shown = observation
    if isinstance(shown, spaces.Dict) and "action_mask" in shown.spaces:
        shown = shown.spaces.get("observation", shown)
    rules = task.rules
    tokens = spaces.Box(0, rules.nothing, (rules.width,), np.int64)
    if shown != tokens or action != spaces.Discrete(rules.vocabulary_size):
        raise ValueError(
            f"logged texts are tokens: expected observations {tokens} and actions "
            f"Discrete({rules.vocabulary_size}), {where} has {observation} and {action}. Record "
            'with observation="tokens" and action="all_tokens", whatever the policy looks at'
        )
