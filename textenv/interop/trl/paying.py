"""Our rewards as functions that TRL's trainers call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textenv.errors import RewardFaultError
from textenv.interop.trl.messages import text_of, vocabulary_of, written
from textenv.rewards import Combined, Reward, RewardLike, Texts, as_reward
from textenv.rewards.base import Pays
from textenv.rewards.function import FunctionReward
from textenv.rewards.payments import FaultError, failure, listed, weighed
from textenv.rewards.scoring import Fault, check_fault
from textenv.rewards.terms import Term, terms_of
from textenv.vocabulary import Vocabulary

_TRAINER = ("trainer_state", "log_extra", "log_metric")  # what TRL passes beside columns


class RewardFunction:
    """A textenv reward that TRL's `GRPOTrainer` and `RLOOTrainer` take in `reward_funcs`.

    Prompts and completions may be texts or chat messages, whose contents the reward reads. What
    pays each token pays the sum. None stays None: TRL leaves this function out for that text (and
    counts a text that all its functions leave out as 0). The parts of a sum are logged as
    `reward_parts/name`.

    Args:
        reward: Whatever `as_reward` takes: a reward, a function, a name, a dict, a list.
        vocabulary: What the ids mean: the trainer's tokenizer, or a model's name or folder, or a
            vocabulary. Then the end token, which TRL counts among the ids and environments do
            not, is taken off, and each token is paid as in an environment. None: ids are handed
            on as they come.
        name: For TRL's logs. None: the reward's own.
        fault: What happens where the reward fails: "raise" an error, which ends the training;
            "penalise" the text by `fault_reward`; "skip" it, by None.
        fault_reward: What "penalise" pays.

    Attributes:
        faults: The texts so far whose reward failed and did not raise.

    Raises:
        ValueError: a setting that does not exist.
    """

    def __init__(
        self,
        reward: RewardLike,
        *,
        vocabulary: Any = None,
        name: str | None = None,
        fault: Fault = "raise",
        fault_reward: float | None = None,
    ) -> None:
        check_fault(fault, fault_reward)
        self.reward = as_reward(reward)
        self.vocabulary = vocabulary_of(vocabulary)
        self.fault, self.fault_reward = fault, fault_reward
        self.faults = 0
        self._terms = _terms(self.reward, self.vocabulary)
        self.__name__ = name or self.reward.name

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Say what n texts are worth.

        Args:
            prompts: n texts, or n lists of messages.
            completions: Likewise.
            completion_ids: n lists of ids.
            **columns: Lists of n, by the dataset's column; and what TRL passes beside.

        Raises:
            ValueError: lists of other lengths, a column that the reward needs and is not there,
                ids that the vocabulary lacks, or prompts and completions in no known form.
            RewardFaultError: the reward failed, and `fault` is "raise".
        """
        trainer = {name: columns.pop(name) for name in _TRAINER if name in columns}
        texts = self._texts(prompts, completions, completion_ids, columns)
        totals: list[float | None] = [None] * len(texts.completions)
        faulty: set[int] = set()
        for term in self._terms:
            paid = self._paid(term, texts, trainer, faulty)
            for row, payment in enumerate(paid):
                if payment is not None:
                    totals[row] = (totals[row] or 0.0) + payment
            self._log(term, paid, trainer.get("log_metric"))
        self.faults += len(faulty)
        return [self.fault_reward if row in faulty else paid for row, paid in enumerate(totals)]

    def __repr__(self) -> str:
        return f"<TRL's function of {self.reward!r}>"

    def _texts(
        self, prompts: Any, completions: Any, completion_ids: Any, columns: dict[str, Any]
    ) -> Texts:
        """Turn what TRL hands over into what rewards read; ids, where given, are a column."""
        if completion_ids is not None:
            columns = {**columns, "completion_ids": completion_ids}
        for name, values in {"prompts": prompts, **columns}.items():
            if len(values) != len(completions):
                raise ValueError(
                    f"got {len(values)} {name} for {len(completions)} completions: give one each"
                )
        missing = [name for name in self.reward.columns if name not in columns]
        if missing:
            raise ValueError(
                f"the reward {self.reward.name!r} needs the columns {missing}, the dataset has "
                f"{sorted(columns.keys() - {'completion_ids'})}: make it with "
                "prompt_dataset(task), whose rows have the task's columns, or add them"
            )
        ids: list[list[int]] = [[] for _ in completions]
        if completion_ids is not None:
            ids = columns["completion_ids"] = [
                written(row, self.vocabulary) for row in completion_ids
            ]
        asked = [text_of(prompt, "prompt") for prompt in prompts]
        return Texts(asked, [text_of(each, "completion") for each in completions], ids, columns)

    def _paid(
        self, term: Term, texts: Texts, trainer: dict[str, Any], faulty: set[int]
    ) -> list[float | None]:
        """Return what one term pays, weighted; add to `faulty` where it fails, or raise."""
        if term.table is not None and _has_ids(texts):
            return [float(term.table[ids].sum()) for ids in texts.completion_ids]
        paid: list[float | None] = []
        pays: Pays = "token" if _is_called_by_token(term.reward, texts) else "end"
        for row, payment in enumerate(self._payments(term, texts, trainer, faulty)):
            try:
                tokens = len(texts.completion_ids[row])
                ours = None if payment is None else weighed(payment, term.weight, pays, tokens)[0]
            except FaultError as error:
                self._fail(term, texts.row(row), error)
                faulty.add(row)
                ours = None
            paid.append(ours)
        return paid

    def _payments(
        self, term: Term, texts: Texts, trainer: dict[str, Any], faulty: set[int]
    ) -> list[Any]:
        """Call one term for all texts; where that fails, for one by one."""
        try:
            return _called(term.reward, texts, trainer)
        except Exception as error:
            whole = error
        payments: list[Any] = []
        failed = len(faulty)
        for row in range(len(texts.completions)):
            try:
                payments += _called(term.reward, texts.row(row), trainer)
            except Exception as error:
                self._fail(term, texts.row(row), error)
                faulty.add(row)
                payments.append(None)
        if len(faulty) == failed:  # it fails for many texts only
            self._fail(term, texts, whole)
        return payments

    def _fail(self, term: Term, texts: Texts, error: Exception) -> None:
        """Raise, if faults shall."""
        if self.fault != "raise":
            return
        raise RewardFaultError(
            f"{failure(term.name, texts.completions, error)}. To go on where a reward fails: "
            'as_trl_reward(…, fault="skip"), or fault="penalise" with fault_reward=…'
        ) from error

    def _log(self, term: Term, paid: list[float | None], log_metric: Any) -> None:
        numbers = [payment for payment in paid if payment is not None]
        if log_metric is not None and isinstance(self.reward, Combined) and numbers:
            log_metric(f"reward_parts/{term.name}", sum(numbers) / len(numbers))


