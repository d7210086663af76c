"""How far raters agree: Cohen's κ of two raters, Krippendorff's α of any number.

Both compare how often raters disagree with how often they would by chance: 1 is agreement
throughout, 0 is chance, below 0 is worse than chance. Missing answers are left out, never
filled in.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from textenv.preferences.comparisons import LABELS
from textenv.preferences.records import Answered


class Kappa(NamedTuple):
    """Cohen's κ of two raters.

    Attributes:
        first: One rater's pseudonym.
        second: The other's.
        n: How many pairs both gave a verdict on.
        kappa: NaN where chance alone would make them agree always.
    """

    first: str
    second: str
    n: int
    kappa: float


@dataclass(frozen=True)
class Agreement:
    """How far raters agree on pairs.

    Attributes:
        alpha: Krippendorff's α of the verdicts, nominal; NaN where nothing can be compared.
        pairs: How many pairs have at least two verdicts.
        kappas: Of each two raters who have a pair in common.
        rating_alpha: The same α of the numbers given to single texts, on an interval scale.
        texts: How many texts have at least two numbers.
    """

    alpha: float
    pairs: int
    kappas: tuple[Kappa, ...]
    rating_alpha: float = math.nan
    texts: int = 0


def agreement(answers: Iterable[Answered]) -> Agreement:
    """Compare raters over all that several of them answered; skips and flags are missing."""
    verdicts: dict[int, dict[str, Any]] = defaultdict(dict)
    numbers: dict[int, dict[str, Any]] = defaultdict(dict)
    for each in answers:
        if isinstance(each.answer, float):
            numbers[each.question][each.rater] = each.answer
        elif each.answer in LABELS:
            verdicts[each.question][each.rater] = each.answer
    return Agreement(
        krippendorff_alpha([list(unit.values()) for unit in verdicts.values()]),
        sum(len(unit) > 1 for unit in verdicts.values()),
        tuple(_kappas(verdicts)),
        krippendorff_alpha([list(unit.values()) for unit in numbers.values()], level="interval"),
        sum(len(unit) > 1 for unit in numbers.values()),
    )


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """κ = (p_o − p_e) / (1 − p_e) of two raters (Cohen 1960).

    p_o is how often they agree; p_e = Σ_c p₁(c) p₂(c) how often they would if each drew answers by
    their own frequencies. NaN where p_e = 1 or there is nothing.

    Args:
        first: n answers of one rater.
        second: The other's answers to the same questions.

    Raises:
        ValueError: the lists are not of one length.

    >>> cohen_kappa("yynn", "ynnn")
    0.5
    """
    if len(first) != len(second):
        raise ValueError(f"expected as many answers of both, got {len(first)} and {len(second)}")
    n = len(first)
    if not n:
        return math.nan
    agreed = sum(one == other for one, other in zip(first, second, strict=True)) / n
    counts, others = Counter(first), Counter(second)
    by_chance = sum(counts[answer] * others[answer] for answer in counts) / n**2
    return math.nan if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def krippendorff_alpha(
    units: Iterable[Sequence[Any]], *, level: Literal["nominal", "interval"] = "nominal"
) -> float:
    """α = 1 − D_o / D_e of any number of raters with missing answers (Krippendorff 2011).

    With m_u answers of unit u, n = Σ m_u over units with m_u ≥ 2, and δ² = 1 for different answers
    (nominal) or the squared difference (interval):

    - D_o = 1/n · Σ_u Σ_{i≠j in u} δ²(i, j) / (m_u − 1), what is observed;
    - D_e = 1/(n (n − 1)) · Σ_{i≠j of all} δ²(i, j), what is expected.

    Special cases: units with one answer add nothing; NaN where all answers are equal or nothing
    can be compared, because then there is nothing to agree on.

    Reference: https://repository.upenn.edu/handle/20.500.14332/2089

    Args:
        units: For each unit its answers, in any order, without the missing ones.
        level: "nominal" for names, "interval" for numbers.

    >>> krippendorff_alpha([["a", "a"], ["b", "b"], ["a"]])
    1.0
    """
    if level not in ("nominal", "interval"):
        raise ValueError(f'level must be "nominal" or "interval", got {level!r}')
    counted = [Counter(unit) for unit in units if len(unit) > 1]
    total: Counter = sum(counted, Counter())
    n = total.total()
    expected = _disagreement(total, level) / (n * (n - 1)) if n else 0.0
    if not expected:
        return math.nan
    observed = sum(_disagreement(unit, level) / (unit.total() - 1) for unit in counted) / n
    return 1 - observed / expected


def _disagreement(counts: Counter, level: str) -> float:
    """Σ δ² over all ordered pairs of answers."""
    if level == "nominal":
        return counts.total() ** 2 - sum(count**2 for count in counts.values())
    n = counts.total()
    mean = sum(answer * count for answer, count in counts.items()) / n
    return 2 * n * sum(count * (answer - mean) ** 2 for answer, count in counts.items())


def _kappas(verdicts: Mapping[int, Mapping[str, Any]]) -> Iterable[Kappa]:
    raters = sorted({rater for unit in verdicts.values() for rater in unit})
    for first, second in itertools.combinations(raters, 2):
        common = [unit for unit in verdicts.values() if first in unit and second in unit]
        if common:
            both = [unit[first] for unit in common], [unit[second] for unit in common]
            yield Kappa(first, second, len(common), cohen_kappa(*both))
