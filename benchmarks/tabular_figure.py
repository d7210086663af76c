"""The picture of `python -m benchmarks tabular`: learning curves against the exact values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from textenv.metrics import mean_interval

MEASURES = ("max |Q − Q*|", "J* − J(greedy)")
FLOOR = 1e-4  # 0 has no place on a logarithmic axis: what is less is drawn here


def draw(
    runs: Mapping[str, Mapping[str, npt.NDArray[np.float64]]],
    episodes: Sequence[int],
    picture: Path,
) -> None:
    """Draw both measures over the texts written, a column for each task.

    Lines are means over seeds, bands their 95 % bootstrap intervals.

    Args:
        runs: By task and method, [seeds, looks, measures].
        episodes: After how many texts each look was.
        picture: The PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(runs), 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(MEASURES), len(runs), sharex=True, sharey="row", squeeze=False)
    for column, (task, methods) in enumerate(runs.items()):
        for row, measure in enumerate(MEASURES):
            panel = panels[row, column]
            for number, (method, found) in enumerate(methods.items()):
                _line(panel, episodes, np.maximum(found[:, :, row].T, FLOOR), f"C{number}", method)
            panel.set_xscale("log")
            panel.grid(alpha=0.25)
            panels[row, 0].set_ylabel(measure)
        panels[0, column].set_title(task)
        panels[-1, column].set_xlabel("texts written")
    panels[0, 0].set_yscale("log")  # for all of the row, now that every line is there
    panels[0, 0].set_ylim(bottom=FLOOR / 2)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    seeds = len(next(iter(next(iter(runs.values())).values())))
    figure.suptitle(f"Tables against exact values, {seeds} seeds (below {FLOOR:g}: drawn there)")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=120)


def _line(
    panel: Any,
    episodes: Sequence[int],
    looks: npt.NDArray[np.float64],
    color: str,
    label: str,
) -> None:
    intervals = [mean_interval(row) for row in looks]
    low, high = [each.low for each in intervals], [each.high for each in intervals]
    panel.fill_between(episodes, low, high, color=color, alpha=0.15, linewidth=0)
    panel.plot(episodes, [each.mean for each in intervals], color=color, marker="o", markersize=3,
               label=label)  # fmt: skip
