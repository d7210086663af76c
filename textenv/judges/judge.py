"""A judge: a template, whoever answers it, and a cache of what was answered.

Both orders of a pair are asked, so that a preference for a place is seen and cancels out.
n = texts or pairs, A = answers.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np

from textenv.judges.backend import Backend, Float64, JudgeError, NotCachedError, shorten
from textenv.judges.cache import Cache, Memory
from textenv.judges.odds import Odds, PositionBias, shares
from textenv.judges.template import Template, as_template
from textenv.preferences.comparisons import Verdict

_SECOND_LOOK = 10.0  # seconds


class Judge:
    """Says what texts are worth on a scale, or which of two is better. It is a `Rater`.

    Args:
        template: What is asked: a `Template`, its fields as a dict, or a name.
        backend: Who is asked: `LocalModel`, `Endpoint`, or your own `Backend`.
        cache: Where answers are kept: True: a file in the cache folder; a path; a `Cache`; False:
            only as long as this judge lives.
        offline: Nobody is asked: what is not in the cache is an error.
        tie: How near to each other two texts are equally good: log-odds of that many nats, or so
            much of the scale.

    Attributes:
        name: Of the template and of who is asked.
        mode: "scale" or "comparison", the template's.
        counts: Since it was made: "asked" questions, "cached" ones, "failed" ones.
        mass: The mean probability that the model gives all answers together, over the questions
            that it was asked; far below 1 where it would rather say something else. NaN before.

    Raises:
        ValueError: `tie` is negative.
        TextenvError: the cache cannot be used.
    """

    def __init__(
        self,
        template: Template | str | dict[str, Any],
        backend: Backend,
        *,
        cache: Cache | str | Path | bool = True,
        offline: bool = False,
        tie: float = 0.0,
    ) -> None:
        if not tie >= 0:
            raise ValueError(f"tie must be 0 or more, got {tie!r}")
        self.template = as_template(template)
        self.backend = backend
        self.mode = self.template.mode
        self.name = f"{self.template.name} by {backend.name}"
        self.offline = offline
        self.tie = tie
        self.counts = {"asked": 0, "cached": 0, "failed": 0}
        self._mass = 0.0
        self._cache = _as_cache(cache)
        self._failed: dict[str, tuple[float, int, JudgeError]] = {}
        values = np.array(list(self.template.answers.values()), dtype=np.float64)
        self._values = (values - values.min()) / (values.max() - values.min())

    @property
    def mass(self) -> float:
        """As in the class."""
        return self._mass / self.counts["asked"] if self.counts["asked"] else float("nan")

    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """Say what n texts are worth: Σ p·value over the answers, in 0 … 1.

        The least value of an answer is 0, the greatest 1; p is the probability among the answers.

        Raises:
            ValueError: the template compares two texts.
            JudgeError: the judge cannot say; the message names the text.
        """
        self._expect("scale", "scores", "compare")
        pairs = list(zip(prompts, completions, strict=True))
        questions = [self.template.question(*pair) for pair in pairs]
        log_probs = self._log_probs(questions, [text for _, text in pairs])
        # Not a matrix product, which rounds differently in other company.
        worth = (shares(log_probs) * self._values).sum(axis=1)  # [n]
        return [float(number) for number in np.clip(worth, 0.0, 1.0)]

    def odds(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Odds:
        """Ask about n pairs, each in both orders.

        Raises:
            ValueError: the template asks about one text.
            JudgeError: the judge cannot say; the message names the text.
        """
        self._expect("comparison", "odds", "scores")
        pairs = list(zip(prompts, first, second, strict=True))
        ask = self.template.comparison
        questions = [ask(p, a, b) for p, a, b in pairs] + [ask(p, b, a) for p, a, b in pairs]
        log_probs = self._log_probs(questions, [a for _, a, _ in pairs] * 2)
        return Odds.of(log_probs, self._values)

    def compare(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], **columns: Any
    ) -> list[Verdict]:
        """Say of n pairs how the first text does: by both orders, or by the scores on a scale.

        Raises:
            JudgeError: the judge cannot say; the message names the text.
        """
        if self.mode == "comparison":
            odds = self.odds(prompts, first, second)
            differences, ties = odds.mean, odds.tie
        else:
            scores = np.array(self.scores([*prompts, *prompts], [*first, *second]))
            differences = scores[: len(first)] - scores[len(first) :]
            ties = np.zeros(len(first), dtype=np.bool_)
        ties = ties | (np.abs(differences) <= self.tie)
        verdicts: list[Verdict] = [
            "tie" if tie else "better" if difference > 0 else "worse"
            for tie, difference in zip(ties, differences, strict=True)
        ]
        return verdicts

    def position_bias(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
    ) -> PositionBias:
        """Measure on n pairs how far places decide; what was asked before is not asked again."""
        return self.odds(prompts, first, second).position_bias

    def _expect(self, mode: str, what: str, instead: str) -> None:
        if self.mode != mode:
            raise ValueError(
                f"{what} needs a template of the mode {mode!r}, {self.template.name!r} has "
                f"{self.mode!r}: use {instead}, or another template"
            )

    def _log_probs(self, questions: Sequence[str], texts: Sequence[str]) -> Float64:
        """Return log p(answer), float64 [n, A]; the same question is asked once.

        Args:
            questions: n questions.
            texts: What each is about, for messages.
        """
        about = dict(zip(questions, texts, strict=True))
        if not about:
            return np.zeros((0, len(self.template.answers)))
        keys = dict(zip(about, self._keys(about), strict=True))
        known = self._cache.get(list(keys.values()))
        missing = [question for question in about if keys[question] not in known]
        self.counts["cached"] += len(about) - len(missing)
        if missing and self.offline:
            raise NotCachedError(
                f"the judge {self.name!r} is offline and was never asked about "
                f"{shorten(about[missing[0]])} ({len(missing)} of {len(about)} questions are not "
                "in its cache): ask it once with offline=False, or give the cache= that has them"
            )
        answered, failures = self._ask({question: keys[question] for question in missing}, about)
        if failures:
            question, error = next(iter(failures.items()))
            more = f" ({len(failures)} of {len(about)} questions failed)" if len(about) > 1 else ""
            raise type(error)(f"{error}; the text was {shorten(about[question])}{more}") from error
        known |= answered
        return np.stack([known[keys[question]] for question in questions])

    def _ask(
        self, missing: dict[str, str], batch: Sized
    ) -> tuple[dict[str, Float64], dict[str, JudgeError]]:
        """Ask, and keep what is answered as it comes.

        Returns:
            The answers by key, and what failed by question.
        """
        failures = self._failed_a_moment_ago(missing, len(batch))
        wanted = [question for question in missing if question not in failures]
        known: dict[str, Float64] = {}
        for part in self.backend.ask(self.template, wanted) if wanted else ():
            answered: dict[str, Float64] = {}
            for number, outcome in part.items():
                key = missing[wanted[number]]
                if isinstance(outcome, JudgeError):
                    failures[wanted[number]] = outcome
                    self._failed[key] = (time.monotonic(), len(batch), outcome)
                else:
                    answered[key] = self._checked(outcome)
            self.counts["asked"] += len(answered)
            self._mass += float(sum(np.exp(values).sum() for values in answered.values()))
            known |= self._cache.put(answered)
        self.counts["failed"] += len(failures)
        return known, failures

    def _failed_a_moment_ago(self, missing: dict[str, str], batch: int) -> dict[str, JudgeError]:
        """Take out what failed in a larger batch just now.

        A Scorer that saw a batch fail asks again row by row: what failed is said once more then,
        and not asked again with all its retries.
        """
        failures, begin = {}, time.monotonic() - _SECOND_LOOK
        for question, key in missing.items():
            when, size, error = self._failed.pop(key, (-np.inf, 0, JudgeError()))
            if batch < size and when > begin:
                failures[question] = error
        if not failures:
            self._failed = {key: one for key, one in self._failed.items() if one[0] > begin}
        return failures

    def _checked(self, log_probs: Any) -> Float64:
        values = np.asarray(log_probs, dtype=np.float64)
        if values.shape != self._values.shape or np.isnan(values).any() or not np.exp(values).any():
            raise JudgeError(
                f"the judge {self.name!r} gave {values!r} for the {len(self._values)} answers "
                f"{list(self.template.answers)}, expected one log-probability each"
            )
        return values

    def _keys(self, questions: Iterable[str]) -> list[str]:
        who = json.dumps(
            [self.backend.identity(self.template), self.template.asked()], sort_keys=True
        )
        start = hashlib.sha256(who.encode())
        keys = []
        for question in questions:
            digest = start.copy()
            digest.update(b"\0" + question.encode("utf-8", "surrogatepass"))
            keys.append(digest.hexdigest())
        return keys

    def __repr__(self) -> str:
        return f"<judge {self.name!r}>"


def _as_cache(cache: Cache | str | Path | bool) -> Cache | Memory:
    if isinstance(cache, Cache):
        return cache
    if isinstance(cache, bool):
        return Cache() if cache else Memory()
    return Cache(cache)
