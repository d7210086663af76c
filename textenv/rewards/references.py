"""The right texts that a reward compares with: one, several or none in a column of the task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textenv.rewards.base import Reward


def references_in(name: str, column: str, columns: Mapping[str, Any]) -> list[list[str] | None]:
    """Return the right texts of each text, None where there are none.

    Args:
        name: The reward's, for messages.
        column: The column that holds a text, a list of texts or None for each prompt.
        columns: The columns that the reward was called with.

    Raises:
        ValueError: the column is missing, or holds something else.
    """
    if column not in columns:
        raise ValueError(
            f"{name} needs the column {column!r}, got {sorted(columns)}: give the right texts "
            f'with the prompts, as in columns={{"{column}": […]}} (None for a prompt that has '
            f'none), or name the column that holds them, as in {{"name": "{name}", "column": …}}'
        )
    return [_listed(name, column, value) for value in columns[column]]


def _listed(name: str, column: str, value: Any) -> list[str] | None:
    if value is None:
        return None
    rights = [value] if isinstance(value, str) else value
    if isinstance(rights, list | tuple) and rights and all(isinstance(r, str) for r in rights):
        return list(rights)
    raise ValueError(
        f"{name} expects the column {column!r} to hold a text, a list of at least one text, or "
        f"None, got {value!r:.80}"
    )


class ReferenceReward(Reward):
    """A reward that compares each text with its right ones; subclasses say how.

    A prompt whose right text is None is left out.

    Args:
        column: The column with the right texts: for each prompt a text, or a list of texts each
            of which is right.
    """

    name = "reference"

    def __init__(self, column: str = "reference") -> None:
        if not isinstance(column, str) or not column:
            raise ValueError(f"column must be the name of a column, got {column!r}")
        self.column = column
        self.columns = (column,)

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> list[float | None]:
        """Compare each text."""
        rights = references_in(self.name, self.column, columns)
        return [
            None if right is None else self.compare(text, right)
            for text, right in zip(completions, rights, strict=True)
        ]

    def compare(self, text: str, references: list[str]) -> float:
        """Compare one text with its right ones, of which there is at least one."""
        raise NotImplementedError(f"{type(self).__name__} must define compare")
