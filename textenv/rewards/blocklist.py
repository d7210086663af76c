"""A list of patterns as a reward; `blocklist=` of an environment enforces one instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textenv.filters.blocklist import Blocklist
from textenv.rewards.base import Reward
from textenv.rewards.registry import register


@register("blocklist")
class BlocklistPenalty(Reward):
    """−1 where the text completes a listed pattern, else 0. Range: −1 or 0.

    A pattern may begin in the prompt. How texts are compared, and what that misses, says
    `textenv.Blocklist`.

    Args:
        patterns: Texts; "?" is any one character.

    >>> BlocklistPenalty(["bad word"])(["", "a b"], ["a good word", "a-d, WORD!"])
    [0.0, -1.0]
    """

    name = "blocklist"
    range = (-1.0, 0.0)

    def __init__(self, patterns: Sequence[str]) -> None:
        self._blocklist = Blocklist(patterns)
        self.patterns = list(self._blocklist.patterns)

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        """Search each text."""
        pairs = zip(prompts, completions, strict=True)
        return [0.0 if self._blocklist.find(*pair) is None else -1.0 for pair in pairs]


blocklist = BlocklistPenalty
