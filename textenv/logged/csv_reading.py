"""Reading logged texts from CSV files: a row for each text, or a row for each token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from textenv import mdp
from textenv.enumeration import edge_rewards
from textenv.logged.checks import BadTextError
from textenv.logged.csv_cells import Cells, Coder
from textenv.logged.csv_rows import CsvError, Form, Row, read_rows
from textenv.logged.texts import LoggedTexts
from textenv.prefixes import Prefixes
from textenv.task import Task

SEQUENCES = Form(("input_sequence", "target_sequence"), ("reward", "terminated", "log_probs"))
TRANSITIONS = Form(
    ("state", "action", "reward", "next_state"), ("episode", "terminated", "log_prob")
)


def read_csv(path: str | Path, task: Task, *, cells: Cells = "text") -> LoggedTexts:
    """Read logged texts of a task; the header says in which of two forms they are.

    **A row for each text**: `input_sequence` (the prompt), `target_sequence` (what was written)
    and, if they are there, `reward` (of the whole text, or a JSON list with one number for each
    token; without it the task's own reward is asked), `terminated` (false: the text was cut off
    from outside, and no end token is added) and `log_probs` (a JSON list). A text that does not end
    by the task's rules gets the end token, if the task has one and the row says nothing else; with
    `cells="ids"` it must end, or be said to have been cut off.

    **A row for each token**: `state` (the prompt and what was written so far), `action` (one token;
    nothing: the end token), `reward`, `next_state` and, if they are there, `episode` (any name or
    number of the text), `terminated` and `log_prob`. Rows of one text follow each other: each
    begins with the `next_state` of the one before. The next text begins where `episode` is another;
    without that column, where a text has ended, or where a row begins with something else than that
    `next_state`: one of the task's prompts, or a state with which a text of the file began. A text
    that the rules had not ended by then was cut off.

    Args:
        path: A file in UTF-8, with a byte-order mark or without. Cells may hold commas, quotes and
            line breaks, if they are in quotes.
        task: What is read; its vocabulary turns texts into tokens.
        cells: "text"; what was written may hold no word that a tokenizer lacks and would read as
            <unk>. Or "ids": the sequences, states and actions are token ids, "1 2 3", the end
            token among them.

    Raises:
        CsvError: something else came; the error names the file, the line, the column, what was
            expected and what came.
        TextenvError: the file cannot be read.
        TypeError: `task` is none.
        RewardFaultError: the task's reward failed.
    """
    form, header, rows = read_rows(path, (SEQUENCES, TRANSITIONS))
    coder = Coder(task, cells)
    if form is SEQUENCES:
        logged = [_sequence(row, coder) for row in rows]
    else:
        logged = list(_joined(rows, coder))
    if not logged:
        raise CsvError(f"{path}: expected at least one row below the header, got none")
    asked = None if "reward" in header else coder
    try:
        known = not {"log_prob", "log_probs"}.isdisjoint(header)
        return _put_together(logged, task, asked, known=known)
    except BadTextError as error:
        text, column = logged[error.text], "target_sequence" if form is SEQUENCES else "action"
        raise CsvError(f"{path}, line {text.lines[0]}, column {column!r}: {error}") from error


@dataclass
class _Text:
    """A text as it is read; one number for each token, and each token's line."""

    prompt: list[int]
    first: Row
    written: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    terminated: bool = False

    def ended(self, rules: mdp.Rules) -> bool:
        """Whether the rules end it here."""
        prompts = mdp.align_prompts(rules, [self.prompt])
        state = mdp.initial(rules, prompts, mdp.align_written(rules, [self.written]))
        return bool(np.asarray(mdp.terminal(rules, state)).reshape(-1)[0])


def _sequence(row: Row, coder: Coder) -> _Text:
    """Read a row that is a text."""
    prompt, target = SEQUENCES.required
    text = _Text(coder.prompt(row, prompt), row, coder.text(row, target))
    ended, end = text.ended(coder.rules), coder.rules.end_token
    said = row.flag("terminated") if "terminated" in row.cells else None
    if not ended and said is not False and coder.as_text and end is not None:
        text.written.append(end)
        ended = True
    if said is None and not ended:
        ending = "" if end is None else f"the end token {end}, "  # as text it was put there
        raise row.wrong(
            target,
            f"a text that {coder.task.name} ends (by {ending}a stop token, or "
            f"{coder.rules.max_tokens} tokens), or a column terminated that says false",
        )
    if said is not None and said != ended:
        raise row.wrong("terminated", f"{str(ended).lower()}, as the text and the task's rules say")
    steps = len(text.written)
    if not steps:
        raise row.wrong(target, "at least one token")
    text.terminated = ended
    text.rewards = row.numbers("reward", steps) if "reward" in row.cells else [0.0] * steps
    text.log_probs = row.log_probs("log_probs", steps) if "log_probs" in row.cells else []
    text.lines = [row.line] * steps
    return text


