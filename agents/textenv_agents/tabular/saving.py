"""A table as one .npz file of arrays and a line of JSON; nothing in it is pickled."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from textenv.errors import TextenvError
from textenv.files import replace_file
from textenv.task import Task

VERSION = 1  # of the file


def write(table: Any, path: str | Path) -> None:
    """Write a table, whole or not at all."""
    about = {"version": VERSION, "initial": table.initial, **identity(table.task, table.columns)}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        about=np.array(json.dumps(about)),
        values=table.values,
        visits=table.visits,
        allowed=table.allowed,
        tokens=table.tokens,
    )
    replace_file(path, buffer.getvalue())


def fill(make: Any, path: str | Path, task: Task) -> Any:
    """Read a table of a task.

    Args:
        make: The class `Table`.
        path: The file.
        task: The task that it was learned on.

    Raises:
        TextenvError: the file is no table, is damaged, or is one of another task.
    """
    about, parts = _read(path)
    if about["version"] != VERSION:
        raise TextenvError(
            f"{path} has version {about['version']}, this textenv reads {VERSION}: learn it again"
        )
    for name, here in identity(task, about["columns"]).items():
        if about.get(name) != here:
            raise TextenvError(
                f"{path} was learned on another task: its {name} is {about.get(name)!r}, that of "
                f"{task.name} is {here!r}; load it with the task that it was learned on"
            )
    table = make(task, columns=about["columns"], initial=about["initial"])
    shape = (len(parts["tokens"]), table.actions)
    if any(parts[name].shape != shape for name in ("values", "visits", "allowed")):
        raise TextenvError(f"{path} is damaged: expected arrays of shape {shape}; save it again")
    for tokens, allowed in zip(parts["tokens"], parts["allowed"], strict=True):
        table.row(tokens, allowed)
    table.values[:], table.visits[:] = parts["values"], parts["visits"]
    return table


def identity(task: Task, columns: int | None) -> dict[str, Any]:
    """What must be the same for a table to belong to a task."""
    rules = task.rules
    words = [task.vocabulary.token(token) for token in range(rules.vocabulary_size)]
    return {
        "columns": columns,
        "prompt_length": rules.prompt_length,
        "max_tokens": rules.max_tokens,
        "vocabulary": hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16],
    }


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        # Opened here, for np.load leaves a file open that is damaged.
        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            names = ("about", "values", "visits", "allowed", "tokens")
            parts = {name: file[name] for name in names}
        about = json.loads(str(parts["about"]))
        return {name: about[name] for name in (*about, "version", "columns", "initial")}, parts
    except FileNotFoundError:
        raise
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile
    ) as error:  # fmt: skip
        raise TextenvError(
            f"expected a table that Table.save wrote, {path} is none or is damaged ({error}): save "
            "it again"
        ) from error
