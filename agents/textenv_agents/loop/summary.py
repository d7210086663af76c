"""All rounds in one table and one picture."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

from textenv.files import replace_file
from textenv.metrics import Interval
from textenv_agents.loop.folder import LoopFolder

Rounds = Sequence[dict[str, Any]]

_NONE = "–"
_NOTES = """\
True reward: the environment's own, which nothing is trained on. Learned reward: the round's own
reward model, in log odds of being preferred, 0 being the mean of the texts that it learned from;
beside it the rise over the starting policy's texts under the same model. KL: from the starting
policy, in nats a text. Held-out accuracy: how often the reward model agrees with the rater on
prompts that it has not seen. Win rate: against the starting policy's text after the same prompt; a
tie is half a win; it is said by {judge}. Intervals hold 95 %, over texts, not over seeds.
"""
_PRIVACY = """
Differential privacy: a comparison of the first round is learned from in every round, so that for
it all reward models together keep ε = {epsilon:.3f} at δ = {delta:.3g}, the sums of theirs. That
covers models, policies and their texts, and not the files with the ratings: ratings.sqlite,
comparisons.jsonl.
"""


def write_summary(loop: LoopFolder, rounds: Rounds) -> None:
    """Write summary.json, summary.md and loop.png.

    Args:
        loop: The loop's folder.
        rounds: The numbers of the start and of each round that is done.
    """
    env, rater = loop.config.env, loop.config.rater
    title = f"{env}, rated by {rater}"
    replace_file(
        loop.path / "summary.json",
        json.dumps({"env": env, "rater": rater, "rounds": list(rounds)}, indent=1),
    )
    judge = rounds[-1].get("win_rate_by", rater)
    text = f"# {title}\n\n{table(rounds)}\n\n{_NOTES.format(judge=judge)}{_privacy(rounds)}"
    replace_file(loop.path / "summary.md", text)
    replace_file(loop.path / "loop.png", picture(rounds, title))


def table(rounds: Rounds) -> str:
    """One line a round, in Markdown, its columns padded so that it can be read as it is."""
    head = [
        "round", "pairs", "held-out accuracy", "true reward", "learned reward", "its rise",
        "KL", "length", "distinct-2", "win rate",
    ]  # fmt: skip
    lines = [head, *(_line(numbers) for numbers in rounds)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    padded = (
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def picture(rounds: Rounds, title: str) -> bytes:
    """Draw true reward, learned reward and KL over the rounds, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [
        ("true reward", "true_reward", "tab:blue"),
        ("rise of the learned reward, log odds", "learned_rise", "tab:orange"),
        ("KL to the start, nats a text", "kl", "tab:gray"),
    ]
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (label, key, colour) in zip(figure.subplots(1, 3), panels, strict=True):
        shown = [(n["round"], _interval(n, key)) for n in rounds]
        points = [(number, found) for number, found in shown if found is not None]
        numbers = [number for number, _ in points]
        mean, low, high = ([found[i] for _, found in points] for i in range(3))
        axes.fill_between(numbers, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(numbers, mean, color=colour, marker="o")
        axes.set_title(label, fontsize="medium")
        axes.set_xlabel("round")
        axes.set_xticks(
            [n["round"] for n in rounds], ["start", *(str(n["round"]) for n in rounds[1:])]
        )
        axes.margins(x=0.1)
        axes.grid(alpha=0.3)
        if not points:
            axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center")
    figure.suptitle(title)
    data = io.BytesIO()
    # Without the version of matplotlib in it: the same numbers are the same file.
    figure.savefig(data, dpi=120, format="png", metadata={"Software": None})
    return data.getvalue()


def _privacy(rounds: Rounds) -> str:
    """What the reward models together tell of one comparison; "" without epsilon=."""
    spent = [numbers["reward_model"]["privacy"] for numbers in rounds[1:]]
    if not spent or spent[0] is None:
        return ""
    epsilon, delta = (sum(each[name] for each in spent) for name in ("epsilon", "delta"))
    return _PRIVACY.format(epsilon=epsilon, delta=delta)


def _line(numbers: dict[str, Any]) -> list[str]:
    accuracy = numbers.get("reward_model", {}).get("accuracy")
    return [
        str(numbers["round"]) if numbers["round"] else "start",
        str(numbers.get("pairs", _NONE)),
        _shown(None if accuracy is None else Interval(**accuracy)),
        *(_shown(_interval(numbers, key)) for key in ("true_reward", "learned_reward")),
        _shown(_interval(numbers, "learned_rise") if numbers["round"] else None),
        _shown(_interval(numbers, "kl")),
        f"{numbers['length']:.1f}",
        f"{numbers['distinct_2']:.3f}",
        _shown(_interval(numbers, "win_rate")),
    ]


def _interval(numbers: dict[str, Any], key: str) -> Interval | None:
    """A number of a round; the starting policy's rise over itself is 0; None: it is not known."""
    if key == "learned_rise" and numbers["round"] == 0:
        return Interval(0.0, 0.0, 0.0)
    found = numbers.get(key)
    return None if found is None else Interval(*found)


def _shown(interval: Interval | None) -> str:
    return _NONE if interval is None else str(interval)
