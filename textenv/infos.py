"""Infos of B episodes in Gymnasium's form: each key has a mask `_key` of the rows that it is of."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from textenv.asking import Choices
from textenv.enumeration import take
from textenv.mdp import State
from textenv.observations import row_of
from textenv.setup import Setup

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


def infos_of(
    setup: Setup, state: State, rows: npt.NDArray[np.int64], choices: Choices | None
) -> Infos:
    """Return what an environment's parts say of some rows.

    Args:
        setup: The parts.
        state: B states.
        rows: The numbers of n of them.
        choices: What these n offer.
    """
    infos: Infos = {}
    batch = len(state.tokens)
    if choices is not None:
        add(infos, "candidates", rows, choices.ids, batch)
        add(infos, "candidate_log_probs", rows, choices.log_probs, batch)
    if setup.mask == "info":
        own = None if setup.guard is None else take(state, rows)
        add(infos, "action_mask", rows, setup.action_mask(len(rows), choices, own), batch)
    if setup.info_text:
        texts = setup.task.texts(state, rows)
        add(infos, "prompt", rows, np.array(texts.prompts, dtype=object), batch)
        add(infos, "text", rows, np.array(texts.completions, dtype=object), batch)
    return infos


def final(rows: npt.NDArray[np.int64], batch: int, observation: Any, info: Infos) -> Infos:
    """Return `final_obs` and `final_info` of n rows that have ended."""
    own = np.full(batch, None, dtype=object)
    for place, row in enumerate(rows.tolist()):
        own[row] = row_of(observation, place)
    marked = mark(rows, batch)
    return {
        "final_obs": own,
        "_final_obs": marked,
        "final_info": info,
        "_final_info": marked.copy(),
    }


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
