"""Writing logged texts into CSV files, in both forms that `read_csv` reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from textenv import mdp
from textenv.files import replace_file
from textenv.logged.csv_cells import Cells, Coder
from textenv.logged.texts import LoggedTexts, check_logged
from textenv.task import Task


def write_csv(
    texts: LoggedTexts,
    task: Task,
    path: str | Path,
    *,
    form: Literal["sequences", "transitions"] = "sequences",
    cells: Cells = "text",
) -> None:
    """Write logged texts, whole or not at all, so that `read_csv` returns the same.

    Args:
        texts: The texts.
        task: Their task.
        path: Where to; what is there is replaced.
        form: "sequences", a row for each text, or "transitions", a row for each token.
        cells: "text", or "ids": for texts that do not say which tokens they are made of, as with
            most tokenizers.

    Raises:
        ValueError: the texts are not of this task, the form is none, or a text would be read as
            other tokens.
        TypeError: these are no `LoggedTexts`, or no task.
    """
    check_logged(texts)
    coder = Coder(task, cells)
    forms = {"sequences": _sequences, "transitions": _transitions}
    if form not in forms:
        raise ValueError(f"expected form= to be one of {', '.join(forms)}, got {form!r}")
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\r\n").writerows(forms[form](texts.check(task), coder))
    replace_file(path, file.getvalue())


def _sequences(texts: LoggedTexts, coder: Coder) -> Iterator[list[str]]:
    cut_off = not texts.terminated.all()
    header = ["input_sequence", "target_sequence", "reward"]
    yield header + ["terminated"] * cut_off + ["log_probs"] * (texts.log_probs is not None)
    for row in range(len(texts)):
        prompt, written = _ids(texts, row, coder)
        text, count = coder.written(written), len(written)
        rewards = texts.rewards[row, :count].tolist()
        cells = [_begun(coder, prompt, row), text, _payment(rewards)]
        ended = written[:-1] if written[-1] == coder.rules.end_token else written
        _check(coder, text, ended, row)
        if cut_off:
            cells.append(str(bool(texts.terminated[row])).lower())
        if texts.log_probs is not None:
            cells.append(json.dumps(texts.log_probs[row, :count].tolist()))
        yield cells


def _transitions(texts: LoggedTexts, coder: Coder) -> Iterator[list[str]]:
    end, known = coder.rules.end_token, texts.log_probs is not None
    # A text that was cut off in a state in which the next one begins would be read as going on.
    named = not texts.terminated.all() or not all(_is_known(texts, coder))
    yield ["state", "action", "reward", "next_state"] + ["episode"] * named + ["log_prob"] * known
    for row in range(len(texts)):
        prompt, written = _ids(texts, row, coder)
        state = _begun(coder, prompt, row)
        for step, token in enumerate(written):
            action = coder.written([token])
            if token != end:
                _check(coder, action, [token], row)
            following = coder.state(prompt, written[: step + 1])
            cells = [state, action, repr(float(texts.rewards[row, step])), following]
            cells += [str(row)] * named
            if texts.log_probs is not None:
                cells.append(repr(float(texts.log_probs[row, step])))
            yield cells
            state = following


def _ids(texts: LoggedTexts, row: int, coder: Coder) -> tuple[list[int], list[int]]:
    prefixes = texts.prefixes
    start, tokens = prefixes.start, prefixes.tokens[row]
    written = tokens[start : start + prefixes.written[row]].tolist()
    return mdp.prompt_ids(coder.rules, tokens), written


def _is_known(texts: LoggedTexts, coder: Coder) -> Iterator[bool]:
    """Whether each text's prompt is one of the task's."""
    return (coder.number(_ids(texts, row, coder)[0]) >= 0 for row in range(len(texts)))


def _begun(coder: Coder, prompt: list[int], row: int) -> str:
    """Show a prompt."""
    shown = coder.state(prompt, [])
    if not coder.reads(shown, prompt, prompt=True):
        raise _ambiguous(row, shown, prompt)
    return shown


def _check(coder: Coder, cell: str, ids: list[int], row: int) -> None:
    if not coder.reads(cell, ids, prompt=False):
        raise _ambiguous(row, cell, ids)


def _ambiguous(row: int, cell: str, ids: list[int]) -> ValueError:
    return ValueError(
        f"text {row}: {cell!r} would not be read as the tokens {ids} that it is made of: write "
        'cells="ids"'
    )


def _payment(rewards: list[float]) -> str:
    """One number where all is paid at the end, else one for each token."""
    return json.dumps(rewards) if any(rewards[:-1]) else repr(float(rewards[-1]))
