"""`textenv train`: one training run and the folder that it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from stable_baselines3.common.logger import configure

from textenv_agents.config import PolicyGradientConfig
from textenv_agents.curve import plot_curve
from textenv_agents.evaluation import Evaluation, evaluate
from textenv_agents.policy_gradient import PolicyGradient


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    env: tyro.conf.Positional[str]
    """The environment's id, such as textenv/Sentiment-v0."""
    lm: str | None = None
    """A language model's name or folder; None: the environment's own starting policy."""
    tokens: int = 100_000
    """How many tokens the policy writes in all."""
    folder: Path | None = None
    """The run folder; None: runs/NAME-seed-S. It must not exist yet, or be empty."""
    texts: int = 1000
    """How many fresh texts are written before and after, to measure what changed."""
    agent: PolicyGradientConfig = field(default_factory=PolicyGradientConfig)
    """The agent's settings."""


class Run(NamedTuple):
    """What a run left behind: its folder, and what the policy was worth before and after."""

    folder: Path
    before: Evaluation
    after: Evaluation


def train(
    config: TrainConfig,
    *,
    progress_bar: bool = True,
    before_training: Callable[[Evaluation], Any] | None = None,
) -> Run:
    """Train, and write the run folder.

    It holds config.json, progress.csv, TensorBoard's events, checkpoint/ (`PolicyGradient.load`),
    curve.png, samples.txt and evaluation.json.

    Args:
        config: The run.
        progress_bar: Show one.
        before_training: Called with what the untrained policy is worth.

    Raises:
        FileExistsError: the folder is there and not empty.
    """
    folder = config.folder or Path("runs") / _name(config)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f"the run folder {str(folder)!r} is not empty: choose another by --folder"
        )
    agent = PolicyGradient(config.lm, config.env, config.agent)
    folder.mkdir(parents=True, exist_ok=True)
    written = json.dumps(asdict(config), indent=1, default=str)
    (folder / "config.json").write_text(written, "utf-8")
    agent.logger = configure(str(folder), ["csv", "tensorboard"])
    keywords: dict[str, Any] = {"reference": agent.reference, "texts": config.texts}
    before = evaluate(agent.policy, config.env, **keywords, **_model(config, agent))
    if before_training is not None:
        before_training(before)
    agent.learn(config.tokens, progress_bar=progress_bar)
    agent.logger.close()
    after = evaluate(agent.policy, config.env, **keywords, **_model(config, agent))
    agent.save(folder / "checkpoint")
    summary = {"before": before.summary(), "after": after.summary()}
    (folder / "evaluation.json").write_text(json.dumps(summary, indent=1), "utf-8")
    (folder / "samples.txt").write_text(_samples(before, after), "utf-8")
    plot_curve(folder / "progress.csv", folder / "curve.png", config.env)
    return Run(folder, before, after)


def comparison(before: Evaluation, after: Evaluation) -> str:
    """What changed, as a table of five lines."""
    lines = [f"{'':22}{'before':>24}{'after':>24}"]
    for name, first, second in [
        ("mean reward", before.reward, after.reward),
        ("KL to the start, nats", before.kl, after.kl),
    ]:
        lines.append(f"{name:22}{first!s:>24}{second!s:>24}")
    for name in ("length", "distinct_2", "perplexity"):
        label = name.replace("_", "-") + (" at the start" if name == "perplexity" else "")
        numbers = f"{getattr(before, name):24.3f}{getattr(after, name):24.3f}"
        lines.append(f"{label:22}{numbers}")
    return "\n".join(lines)


def _model(config: TrainConfig, agent: PolicyGradient) -> dict[str, Any]:
    """The environment's own model is not named again."""
    return {} if config.lm is None else {"lm": config.lm}


def _name(config: TrainConfig) -> str:
    return f"{config.env.split('/')[-1]}-seed-{config.agent.seed}"


def _samples(before: Evaluation, after: Evaluation, number: int = 20) -> str:
    parts = []
    for title, evaluation in [("Before", before), ("After", after)]:
        parts.append(f"# {title}: mean reward {evaluation.reward}\n")
        for prompt, text, reward in evaluation.texts[:number]:
            parts.append(f"{reward:+.3f}  {prompt} | {text}")
        parts.append("")
    return "\n".join(parts)
