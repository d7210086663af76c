"""Writing logged texts as a Minari dataset, token by token: Gymnasium's format of offline data.

An episode is a text: observations as the environment shows them, n + 1 of them for n actions,
token ids as actions, rewards, and whether it was terminated or truncated. The dataset holds the
environment's spec and remembers what its ids mean, so that it is not read for another task.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import textenv
from textenv.errors import TextenvError
from textenv.files import replaced_folder
from textenv.logged.fingerprint import fingerprint
from textenv.logged.minari_place import (
    KEY,
    LOG_PROB,
    check_dataset_id,
    check_free,
    check_spaces,
    datasets_in,
    get_minari,
    task_of,
)
from textenv.logged.texts import LoggedTexts, check_logged


def save_minari(
    texts: LoggedTexts,
    env: str | gym.Env,
    dataset_id: str,
    *,
    folder: str | Path | None = None,
    algorithm_name: str | None = None,
    author: str | None = None,
    description: str | None = None,
) -> Any:
    """Write texts as a Minari dataset, whole or not at all.

    Args:
        texts: The texts.
        env: The environment that they were written in, or its id: it is stored as its spec, for
            `dataset.recover_environment()`. Its observations must show the tokens.
        dataset_id: Such as "textenv/sentiment/start-v0": groups, a name and a version.
        folder: Where Minari's datasets are; None: the environment variable MINARI_DATASETS_PATH,
            and without that Minari's own place, ~/.minari/datasets.
        algorithm_name: What wrote them.
        author: Who recorded them.
        description: What is to be said of them.

    Returns:
        The `minari.MinariDataset`.

    Raises:
        ValueError: the texts are not of this environment's task, its observations or actions are
            no tokens, the name is none of Minari's, there is such a dataset, or there is no text.
        TypeError: these are no `LoggedTexts`.
        TextenvError: the environment cannot be stored as a spec, or the folder cannot be one.
        MissingExtraError: minari or h5py is not installed.
    """
    check_logged(texts)
    minari = get_minari()
    made: gym.Env = gym.make(env) if isinstance(env, str) else env
    task = task_of(made)
    texts.check(task)
    check_spaces(made.observation_space, made.action_space, task, str(made.spec and made.spec.id))
    spec = _storable(made)
    if not len(texts):
        raise ValueError("there are no texts to save")
    check_free(dataset_id, folder)
    namespace = check_dataset_id(dataset_id)
    said = {"algorithm_name": algorithm_name, "description": description}
    metadata: dict[str, Any] = {
        "dataset_id": dataset_id,
        "minari_version": minari.__version__,
        KEY: {"version": textenv.__version__, "environment": spec.id, **fingerprint(task)},
        **{name: text for name, text in said.items() if text is not None},
        **({} if author is None else {"author": {author}}),
    }
    with datasets_in(folder):
        target = minari.storage.get_dataset_path(dataset_id)
        if namespace is not None and namespace not in minari.namespace.list_local_namespaces():
            minari.namespace.create_namespace(namespace)
        with replaced_folder(target) as temporary:
            storage = minari.dataset.minari_storage.MinariStorage.new(
                temporary / "data",
                observation_space=made.observation_space,
                action_space=made.action_space,
                env_spec=spec,
            )
            storage.update_metadata(metadata)
            storage.update_episodes(_episodes(minari, texts, made))
        return minari.MinariDataset(target / "data")


def _episodes(minari: Any, texts: LoggedTexts, env: gym.Env) -> Iterator[Any]:
    setup: Any = env.unwrapped.setup  # type: ignore[attr-defined]
    prefixes = texts.prefixes
    for row, steps in enumerate(prefixes.written.tolist()):
        seen = texts.before(np.full(steps + 1, row), np.arange(steps + 1))
        over = np.zeros(steps + 1, dtype=np.bool_)
        over[-1] = texts.terminated[row]
        state = seen.state()
        ends = np.arange(1, steps + 1) == steps
        infos = None
        if texts.log_probs is not None:  # infos are n + 1, the first is that of reset
            infos = {LOG_PROB: np.concatenate([[0.0], texts.log_probs[row, :steps]])}
        yield minari.data_collector.EpisodeBuffer(
            id=row,
            observations=setup.look(state, over).observation,
            actions=prefixes.tokens[row, prefixes.start : prefixes.start + steps],
            rewards=texts.rewards[row, :steps],
            terminations=ends & texts.terminated[row],
            truncations=ends & ~texts.terminated[row],
            infos=infos,
        )


def _storable(env: gym.Env) -> Any:
    """The environment's spec, if it can be written as JSON."""
    spec = env.spec
    try:
        if spec is None:
            raise ValueError("it has no spec: make it by gym.make")
        spec.to_json()
    except (TypeError, ValueError) as error:
        raise TextenvError(
            f"{env} cannot be stored with the dataset, so that nobody could make it again: {error}"
        ) from error
    return spec
