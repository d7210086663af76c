"""Answers to reasoning-gym's questions, by its own scorers, none of whose failures becomes a 0.

What counts as which failure is in `judge`, and nowhere else.
"""

from __future__ import annotations

import importlib
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from textenv.rewards.base import Reward
from textenv.rewards.registry import register

if TYPE_CHECKING:
    from textenv.sources.reasoning import Questions

# "nan", "nan+2j": complex_arithmetic's scorer gives them full marks, for it takes min(1, NaN).
_NAN = re.compile(r"(?<![a-z])nan[ij]?(?![a-z])", re.IGNORECASE)
_TAG = re.compile(r"\w+")
_ROUNDING = 1e-9  # some scorers add fractions up, to 1.0000000000000002


class Verdict(NamedTuple):
    """What an answer is worth.

    score: 0 … 1.
    well_formed: whether there is an answer, and the scorer could read it.
    """

    score: float
    well_formed: bool


ILL_FORMED = Verdict(0.0, False)


def judge(questions: Questions, item: int, completion: str, tag: str | None = None) -> Verdict:
    """Score what was written after a question.

    - The answer is the completion without blanks around it, or, with a tag, what stands in the
      last `<tag>…</tag>`. No answer, or an empty one, is ill-formed: 0.
    - The scorer raises: the answer is ill-formed, 0, if the same scorer reads the answer that is
      stored for this question; if it raises there too, the scorer is broken, which is an error.
    - The scorer returns no number, NaN, or one outside 0 … 1 by more than rounding: an error.
    - Full marks for "nan" where the stored answer holds none: ill-formed, 0.

    Args:
        questions: Those of the task.
        item: Which of them.
        completion: What was written.
        tag: The name of the tag around answers.

    Raises:
        ValueError: the scorer is broken.
    """
    answer = answer_in(completion, tag)
    if not answer:
        return ILL_FORMED
    stored = questions.answer(item)
    try:
        score = questions.score(item, answer)
    except Exception as error:
        try:
            questions.score(item, stored)
        except Exception:
            raise _broken(questions, item, f"raises {error!r}, on the stored answer too") from error
        return ILL_FORMED
    number = isinstance(score, numbers.Real) and not isinstance(score, bool)
    if not number or not -_ROUNDING <= float(score) <= 1 + _ROUNDING:
        raise _broken(questions, item, f"says {score!r} of {answer!r:.80}, not a number in 0 … 1")
    score = min(max(float(score), 0.0), 1.0)
    if score == 1 and _NAN.search(answer) and not _NAN.search(stored or ""):
        return ILL_FORMED
    return Verdict(score, True)


def answer_in(completion: str, tag: str | None) -> str | None:
    """Return the answer that a completion gives, or None where the tag is missing."""
    if tag is None:
        return completion.strip()
    extract = importlib.import_module("reasoning_gym.utils").extract_answer
    return extract(completion, tag)


def check_tag(tag: str | None) -> None:
    """Refuse a tag that is no name.

    Raises:
        ValueError: it is none.
    """
    if tag is not None and not (isinstance(tag, str) and _TAG.fullmatch(tag)):
        raise ValueError(f'expected tag= to be a name such as "answer", got {tag!r}')


@register("reasoning_gym")
class ReasoningGym(Reward):
    """What reasoning-gym's scorer says of the answer: see `judge` for its failures.

    Range: 0 … 1, higher is better; 1 for a right answer. Some scorers give a little to every
    answer that they can read. Some evaluate what stands there (sympy's parser runs it as Python):
    give `timeout=` where a text such as 9**9**9 may come, and a sandbox where you trust nobody.

    Args:
        task: The generator's name.
        config: Its settings.
        size: How many questions there are.
        dataset_seed: Which they are.
        tag: The tag around answers. None: the whole text is the answer.

    Attributes:
        counts: Since it was made (in this process): "texts", and how many were "ill_formed".

    >>> reward = ReasoningGym("prime_factorization", size=2)  # item 0: 2 × 433
    >>> reward([""] * 3, ["2 × 433", "2 × 3", "wrong answer"], item=[0, 0, 0]), reward.counts
    ([1.0, 0.01, 0.0], {'texts': 3, 'ill_formed': 1})
    """

    name = "reasoning_gym"
    range = (0.0, 1.0)
    columns = ("item",)

    def __init__(
        self,
        task: str = "basic_arithmetic",
        *,
        config: Mapping[str, Any] | None = None,
        size: int = 100,
        dataset_seed: int = 0,
        tag: str | None = None,
    ) -> None:
        check_tag(tag)
        self.task = task
        self.config = None if config is None else dict(config)
        self.size = size
        self.dataset_seed = dataset_seed
        self.tag = tag
        self.counts = {"texts": 0, "ill_formed": 0}
        self._questions()  # so that a setting that does not exist is reported here

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        """Score each answer.

        Raises:
            ValueError: it is not said which question a text answers, or the scorer is broken.
        """
        return [self._paid(verdict) for verdict in self._verdicts(completions, columns)]

    def _paid(self, verdict: Verdict) -> float:
        return verdict.score

    def _verdicts(self, completions: list[str], columns: Mapping[str, Any]) -> list[Verdict]:
        items = columns.get("item")
        if items is None or any(item is None for item in items):
            raise ValueError(
                f"{self.name} needs to know which question a text answers: start with "
                'reset(options={"prompt_index": n}), or give its number beside a prompt of your '
                'own, options={"prompt": …, "columns": {"item": n}}'
            )
        verdicts = self._judge(completions, items)
        self.counts["texts"] += len(verdicts)
        self.counts["ill_formed"] += sum(not verdict.well_formed for verdict in verdicts)
        return verdicts

    def _judge(self, completions: list[str], items: Sequence[int]) -> list[Verdict]:
        known = self._questions()
        return [
            judge(known, int(item), text, self.tag)
            for text, item in zip(completions, items, strict=True)
        ]

    def _questions(self) -> Questions:
        from textenv.sources.reasoning import questions

        return questions(self.task, self.config, self.size, self.dataset_seed)


@register("well_formed")
class WellFormed(ReasoningGym):
    """1 where there is an answer that reasoning-gym's scorer can read, right or wrong; else 0.

    Range: 0 or 1. Args as for `ReasoningGym`.

    >>> reward = WellFormed("prime_factorization", size=2)
    >>> reward([""] * 3, ["2 × 433", "2 × 3", "wrong answer"], item=[0, 0, 0])
    [1.0, 1.0, 0.0]
    """

    name = "well_formed"

    def _paid(self, verdict: Verdict) -> float:
        return float(verdict.well_formed)


def _broken(questions: Questions, item: int, what: str) -> ValueError:
    return ValueError(f"reasoning-gym's scorer of {questions.task}, item {item}, {what}")


reasoning_gym = ReasoningGym
well_formed = WellFormed
