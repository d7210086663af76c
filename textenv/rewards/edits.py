"""How near a text is to the right one, by single edits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from textenv.rewards.base import Reward
from textenv.rewards.registry import register


@register("edit_similarity")
class EditSimilarity(Reward):
    """1 − d(y, y*)/max(|y|, |y*|), where d counts the edits from one text to the other.

    An edit inserts, deletes or replaces one unit (Levenshtein 1966). Range: 0 … 1; 1 for exactly
    the right text, 0 for an empty one, or one without a unit in its place; two empty texts are
    alike.

    Args:
        column: The column with the right texts; a prompt whose right text is None is left out.
        unit: "characters", or "words" between blanks.

    >>> EditSimilarity()(["", ""], ["我爱你。", "我你"], reference=["我爱你。", "我爱你。"])
    [1.0, 0.5]
    """

    name = "edit_similarity"
    range = (0.0, 1.0)

    def __init__(
        self, *, column: str = "reference", unit: Literal["characters", "words"] = "characters"
    ) -> None:
        if unit not in ("characters", "words"):
            raise ValueError(f'unit must be "characters" or "words", got {unit!r}')
        self.column = column
        self.unit = unit
        self.columns = (column,)

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> list[float | None]:
        """Compare each text."""
        if self.column not in columns:
            raise ValueError(
                f"edit_similarity needs the column {self.column!r}, got {sorted(columns)}"
            )
        return [
            None if right is None else self._similarity(text, right)
            for text, right in zip(completions, columns[self.column], strict=True)
        ]

    def _similarity(self, text: str, right: str) -> float:
        if text == right:
            return 1.0
        units = (text.split(), right.split()) if self.unit == "words" else (text, right)
        longest = max(map(len, units))
        return 1 - edits(*units) / longest if longest else 1.0  # blanks alone are no words


def edits(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Count the insertions, deletions and replacements that turn one sequence into the other.

    >>> edits("kitten", "sitting")
    3
    """
    above = list(range(len(other) + 1))
    for row, unit in enumerate(one, start=1):
        current = [row]
        for column, target in enumerate(other):
            replaced = above[column] + (unit != target)
            current.append(min(replaced, above[column + 1] + 1, current[column] + 1))
        above = current
    return above[-1]


edit_similarity = EditSimilarity
