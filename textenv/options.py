"""The options of `reset`: which there are, the state that they ask for, and those of B rows.

And one of the vector environment itself: its autoreset mode.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from textenv import mdp
from textenv.task import Task


def begin(
    task: Task,
    options: Mapping[str, Any],
    draw: Callable[[], int],
    row: int | None = None,
) -> mdp.State:
    """Make the first state of one episode, as `reset(options=…)` wants it.

    Args:
        task: The task.
        options: `prompt` or `prompt_index`, `prefix`, `columns`: one value each, or none.
        draw: Draws the index of a prompt, when none is given.
        row: The row of a vector environment, for messages.

    Raises:
        ValueError: too long, empty where it may not be, no text and no ids, out of range, or a
            prefix that is already finished.
    """
    where = "" if row is None else f" (row {row})"
    rules = task.rules
    if options.get("prompt") is not None:
        index = -1
        ids = task.encode_prompt(options["prompt"], f"the prompt{where}")
        if task.has_prompts and not task.is_text(ids):
            raise ValueError(f"the prompt{where} is empty, but {task.name} writes after prompts")
        prompt = mdp.align_prompts(rules, [ids], f"the prompt{where}")[0]
    else:
        given = options.get("prompt_index")
        try:
            index = draw() if given is None else operator.index(given)
        except TypeError:
            raise ValueError(f"prompt_index{where} must be an integer, got {given!r}") from None
        if not 0 <= index < len(task.prompts):
            raise ValueError(
                f"prompt_index{where} lies in 0 … {len(task.prompts) - 1}, got {index}"
            )
        prompt = task.prompt_table[index]
    columns = options.get("columns")
    if columns is not None and not isinstance(columns, Mapping):
        raise ValueError(f"columns{where} must be a dict of names and values, got {columns!r}")
    if options.get("prefix") is None:
        return mdp.initial(rules, prompt, None, index, columns)
    ids = task.encode(options["prefix"], f"the prefix{where}")
    for length in range(len(ids) + 1):
        written = mdp.align_written(rules, [ids[:length]], f"the prefix{where}")[0]
        state = mdp.initial(rules, prompt, written, index, columns)
        if mdp.terminal(rules, state):
            raise ValueError(
                f"the prefix{where} {options['prefix']!r} is already finished after {length} of "
                f"{len(ids)} tokens: nothing can be written after it"
            )
    return state


def check_options(
    options: Mapping[str, Any] | None, *, reset_mask: bool = True
) -> Mapping[str, Any]:
    """Refuse options that nothing reads.

    Args:
        options: Of `reset`.
        reset_mask: Whether that one is read: in vector environments.

    Raises:
        ValueError: an unknown option, or two that contradict each other.
    """
    known = {"prompt", "prompt_index", "prefix", "columns"}
    if reset_mask:
        known |= {"reset_mask"}
    unknown = sorted(set(options or {}) - known)
    if unknown:
        raise ValueError(f"expected options among {sorted(known)}, got {unknown}")
    given = options or {}
    if given.get("prompt") is not None and given.get("prompt_index") is not None:
        raise ValueError("expected either prompt or prompt_index in options, got both")
    return given


def per_row(options: Mapping[str, Any], rows: int) -> list[dict[str, Any]] | None:
    """Give each of B rows its own options; None where there are none.

    A text, a dict, a number and a flat list of token ids are one value; a list of such is one for
    each row.

    Raises:
        ValueError: a list of another length than B.
    """
    given = {
        key: value
        for key, value in options.items()
        if value is not None and key in ("prompt", "prompt_index", "prefix", "columns")
    }
    if not given:
        return None
    split = {key: _split(key, value, rows) for key, value in given.items()}
    return [{key: values[row] for key, values in split.items()} for row in range(rows)]


def reset_mask(options: Mapping[str, Any], rows: int) -> npt.NDArray[np.bool_] | None:
    """Read `options["reset_mask"]`: which rows to reset.

    Raises:
        ValueError: it is no bool array of shape [B], or marks no row.
    """
    mask = options.get("reset_mask")
    if mask is None:
        return None
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (rows,):
        raise ValueError(
            f"options['reset_mask'] must be a NumPy bool array of shape ({rows},), got {mask!r}"
        )
    if not mask.any():
        raise ValueError("options['reset_mask'] marks no row")
    return mask


def mode_of(value: AutoresetMode | str) -> AutoresetMode:
    """Read an autoreset mode or its name.

    Raises:
        ValueError: there is no such mode.
    """
    for mode in AutoresetMode:
        if value == mode or str(value).lower() in (mode.name.lower(), mode.value.lower()):
            return mode
    known = ", ".join(f"AutoresetMode.{mode.name}" for mode in AutoresetMode)
    raise ValueError(f"expected autoreset_mode= to be one of {known}, got {value!r}")


def _split(key: str, value: Any, rows: int) -> Sequence[Any]:
    if _is_one(key, value):
        return [value] * rows
    if len(value) != rows:
        raise ValueError(
            f"options[{key!r}] must be one value or a list of {rows}, got a list of {len(value)}"
        )
    return value


def _is_one(key: str, value: Any) -> bool:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence | np.ndarray):
        return True
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return True
    if key in ("prompt", "prefix"):
        return all(isinstance(part, int | np.integer) for part in value)
    return False
