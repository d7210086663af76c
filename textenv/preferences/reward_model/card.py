"""The card of a reward model: README.md in its folder."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textenv.preferences.reward_model.model import RewardModel

CARD = """---
library_name: textenv
tags: [reward-model]
---
# {name}

A reward model: {heads} on the features `{features}`, trained on {date} by {loss}.

{table}

{notes}
Raw scores are score · {deviation:.6g} + {mean:.6g}.
{calibration}
```python
from textenv.preferences.reward_model import RewardModel
model = RewardModel.from_pretrained(folder)
model([prompt], [text])                 # or reward={{"name": "reward_model", "folder": folder}}
```

It was made for the base `{base}` with the digest `{digest}`, and refuses another. Settings:
`{settings}`
"""

CALIBRATION = """
| {said} | {seen} | rows |
|---|---|---|
{rows}
"""

NOTES = """\
The measures have 95 % bootstrap intervals. The validation rows chose the epoch, so figures on rows
that nobody has looked at are a little worse. Scores are shifted and divided to mean 0 and deviation
1 over the texts of the training.
"""

PRIVACY = """\
**Differential privacy.** ε = {epsilon:.3f} at δ = {delta:.3g}, for one row (one comparison or one
rating, added or taken away; several rows of one person are not protected together): {steps} steps
of DP-SGD, Poisson sampling at a rate of {sample_rate:.4g}, gradients cut to {clip:g}, noise of
{noise_multiplier:.3f} times that, counted by Rényi differential privacy. The number of rows counts
as known. Measures, where there are any, and the shift and division of the scores come from rows
that were handed over as public, or were not done: ε covers everything in this folder.
"""

LOSSES = {
    "comparisons": "the Bradley–Terry loss on comparisons",
    "ratings": "squared error on ratings",
}
SAID = {
    "comparisons": ("said: preferred with", "seen"),
    "ratings": ("said: rated", "seen"),
}


def card(model: RewardModel, name: str) -> str:
    """Say what a model is, what it was trained on and how good it is.

    Args:
        model: The model.
        name: Of its folder.
    """
    report, count = model.report, len(model.heads)
    calibration = ""
    if report.calibration is not None:
        rows = "\n".join(f"| {b.predicted:.3f} | {b.observed:.3f} | {b.rows:,} |"
                         for b in report.calibration.bins)  # fmt: skip
        said, seen = SAID[report.kind]
        calibration = CALIBRATION.format(said=said, seen=seen, rows=rows)
    notes = PRIVACY.format(**report.privacy._asdict()) if report.privacy is not None else NOTES
    return CARD.format(
        name=name,
        heads="one head" if count == 1 else f"the mean of {count} heads",
        features=model.features.name,
        date=datetime.date.today().isoformat(),
        loss=LOSSES[report.kind],
        table=report.table(),
        mean=model.mean,
        deviation=model.deviation,
        calibration=calibration,
        notes=notes,
        base=model.features.base["name"],
        digest=model.features.base["digest"],
        settings=json.dumps(model.config, ensure_ascii=False),
    )
