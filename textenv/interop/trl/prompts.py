"""A task's prompts with its columns as the rows that TRL's trainers draw from."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from textenv.env import TextEnv
from textenv.errors import MissingExtraError, TextenvError
from textenv.interop.trl.messages import as_messages
from textenv.plugins import check_count
from textenv.task import Task

_VERSION = re.compile(r"-v\d+$")  # an id has one, a task's name has none
# TRL reads these names otherwise, or hands something else to rewards under them.
TAKEN = {
    "chosen", "completion", "completion_ids", "environments", "image", "images", "log_extra",
    "log_metric", "messages", "prompt", "rejected", "trainer_state",
}  # fmt: skip


def prompt_rows(
    task: Task | str | Mapping[str, Any],
    /,  # an id of ours may have a keyword `task` of its own
    *,
    conversational: bool = False,
    repeats: int = 1,
    **keywords: Any,
) -> list[dict[str, Any]]:
    """Return a row for each prompt: "prompt" and the task's columns.

    Args:
        task: A `Task`, an id, or a task's name or dict.
        conversational: Give each prompt as a message of the user, for models with a chat template.
        repeats: How often to list all of them. TRL leaves out what fills no batch, and with fewer
            rows than a batch has groups (per_device_train_batch_size / num_generations) it ends
            at once, without an error.
        **keywords: As for `gym.make`: `prompts`, `columns`, `lm`, those of the task, …

    Raises:
        ValueError: a column has a name that TRL uses itself, or repeats is no integer ≥ 1.
        TypeError: task is none of these.
        TextenvError: the id is none of textenv's.

    >>> prompt_rows("textenv/Sentiment-v0", prompts=["a fine"], columns={"reference": ["film"]})
    [{'prompt': 'a fine', 'reference': 'film'}]
    """
    repeats = check_count("repeats=", repeats)
    made = _task(task, keywords)
    taken = sorted(TAKEN & set(made.columns))
    if taken:
        raise ValueError(f"TRL has a meaning of its own for the columns {taken}: rename them")
    prompts = [as_messages(text, "user") if conversational else text for text in made.prompts]
    return [
        {"prompt": prompt, **{name: values[row] for name, values in made.columns.items()}}
        for _ in range(repeats)
        for row, prompt in enumerate(prompts)
    ]


def prompt_dataset(
    task: Task | str | Mapping[str, Any],
    /,  # an id of ours may have a keyword `task` of its own
    *,
    conversational: bool = False,
    repeats: int = 1,
    **keywords: Any,
) -> Any:
    """Return `prompt_rows` as a Hugging Face `datasets.Dataset`: TRL's `train_dataset`.

    A task without prompts has one row with an empty prompt; TRL can only go on from it with a
    tokenizer that puts a start token before each text.

    Args:
        task: As for `prompt_rows`.
        conversational: As for `prompt_rows`.
        repeats: As for `prompt_rows`.
        **keywords: As for `prompt_rows`.

    Raises:
        MissingExtraError: the package datasets is not installed.
        ValueError: a column cannot be written as it is, because its values are of several kinds.
    """
    rows = prompt_rows(task, conversational=conversational, repeats=repeats, **keywords)
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise MissingExtraError("datasets", "prompt_dataset (prompt_rows does without)") from error
    for name in rows[0]:
        _check_column(datasets, name, [row[name] for row in rows])
    return datasets.Dataset.from_list(rows)


def _task(task: Any, keywords: dict[str, Any]) -> Task:
    if not isinstance(task, str) or not _VERSION.search(task):
        return TextEnv(task, **keywords).task
    made = getattr(gym.make(task, disable_env_checker=True, **keywords).unwrapped, "task", None)
    if not isinstance(made, Task):
        raise TextenvError(f"expected an id of textenv, such as textenv/Sentiment-v0, got {task!r}")
    return made


def _check_column(datasets: Any, name: str, values: list[Any]) -> None:
    """Refuse values that a table would change: its columns hold values of one kind."""
    reason: Exception | None = None
    try:
        stored = datasets.Dataset.from_dict({name: values}).to_dict()[name]
    except Exception as error:  # pyarrow's, of many kinds
        stored, reason = None, error
    if not _same(stored, values):
        raise ValueError(
            f"a datasets.Dataset would change or refuse the column {name!r}, whose values are of "
            "several kinds: give them one form (for each prompt a list of texts, say)"
        ) from reason


def _same(stored: Any, value: Any) -> bool:
    if isinstance(value, Mapping):
        keys = isinstance(stored, Mapping) and stored.keys() == value.keys()
        return keys and all(_same(stored[key], value[key]) for key in value)
    if isinstance(value, list | tuple):
        alike = isinstance(stored, list) and len(stored) == len(value)
        return alike and all(map(_same, stored, value))
    return bool(stored == value) or (value != value and stored != stored)
