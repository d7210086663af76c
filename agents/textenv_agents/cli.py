"""The command `textenv`; what a subcommand needs is imported when it is asked for."""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tyro

HELP = {
    "list": "the environments, one line each",
    "play": "write a text yourself, token by token",
    "pretrain": "train a language model on a text file",
    "train": "train a language model in an environment; --resume RUN goes on with a run",
    "demo": "the toys with every number, then a real language model",
    "rate": "rate texts on a page or in the terminal; also exports and imports ratings",
    "loop": "rounds of writing, rating and learning; --resume FOLDER goes on with a loop",
    "evaluate": "what a policy is worth, with intervals; --against OTHER compares two",
    "record": "write what a policy does as a Minari dataset, to learn from later",
    "serve": "an environment for OpenEnv's clients, over HTTP on this machine",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; errors that users can mend are one line, with exit status 2."""
    # Before torch is loaded: threads that wait for each other shall sleep. Where another program
    # uses a core, spinning made these small models 25 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: textenv COMMAND …    (textenv COMMAND --help says more)\n")
        for name, text in HELP.items():
            print(f"  {name:10} {text}")
        return 0
    command, *rest = arguments
    if command not in HELP:
        near = difflib.get_close_matches(command, HELP, n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        print(f"textenv: no command {command!r}.{guess} Known: {', '.join(HELP)}", file=sys.stderr)
        return 2
    from gymnasium.error import Error as GymnasiumError

    from textenv.errors import MissingExtraError, TextenvError

    try:
        COMMANDS[command](rest)
    except ModuleNotFoundError as error:
        missing: Exception = error  # one without a name says itself what is missing
        if error.name:
            missing = MissingExtraError(error.name.split(".")[0], f"textenv {command}")
        print(f"textenv {command}: {missing}", file=sys.stderr)
        return 2
    except (TextenvError, GymnasiumError, ArithmeticError, ValueError, OSError) as error:
        print(f"textenv {command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _list(arguments: Sequence[str]) -> None:
    from textenv.registration import IDS
    from textenv.tasks import builder

    def show() -> None:
        for environment_id in IDS:
            name = environment_id.removeprefix("textenv/").removesuffix("-v0")
            summary = (builder(name).__doc__ or "").strip().splitlines()[0]
            print(f"{environment_id:28} {summary}")

    tyro.cli(show, args=arguments, prog="textenv list", description=HELP["list"])


def _play(arguments: Sequence[str]) -> None:
    def play(
        env: tyro.conf.Positional[str],
        lm: str | None = None,
        seed: int | None = None,
        action: str | None = None,
    ) -> None:
        """Write a text yourself.

        Args:
            env: The environment's id, such as textenv/GoodBad-v0.
            lm: A language model whose likeliest tokens are shown: a name, a folder, or "default"
                for the environment's own.
            seed: Fixes the prompts.
            action: "candidates:5" offers the model's 5 likeliest tokens and no others.
        """
        from textenv_agents.play import play as play_game

        keywords: dict[str, Any] = {} if action is None else {"action": action}
        play_game(env, lm=lm, seed=seed, **keywords)

    tyro.cli(play, args=arguments, prog="textenv play", description=HELP["play"])


def _pretrain(arguments: Sequence[str]) -> None:
    from textenv_agents.pretrain import PretrainConfig, pretrain

    config = tyro.cli(
        PretrainConfig, args=arguments, prog="textenv pretrain", description=HELP["pretrain"]
    )
    result = pretrain(config)
    print(f"validation perplexity {result.perplexity:.2f}; the model is in {result.folder}")


def _train(arguments: Sequence[str]) -> None:
    from textenv_agents.run_folder import ResumeWarning, RunFinishedError
    from textenv_agents.train import TrainConfig, comparison, resume, train

    folder = _resumed(arguments)
    if folder is None:
        config = tyro.cli(
            TrainConfig, args=arguments, prog="textenv train", description=HELP["train"]
        )
        run = train(config)
    else:
        try:
            with _warnings_in_one_line("train", ResumeWarning):
                run = resume(folder)
        except RunFinishedError as finished:
            print(finished)
            return
    print(comparison(run.before, run.after))
    print(f"the run is in {run.folder}: curve.png, samples.txt, progress.csv, checkpoint/ …")


def _loop(arguments: Sequence[str]) -> None:
    from textenv_agents.loop import LoopConfig, LoopFinishedError, loop, resume, table, what_to_do
    from textenv_agents.run_folder import ResumeWarning

    folder = _resumed(arguments)
    if folder is None:
        config = tyro.cli(LoopConfig, args=arguments, prog="textenv loop", description=HELP["loop"])
        outcome = loop(config, say=print, progress_bar=True)
    else:
        try:
            with _warnings_in_one_line("loop", ResumeWarning):
                outcome = resume(folder, say=print, progress_bar=True)
        except LoopFinishedError as finished:
            print(finished)
            return
    print(table(outcome.rounds))
    print(what_to_do(outcome))


@contextmanager
def _warnings_in_one_line(command: str, kind: type[Warning]) -> Iterator[None]:
    """Print warnings of a kind as errors are printed, without the line of code."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def print_it(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, kind):
                print(f"textenv {command}: {message}", file=sys.stderr)
            else:
                show(message, category, *where, **more)

        warnings.showwarning = print_it
        yield


def _resumed(arguments: Sequence[str]) -> str | None:
    """The run to go on with: its folder behind --resume, which stands alone; None: a new run."""
    words: list[str] = []
    for argument in arguments:
        words += argument.split("=", 1) if argument.startswith("--resume=") else [argument]
    if "--resume" not in words:
        return None
    if len(words) != 2 or words[0] != "--resume":
        raise ValueError(
            "a run goes on with its own settings: expected --resume RUN and nothing else, got "
            f"{' '.join(arguments)}"
        )
    return words[1]


def _evaluate(arguments: Sequence[str]) -> None:
    from textenv_agents.evaluate_config import EvaluateConfig
    from textenv_agents.reporting import evaluate_into_folder

    config = tyro.cli(
        EvaluateConfig, args=arguments, prog="textenv evaluate", description=HELP["evaluate"]
    )
    report, folder = evaluate_into_folder(config)
    print(report.table())
    print(f"\nthe texts side by side are in {folder / 'samples.html'}, the numbers beside it")


def _record(arguments: Sequence[str]) -> None:
    from textenv_agents.record import RecordConfig, record_dataset

    config = tyro.cli(
        RecordConfig, args=arguments, prog="textenv record", description=HELP["record"]
    )
    print(record_dataset(config).summary())


def _demo(arguments: Sequence[str]) -> None:
    from textenv_agents.demo import DemoConfig, demo

    demo(tyro.cli(DemoConfig, args=arguments, prog="textenv demo", description=HELP["demo"]))


def _rate(arguments: Sequence[str]) -> None:
    from textenv_agents.rate import RateConfig, rate

    rate(tyro.cli(RateConfig, args=arguments, prog="textenv rate", description=HELP["rate"]))


def _serve(arguments: Sequence[str]) -> None:
    from textenv_agents.serve import ServeConfig, serve

    config = tyro.cli(ServeConfig, args=arguments, prog="textenv serve", description=HELP["serve"])
    serve(config, say=lambda line: print(line, flush=True))


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "list": _list,
    "play": _play,
    "pretrain": _pretrain,
    "train": _train,
    "demo": _demo,
    "rate": _rate,
    "loop": _loop,
    "evaluate": _evaluate,
    "record": _record,
    "serve": _serve,
}

if __name__ == "__main__":
    sys.exit(main())
