"""What training a reward model came to, for people, JSON and the model's card."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from textenv.metrics import Interval
from textenv.preferences.reward_model.measures import Calibration, to_json
from textenv.preferences.reward_model.private import Privacy

Kind = Literal["comparisons", "ratings"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures of one training. Measures are those of the validation rows, None without them.

    Attributes:
        kind: "comparisons" or "ratings".
        n_train: Rows that it learned from.
        n_validation: Rows set aside: they choose the epoch, so the figures flatter a little.
        n_left_out: Comparisons with one text on each side, used by neither.
        epochs: Of each head, until its best.
        accuracy: Of comparisons that are no ties.
        calibration: Of the probabilities; for ratings, of the predicted ratings.
        correlation: With the ratings.
        disagreement: The mean deviation among the heads, in deviations of the score.
        privacy: What was promised, None without epsilon=.
    """

    kind: Kind
    n_train: int
    n_validation: int
    n_left_out: int
    epochs: tuple[int, ...]
    accuracy: Interval | None = None
    calibration: Calibration | None = None
    correlation: Interval | None = None
    disagreement: float | None = None
    privacy: Privacy | None = None

    @property
    def epsilon(self) -> float | None:
        """The ε that was spent."""
        return None if self.privacy is None else self.privacy.epsilon

    def to_json(self) -> dict[str, Any]:
        """Return everything as dicts, lists and numbers."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**{name: to_json(value) for name, value in values.items()}, "epsilon": self.epsilon}

    def table(self) -> str:
        """Return the figures as a Markdown table."""
        others = (
            "that share no prompt (or text) with them" if self.privacy is None else "public ones"
        )
        rows = [
            ("Learned from", f"{self.n_train:,} {self.kind}"),
            ("Measured on", f"{self.n_validation:,} {others}" if self.n_validation else None),
            ("Left out", f"{self.n_left_out:,}" if self.n_left_out else None),
            ("Accuracy", self.accuracy),
            ("Correlation", self.correlation),
            ("Expected calibration error", self.calibration and self.calibration.error),
            ("Disagreement of the heads", self.disagreement and f"{self.disagreement:.3f}"),
            ("Epochs", ", ".join(map(str, self.epochs))),
        ]
        lines = [f"| {name} | {value} |" for name, value in rows if value is not None]
        return "\n".join(["| | |", "|---|---|", *lines])
