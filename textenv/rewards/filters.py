"""The filters as rewards: a list of patterns, and a classifier of toxic texts.

`blocklist=` of an environment enforces a list instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textenv.filters.blocklist import Blocklist
from textenv.filters.toxicity import probabilities
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


@register("toxicity")
class Toxicity(Reward):
    """The probability that the text is toxic. Range: 0 … 1; the less, the kinder.

    As a reward it is used with a minus: `sentiment() - toxicity()`. It knows English words of two
    letters or more as they stand: a text without any, the empty one too, gets 0.036, whatever it
    says, and "id1ot" is a word that it does not know. A classifier promises nothing; what must
    not be written belongs into `blocklist=`.

    Args:
        include_prompt: Judge the prompt and the completion as one text.
        separator: What stands between the two; "" where completions bring their own blank.

    Raises:
        MissingExtraError: safetensors is not installed.

    >>> insult, harmless = Toxicity()(["", ""], ["you are an idiot", "a fine day"])
    >>> insult > 0.9, harmless < 0.1
    (True, True)
    """

    name = "toxicity"
    range = (0.0, 1.0)

    def __init__(self, *, include_prompt: bool = False, separator: str = " ") -> None:
        self.include_prompt = include_prompt
        self.separator = separator

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        """Judge all texts at once."""
        if not self.include_prompt:
            return probabilities(completions)
        pairs = zip(prompts, completions, strict=True)
        return probabilities([self.separator.join(filter(None, pair)) for pair in pairs])


blocklist, toxicity = BlocklistPenalty, Toxicity
