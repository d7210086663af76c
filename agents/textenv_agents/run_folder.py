"""The folder of one training run: what is in it, and how an interrupted run goes on.

config.json        the run's settings; with it the run has begun
checkpoints/       000012/ is the run after 12 iterations; the last two are kept
before.json        what the policy was worth before, with its texts
progress.csv       one row an iteration; events.out.tfevents.* the same for TensorBoard
bad_steps/         texts of steps that were left out, if there were any
checkpoint/        the trained agent, for `PolicyGradient.load`
samples.txt        texts before and after
curve.png          reward and KL over the tokens
lock               so that one process at a time works here
evaluation.json    what the policy was worth before and after; with it the run is finished
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from textenv.errors import TextenvError
from textenv.files import lock, replace_file, replaced_folder
from textenv_agents import checkpoint, logs
from textenv_agents.checkpoint import Checkpoint, CheckpointError
from textenv_agents.evaluation import Evaluation
from textenv_agents.policy_gradient import PolicyGradient
from textenv_agents.run_state import (
    environment_state,
    generators,
    made_with,
    set_environment_state,
    set_generators,
)
from textenv_agents.train_config import TrainConfig

CONFIG, BEFORE, EVALUATION = "config.json", "before.json", "evaluation.json"
CHECKPOINTS, BAD_STEPS, LOCK = "checkpoints", "bad_steps", "lock"
KEPT = 2

# What `textenv.files` names the half of something that it writes, and `_remove` what it removes.
_LEFT = re.compile(r"\.(?P<name>.+?)-(?:old-)?(?:[a-z0-9_]{8}|removed)")
_WRITTEN = {BEFORE, EVALUATION, logs.CSV, logs.FIRST, "checkpoint", "samples.txt"}


class RunError(TextenvError):
    """A folder holds no run, or one that cannot go on."""


class RunFinishedError(RunError):
    """The run has written all its tokens: there is nothing to resume."""


class ResumeWarning(UserWarning):
    """A run goes on, but not from where or not as exactly as one would think."""


class RunFolder:
    """A run's folder.

    Args:
        path: Where it is.
        config: The run's settings.
    """

    def __init__(self, path: Path, config: TrainConfig) -> None:
        self.path = path
        self.config = config
        self._untrained: str | None = None  # what the checkpoints leave out, once it is known

    @classmethod
    def create(cls, path: Path, config: TrainConfig) -> RunFolder:
        """Begin a run; the folder comes into being with its config.json in it."""
        with replaced_folder(path) as temporary:
            text = json.dumps(config.to_json(), indent=1)
            (temporary / CONFIG).write_text(text, "utf-8")
        return cls(path, config)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of an interrupted run; nothing is changed.

        Raises:
            RunFinishedError: the run is finished.
            RunError: the folder holds no run.
        """
        if not (path / CONFIG).is_file():
            what = "has no config.json" if path.is_dir() else "does not exist"
            raise RunError(
                f"{str(path)!r} is no run that can go on: it {what}; a run folder is what textenv "
                "train ENV --folder FOLDER writes"
            )
        if (path / EVALUATION).exists():
            raise RunFinishedError(
                f"the run in {str(path)!r} is finished: its agent is in "
                f"{str(path / 'checkpoint')!r}, what it is worth in {EVALUATION}"
            )
        try:
            config = TrainConfig.from_json(json.loads((path / CONFIG).read_text("utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{str(path / CONFIG)!r} holds no run's settings: {error}") from error
        return cls(path, config)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from working in this folder inside a `with` block.

        The lock ends with the process, however that ends. Where files cannot be locked, on Windows
        and some network drives, there is none.

        Raises:
            RunError: another process is at work there.
        """
        with locked(self.path):
            yield

    def save(self, agent: PolicyGradient) -> None:
        """Write a checkpoint at the end of an iteration; the last two are kept."""
        if self._untrained is None:
            self._untrained = checkpoint.untrained(agent)
        state = {
            "run": flat_settings(self.config.to_json()),
            "made_with": made_with(agent),
            "untrained": self._untrained,
        }
        with replaced_folder(self.path / CHECKPOINTS / f"{agent.updates:06}") as temporary:
            checkpoint.write(
                temporary,
                agent,
                state,
                generators=generators(),
                environment=environment_state(agent.env.unwrapped),
            )
        for old in self.checkpoints()[KEPT:]:
            _remove(old)

    def checkpoints(self) -> list[Path]:
        """The checkpoints' folders, the newest first."""
        paths = (self.path / CHECKPOINTS).glob("*")
        found = (path for path in paths if path.name.isdecimal() and path.is_dir())
        return sorted(found, key=lambda folder: int(folder.name), reverse=True)

    def restore(self, agent: PolicyGradient) -> None:
        """Take an agent, made with the run's settings, to where the run was interrupted.

        The logs are cut back to the same place. A run that had not written any checkpoint begins
        again.

        Raises:
            CheckpointError: the settings or the model are not those of the checkpoint, or none is
                whole.
        """
        self._clean()
        found = self._newest()
        if found is not None:
            folder, saved = found
            self._check(folder, saved, agent)
            checkpoint.restore(agent, saved, folder)
            set_environment_state(agent.env.unwrapped, saved.training["environment"])
            set_generators(saved.training["generators"])
        logs.cut_csv(self.path / logs.CSV, agent.tokens)
        logs.cut_events(self.path, agent.tokens)

    def before(self) -> Evaluation | None:
        """What the policy was worth before, if that was measured already.

        Raises:
            RunError: the file is damaged, or is gone although the policy has changed since.
        """
        path = self.path / BEFORE
        if not path.exists() and not self.checkpoints():
            return None
        try:
            return Evaluation.from_json(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{str(path)!r} is damaged: {error}; it cannot be measured again: put it back from "
                f"a copy, or remove it and {str(self.path / CHECKPOINTS)!r} to begin the run again"
            ) from error

    def write_before(self, evaluation: Evaluation) -> None:
        """Keep what the policy was worth before."""
        replace_file(self.path / BEFORE, json.dumps(evaluation.to_json()))

    def finish(self, before: Evaluation, after: Evaluation) -> None:
        """Write what the policy was worth: the last thing that a run does."""
        summary = {"before": before.summary(), "after": after.summary()}
        replace_file(self.path / EVALUATION, json.dumps(summary, indent=1))

    def _clean(self) -> None:
        """Remove what a kill left half written or half removed, and nothing else."""
        for path in [*self.path.glob(".*"), *(self.path / CHECKPOINTS).glob(".*")]:
            name = left_half_written(path)
            if name is None:
                continue
            ours = name in _WRITTEN if path.parent == self.path else name.isdecimal()
            if ours and path.is_dir():
                shutil.rmtree(path)
            elif ours:
                path.unlink()

    def _newest(self) -> tuple[Path, Checkpoint] | None:
        """The newest whole checkpoint; None where the run had not written any."""
        found = self.checkpoints()
        for folder in found:
            try:
                saved = checkpoint.read(folder)
                if not {"run", "made_with", "untrained"} <= saved.state.keys():
                    raise CheckpointError(f"{str(folder)!r} is damaged: it is no run's checkpoint")
                return folder, saved
            except CheckpointError as error:
                if folder == found[-1]:
                    raise CheckpointError(
                        f"no checkpoint of the run can be read: {error}; put one back from a copy, "
                        f"or remove {str(self.path / CHECKPOINTS)!r} to begin the run again"
                    ) from error
                warnings.warn(
                    f"the run goes on from an older checkpoint: {error}",
                    ResumeWarning,
                    stacklevel=4,
                )
        return None

    def _check(self, folder: Path, saved: Checkpoint, agent: PolicyGradient) -> None:
        """Refuse other settings and another model; warn of another place."""
        changes = changed(saved.state["run"], flat_settings(self.config.to_json()))
        if changes:
            raise CheckpointError(
                f"{str(self.path / CONFIG)!r} was changed since {folder.name} was written "
                f"({changes}): a run goes on with its own settings, or begins anew elsewhere"
            )
        self._untrained = checkpoint.untrained(agent)
        if self._untrained != saved.state["untrained"]:
            raise CheckpointError(
                f"the model {self.config.lm or 'of ' + self.config.env} is not the one that this "
                "run began with: its weights are others"
            )
        now, then = made_with(agent), saved.state["made_with"]
        different = sorted(key for key in now if now[key] != then.get(key))
        if different:
            changes = ", ".join(f"{k} {then.get(k)} → {now[k]}" for k in different)
            warnings.warn(
                f"the run goes on, but its numbers need not be exactly those of one that was never "
                f"interrupted: {changes}",
                ResumeWarning,
                stacklevel=4,
            )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from working in a folder inside a `with` block; see `RunFolder.locked`.

    Raises:
        RunError: another process is at work there.
    """
    with (folder / LOCK).open("w") as file:
        if not lock(file, of_process=True):
            raise RunError(f"another process is at work in {str(folder)!r}: wait for it, or end it")
        yield


def left_half_written(path: Path) -> str | None:
    """The name of what a kill left half written or half removed here; None: it is nothing such."""
    left = _LEFT.fullmatch(path.name)
    return None if left is None else left["name"]


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a run goes on with, without its folder, which may have been moved.

    >>> flat_settings({"folder": "runs/one", "tokens": 9, "agent": {"seed": 3}})
    {'tokens': 9, 'agent.seed': 3}
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": each for name, each in value.items()}
        elif key != "folder":
            flat[key] = value
    return flat


def changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What is different between two sets of settings, in words; "" where nothing is.

    >>> changed({"tokens": 9, "seed": 3}, {"tokens": 10, "seed": 3})
    'tokens: 9 → 10'
    """
    different = sorted(key for key in now.keys() | then.keys() if now.get(key) != then.get(key))
    return ", ".join(f"{key}: {then.get(key)!r} → {now.get(key)!r}" for key in different)


def _remove(folder: Path) -> None:
    """Remove a checkpoint; a crash on the way leaves no half of one under its name."""
    hidden = folder.with_name(f".{folder.name}-removed")
    folder.replace(hidden)
    shutil.rmtree(hidden)
