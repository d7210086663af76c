"""What the tokens that B rows have just written are paid: at once, or when `score` is called."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from textenv import infos, mdp
from textenv.rewards import Scorer, Scores, Texts
from textenv.task import Task

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Paymaster:
    """Pays B rows by a scorer; texts are decoded only for rewards that read them.

    Args:
        task: Whose texts they are.
        scorer: How they are scored.
        batch: B.
        deferred: At the end of a text pay NaN and give its number in `infos["episode_id"]`.

    Attributes:
        faulty: The numbers of the episodes whose reward failed in the last call of `score`.
        parts: What each term of a sum pays over whole episodes, by its name and the episode's
            number, of those in the last call of `score`.
    """

    def __init__(self, task: Task, scorer: Scorer, batch: int, *, deferred: bool) -> None:
        self.task = task
        self.scorer = scorer
        self.batch = batch
        self.deferred = deferred
        self.faulty: frozenset[int] = frozenset()
        self.parts: dict[str, dict[int, float]] = {}
        self._next_episode_id = 0
        self._pending: list[tuple[Rows, Texts, Mask, npt.NDArray[np.float64]]] = []

    def pay(
        self,
        state: mdp.State,
        tokens: npt.NDArray[np.int64],
        terminated: Mask,
        live: Mask | None,
    ) -> tuple[npt.NDArray[np.float64], infos.Infos]:
        """Pay one step.

        Args:
            state: B states, the token just written included.
            tokens: int64 [B], these tokens.
            terminated: Rows whose text has just ended.
            live: Rows that have written; None: all.

        Returns:
            Rewards, float64 [B], and what the scorer says beside them.
        """
        said: infos.Infos = {}
        rewards = self.proceed(state, tokens, terminated, live, said)
        self.finish(state, terminated, rewards, said)
        return rewards, said

    def proceed(
        self,
        state: mdp.State,
        tokens: npt.NDArray[np.int64],
        terminated: Mask,
        live: Mask | None,
        said: infos.Infos,
    ) -> npt.NDArray[np.float64]:
        """Pay what a token earns before it is known what the whole text is worth.

        Args:
            state: As for `pay`.
            tokens: As for `pay`.
            terminated: As for `pay`: `finish` pays these, but for tables
                that are not deferred.
            live: As for `pay`.
            said: Gets what the scorer says beside it.

        Returns:
            float64 [B].
        """
        if self.scorer.table is not None:
            rewards = self.scorer.table[tokens]
            if live is not None:
                rewards[~live] = 0.0
            if self.deferred:
                rewards[terminated] = 0.0
            return rewards
        rewards = np.zeros(self.batch)
        if self.scorer.pays_tokens:
            going_on = np.flatnonzero(~terminated if live is None else live & ~terminated)
            scores = self.scorer.proceed(self.task.texts(state, going_on))
            self._put(rewards, said, going_on, scores)
        return rewards

    def finish(
        self,
        state: mdp.State,
        terminated: Mask,
        rewards: npt.NDArray[np.float64],
        said: infos.Infos,
    ) -> None:
        """Add what texts that have ended are worth, from one call of the reward, or postpone it.

        Args:
            state: As for `pay`.
            terminated: Rows whose text has ended.
            rewards: float64 [B], what they earned so far.
            said: Gets what the scorer says beside it.
        """
        if (self.scorer.table is not None and not self.deferred) or not terminated.any():
            return
        ended = np.flatnonzero(terminated)
        texts = self.task.texts(state, ended)
        closed = mdp.last_token(self.task.rules, state)[ended] == self.task.rules.end_token
        if self.deferred:
            self._postpone(rewards, said, ended, texts, np.asarray(closed))
        else:
            self._put(rewards, said, ended, self.scorer.finish(texts, np.asarray(closed)))

    def score(self) -> dict[int, float]:
        """Score the texts that ended since the last call, in one call of the reward."""
        if not self._pending:
            return {}
        numbers, texts, endings, earned = zip(*self._pending, strict=True)
        ids = np.concatenate(numbers)
        scores = self.scorer.finish(_joined(list(texts)), np.concatenate(endings))
        self._pending = []  # not before: if the reward fails, score() can be called again
        self.faulty = frozenset(ids[scores.faults].tolist())
        self.parts = {
            name: dict(zip(ids.tolist(), part.tolist(), strict=True))
            for name, part in scores.parts.items()
        }
        rewards = scores.rewards + np.concatenate(earned)
        return dict(zip(ids.tolist(), rewards.tolist(), strict=True))

    def _put(
        self, rewards: npt.NDArray[np.float64], said: infos.Infos, rows: Rows, scores: Scores
    ) -> None:
        rewards[rows] += scores.rewards
        if scores.parts:
            parts: infos.Infos = said.setdefault("reward_parts", {})
            for name, part in scores.parts.items():
                infos.add(parts, name, rows, part, self.batch)
            said["_reward_parts"] = infos.mark(rows, self.batch)
        if scores.faults.any():
            guilty = rows[scores.faults]
            ones = np.ones(len(guilty), dtype=np.int64)
            infos.add(said, "reward_fault", guilty, ones, self.batch)

    def _postpone(
        self,
        rewards: npt.NDArray[np.float64],
        said: infos.Infos,
        rows: Rows,
        texts: Texts,
        closed: Mask,
    ) -> None:
        ids = np.arange(self._next_episode_id, self._next_episode_id + len(rows))
        self._next_episode_id += len(rows)
        # Where an action writes several tokens, those before the last are paid already.
        self._pending.append((ids, texts, closed, rewards[rows]))
        rewards[rows] = np.nan
        infos.add(said, "episode_id", rows, ids, self.batch)


def _joined(parts: list[Texts]) -> Texts:
    names = {name for part in parts for name in part.columns}
    return Texts(
        [prompt for part in parts for prompt in part.prompts],
        [completion for part in parts for completion in part.completions],
        [ids for part in parts for ids in part.completion_ids],
        {name: [value for part in parts for value in _column(part, name)] for name in names},
    )


def _column(texts: Texts, name: str) -> list[Any]:
    """A column; texts whose resets gave none have None in it."""
    return texts.columns.get(name, [None] * len(texts.completions))