def as_trl_reward(reward: RewardLike, **settings: Any) -> RewardFunction:
    """Make a function for TRL's `reward_funcs` of any textenv reward: see `RewardFunction`.

    Args:
        reward: A reward, its name, a dict, a sum, or a list, which is a sum.
        **settings: `vocabulary`, `name`, `fault` and `fault_reward`.

    >>> function = as_trl_reward({"name": "length", "unit": "words"})
    >>> function.__name__, function(["a", "b"], ["one two", ""])
    ('length', [2.0, 0.0])
    """
    return RewardFunction(reward, **settings)


def _called(reward: Reward, texts: Texts, trainer: dict[str, Any]) -> list[Any]:
    """Call one term: a payment for each text, not checked yet."""
    if not texts.completions:
        return []
    own_total = type(reward).total is not Reward.total  # which needs no vocabulary, or no ids
    by_token = _is_called_by_token(reward, texts)
    call = reward.total if own_total or (reward.pays == "token" and not by_token) else reward
    columns = {**texts.columns, **(trainer if isinstance(reward, FunctionReward) else {})}
    return listed(call(texts.prompts, texts.completions, **columns), len(texts.completions))


def _is_called_by_token(reward: Reward, texts: Texts) -> bool:
    return reward.pays == "token" and type(reward).total is Reward.total and _has_ids(texts)


def _has_ids(texts: Texts) -> bool:
    return "completion_ids" in texts.columns


def _terms(reward: Reward, vocabulary: Vocabulary | None) -> list[Term]:
    if vocabulary is not None:
        return terms_of(reward, vocabulary, vocabulary.end_token)
    if not isinstance(reward, Combined):
        return [Term(reward.name, 1.0, reward, None)]
    pairs = zip(reward.names, reward.terms, strict=True)
    return [Term(name, weight, part, None) for name, (weight, part) in pairs]