def _joined(rows: Iterator[Row], coder: Coder) -> Iterator[_Text]:
    """Put the rows together that are one text's tokens."""
    text: _Text | None = None
    before: Row | None = None
    beginnings = {coder.state(ids, []) for ids in coder.task.prompt_ids}
    episodes: set[str] = set()
    for row in rows:
        if (
            text is not None
            and before is not None
            and _begins(row, before, text, coder, beginnings)
        ):
            yield text
            text = None
        if text is None:
            text = _Text(coder.prompt(row, "state"), row)
            beginnings.add(coder.place(row, "state"))
            if "episode" in row.cells:
                if row.cells["episode"] in episodes:
                    raise row.wrong("episode", "one whose rows follow each other, or a new one")
                episodes.add(row.cells["episode"])
        _write(text, row, coder)
        before = row
    if text is not None:
        yield text


def _begins(row: Row, before: Row, text: _Text, coder: Coder, beginnings: set[str]) -> bool:
    """Whether a row begins the next text; refuse one that neither does nor goes on."""
    state, following = coder.place(row, "state"), coder.place(before, "next_state")
    known = "episode" in row.cells
    if known and row.cells["episode"] != before.cells["episode"]:
        return True
    if text.terminated:
        if known:
            raise row.wrong("episode", "another one, for the text has ended in the line before")
        if state == following and state not in beginnings:
            raise row.wrong("state", "a prompt, for the text has ended in the line before")
        return True
    if state == following:
        return False
    if known or state not in beginnings:
        also = "" if known else ", or a prompt"
        shown = before.cells["next_state"]
        raise row.wrong("state", f"the next_state of the row before, {shown!r}{also}")
    return True


def _write(text: _Text, row: Row, coder: Coder) -> None:
    """Write a row's token."""
    text.written.append(coder.action(row, "action"))
    if not coder.is_shown(row, "next_state", text.prompt, text.written):
        expected = coder.state(text.prompt, text.written)
        raise row.wrong("next_state", f"the state with the action behind it, {expected!r}")
    text.terminated = text.ended(coder.rules)
    if "terminated" in row.cells and row.flag("terminated") != text.terminated:
        said = str(text.terminated).lower()
        raise row.wrong("terminated", f"{said}, as the task's rules say")
    text.rewards.append(row.number("reward"))
    if "log_prob" in row.cells:
        text.log_probs.append(row.log_prob("log_prob"))
    text.lines.append(row.line)


def _put_together(
    logged: list[_Text], task: Task, asked: Coder | None, *, known: bool
) -> LoggedTexts:
    """Make the arrays; ask the task's reward where a coder is given that knows the prompts."""
    rules = task.rules
    prompts = mdp.align_prompts(rules, [text.prompt for text in logged])
    written = mdp.align_written(rules, [text.written for text in logged])
    state = mdp.initial(rules, prompts, written)
    prefixes = Prefixes.of(rules, state)
    terminated = np.array([text.terminated for text in logged])
    rewards, log_probs = np.zeros((2, len(logged), rules.max_tokens))
    for row, text in enumerate(logged):
        rewards[row, : len(text.rewards)] = text.rewards
        log_probs[row, : len(text.log_probs)] = text.log_probs
    texts = LoggedTexts(prefixes, rewards, terminated, log_probs if known else None).check(task)
    if asked is None:
        return texts
    numbers = np.array([asked.number(text.prompt) for text in logged])
    if task.reward.columns:
        _check_columns(logged, task, numbers, asked)
    return replace(texts, rewards=_paid(task, texts, numbers))


def _check_columns(
    logged: list[_Text], task: Task, numbers: npt.NDArray[np.int64], coder: Coder
) -> None:
    """Refuse prompts beside which the task has no columns for its reward, or several."""
    reads = (
        f"because the reward {task.reward.name!r} reads the columns {task.reward.columns} beside"
    )
    beside: dict[int, set[str]] = {}
    for number, ids in enumerate(task.prompt_ids):
        values = [task.columns[name][number] for name in task.reward.columns]
        beside.setdefault(coder.number(ids), set()).add(repr(values))
    for text, number in zip(logged, numbers.tolist(), strict=True):
        if number < 0:
            expected = f"one of the task's prompts, {reads} them"
        elif len(beside[number]) > 1:
            expected = f"a prompt that the task has once, {reads} it, and they differ"
        else:
            continue
        raise text.first.wrong("input_sequence", f"{expected}; or a column reward")


def _paid(
    task: Task, texts: LoggedTexts, prompt_index: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """What the task pays for each token, float64 [N, T]; one call of the reward for all texts."""
    scorer: Any = task.scorer()
    rows, steps = np.nonzero(texts.written)
    last = steps + 1 == texts.prefixes.written[rows]
    if scorer.table is None and not scorer.pays_tokens:  # then unfinished texts earn nothing
        ending = last & texts.terminated[rows]
        rows, steps, last = rows[ending], steps[ending], last[ending]
    seen = texts.before(rows, steps + 1)
    state = seen.state(prompt_index[rows])
    rewards = np.zeros_like(texts.rewards)
    if len(rows):
        rewards[rows, steps] = edge_rewards(task, scorer, state, last & texts.terminated[rows])
    return rewards
