"""Infos of B episodes in Gymnasium's form: each key has a mask `_key` of the rows that it is of."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Infos = dict[str, Any]


def mark(rows: npt.NDArray[np.int64], batch: int) -> npt.NDArray[np.bool_]:
    """Return bool [B], True for the rows given by number."""
    marked = np.zeros(batch, dtype=np.bool_)
    marked[rows] = True
    return marked


def add(infos: Infos, key: str, rows: npt.NDArray[np.int64], values: Any, batch: int) -> None:
    """Add the values of some rows under a key, and mark them."""
    if key not in infos:
        empty = None if values.dtype == object else 0
        infos[key] = np.full((batch, *values.shape[1:]), empty, dtype=values.dtype)
        infos[f"_{key}"] = np.zeros(batch, dtype=np.bool_)
    infos[key][rows] = values
    infos[f"_{key}"][rows] = True


def of_rows(infos: Infos, rows: npt.NDArray[np.bool_]) -> Infos:
    """Return what infos say of some rows, bool [B]; `{}` where they say nothing of them."""
    part: Infos = {}
    for key, value in infos.items():
        if f"_{key}" not in infos:
            continue  # a mask itself
        marked = infos[f"_{key}"] & rows
        if marked.any():
            own = of_rows(value, rows) if isinstance(value, dict) else np.where(marked, value, 0)
            part |= {key: own, f"_{key}": marked}
    return part
