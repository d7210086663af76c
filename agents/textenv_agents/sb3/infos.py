"""Gymnasium's infos of B rows as Stable-Baselines3's list of B infos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Info = dict[str, Any]


def by_row(infos: Mapping[str, Any], batch: int) -> list[Info]:
    """Give each row its own info, with Python's own numbers.

    Args:
        infos: Each key has B values; where there is a mask `_key`, bool [B], it says of which rows.
        batch: B.

    >>> by_row({"k": np.array([3, 0]), "_k": np.array([True, False])}, batch=2)
    [{'k': 3}, {}]
    """
    split: list[Info] = [{} for _ in range(batch)]
    for key, values in infos.items():
        if key.startswith("_") and key[1:] in infos:
            continue  # a mask itself
        own = by_row(values, batch) if isinstance(values, Mapping) else values
        marked = infos.get(f"_{key}")
        for row in range(batch) if marked is None else np.flatnonzero(marked).tolist():
            split[row][key] = _plain(own[row])
    return split


def at_ends(
    infos: Mapping[str, Any], dones: np.ndarray, reset_infos: list[Info]
) -> tuple[list[Info], list[Info]]:
    """Tell what SAME_STEP says of the texts that have ended from what it says of the next ones.

    Args:
        infos: Of the step.
        dones: bool [B].
        reset_infos: What was said when the B episodes began; it is not changed.

    Returns:
        The infos of the step, with `terminal_observation` where a text has ended, and those of
        the beginnings.
    """
    batch = len(dones)
    if not infos:  # the usual case
        return [{} for _ in range(batch)], reset_infos
    now = {key: value for key, value in infos.items() if key.lstrip("_") not in _FINAL}
    step_infos = by_row(now, batch)
    ended = np.flatnonzero(dones).tolist()
    if not ended:
        return step_infos, reset_infos
    final, begun = by_row(infos.get("final_info", {}), batch), list(reset_infos)
    for row in ended:
        begun[row], step_infos[row] = step_infos[row], final[row]
        if "episode" in begun[row]:  # of the vector's RecordEpisodeStatistics
            final[row]["episode"] = begun[row].pop("episode")
        final[row]["terminal_observation"] = infos["final_obs"][row]
    return step_infos, begun


_FINAL = ("final_obs", "final_info")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return value.copy() if isinstance(value, np.ndarray) else value
