"""The folder of one loop: what is in it, and how an interrupted loop goes on.

config.json                     the loop's settings; with it the loop has begun
ratings.sqlite                  prompts, pairs, raters and ratings: `textenv.preferences.database`
rounds/00/                      texts.jsonl and evaluation.json of the starting policy
rounds/01/samples.jsonl         what was written for the raters, flagged texts marked
rounds/01/comparisons.jsonl     all comparisons so far: what the reward model learns from
rounds/01/reward_model/         the reward model
rounds/01/policy/               the policy's training, a folder as `textenv train` writes it
rounds/01/texts.jsonl           fresh texts of the trained policy, with both rewards
rounds/01/evaluation.json       the round's numbers; with it the round is finished
summary.json, summary.md, loop.png   all rounds' numbers, written anew after each
lock                            so that one process at a time works here

Each step's result appears whole or not at all, and a step whose result is there is not done again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from textenv.errors import TextenvError
from textenv.files import replace_file, replaced_folder
from textenv_agents.loop.config import LoopConfig
from textenv_agents.run_folder import changed, flat_settings, left_half_written, locked

CONFIG, RATINGS, EVALUATION = "config.json", "ratings.sqlite", "evaluation.json"
SUMMARY = ("summary.json", "summary.md", "loop.png")
# What is written in one step, and may be left half written beside its name.
_WRITTEN = {
    *SUMMARY,
    EVALUATION,
    "samples.jsonl",
    "comparisons.jsonl",
    "texts.jsonl",
    "reward_model",
}


class LoopError(TextenvError):
    """A folder holds no loop, or one that cannot go on."""


class LoopFinishedError(LoopError):
    """All rounds are done: there is nothing to resume."""


class RoundFolder:
    """The files of one round.

    Args:
        path: The folder.
        number: Of the round; 0 is the starting policy.
    """

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.samples = path / "samples.jsonl"
        self.comparisons = path / "comparisons.jsonl"
        self.reward_model = path / "reward_model"
        self.policy = path / "policy"
        self.texts = path / "texts.jsonl"
        self.evaluation = path / EVALUATION

    @property
    def writer(self) -> str:
        """The name of this round's policy in the database."""
        return f"round-{self.number:02}" if self.number else "start"

    @property
    def finished(self) -> bool:
        """Whether the round's numbers are there."""
        return self.evaluation.exists()

    def numbers(self) -> dict[str, Any]:
        """The round's numbers.

        Raises:
            LoopError: the file is damaged.
        """
        try:
            found: dict[str, Any] = json.loads(self.evaluation.read_text("utf-8"))
            if found["round"] != self.number:
                raise ValueError(f"it is round {found['round']!r}'s")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LoopError(
                f"{str(self.evaluation)!r} is damaged: {error}; remove it to measure again"
            ) from error
        return found

    def finish(self, numbers: dict[str, Any]) -> None:
        """Write the round's numbers: the last thing that a round does."""
        replace_file(self.evaluation, json.dumps({"round": self.number, **numbers}, indent=1))


class LoopFolder:
    """A loop's folder.

    Args:
        path: Where it is.
        config: The loop's settings.
    """

    def __init__(self, path: Path, config: LoopConfig) -> None:
        self.path = path
        self.config = config
        self.ratings = path / RATINGS

    @classmethod
    def create(cls, path: Path, config: LoopConfig) -> LoopFolder:
        """Begin a loop; the folder comes into being with its config.json in it.

        Raises:
            FileExistsError: the folder is there and not empty.
        """
        if path.exists() and any(path.iterdir()):
            begun = (path / CONFIG).exists()
            raise FileExistsError(
                f"the loop's folder {str(path)!r} is not empty: choose another by --folder"
                + (f", or go on with that loop by textenv loop --resume {path}" if begun else "")
            )
        with replaced_folder(path) as temporary:
            text = json.dumps(config.to_json(), indent=1)
            (temporary / CONFIG).write_text(text, "utf-8")
        return cls(path, config)

    @classmethod
    def open(cls, path: Path) -> LoopFolder:
        """Open the folder of an interrupted loop; nothing is changed.

        Raises:
            LoopFinishedError: all rounds are done.
            LoopError: the folder holds no loop, or its settings were changed.
        """
        if not (path / CONFIG).is_file():
            what = "has no config.json" if path.is_dir() else "does not exist"
            raise LoopError(
                f"{str(path)!r} is no loop that can go on: it {what}; a loop's folder is what "
                "textenv loop --folder FOLDER writes"
            )
        try:
            config = LoopConfig.from_json(json.loads((path / CONFIG).read_text("utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise LoopError(f"{str(path / CONFIG)!r} holds no loop's settings: {error}") from error
        loop = cls(path, config)
        loop._check()
        if loop.round(config.rounds).finished and all((path / name).exists() for name in SUMMARY):
            raise LoopFinishedError(
                f"the loop in {str(path)!r} is finished: its last policy is in "
                f"{str(loop.round(config.rounds).policy / 'checkpoint')!r}, what it is worth in "
                "summary.md"
            )
        return loop

    def round(self, number: int) -> RoundFolder:
        """The files of a round; its folder need not be there yet."""
        return RoundFolder(self.path / "rounds" / f"{number:02}", number)

    @property
    def rounds(self) -> list[RoundFolder]:
        """The start and all rounds that are to be done."""
        return [self.round(number) for number in range(self.config.rounds + 1)]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other loops out of this folder, and remove what a kill left half written.

        People go on rating meanwhile: the database has locks of its own.

        Raises:
            RunError: another process is at work there.
        """
        with locked(self.path):
            self._clean()
            yield

    def settings(self) -> dict[str, Any]:
        """The settings that a loop goes on with; the folder may have been moved."""
        return flat_settings(self.config.to_json())

    def _check(self) -> None:
        """Refuse settings that are no longer those that the loop began with."""
        if not self.round(0).finished:
            return
        changes = changed(self.round(0).numbers()["settings"], self.settings())
        if changes:
            raise LoopError(
                f"{str(self.path / CONFIG)!r} was changed since the loop began ({changes}): a loop "
                "goes on with its own settings, or begins anew elsewhere"
            )

    def _clean(self) -> None:
        """Remove what a kill left half written, and nothing else."""
        for folder in [self.path, *(each.path for each in self.rounds)]:
            for path in folder.glob(".*"):
                if left_half_written(path) not in _WRITTEN:
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSONL, whole or not at all."""
    replace_file(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read what `write_lines` wrote.

    Raises:
        LoopError: the file is damaged.
    """
    try:
        return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise LoopError(
            f"{str(path)!r} is damaged: {error}; remove it and what was made after it in its "
            "round's folder to do those steps again"
        ) from error
