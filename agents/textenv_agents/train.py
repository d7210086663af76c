"""`textenv train`: one training run, the folder that it leaves behind, and going on with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from textenv.files import replace_file
from textenv.models import load
from textenv_agents import logs
from textenv_agents.curve import plot_curve
from textenv_agents.evaluation import Evaluation, evaluate
from textenv_agents.policy_gradient import PolicyGradient
from textenv_agents.run_folder import BAD_STEPS, CONFIG, RunFolder
from textenv_agents.train_config import TrainConfig

__all__ = ["Run", "TrainConfig", "comparison", "learn", "resume", "train"]


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
    """Train, and write the run folder: `run_folder` says what is in it.

    Args:
        config: The run.
        progress_bar: Show one.
        before_training: Called with what the untrained policy is worth.

    Raises:
        FileExistsError: the folder is there and not empty.
    """
    folder = config.folder or Path("runs") / _name(config)
    if folder.exists() and any(folder.iterdir()):
        begun = (folder / CONFIG).exists()
        raise FileExistsError(
            f"the run folder {str(folder)!r} is not empty: choose another by --folder"
            + (f", or go on with that run by textenv train --resume {folder}" if begun else "")
        )
    if config.lm is not None and Path(config.lm).exists():  # found from everywhere
        config = replace(config, lm=str(Path(config.lm).resolve()))
    agent = _agent(config, folder)
    run = RunFolder.create(folder, config)
    with run.locked():
        return _go(run, agent, progress_bar, before_training)


def resume(
    folder: str | Path,
    *,
    progress_bar: bool = True,
    before_training: Callable[[Evaluation], Any] | None = None,
) -> Run:
    """Go on with an interrupted run, with its own settings, from its last checkpoint.

    On the same machine, with the same versions and number of threads, the weights at the end are
    bit for bit those of a run that was never interrupted; elsewhere a warning says what differs.
    On a GPU that holds as far as torch's kernels repeat themselves
    (`torch.use_deterministic_algorithms`).

    Args:
        folder: The run's.
        progress_bar: As for `train`.
        before_training: As for `train`.

    Raises:
        RunError: the folder holds no run, or a finished one (`RunFinishedError`).
        CheckpointError: the settings or the model are no longer those of the run.
    """
    run = RunFolder.open(Path(folder))
    agent = _agent(run.config, run.path)
    with run.locked():
        run.restore(agent)
        return _go(run, agent, progress_bar, before_training)


def _agent(config: TrainConfig, folder: Path) -> PolicyGradient:
    """Make the agent as it is before its first iteration."""
    policy = None if config.lm is None else load(config.lm, device=config.device)
    return PolicyGradient(policy, config.env, config.agent, inspect_folder=folder / BAD_STEPS)


def _go(
    run: RunFolder,
    agent: PolicyGradient,
    progress_bar: bool,
    before_training: Callable[[Evaluation], Any] | None,
) -> Run:
    """Do what is left of a run."""
    config = run.config
    before = run.before()
    if before is None or not run.checkpoints():
        agent.env.reset(seed=agent.config.seed)
        before = _evaluate(config, agent)
        run.write_before(before)
        run.save(agent)
    if before_training is not None:
        before_training(before)
    learn(run, agent, progress_bar=progress_bar)
    after = _evaluate(config, agent)
    agent.save(run.path / "checkpoint")
    replace_file(run.path / "samples.txt", _samples(before, after))
    plot_curve(run.path / logs.CSV, run.path / "curve.png", config.env)
    run.finish(before, after)
    return Run(run.path, before, after)


def learn(run: RunFolder, agent: PolicyGradient, *, progress_bar: bool) -> None:
    """Write what is left of a run's tokens, with logs, and a checkpoint every so often.

    Args:
        run: The run.
        agent: Where the run's first or last checkpoint has it.
        progress_bar: Show one.
    """
    config = run.config
    for model in (agent.policy, agent.reference):
        model.forget()  # what was read before: the first iteration begins as it would resumed

    def save(agent: PolicyGradient, _: dict[str, float]) -> None:
        if agent.updates % config.checkpoint_every == 0:
            run.save(agent)

    agent.logger = logs.open_logger(run.path)
    try:
        agent.learn(
            config.tokens, progress_bar=progress_bar, callback=save, resume=agent.updates > 0
        )
    finally:
        agent.logger.close()


def _evaluate(config: TrainConfig, agent: PolicyGradient) -> Evaluation:
    """What the policy is worth, sampled as in training; the environment's model is not named."""
    model: dict[str, Any] = {} if config.lm is None else {"lm": config.lm}
    return evaluate(
        agent.policy,
        config.env,
        reference=agent.reference,
        texts=config.texts,
        sampling=config.agent.sampling,
        **model,
    )


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


def _name(config: TrainConfig) -> str:
    return f"{config.env.split('/')[-1]}-seed-{config.agent.seed}"


def _samples(before: Evaluation, after: Evaluation, number: int = 20) -> str:
    parts = []
    for title, evaluation in [("Before", before), ("After", after)]:
        parts.append(f"# {title}: mean reward {evaluation.reward}\n")
        for prompt, text, reward in evaluation.texts[:number]:
            parts.append(f"{reward:+.3f}  {prompt} | {text}".replace("\n", "⏎"))
        parts.append("")
    return "\n".join(parts)
