"""A comparison as a reward: does a rater prefer the text to its opponents?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from textenv.rewards.base import Reward
from textenv.rewards.registry import register

if TYPE_CHECKING:
    from textenv.preferences import Rater

_WORTH = {"better": 1.0, "tie": 0.5, "worse": 0.0}


@register("preference")
class PreferenceReward(Reward):
    """1 where the rater prefers the text to a fixed opponent, ½ for a tie, else 0. Range: 0 … 1.

    Against several opponents it is the mean. Opponents are fixed, so that a text's pay does not
    depend on what else is paid.

    Args:
        rater: A name ("scripted:sentiment", "judge:smollm2", "reward_model:FOLDER"), a dict such
            as {"name": "scripted", "reward": "sentiment"}, or any `Rater`.
        opponents: A text, or a list of texts, that meets every text; or a dict of these by prompt.
        column: Or the task's column with each prompt's opponent or opponents; where it is None
            the prompt is left out.

    Raises:
        ValueError: neither or both of opponents and column, or opponents that are no texts.
        UnknownNameError: no such rater.

    >>> characters = {"name": "length", "unit": "characters"}
    >>> longer = {"name": "scripted", "reward": characters, "scale": 99}
    >>> PreferenceReward(longer, opponents="four")(["", "", ""], ["longer", "same", "abc"])
    [1.0, 0.5, 0.0]
    """

    name = "preference"
    range = (0.0, 1.0)

    def __init__(
        self,
        rater: Any,
        *,
        opponents: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
        column: str | None = None,
    ) -> None:
        from textenv.preferences.raters import rater as as_rater

        if (opponents is None) == (column is None):
            raise ValueError(
                "a preference needs something to compare with: opponents=, fixed texts, or "
                f"column=, a column that holds them; got {opponents!r:.80} and {column!r}"
            )
        self.rater = rater
        self.opponents = opponents
        self.column = column
        self.columns = () if column is None else (column,)
        if isinstance(opponents, Mapping):
            for prompt, texts in opponents.items():
                _listed(texts, f"the prompt {prompt!r:.60}")
        elif opponents is not None:
            _listed(opponents, "every prompt")
        self._rater: Rater = as_rater(rater)

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> list[float | None]:
        """Compare each text with its opponents."""
        against = self._against(prompts, columns)
        rows = [row for row, texts in enumerate(against) for _ in texts or ()]
        verdicts = self._rater.compare(
            [prompts[row] for row in rows],
            [completions[row] for row in rows],
            [text for texts in against for text in texts or ()],
            # Columns are of the prompts; what is only known of our texts is left out.
            **{
                name: [values[row] for row in rows]
                for name, values in columns.items()
                if name != "completion_ids"
            },
        )
        worth: list[list[float]] = [[] for _ in prompts]
        for row, verdict in zip(rows, verdicts, strict=True):
            worth[row].append(_WORTH[verdict])
        return [sum(won) / len(won) if won else None for won in worth]

    def _against(self, prompts: list[str], columns: dict[str, Any]) -> list[list[str] | None]:
        if self.column is not None:
            if self.column not in columns:
                raise ValueError(
                    f"preference needs the column {self.column!r}, got {sorted(columns)}"
                )
            return [
                None if texts is None else _listed(texts, f"the column {self.column!r}")
                for texts in columns[self.column]
            ]
        if not isinstance(self.opponents, Mapping):
            return [_listed(self.opponents, "every prompt")] * len(prompts)
        for prompt in prompts:
            if prompt not in self.opponents:
                raise ValueError(
                    f"preference has opponents for {len(self.opponents)} prompts, none for "
                    f"{prompt!r}: add them, or use column="
                )
        return [_listed(self.opponents[prompt], f"{prompt!r}") for prompt in prompts]


def _listed(texts: Any, where: str) -> list[str]:
    listed = [texts] if isinstance(texts, str) else texts
    if not isinstance(listed, list | tuple) or not all(isinstance(text, str) for text in listed):
        raise ValueError(f"opponents must be a text or a list of texts, got {texts!r} for {where}")
    if not listed:
        raise ValueError(f"expected at least one opponent for {where}, got none")
    return list(listed)


preference = PreferenceReward
