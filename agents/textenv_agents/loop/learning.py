"""The two trainings of a round: a reward model from all comparisons, then the policy on it."""

from __future__ import annotations

import shutil
from dataclasses import replace

from textenv.models import LanguageModel
from textenv.preferences import Comparison
from textenv.preferences.reward_model import Report, RewardModel, train
from textenv_agents import logs
from textenv_agents.curve import plot_curve
from textenv_agents.loop.config import LoopConfig
from textenv_agents.loop.folder import LoopError, RoundFolder
from textenv_agents.loop.world import World
from textenv_agents.policy_gradient import PolicyGradient
from textenv_agents.run_folder import BAD_STEPS, CHECKPOINTS, RunFolder
from textenv_agents.train import learn
from textenv_agents.train_config import TrainConfig


def train_reward_model(
    config: LoopConfig, folder: RoundFolder, comparisons: list[Comparison]
) -> Report:
    """Train it on all comparisons so far, and write its folder, whole or not at all.

    Returns:
        How good it is.

    Raises:
        LoopError: there are too few comparisons to hold some out.
    """
    settings = replace(config.reward_model, seed=config.seed_of(folder.number, "reward model"))
    try:
        trained = train(comparisons, settings)
    except ValueError as error:
        raise LoopError(
            f"no reward model can be trained on the {len(comparisons)} comparisons of "
            f"{str(folder.comparisons)!r}: {error}"
        ) from error
    trained.model.save_pretrained(folder.reward_model)
    return trained.report


def train_policy(
    config: LoopConfig,
    world: World,
    folder: RoundFolder,
    policy: LanguageModel,
    *,
    progress_bar: bool,
) -> None:
    """Train on the learned reward, from the last checkpoint if there is one.

    As `textenv train` does it, but for the reference, which is the starting policy whatever the
    training begins from.

    Args:
        config: The loop's.
        world: Its environments.
        folder: The round's, with its reward model.
        policy: What the training begins from; it is changed.
        progress_bar: Show one.
    """
    settings = replace(config.agent, seed=config.seed_of(folder.number, "agent"))
    agent = PolicyGradient(
        policy,
        world.learning(RewardModel.from_pretrained(folder.reward_model.resolve())),
        settings,
        inspect_folder=folder.policy / BAD_STEPS,
    )
    if settings.lora_rank is None:  # else it is the same model without its adapter
        agent.reference = world.start
    # Without a config.json: `textenv train --resume` would go on with the environment's own reward.
    run = RunFolder(
        folder.policy,
        TrainConfig(
            env=config.env,
            lm=config.lm,
            device=config.device if config.lm else "cpu",
            tokens=config.tokens,
            folder=folder.policy,
            checkpoint_every=config.checkpoint_every,
            agent=settings,
        ),
    )
    run.restore(agent)
    if not run.checkpoints():
        agent.env.reset(seed=settings.seed)
        run.save(agent)
    learn(run, agent, progress_bar=progress_bar)
    plot_curve(run.path / logs.CSV, run.path / "curve.png", f"{config.env}, {folder.writer}")
    agent.save(run.path / "checkpoint")
    agent.env.close()
    shutil.rmtree(run.path / CHECKPOINTS)  # nobody goes on from there any more
