"""The learning curve as a picture."""

from __future__ import annotations

import csv
from pathlib import Path


def plot_curve(progress: Path, picture: Path, title: str) -> None:
    """Draw reward and KL over the tokens written.

    Args:
        progress: The `progress.csv` that SB3's logger wrote.
        picture: The PNG to write.
        title: Above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with progress.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    tokens = [float(row["time/tokens"]) for row in rows]
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    reward = [float(row["rollout/reward"]) for row in rows]
    axes.plot(tokens, reward, color="tab:blue", alpha=0.3, linewidth=1)
    lines = axes.plot(tokens, _smoothed(reward), color="tab:blue", label="reward (moving mean)")
    axes.set_xlabel("tokens written")
    axes.set_ylabel("mean reward of a batch")
    axes.grid(alpha=0.3)
    kl = [float(row.get("rollout/kl") or 0) for row in rows]  # none where no step was taken
    if any(kl):
        right = axes.twinx()
        lines += right.plot(
            tokens, _smoothed(kl), color="tab:orange", linestyle="--", label="KL to the start"
        )
        right.set_ylabel("mean KL of a batch, nats a text")
        right.set_ylim(bottom=0)
    axes.legend(handles=lines, loc="lower right")
    axes.set_title(title)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=120)


def _smoothed(values: list[float], window: int = 10) -> list[float]:
    """The mean of the last `window` values."""
    parts = [values[max(0, i + 1 - window) : i + 1] for i in range(len(values))]
    return [sum(part) / len(part) for part in parts]
