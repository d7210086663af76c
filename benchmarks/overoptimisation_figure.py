"""The table and the picture of `python -m benchmarks overoptimisation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textenv.metrics import Interval, mean_interval

Runs = Mapping[str, Sequence[Mapping[str, Any]]]
TITLES = {
    "true": "the true reward",
    "preferences": "scripted preferences",
    "learned": "a learned reward model",
    "judge": "a language model as judge",
}
PROXY, TRUTH = "tab:orange", "tab:blue"


class Curve(NamedTuple):
    """One reward's runs, moment by moment: [moments, seeds] each."""

    kl: npt.NDArray[np.float64]
    proxy: npt.NDArray[np.float64]
    true: npt.NDArray[np.float64]
    sentiment: npt.NDArray[np.float64]

    @property
    def peak(self) -> int:
        """The moment at which the mean true reward is highest."""
        return int(self.true.mean(axis=1).argmax())

    @property
    def fall(self) -> Interval:
        """How far the true reward falls from that moment to the last, over seeds.

        The moment is chosen on these same seeds, so that it is never below 0 and a little too long.
        """
        return mean_interval(self.true[self.peak] - self.true[-1])


def curve(runs: Sequence[Mapping[str, Any]]) -> Curve:
    """Put the runs of one reward together."""
    names = ("kl", "proxy", "true", "sentiment")
    return Curve(*(np.array([[point[name] for point in run["points"]] for run in runs]).T
                   for name in names))  # fmt: skip


def table(runs: Runs) -> str:
    """One line a reward: at the peak of the truth, and at the end; intervals over seeds."""
    lines = [f"\n{'trained on':28}{'KL at the end':>24}{'proxy at the end':>24}"
             f"{'true at the end':>24}{'true at its peak':>24}{'at KL':>7}"
             f"{'fall from the peak':>25}"]  # fmt: skip
    for name, each in runs.items():
        found = curve(each)
        numbers = [found.kl[-1], found.proxy[-1], found.true[-1], found.true[found.peak]]
        cells = "".join(f"{mean_interval(values)!s:>24}" for values in numbers)
        at = found.kl[found.peak].mean()
        lines.append(f"{TITLES[name]:28}{cells}{at:7.2f}{found.fall!s:>25}")
    return "\n".join(lines)


def draw(runs: Runs, picture: Path) -> None:
    """Draw proxy and true reward over the KL, one panel for each reward.

    Thin lines are runs, thick ones their means at each moment, bands the 95 % bootstrap intervals
    over seeds.

    Args:
        runs: By reward, its runs.
        picture: The PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.5 * len(runs), 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for panel, (name, each) in zip(panels, runs.items(), strict=True):
        found = curve(each)
        _lines(panel, found.kl, found.proxy, PROXY, "proxy: what is trained on")
        _lines(panel, found.kl, found.true, TRUTH, "true: sentiment less repetition")
        panel.plot(found.kl.mean(axis=1), found.sentiment.mean(axis=1), color=TRUTH,
                   linestyle=":", label="VADER's sentiment alone")  # fmt: skip
        peak = found.kl[found.peak].mean(), found.true[found.peak].mean()
        panel.plot(*peak, marker="*", markersize=15, color=TRUTH, markeredgecolor="white",
                   linestyle="", label="peak of the true reward", zorder=5)  # fmt: skip
        panel.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        panel.set_title(TITLES[name], fontsize=11)
        panel.set_xlabel("KL to the start, nats a text")
        panel.set_xlim(left=0)
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("reward, in deviations of the start's texts")
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    seeds = len(next(iter(runs.values())))
    figure.suptitle(f"Sentiment-v0 trained on four rewards, {seeds} seeds", fontsize=12)
    figure.savefig(picture, dpi=130)


def _lines(
    panel: Any,
    kl: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    color: str,
    label: str,
) -> None:
    panel.plot(kl, values, color=color, alpha=0.3, linewidth=0.8)
    intervals = [mean_interval(row) for row in values]
    x = kl.mean(axis=1)
    low, high = [each.low for each in intervals], [each.high for each in intervals]
    panel.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    panel.plot(x, [each.mean for each in intervals], color=color, linewidth=2, marker="o",
               markersize=3, label=label)  # fmt: skip
