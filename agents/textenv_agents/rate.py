"""`textenv rate RUN`: people rate what a loop wrote, on a page or in the terminal.

Also what was rated out to a file, and pairs or ratings in from one. No torch is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from textenv.errors import TextenvError
from textenv.preferences.database import Database
from textenv.preferences.files import write_comparisons
from textenv.preferences.importing import import_file
from textenv.preferences.page import serve
from textenv.preferences.page.server import existing
from textenv.preferences.schema import FILE
from textenv.preferences.terminal import rate_in_terminal


@dataclass(frozen=True, kw_only=True)
class RateConfig:
    """Rate texts."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A loop's folder, or a file of ratings."""
    terminal: bool = False
    """Rate here, without a browser."""
    raters_per_pair: int = 1
    """How many people each pair and each text is asked of."""
    port: int = 0
    """Of the page; 0: the last one of this run, or any that is free."""
    rater: str | None = None
    """Your code, such as calm-heron-4821, if you have rated in the terminal before."""
    scale: tuple[int, int] = (-4, 4)
    """The least and the greatest number that a single text can be given."""
    browser: bool = False
    """Open this machine's browser."""
    export: Path | None = None
    """Write what was rated to a .jsonl, .csv or .parquet file, without anything about a person."""
    trl: bool = False
    """Let `--export` write prompt, chosen and rejected alone, as TRL takes them; ties are left
    out."""
    take: Annotated[Path | None, tyro.conf.arg(name="import")] = None
    """Take in a .jsonl, .csv or .parquet file of pairs to be rated, or of ratings."""
    round: int | None = None
    """What `--export` writes (none given: all), and where `--import` adds (none given: as the file
    says, else the last)."""
    new_prompts: bool = False
    """Let `--import` take ratings whose prompts are not in the database."""


def rate(
    config: RateConfig,
    input: Callable[[str], str] = input,
    output: Callable[[str], Any] = print,
) -> None:
    """Do what the command says.

    Args:
        config: What to do.
        input: Asks for a line.
        output: Shows a line.

    Raises:
        TextenvError: there is no such database, it cannot be used, or a file is wrong.
        ValueError: settings that do not go together.
    """
    if config.rater is not None and not config.terminal:
        raise ValueError("--rater belongs to --terminal; on the page the help (?) asks for it")
    if config.raters_per_pair < 1:
        raise ValueError(f"expected --raters-per-pair ≥ 1, got {config.raters_per_pair}")
    if config.round is not None and config.take is None and config.export is None:
        raise ValueError("--round belongs to --export and --import; people are asked all rounds")
    if config.trl and config.export is None:
        raise ValueError("--trl says how --export writes: add --export FILE")
    path = database_of(config.run, new=config.take is not None)
    if config.take is not None or config.export is not None:
        with Database(path) as database:
            _exchange(config, database, output)
    elif config.terminal:
        with Database(existing(path)) as database:
            kept = rate_in_terminal(
                database,
                rater=config.rater,
                raters_per_pair=config.raters_per_pair,
                scale=config.scale,
                input=input,
                output=output,
            )
            output(_kept(kept) + f" in {path}")
    else:
        serve(
            path,
            raters_per_pair=config.raters_per_pair,
            scale=config.scale,
            port=config.port,
            open_browser=config.browser,
            output=output,
        )


def _kept(more: int) -> str:
    """Say how many answers there are more, or fewer, where earlier ones were undone."""
    count = "1 answer" if abs(more) == 1 else f"{abs(more)} answers"
    return f"{count} kept" if more >= 0 else f"{count} undone"


def database_of(run: Path, *, new: bool = False) -> Path:
    """The database of a run: the folder's own, or the file itself.

    Args:
        run: A folder or a file.
        new: Whether it may be one that is not there yet.

    Raises:
        RatingsError: it is not there.
    """
    path = run / FILE if run.is_dir() else run
    return path if new else existing(path)


def _exchange(config: RateConfig, database: Database, output: Callable[[str], Any]) -> None:
    if config.take is not None:
        taken = import_file(database, config.take, config.round, new_prompts=config.new_prompts)
        output(f"{taken.rows} {taken.what} were added to {database.path}")
        if taken.left_out:
            output(f"not kept, because it may be about who answered: {', '.join(taken.left_out)}")
    if config.export is not None and config.trl:
        known = database.comparisons(config.round)
        if all(each.chosen is None for each in known):
            raise TextenvError(
                f"no text is preferred to another in {str(database.path)!r} yet: nothing was "
                "written"
            )
        rows, ties = write_comparisons(config.export, known, form="trl")
        output(f"written: {config.export}, {rows} comparisons; {ties} ties were left out")
    elif config.export is not None:
        for written in database.export(config.export, config.round):
            output(f"written: {written}")
