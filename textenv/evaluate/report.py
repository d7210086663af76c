"""A report: each number with its interval, of one policy or of two beside each other; as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from textenv.errors import TextenvError
from textenv.layout import cell_width
from textenv.metrics import Interval
from textenv.preferences import Verdict

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measure.

    Attributes:
        name: Its name, such as "reward" or "distinct_2".
        meaning: In words.
        number: How many texts (or right texts) it is taken over.
        policy: Of the policy.
        against: Of the other policy; None: there is none, or it is of both at once.
        difference: The policy's less the other's, paired by prompt and seed.
    """

    name: str
    meaning: str
    number: int
    policy: Interval
    against: Interval | None = None
    difference: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class SampleText:
    """One text.

    Attributes:
        text: What was written.
        reward: What it was paid; None: its reward failed.
        parts: What each term of a sum paid, weighted.
        flag: Why the content filter flags it; None: it does not.
    """

    text: str
    reward: float | None
    parts: Mapping[str, float] = field(default_factory=dict)
    flag: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the policy, and the other one, wrote after the same prompt with the same draws.

    Attributes:
        prompt: The prompt.
        policy: The policy's text.
        against: The other's.
        verdict: The rater's, of the policy's text beside the other's.
        references: The right texts, if there are some.
    """

    prompt: str
    policy: SampleText
    against: SampleText | None = None
    verdict: Verdict | None = None
    references: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a policy is worth in an environment.

    Attributes:
        env: The environment's id.
        policy: The policy's name.
        against: The other policy's name; None: there is none.
        rater: Who compared their texts; None: nobody.
        reference: The name of the model that KL and perplexity are measured by.
        settings: How the texts were drawn: texts, per_prompt, seed, sampling, …
        rows: The measures.
        verdicts: How often the rater said "better", "worse" and "tie" of the policy's text.
        samples: The texts, in the order in which they were drawn.
    """

    env: str
    policy: str
    reference: str
    settings: Mapping[str, Any]
    rows: Sequence[Row]
    against: str | None = None
    rater: str | None = None
    verdicts: Mapping[str, int] = field(default_factory=dict)
    samples: Sequence[Sample] = ()

    def __getitem__(self, name: str) -> Row:
        """The measure of a name.

        Raises:
            KeyError: there is none of that name.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no measure {name!r} here, only {[row.name for row in self.rows]}")

    def to_json(self) -> dict[str, Any]:
        """Everything, for JSON; numbers that are not finite become "inf", "-inf" and "nan"."""
        return {"version": VERSION, **_plain(asdict(self))}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            TextenvError: it is of another version, or no report.
        """
        given = dict(fields)
        version = given.pop("version", None)
        if version != VERSION:
            raise TextenvError(f"expected a report of version {VERSION}, got version {version!r}")
        try:
            rows = tuple(_row(row) for row in given.pop("rows"))
            samples = tuple(_sample(sample) for sample in given.pop("samples"))
            return cls(**given, rows=rows, samples=samples)
        except (KeyError, TypeError, ValueError) as error:
            raise TextenvError(f"this is no whole report: {error}") from error

    def dumps(self) -> str:
        """The JSON as text."""
        return json.dumps(self.to_json(), ensure_ascii=False, indent=1, allow_nan=False)

    def table(self) -> str:
        """The measures as an aligned table for the terminal."""
        heads = ["", shortened(self.policy)]
        if self.against is not None:
            heads += [shortened(self.against), "difference"]
        lines = [[row.name, *map(_shown, _cells(row, len(heads) - 1)), f"{row.number:,}"]
                 for row in self.rows]  # fmt: skip
        names = self.policy if self.against is None else f"{self.policy} against {self.against}"
        title = f"{self.env}: {names}"
        return "\n".join([title, *self.notes(), "", *_aligned([[*heads, "n"], *lines])])

    def notes(self) -> list[str]:
        """How many texts, what the intervals are of, and what the rater said."""
        settings = self.settings
        drawn = f"{settings['texts']:,} texts, seed {settings['seed']}"
        units = "texts" if settings["per_prompt"] == 1 else "draws of a prompt"
        lines = [
            f"{drawn}; reference: {self.reference}",
            f"95 % intervals over {units}"
            + ("" if self.against is None else "; differences are paired by prompt and seed"),
        ]
        if self.rater is not None:
            said = ", ".join(f"{self.verdicts[name]:,} {name}" for name in self.verdicts)
            lines.append(f"rater {self.rater}, of the first policy's texts: {said}")
        return lines


def shortened(name: str, width: int = 28) -> str:
    """Keep the end of a long name, where folders differ.

    >>> shortened("runs/sentiment/seed-3/checkpoint", 20)
    '…t/seed-3/checkpoint'
    """
    return name if len(name) <= width else "…" + name[1 - width :]


def _cells(row: Row, count: int) -> list[Interval | None]:
    return [row.policy, row.against, row.difference][:count]


def _shown(interval: Interval | None) -> str:
    return "" if interval is None else str(interval)


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(cell_width(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = []
    for first, *others in lines:
        row = first + " " * (widths[0] - cell_width(first))
        for text, width in zip(others, widths[1:], strict=True):
            row += "   " + " " * (width - cell_width(text)) + text
        rows.append(row)
    return rows


def _plain(value: Any) -> Any:
    """Replace what strict JSON lacks."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _interval(given: Sequence[Any] | None) -> Interval | None:
    return None if given is None else Interval(*map(float, given))


def _row(given: Mapping[str, Any]) -> Row:
    names = ("policy", "against", "difference")
    return Row(**{**given, **{name: _interval(given[name]) for name in names}})


def _sample(given: Mapping[str, Any]) -> Sample:
    texts = {
        name: None if given[name] is None else SampleText(**given[name])
        for name in ("policy", "against")
    }
    return Sample(**{**given, **texts, "references": tuple(given["references"])})
