"""What came of the ratings so far: counts, win rates of policies, agreement, what was flagged."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from textenv.metrics import Interval, mean_interval
from textenv.preferences.agreement import Agreement
from textenv.preferences.comparisons import LABELS
from textenv.preferences.database import Database
from textenv.preferences.records import Answered, Flagged, PairToRate, TextToRate

UNNAMED = "(no name)"  # the policy of texts that were added without one


@dataclass(frozen=True)
class WinRate:
    """How often one policy's text is preferred to another's; a tie is half a win.

    Attributes:
        policy: One policy.
        against: The other.
        pairs: How many pairs have a verdict. Each counts once: over several raters its verdicts
            are averaged first.
        rate: With its bootstrap interval over pairs.
    """

    policy: str
    against: str
    pairs: int
    rate: Interval


@dataclass(frozen=True)
class MeanRating:
    """What raters gave a policy's texts by themselves.

    Attributes:
        policy: The policy.
        texts: How many have a number; each counts once, by the mean over its raters.
        mean: With its bootstrap interval over texts.
    """

    policy: str
    texts: int
    mean: Interval


@dataclass(frozen=True)
class Results:
    """All of it.

    Attributes:
        counts: How many answers of each kind.
        raters: For each rater, from the first on, how many answers; nobody is named.
        left: How often the text on the left won, of verdicts that are no ties, where the side is
            known; and of how many. ½ means that no side is favoured.
        win_rates: Of each two policies that were compared.
        ratings: Of each policy whose texts were rated by themselves.
        agreement: How far raters agree.
        flagged: The queue for review.
    """

    counts: dict[str, int]
    raters: list[int]
    left: tuple[float, int]
    win_rates: list[WinRate]
    ratings: list[MeanRating]
    agreement: Agreement
    flagged: list[Flagged]

    def to_json(self) -> dict[str, Any]:
        """Return it without NaN and without anybody's pseudonym."""
        names = {name: f"rater {n + 1}" for n, name in enumerate(self._pseudonyms())}
        kappas = [
            {"raters": [names[k.first], names[k.second]], "n": k.n, "kappa": _finite(k.kappa)}
            for k in self.agreement.kappas
        ]
        return {
            "counts": self.counts,
            "raters": self.raters,
            "left": {"share": _finite(self.left[0]), "n": self.left[1]},
            "win_rates": [
                {"policy": w.policy, "against": w.against, "n": w.pairs, "rate": list(w.rate)}
                for w in self.win_rates
            ],
            "ratings": [
                {"policy": r.policy, "n": r.texts, "mean": list(r.mean)} for r in self.ratings
            ],
            "agreement": {
                "alpha": _finite(self.agreement.alpha),
                "pairs": self.agreement.pairs,
                "rating_alpha": _finite(self.agreement.rating_alpha),
                "texts": self.agreement.texts,
                "kappas": kappas,
            },
            "flagged": [_flagged(each) for each in self.flagged],
        }

    def _pseudonyms(self) -> list[str]:
        return sorted({name for k in self.agreement.kappas for name in (k.first, k.second)})


def results(database: Database, round: int | None = None) -> Results:
    """Sum up the ratings of a round, or of all."""
    answers = database.answers(round)
    by_rater = Counter(each.rater for each in sorted(answers, key=lambda each: each.id))
    kinds = Counter("number" if isinstance(a.answer, float) else a.answer for a in answers)
    return Results(
        counts={kind: kinds[kind] for kind in (*LABELS, "number", "skip", "flag")},
        raters=list(by_rater.values()),
        left=_left(answers),
        win_rates=win_rates(database.pairs(round), answers),
        ratings=_mean_ratings(database.texts(round), answers),
        agreement=database.agreement(round),
        flagged=database.flagged(round),
    )


def win_rates(pairs: Iterable[PairToRate], answers: Iterable[Answered]) -> list[WinRate]:
    """How often each policy's text is preferred to each other's."""
    labels: dict[int, list[float]] = defaultdict(list)
    for each in answers:
        if each.answer in LABELS:
            labels[each.question].append(LABELS[each.answer])  # type: ignore[index]
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    for pair in pairs:
        if pair.id in labels and pair.policy_first != pair.policy_second:
            mean = sum(labels[pair.id]) / len(labels[pair.id])
            rates[pair.policy_first, pair.policy_second].append(mean)
    for one, other in list(rates):
        if one > other:  # each two policies once
            rates[other, one] += [1 - mean for mean in rates.pop((one, other))]
    return [
        WinRate(one or UNNAMED, other or UNNAMED, len(means), mean_interval(means))
        for (one, other), means in sorted(rates.items())
    ]


def _mean_ratings(texts: Iterable[TextToRate], answers: Iterable[Answered]) -> list[MeanRating]:
    numbers: dict[int, list[float]] = defaultdict(list)
    for each in answers:
        if isinstance(each.answer, float):
            numbers[each.question].append(each.answer)
    means: dict[str, list[float]] = defaultdict(list)
    for text in texts:
        if text.id in numbers:
            means[text.policy].append(sum(numbers[text.id]) / len(numbers[text.id]))
    return [
        MeanRating(policy or UNNAMED, len(found), mean_interval(found))
        for policy, found in sorted(means.items())
    ]


def _left(answers: Iterable[Answered]) -> tuple[float, int]:
    sides = [
        (each.answer == "better") == each.first_left
        for each in answers
        if each.first_left is not None and each.answer in ("better", "worse")
    ]
    return (sum(sides) / len(sides) if sides else math.nan), len(sides)


def _flagged(each: Flagged) -> dict[str, Any]:
    question = each.question
    pair = isinstance(question, PairToRate)
    texts = [question.first, question.second] if pair else [question.text]  # type: ignore[union-attr]
    shown = {"prompt": question.prompt, "texts": texts, "reason": each.reason}
    about = {"id": question.id, "review": each.review, "raters": each.raters}
    return {**shown, **about, "round": question.round}


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
