"""Two policies beside each other, text by text; and one alone: the rows and samples of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from textenv.evaluate.measures import measures_of
from textenv.evaluate.report import Row, Sample, SampleText
from textenv.evaluate.resampling import RESAMPLES, Resampling, mean_of
from textenv.evaluate.written import Written
from textenv.preferences import Rater, Verdict
from textenv.preferences.comparisons import LABELS

Flags = Sequence[str | None]
_TURNED: dict[Verdict, Verdict] = {"better": "worse", "worse": "better", "tie": "tie"}


def compare(rater: Rater, policy: Written, against: Written) -> list[Verdict]:
    """Ask a rater how each text of a policy does beside the other policy's.

    The sides alternate from pair to pair, so that a rater who prefers the first side favours
    nobody. Two equal texts are a tie without asking.

    Args:
        rater: Who compares.
        policy: A policy's texts.
        against: The other's, after the same prompts.

    Raises:
        ValueError: the prompts are others.
    """
    if list(policy.prompts) != list(against.prompts):
        raise ValueError("two policies are compared on the same prompts: these are others")
    verdicts: list[Verdict] = ["tie"] * len(policy.texts)
    pairs = zip(policy.texts, against.texts, strict=True)
    asked = [index for index, (ours, theirs) in enumerate(pairs) if ours != theirs]
    if not asked:
        return verdicts
    turned = [bool(place % 2) for place in range(len(asked))]
    sides = [
        (against.texts[i], policy.texts[i]) if turn else (policy.texts[i], against.texts[i])
        for i, turn in zip(asked, turned, strict=True)
    ]
    columns = {name: [values[i] for i in asked] for name, values in policy.columns.items()}
    said = rater.compare(
        [policy.prompts[i] for i in asked],
        [first for first, _ in sides],
        [second for _, second in sides],
        **columns,
    )
    for index, verdict, turn in zip(asked, said, turned, strict=True):
        verdicts[index] = _TURNED[verdict] if turn else verdict
    return verdicts


def rows_of(
    policy: Written,
    against: Written | None = None,
    *,
    asked: Sequence[str] | None = None,
    verdicts: Sequence[Verdict] | None = None,
    flags: tuple[Flags, Flags | None] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Row, ...]:
    """Measure one policy, or two with their paired differences.

    The bootstrap draws units again: see `resampling`. Of a difference both policies are drawn
    again by the same units.

    Args:
        policy: A policy's texts.
        against: The other's, drawn with the same prompts and seed.
        asked: The names of the measures that are wished; None: all that apply.
        verdicts: What a rater said of the policy's texts beside the other's.
        flags: What a filter said of both policies' texts.
        resamples: How many bootstrap samples.
        seed: Of their generator.

    Raises:
        TextenvError: a measure is asked for that these texts have nothing for.
        ValueError: too few texts for an interval, or another number of them.
    """
    resampling = Resampling(policy.drawn, resamples=resamples, seed=seed)
    if against is not None and list(policy.drawn) != list(against.drawn):
        raise ValueError(
            f"differences are paired, but one policy has {len(policy.texts)} texts and the other "
            f"{len(against.texts)}, or other draws"
        )
    ours = measures_of(policy, asked=asked, flags=flags and flags[0])
    theirs = against and measures_of(against, asked=asked, flags=flags and flags[1])
    rows = []
    for name, measure in ours.items():
        spread = measure.statistic.spread(resampling)
        other = theirs[name].statistic.spread(resampling) if theirs else None
        rows.append(
            Row(
                name=name,
                meaning=measure.meaning,
                number=measure.number,
                policy=spread.interval(),
                against=None if other is None else other.interval(),
                difference=None if other is None else spread.minus(other).interval(),
            )
        )
    if verdicts is not None and (asked is None or "win_rate" in asked):
        rows.append(_win_rate(verdicts, resampling))
    return tuple(rows)


def counted(verdicts: Sequence[Verdict] | None) -> dict[str, int]:
    """Count what a rater said; {} where nobody was asked.

    >>> counted(["better", "tie", "better"])
    {'better': 2, 'worse': 0, 'tie': 1}
    """
    if verdicts is None:
        return {}
    return {name: list(verdicts).count(name) for name in get_args(Verdict)}


def samples_of(
    policy: Written,
    against: Written | None = None,
    *,
    verdicts: Sequence[Verdict] | None = None,
    flags: tuple[Flags, Flags | None] | None = None,
) -> tuple[Sample, ...]:
    """Put the texts of both policies beside each other; arguments as for `rows_of`."""
    ours = _texts(policy, flags and flags[0])
    theirs = None if against is None else _texts(against, flags and flags[1])
    rights = policy.references
    return tuple(
        Sample(
            prompt=policy.prompts[i],
            policy=ours[i],
            against=None if theirs is None else theirs[i],
            verdict=None if verdicts is None else verdicts[i],
            references=tuple((rights and rights[i]) or ()),
        )
        for i in range(len(ours))
    )


def _win_rate(verdicts: Sequence[Verdict], resampling: Resampling) -> Row:
    labels = mean_of([LABELS[verdict] for verdict in verdicts])
    return Row(
        name="win_rate",
        meaning="wins and half the ties, by the rater",
        number=len(verdicts),
        policy=labels.spread(resampling).interval(),
    )


def _texts(written: Written, flags: Flags | None) -> list[SampleText]:
    counted = written.counted
    return [
        SampleText(
            text=text,
            reward=float(written.rewards[i]) if counted[i] else None,
            parts={name: float(part[i]) for name, part in written.parts.items()},
            flag=None if flags is None else flags[i],
        )
        for i, text in enumerate(written.texts)
    ]
