"""What one action does to B texts: tokens written, texts ended, rewards paid, or all taken back.

B = rows, n = tokens that an action may write.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textenv import infos, mdp
from textenv.paying import Paymaster

Mask = npt.NDArray[np.bool_]


class Written(NamedTuple):
    """What became of it.

    terminated: bool [B], rows whose text has just ended.
    rewards: float64 [B].
    said: What the scorer says beside them.
    """

    terminated: Mask
    rewards: npt.NDArray[np.float64]
    said: infos.Infos


def write(
    rules: mdp.Rules,
    state: mdp.State,
    tokens: npt.NDArray[np.int64],
    live: Mask | None,
    paymaster: Paymaster,
) -> Written:
    """Write what the rows' actions say into the arrays of a state, and pay for it.

    Args:
        rules: The task's rules.
        state: B states.
        tokens: int64 [B], or [B, n], one after another until the text ends or the id is V.
        live: bool [B], which rows write; None: all.
        paymaster: Who pays.

    Raises:
        RewardFaultError: the reward failed; what was written is taken back.
    """
    if tokens.ndim == 2:
        return _write_several(rules, state, tokens, live, paymaster)
    mdp.transition_in_place(rules, state, tokens, live)
    terminated = mdp.terminal(rules, state)
    if live is not None:
        terminated &= live
    try:
        return Written(terminated, *paymaster.pay(state, tokens, terminated, live))
    except BaseException:
        take_back(rules, state, state.length - (1 if live is None else live))
        raise


def take_back(rules: mdp.Rules, state: mdp.State, lengths: Any) -> None:
    """Undo writes inside the arrays of a state, until each row has its old length, int64 [B]."""
    for row in np.flatnonzero(state.length != lengths).tolist():
        start = rules.prompt_length + lengths[row]
        state.tokens[row, start : rules.prompt_length + state.length[row]] = rules.nothing
    state.length[:] = lengths


def _write_several(
    rules: mdp.Rules,
    state: mdp.State,
    tokens: npt.NDArray[np.int64],
    live: Mask | None,
    paymaster: Paymaster,
) -> Written:
    """Column by column; texts that end in different ones are still scored in one call."""
    before = state.length.copy()
    terminated = np.zeros(len(before), dtype=np.bool_)
    rewards, said = np.zeros(len(before)), infos.Infos()
    going_on = np.ones_like(terminated) if live is None else live.copy()
    try:
        for column in tokens.T:
            going_on &= column != rules.nothing
            if not going_on.any():
                break
            written = np.where(going_on, column, 0)
            mdp.transition_in_place(rules, state, written, going_on)
            ended = mdp.terminal(rules, state) & going_on
            rewards += paymaster.proceed(state, written, ended, going_on, said)
            terminated |= ended
            going_on &= ~ended
        paymaster.finish(state, terminated, rewards, said)
    except BaseException:
        take_back(rules, state, before)
        raise
    return Written(terminated, rewards, said)
