"""Texts and token ids in the cells of a CSV file: the vocabulary's part of reading and writing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from textenv.logged.csv_rows import Row
from textenv.task import Task, check_task

Cells = Literal["text", "ids"]


class Coder:
    """Turns cells into ids and ids into cells.

    Args:
        task: Its vocabulary and its prompts.
        cells: "text": prompts, texts and tokens as they read; the end token is an empty action.
            "ids": token ids, "1 2 3".

    Raises:
        ValueError: `cells` is something else.
        TypeError: `task` is none.
    """

    def __init__(self, task: Task, cells: Cells) -> None:
        check_task(task)
        if cells not in ("text", "ids"):
            raise ValueError(f"expected cells='text' or cells='ids', got {cells!r}")
        self.task, self.rules, self.vocabulary = task, task.rules, task.vocabulary
        self.as_text = cells == "text"
        self._suppressed = frozenset(task.vocabulary.suppressed_tokens)
        numbers = range(len(task.prompts) - 1, -1, -1)  # of prompts that are the same, the first
        self._numbers = {tuple(task.prompt_ids[number]): number for number in numbers}

    # Reading.

    def prompt(self, row: Row, column: str) -> list[int]:
        """Read a prompt.

        Raises:
            CsvError: it is too long or empty, or holds what is not in the vocabulary.
        """
        ids = self._ids(row, column, prompt=True)
        if len(ids) > self.rules.prompt_length:
            raise row.wrong(
                column, f"a prompt of up to {self.rules.prompt_length} tokens, not {len(ids)}"
            )
        if self.task.has_prompts and not self.task.is_text(ids):
            raise row.wrong(column, "a prompt")
        return ids

    def number(self, prompt: Sequence[int]) -> int:
        """Which of the task's prompts it is, −1: none."""
        return self._numbers.get(tuple(prompt), -1)

    def text(self, row: Row, column: str) -> list[int]:
        """Read what was written, without an end token that is not said.

        Raises:
            CsvError: it is too long, or holds what is not in the vocabulary.
        """
        ids = self._ids(row, column, prompt=False)
        if len(ids) > self.rules.max_tokens:
            raise row.wrong(
                column, f"a text of up to {self.rules.max_tokens} tokens, not {len(ids)}"
            )
        return ids

    def action(self, row: Row, column: str) -> int:
        """Read one token.

        Raises:
            CsvError: it is none of the vocabulary, or several.
        """
        end = self.rules.end_token
        if self.as_text and row.cells[column] == "" and end is not None:
            return end
        ids = self._ids(row, column, prompt=False)
        if len(ids) != 1:
            ending = ", or nothing for the end token" if self.as_text and end is not None else ""
            raise row.wrong(column, f"one token{ending}, not {len(ids)}")
        return ids[0]

    def place(self, row: Row, column: str) -> str:
        """A state's cell so that equal states are equal texts: ids can be written in two ways."""
        if self.as_text:
            return row.cells[column]
        return _spaced(row.ids(column, self.rules.vocabulary_size))

    def is_shown(self, row: Row, column: str, prompt: Sequence[int], written: list[int]) -> bool:
        """Whether a cell shows this prompt with these tokens, the row's action last, behind it."""
        ids = [*prompt, *written]
        if not self.as_text:
            return row.ids(column, self.rules.vocabulary_size) == ids
        cell, shown = row.cells[column], written
        if written and written[-1] == self.rules.end_token:
            shown = written[:-1]
        joined = row.cells["state"] + row.cells["action"]
        if cell in (joined, self.state(prompt, shown), self.vocabulary.decode(ids)):
            return True
        try:
            return self.vocabulary.encode_prompt(cell) in (ids, [*prompt, *shown])
        except ValueError:
            return False

    # Writing.

    def state(self, prompt: Sequence[int], written: Sequence[int]) -> str:
        """Show a prompt with what is written behind it."""
        if not self.as_text:
            return _spaced([*prompt, *written])
        if written and written[-1] == self.rules.end_token:
            written = written[:-1]
        if not written and self.number(prompt) >= 0:
            return self.task.prompts[self.number(prompt)]
        return self.vocabulary.decode([*prompt, *written])

    def written(self, ids: Sequence[int]) -> str:
        """Show what was written; the end token is no part of a text."""
        if not self.as_text:
            return _spaced(ids)
        if ids and ids[-1] == self.rules.end_token:
            ids = ids[:-1]
        return self.vocabulary.decode(ids)

    def reads(self, cell: str, ids: Sequence[int], *, prompt: bool) -> bool:
        """Whether a cell means exactly these ids."""
        if not self.as_text:
            return True
        try:
            return self._encode(cell, prompt=prompt) == list(ids)
        except ValueError:
            return False

    def _ids(self, row: Row, column: str, *, prompt: bool) -> list[int]:
        if not self.as_text:
            return row.ids(column, self.rules.vocabulary_size)
        cell = row.cells[column]
        try:
            ids = self._encode(cell, prompt=prompt)
        except ValueError as error:
            raise row.wrong(column, f"a text of the task's vocabulary ({error})") from error
        if prompt:
            return ids
        # A tokenizer raises nothing for a word that it lacks, but reads <unk>, which nobody writes.
        unknown = [self.vocabulary.token(each) for each in self._suppressed.intersection(ids)]
        missing = [token for token in unknown if token not in cell]
        if missing:
            raise row.wrong(
                column,
                "a text of the task's vocabulary, which lacks a part of this one: it would be read "
                f"as {self.vocabulary.decode(ids)!r} with {missing[0]!r} in between",
            )
        return ids

    def _encode(self, cell: str, *, prompt: bool) -> list[int]:
        return self.vocabulary.encode_prompt(cell) if prompt else self.vocabulary.encode(cell)


def _spaced(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))
