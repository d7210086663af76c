"""`textenv record`: what any policy writes, as logged texts and as a Minari dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym

from textenv import Task
from textenv.errors import TextenvError
from textenv.logged import LoggedTexts, save_minari
from textenv.logged.fingerprint import fingerprint
from textenv.logged.minari_place import check_free, check_spaces
from textenv.metrics import mean_interval
from textenv.models import LanguageModel
from textenv.models.sampling import Sampling
from textenv_agents.environments import check_id
from textenv_agents.evaluation import drawn, environments
from textenv_agents.policies import (
    START,
    UNIFORM,
    Policy,
    check_same_vocabulary,
    find_policy,
    model_name,
)
from textenv_agents.record_config import RecordConfig
from textenv_agents.reporting import starter
from textenv_agents.rollout import PLAIN, collect

__all__ = ["RecordConfig", "Recorded", "record", "record_dataset"]


class Recorded(NamedTuple):
    """What was recorded, and where it is.

    texts: The texts.
    dataset: The `minari.MinariDataset`.
    left_out: How many more were written, whose reward failed.
    """

    texts: LoggedTexts
    dataset: Any
    left_out: int = 0

    def summary(self) -> str:
        """Say in two lines what they are worth and how to read them."""
        texts, dataset = self.texts, self.dataset
        mean, low, high = mean_interval(texts.returns())
        failed = f"; {self.left_out:,} whose reward failed are left out" if self.left_out else ""
        path = dataset.storage.data_path.parent
        folder = path.parents[dataset.id.count("/")]
        return (
            f"{len(texts):,} texts, {texts.actions:,} tokens in all; average return {mean:.4f} "
            f"[{low:.4f}, {high:.4f}]{failed}\n"
            f"the dataset {dataset.id} is in {path}: "
            f"textenv.logged.load_minari({dataset.id!r}, folder={str(folder)!r})"
        )


def record(
    policy: LanguageModel | str | Path,
    env: str,
    episodes: int = 1000,
    *,
    seed: int = 0,
    sampling: Sampling = PLAIN,
    device: str | None = None,
    **keywords: Any,
) -> LoggedTexts:
    """Let a policy write, and log it; `textenv.logged.save_minari` writes it to a dataset.

    Texts whose reward failed (`reward_fault="skip"`) are left out.

    Args:
        policy: A language model, its name or folder, an agent's checkpoint, a finished run's
            folder, "start" or "uniform".
        env: An environment's id.
        episodes: How many texts.
        seed: Of prompts and tokens.
        sampling: Temperature and cuts; the logged probabilities are of what they leave.
        device: Where a model that is loaded computes.
        **keywords: For the environment.

    Raises:
        TextenvError: there is no such policy, or the reward failed for all texts.
        ValueError: it has another vocabulary than the environment's lm=, or `episodes` < 1.
    """
    model, envs = _prepared(policy, env, episodes, device, keywords)
    return _written(model, envs, episodes, seed, sampling)


def record_dataset(config: RecordConfig) -> Recorded:
    """Let a policy write and save it as a Minari dataset.

    Raises:
        TextenvError: there is no such policy, or the environment cannot be stored.
        ValueError: the dataset's name is none, or taken.
    """
    keywords = config.environment_keywords()
    # What can be wrong with the dataset is said before hours of writing, not behind them.
    check_free(config.name, config.folder)
    model, envs = _prepared(config.policy, config.env, config.episodes, config.device, keywords)
    task = envs.unwrapped.task
    made = _remade(config, task, keywords)
    check_spaces(made.observation_space, made.action_space, task, config.env)
    texts = _written(model, envs, config.episodes, config.seed, config.sampling)
    dataset = save_minari(
        texts, made, config.name, folder=config.folder, algorithm_name=config.policy
    )
    return Recorded(texts, dataset, config.episodes - len(texts))


def _prepared(
    policy: LanguageModel | str | Path,
    env: str,
    episodes: int,
    device: str | None,
    keywords: dict[str, Any],
) -> tuple[LanguageModel, Any]:
    """The model that writes, and the environments where it does, in its vocabulary."""
    if episodes < 1:
        raise ValueError(f"expected episodes ≥ 1, got {episodes}")
    check_id(env, keywords)
    start = starter(env, keywords, device)
    found = find_policy(policy, start, device=device)
    own: dict[str, Any] = {}
    if "lm" in keywords:
        check_same_vocabulary(found, Policy("the environment's lm=", start()))
    elif found.name not in (START, UNIFORM):
        own = {"lm": found.model}
    return found.model, environments(env, episodes, **own, **keywords)


def _written(
    model: LanguageModel, envs: Any, episodes: int, seed: int, sampling: Sampling
) -> LoggedTexts:
    """The texts."""
    task = envs.unwrapped.task
    prompts, uniforms = drawn(task, episodes, seed)
    written = collect(envs, model, prompts, uniforms, sampling=sampling)
    envs.close()
    texts = LoggedTexts.from_episodes(written, task)
    if not len(texts):
        raise nothing_to_log(task, episodes)
    return texts


def nothing_to_log(task: Task, episodes: int) -> TextenvError:
    """The error that the reward failed for all of so many texts."""
    return TextenvError(
        f"the reward {task.reward.name!r} failed for all {episodes} texts, so that there is "
        'nothing to log: reward_fault="raise" says why'
    )


def _remade(config: RecordConfig, task: Task, keywords: dict[str, Any]) -> gym.Env:
    """The environment that is stored with the dataset: with the policy's vocabulary.

    Where the environment has that vocabulary anyway, it does not depend on the policy's folder.
    """
    try:
        made = gym.make(config.env, **keywords)
    except TextenvError:
        if "lm" in keywords:
            raise
    else:
        if fingerprint(made.unwrapped.task) == fingerprint(task):  # type: ignore[attr-defined]
            return made
    return gym.make(config.env, lm=model_name(config.policy), **keywords)
