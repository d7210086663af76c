"""How rewards are called, checked and paid: what environments and `exact` share.

A `Scorer` calls each term of a reward once for all texts that are scored together, and turns what
it says into what is paid now. It knows nothing of episodes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from textenv.errors import RewardFaultError
from textenv.rewards.combine import Combined
from textenv.rewards.convert import RewardLike, as_reward
from textenv.rewards.payments import NOTHING, FaultError, failure, listed, weighed
from textenv.rewards.terms import Term, terms_of
from textenv.rewards.worker import RewardTimeoutError, RewardWorker, WorkerBrokenError

if TYPE_CHECKING:
    from textenv.vocabulary import Vocabulary

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Fault = Literal["raise", "penalise", "skip"]


class Texts(NamedTuple):
    """n texts, finished or not.

    prompts: n texts.
    completions: what was written after each.
    completion_ids: the ids of what was written, without the end token.
    columns: lists of n, by name.
    """

    prompts: list[str]
    completions: list[str]
    completion_ids: list[list[int]]
    columns: dict[str, list[Any]]

    def row(self, number: int) -> Texts:
        """Return one of them, still as lists."""
        return Texts(
            [self.prompts[number]],
            [self.completions[number]],
            [self.completion_ids[number]],
            {name: [values[number]] for name, values in self.columns.items()},
        )


class Scores(NamedTuple):
    """What n texts earn.

    rewards: float64 [n], what is paid now.
    parts: float64 [n] by term of a `Combined`: what each term, weighted, pays over the whole
        text; they sum to the episode's total, if the episode began with an empty text. {} for
        other rewards and for unfinished texts; 0 where there was a fault.
    faults: bool [n], where the reward failed and did not raise.
    """

    rewards: Float64
    parts: dict[str, Float64]
    faults: Bool


class Scorer:
    """Pays texts by a reward.

    Args:
        reward: A reward, or whatever `as_reward` takes.
        vocabulary: What the ids mean, for rewards that are decided token by token.
        end_token: The id that ends a text and is never paid, or None.
        fault: What happens to a text whose reward raises, takes too long, or returns something
            that is not a finite number for each text (or token): "raise" an error;
            "penalise" it by `fault_reward`; "skip" it, which pays 0 and says so in `faults`.
        fault_reward: What "penalise" pays.
        timeout: Seconds for one call of one term, which then runs in a worker process.
            None: no limit, called here.

    Attributes:
        pays_tokens: Whether unfinished texts earn something, so that `proceed` is needed.
        table: float64 [V] if the reward has one term and each token's pay depends on the token
            alone: then `table[action]` is what a step earns, and nobody needs texts. Else None.
        counts: Since it was made: "calls" with at least one text, "texts", "faults" (texts that
            failed) and "none" (texts that a term left out).

    Raises:
        ValueError: an unknown policy, a `fault_reward` that is missing or not finite, or a
            reward that cannot run in a worker though a timeout is wished.
    """

    def __init__(
        self,
        reward: RewardLike,
        vocabulary: Vocabulary,
        *,
        end_token: int | None,
        fault: Fault = "raise",
        fault_reward: float | None = None,
        timeout: float | None = None,
    ) -> None:
        check_fault(fault, fault_reward)
        self.reward = as_reward(reward)
        self.fault = fault
        self.fault_reward = 0.0 if fault_reward is None else float(fault_reward)
        self._terms = terms_of(self.reward, vocabulary, end_token)
        self.pays_tokens = self.reward.pays == "token"
        self.table = self._terms[0].table if len(self._terms) == 1 else None
        called = [term for term in self._terms if term.table is None]
        self._called = [term.name for term in called]
        self._worker = None
        if timeout is not None:
            self._worker = RewardWorker([term.reward for term in called], timeout)
        self.counts = {"calls": 0, "texts": 0, "faults": 0, "none": 0}

    def finish(self, texts: Texts, closed: Any) -> Scores:
        """Pay finished texts.

        Args:
            texts: n texts.
            closed: bool [n]: the token written last was the end token, which is not among the
                ids; then the last step earns what terms pay at the end, but no token's pay.
        """
        return self._score(self._terms, texts, np.asarray(closed, dtype=np.bool_))

    def proceed(self, texts: Texts) -> Scores:
        """Pay unfinished texts: what the last id of each earns, by the terms that pay tokens."""
        terms = [term for term in self._terms if term.reward.pays == "token"]
        return self._score(terms, texts, None)

    def close(self) -> None:
        """Stop the worker process, if there is one."""
        if self._worker is not None:
            self._worker.close()

    def _score(self, terms: list[Term], texts: Texts, closed: Bool | None) -> Scores:
        count = len(texts.completions)
        rewards, faults = np.zeros(count), np.zeros(count, dtype=np.bool_)
        parts: dict[str, Float64] = {}
        for term in terms:
            whole, last = self._earned(term, texts, faults, finished=closed is not None)
            if closed is not None and term.reward.pays == "token":
                last[closed] = 0.0
            rewards += last
            parts[term.name] = whole
        rewards[faults] = self.fault_reward
        for part in parts.values():
            part[faults] = 0.0
        self.counts["calls"] += count > 0
        self.counts["texts"] += count
        self.counts["faults"] += int(faults.sum())
        reports = closed is not None and isinstance(self.reward, Combined)
        return Scores(rewards, parts if reports else {}, faults)

    def _earned(
        self, term: Term, texts: Texts, faults: Bool, *, finished: bool
    ) -> tuple[Float64, Float64]:
        """Return what whole texts earn by one term, and what is paid last, both float64 [n]."""
        if term.table is None:
            pairs = np.array(self._payments(term, texts, faults)).reshape(-1, 2)
            return pairs[:, 0].copy(), pairs[:, 1].copy()
        table, rows = term.table, texts.completion_ids
        last = np.array([table[ids[-1]] if len(ids) else 0.0 for ids in rows], dtype=np.float64)
        if not finished:
            return last, last
        return np.array([table[ids].sum() for ids in rows], dtype=np.float64), last

    def _payments(self, term: Term, texts: Texts, faults: Bool) -> list[tuple[float, float]]:
        """Call one term; mark in `faults` where it fails, or raise."""
        count = len(texts.completions)
        if not count:
            return []
        try:
            returned = listed(self._call(term, texts), count)
        except WorkerBrokenError:
            raise
        except Exception as error:
            if self.fault == "raise":
                raise self._blame(term, texts, error) from error
            if count > 1:  # one by one, so that only guilty texts are faulty
                rows = [(texts.row(number), faults[number : number + 1]) for number in range(count)]
                return [self._payments(term, *row)[0] for row in rows]
            faults[0] = True
            return [NOTHING]
        checked = [self._checked(term, texts, number, returned[number]) for number in range(count)]
        faults |= [pair is None for pair in checked]
        return [pair or NOTHING for pair in checked]

    def _checked(
        self, term: Term, texts: Texts, number: int, payment: Any
    ) -> tuple[float, float] | None:
        """Return what one text earns, or None where the payment is a fault."""
        if payment is None:
            self.counts["none"] += 1
            return NOTHING
        tokens = len(texts.completion_ids[number])
        try:
            return weighed(payment, term.weight, term.reward.pays, tokens)
        except FaultError as error:
            if self.fault == "raise":
                raise _fault_error(term, [texts.completions[number]], error) from error
            return None

    def _call(self, term: Term, texts: Texts) -> Any:
        columns = {**texts.columns, "completion_ids": texts.completion_ids}
        if self._worker is None:
            return term.reward(texts.prompts, texts.completions, **columns)
        number = self._called.index(term.name)
        return self._worker.call(number, (texts.prompts, texts.completions, columns))

    def _blame(self, term: Term, texts: Texts, error: Exception) -> RewardFaultError:
        """Say which text of a batch is guilty: the first that fails alone."""
        count = len(texts.completions)
        if count > 1 and not isinstance(error, RewardTimeoutError):
            for number in range(count):
                row = texts.row(number)
                try:
                    listed(self._call(term, row), 1)
                except Exception as own:
                    return _fault_error(term, row.completions, own)
        return _fault_error(term, texts.completions, error)


def check_fault(fault: Fault, fault_reward: float | None) -> None:
    """Refuse a policy for faults that does not exist, or that lacks its number.

    Raises:
        ValueError: it does.
    """
    if fault not in get_args(Fault):
        raise ValueError(f"fault must be one of {', '.join(get_args(Fault))}, got {fault!r}")
    if (fault == "penalise") != (fault_reward is not None):
        raise ValueError('fault_reward=… belongs to fault="penalise", and is needed there')
    if fault_reward is not None and not math.isfinite(fault_reward):
        raise ValueError(f"fault_reward must be a finite number, got {fault_reward!r}")


def _fault_error(term: Term, texts: list[str], error: Exception) -> RewardFaultError:
    return RewardFaultError(
        f'{failure(term.name, texts, error)}. The policies "penalise" (with fault_reward=…) and '
        '"skip" go on where a reward fails'
    )
