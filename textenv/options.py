"""The options of a vector environment's `reset`: one value for all rows, or one for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


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
