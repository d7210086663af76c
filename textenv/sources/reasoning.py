"""Questions of the package reasoning-gym, made once for each setting, and its own scores.

Several of its generators draw from the generators of `random` and NumPy that the whole process
shares. Here they find these in a state that the seed and the question decide, and whoever else
uses them finds them as they were: the same setting gives the same questions in every process.
A few depend on how Python hashes texts, or run programs; theirs are made in another process.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from textenv.errors import MissingExtraError, TextenvError, UnknownNameError
from textenv.plugins import check_count
from textenv.sources.reasoning_scorers import mend

_ALONE = threading.Lock()  # the generators are those of the process, not of a thread
# Made in a process of their own: all but codeio draw from sets of texts, whose order is another
# one in each process; codeio runs programs, some of which leave files where they are run.
_APART = {
    "codeio",
    "intermediate_integration",
    "isomorphic_strings",
    "knight_swap",
    "polynomial_multiplication",
    "ransom_note",
    "word_ladder",
}
_FIXED = "0"  # the PYTHONHASHSEED under which they make their questions
_COMMAND = "from textenv.sources.reasoning import _answer_parent; _answer_parent()"


class Questions:
    """The questions of one generator with one setting; item n is the same whenever it is asked.

    Args:
        task: The generator's name, such as "leg_counting".
        config: Its settings, beside size and seed.
        size: How many questions there are.
        seed: Which they are.
        apart: Make those that need it in a process of their own; False: this is that process.

    Raises:
        MissingExtraError: reasoning-gym is not installed.
        UnknownNameError: no generator, or none of its settings, is called that.
        ValueError: a setting that reasoning-gym refuses.
    """

    def __init__(
        self, task: str, config: Mapping[str, Any], size: int, seed: int, *, apart: bool = True
    ) -> None:
        try:
            gym = importlib.import_module("reasoning_gym")
        except ImportError as error:
            raise MissingExtraError("reasoning_gym", "textenv/ReasoningGym-v0") from error
        known = importlib.import_module("reasoning_gym.factory").DATASETS
        if task not in known:
            raise UnknownNameError("task of reasoning-gym", task, known)
        fields = {field.name for field in dataclasses.fields(known[task][1])} - {"size", "seed"}
        for name in config:
            if name in ("size", "seed"):
                keyword = "size=" if name == "size" else "dataset_seed="
                raise ValueError(
                    f"{name!r} has a keyword of its own: say {keyword}, not in config="
                )
            if name not in fields:
                raise UnknownNameError(f"setting of {task}", name, fields)
        self.task, self.size, self.seed = task, size, seed
        self._entries: dict[int, dict[str, Any]] = {}
        try:
            with _undisturbed(seed):
                own = _specified(task, config)
                self._dataset = gym.create_dataset(task, size=size, seed=seed, **own)
                mend(self._dataset)
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"reasoning-gym makes no {task} with config={dict(config)!r}: {error}"
            ) from error
        if apart and _names(task, config) & _APART:
            self._entries = _made_apart(task, config, size, seed)

    def __len__(self) -> int:
        return self.size

    def entry(self, item: int) -> dict[str, Any]:
        """Return what reasoning-gym says of a question: "question", "answer", "metadata".

        Raises:
            IndexError: there are fewer.
        """
        if not 0 <= item < self.size:
            raise IndexError(f"{self.task} has the items 0 … {self.size - 1}, got {item}")
        if item not in self._entries:
            with _undisturbed(self.seed + item):
                self._entries[item] = self._dataset[item]
        return self._entries[item]

    def question(self, item: int) -> str:
        """Return the text of a question."""
        return self.entry(item)["question"]

    def answer(self, item: int) -> str | None:
        """Return the stored answer; None: there is none, only a scorer."""
        return self.entry(item)["answer"]

    def score(self, item: int, answer: str | None) -> Any:
        """Return, or raise, what reasoning-gym's scorer says of an answer, unchecked."""
        entry = self.entry(item)
        with _undisturbed(self.seed + item):
            return self._dataset.score_answer(answer, entry)


def questions(
    task: str, config: Mapping[str, Any] | None = None, size: int = 100, seed: int = 0
) -> Questions:
    """Return the questions of a setting; those asked for last are kept.

    Args:
        task: A generator's name.
        config: Its settings, in their JSON form. None: its own.
        size: How many questions.
        seed: Which ones.

    Raises:
        MissingExtraError: reasoning-gym is not installed.
        UnknownNameError: no generator, or none of its settings, is called that.
        ValueError: a value of another kind, or one that reasoning-gym refuses.
    """
    if not isinstance(task, str):
        raise ValueError(f'expected task= to be a name such as "leg_counting", got {task!r}')
    if config is not None and not isinstance(config, Mapping):
        raise ValueError(
            f'expected config= to be a dict such as {{"max_value": 9}}, got {config!r}'
        )
    try:
        written = json.dumps(dict(config or {}), sort_keys=True)
    except TypeError as error:
        raise ValueError(f"config= must be what JSON can hold, got {config!r}: {error}") from error
    return _kept(task, written, check_count("size=", size), check_count("dataset_seed=", seed, 0))


@functools.lru_cache(maxsize=16)
def _kept(task: str, config: str, size: int, seed: int) -> Questions:
    return Questions(task, json.loads(config), size, seed)


def _specified(task: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as reasoning-gym takes them: the parts of "composite" are objects there."""
    if task != "composite" or not isinstance(config.get("datasets"), list):
        return dict(config)
    spec = importlib.import_module("reasoning_gym.composite").DatasetSpec
    parts = [spec(**{"weight": 1.0, "config": {}, **part}) for part in config["datasets"]]
    return {**config, "datasets": parts}


def _names(task: str, config: Mapping[str, Any]) -> set[str]:
    """The generator, and those that "composite" draws from."""
    parts = config.get("datasets", []) if task == "composite" else []
    return {task, *(part["name"] for part in parts)}


def _made_apart(
    task: str, config: Mapping[str, Any], size: int, seed: int
) -> dict[int, dict[str, Any]]:
    """Make all questions in a process of their own.

    Raises:
        TextenvError: it failed.
    """
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, "-c", _COMMAND],
            input=json.dumps([task, config, size, seed]).encode(),
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": _FIXED, "PYTHONPATH": path},
            cwd=folder,
            check=False,
        )
    if run.returncode:
        said = run.stderr.decode(errors="replace")[-500:]
        raise TextenvError(f"the process that makes the questions of {task} failed: {said}")
    return pickle.loads(run.stdout)


def _answer_parent() -> None:
    """What that process runs: a setting comes in, its questions go out."""
    out, sys.stdout = sys.stdout.buffer, sys.stderr  # what generators print must not get in between
    made = Questions(*json.load(sys.stdin), apart=False)
    out.write(pickle.dumps({item: made.entry(item) for item in range(made.size)}))
    out.flush()


@contextmanager
def _undisturbed(seed: int) -> Iterator[None]:
    """Seed the generators that the process shares, and put them back as they were."""
    with _ALONE:
        python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002
