"""Reading Minari datasets of texts, for the task that they were recorded on and no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from textenv import mdp
from textenv.errors import TextenvError
from textenv.logged.fingerprint import check_fingerprint, fingerprint
from textenv.logged.minari_place import (
    KEY,
    LOG_PROB,
    check_dataset_id,
    check_spaces,
    datasets_in,
    get_minari,
    task_of,
)
from textenv.logged.texts import LoggedTexts
from textenv.prefixes import Prefixes
from textenv.task import Task


def load_minari(
    dataset: Any,
    task: Task | gym.Env | gym.vector.VectorEnv | str | None = None,
    *,
    folder: str | Path | None = None,
) -> LoggedTexts:
    """Read a Minari dataset of texts, ours or one that Minari's own `DataCollector` recorded.

    The rewards are those that were recorded, whatever reward the task or environment has.

    Args:
        dataset: A `minari.MinariDataset` or its id.
        task: What the texts are read for: a task, an environment or its id; None: the dataset's
            own environment, which is made again. A task has no version: of it only what the ids
            mean and where texts end must be the same.
        folder: As for `save_minari`; only for an id.

    Raises:
        ValueError: the dataset was recorded on another environment or version of it, another
            vocabulary or other limits; its observations or actions are no tokens; or an episode is
            no text of the task. The error names the episode.
        TextenvError: there is no such dataset, it is damaged, or its environment cannot be made
            again.
        MissingExtraError: minari or h5py is not installed.
    """
    found = _found(dataset, folder)
    where = f"the dataset {found.id!r}"
    made = _wanted(found, task, where)
    check_spaces(found.observation_space, found.action_space, made, where)
    rules = made.rules
    number = found.total_episodes
    tokens = np.full((number, rules.width), rules.nothing, dtype=np.int64)
    rewards, log_probs = np.zeros((2, number, rules.max_tokens))
    terminated = np.zeros(number, dtype=np.bool_)
    known = number > 0
    for row, episode in enumerate(_episodes(found, where)):
        tokens[row] = _text_of(episode, rules, f"{where}, episode {episode.id}")
        steps = len(episode.rewards)
        rewards[row, :steps] = episode.rewards
        terminated[row] = episode.terminations[-1]
        known = known and LOG_PROB in (episode.infos or {})
        if known:
            log_probs[row, :steps] = episode.infos[LOG_PROB][1:]
    prefixes = Prefixes.from_observations(tokens, rules.prompt_length, rules.nothing)
    try:
        texts = LoggedTexts(prefixes, rewards, terminated, log_probs if known else None)
        return texts.check(made)
    except ValueError as error:
        raise ValueError(f"{where} holds what is no text of {made.name}: {error}") from error


def _episodes(found: Any, where: str) -> Iterator[Any]:
    """A dataset's episodes, one after the other."""
    try:
        yield from found.iterate_episodes()
    except Exception as error:  # whatever a damaged file makes h5py raise
        raise TextenvError(f"{where} is damaged: {error}") from error


def _text_of(episode: Any, rules: mdp.Rules, where: str) -> npt.NDArray[np.int64]:
    """The last observation's tokens [P + T], if the episode is a text written token by token."""
    seen = episode.observations
    seen = np.asarray(seen["observation"] if isinstance(seen, dict) else seen)
    start, steps, limit = rules.prompt_length, len(episode.rewards), rules.max_tokens
    if len(seen) != steps + 1 or len(episode.actions) != steps or not 1 <= steps <= limit:
        raise ValueError(
            f"{where}: expected 1 ≤ n ≤ {limit} actions and rewards and n + 1 observations, "
            f"got {len(episode.actions)}, {steps} and {len(seen)}"
        )
    given = int((seen[0, start:] != rules.nothing).sum())
    if given:
        raise ValueError(
            f"{where}: it begins with {given} written tokens that nobody chose (a prefix given to "
            "reset), and logged texts begin with the prompt alone: leave such episodes out by "
            "dataset.filter_episodes"
        )
    whole = seen[-1]
    expected = np.where(
        np.arange(rules.width) < start + np.arange(steps + 1)[:, None], whole, rules.nothing
    )
    wrong = (seen != expected).any(axis=1)
    if wrong.any():
        step = int(wrong.argmax())
        raise ValueError(
            f"{where}, observation {step}: expected what was there before and the token that was "
            f"written, {expected[step].tolist()}, got {seen[step].tolist()}"
        )
    written = whole[start : start + steps]
    wrong = episode.actions != written
    if wrong.any():
        step = int(wrong.argmax())
        raise ValueError(
            f"{where}, action {step}: expected the token that the observation behind it shows, "
            f"{written[step]}, got {episode.actions[step]}"
        )
    early = np.flatnonzero((episode.terminations | episode.truncations)[:-1])
    if len(early):
        raise ValueError(f"{where}: it goes on behind step {early[0]}, where it ended")
    return whole


def _wanted(found: Any, task: Any, where: str) -> Task:
    """The task that a dataset is read for, if it is the one that it was recorded on."""
    remembered = found.storage.metadata.get(KEY)
    spec = found.env_spec
    if isinstance(task, str):
        task = gym.make(task)
    if task is None:
        made = task_of(_recovered(found, where))
    elif isinstance(task, Task):
        made = task
    elif not isinstance(task, gym.Env | gym.vector.VectorEnv):
        raise ValueError(f"expected a task, an environment or its id, got {task!r}")
    else:
        made = task_of(task)
        if task.spec is None:
            raise ValueError(
                f"{where} can be read for environments made by gym.make, which have an id and a "
                f"version: {task} has none; hand in its task, env.unwrapped.task"
            )
        recorded, asked = spec and spec.id, task.spec.id
        if recorded != asked:
            raise ValueError(
                f"{where} was recorded on {recorded}, not on {asked}: an environment that behaves "
                "differently has another id or version. Read it for the environment that it was "
                "recorded on, or record again"
            )
    if remembered is None:  # Minari's own collector recorded it
        remembered = fingerprint(task_of(_recovered(found, where)))
    check_fingerprint(remembered, made, where)
    return made


def _recovered(found: Any, where: str) -> gym.Env:
    if found.env_spec is None:
        raise ValueError(
            f"{where} does not say what its token ids mean: it holds neither an environment's "
            "spec nor what save_minari remembers"
        )
    try:
        if found.env_spec.namespace == "textenv":  # its entry point alone would make any version
            gym.spec(found.env_spec.id)
        return found.recover_environment()
    except (gym.error.Error, TextenvError, OSError, ValueError, TypeError) as error:
        raise TextenvError(
            f"{where} was recorded on {found.env_spec.id}, which cannot be made again here: {error}"
        ) from error


def _found(dataset: Any, folder: str | Path | None) -> Any:
    minari = get_minari()
    if isinstance(dataset, minari.MinariDataset):
        return dataset
    if not isinstance(dataset, str):
        raise ValueError(f"expected a minari.MinariDataset or the id of one, got {dataset!r}")
    check_dataset_id(dataset)
    if folder is not None and not Path(folder).is_dir():  # Minari would make it
        raise TextenvError(f"there is no dataset {dataset!r}: {str(folder)!r} is no folder")
    with datasets_in(folder):
        path = minari.storage.get_dataset_path(dataset)
        if not (path / "data").exists():
            raise TextenvError(f"there is no dataset {dataset!r} in {str(path)!r}")
        try:
            return minari.load_dataset(dataset)
        except (OSError, ValueError, KeyError) as error:
            raise TextenvError(f"the dataset {dataset!r} cannot be read: {error}") from error
