"""A rater that is a script: it compares texts by any reward, with noise, ties and mistakes.

With it the whole of human feedback becomes an experiment that can be repeated, because what is
preferred, and how reliably, is known.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from textenv.errors import RewardFaultError
from textenv.preferences.comparisons import Verdict
from textenv.rewards.convert import RewardLike, as_reward

_TURNED: dict[Verdict, Verdict] = {"better": "worse", "worse": "better", "tie": "tie"}


class ScriptedRater:
    """Prefer the text with the higher reward, the more surely the more it is higher.

    With Δ = r₁ − r₂, the rewards of the first and the second text:

    - |Δ| ≤ tie is a tie. Equal rewards are one always, equal texts too.
    - Else P(the first is better) = σ(scale · Δ), the model of Bradley and Terry (1952,
      https://doi.org/10.2307/2334029). scale = ∞: without noise; scale = 0: a coin.
    - Then a verdict other than a tie is turned round with probability `mistakes`, so that
      P = (1 − mistakes) · σ(scale · Δ) + mistakes · σ(−scale · Δ).

    The verdict on a pair depends on the seed, the prompt and the two texts, and on nothing else:
    not on the other pairs, on the order of calls, or on which text stands first (the verdict on
    (b, a) is the mirror image of that on (a, b)). Asked twice, it answers the same: where a policy
    has few different texts, a win rate rests on few draws of the noise.

    Args:
        reward: Whatever `as_reward` takes.
        scale: How sure one unit of reward makes it; ≥ 0, may be ∞.
        tie: The greatest difference of rewards that is none; ≥ 0.
        mistakes: The rate of verdicts that are turned round, 0 … 1.
        seed: Of the noise and the mistakes.
        name: For messages and as a pseudonym; "scripted:" and the reward's name where none is
            given.

    Raises:
        ValueError: a number out of its range.

    >>> words = {"name": "length", "unit": "words"}
    >>> rater = ScriptedRater(words, scale=float("inf"))
    >>> rater.compare(["", "", ""], ["a a", "a", "b"], ["b", "b b", "a"])
    ['better', 'worse', 'tie']
    """

    def __init__(
        self,
        reward: RewardLike,
        *,
        scale: float = 1.0,
        tie: float = 0.0,
        mistakes: float = 0.0,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        # A negative scale or a NaN would prefer the worse text, or nothing at all, in silence.
        if not scale >= 0:
            raise ValueError(f"expected scale ≥ 0, got {scale!r}")
        if not 0 <= tie < math.inf:
            raise ValueError(f"expected a finite tie ≥ 0, got {tie!r}")
        if not 0 <= mistakes <= 1:
            raise ValueError(f"expected mistakes, a rate in 0 … 1, got {mistakes!r}")
        self.reward = as_reward(reward)
        self.scale = float(scale)
        self.tie = float(tie)
        self.mistakes = float(mistakes)
        self.seed = int(seed)
        self.name = f"scripted:{self.reward.name}" if name is None else name

    def compare(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], **columns: Any
    ) -> list[Verdict]:
        """Say of n pairs how the first text does beside the second.

        Args:
            prompts: n texts.
            first: One completion of each.
            second: Another of each.
            **columns: Lists of n, by name, that the reward needs.

        Raises:
            ValueError: the lists are not of one length.
            RewardFaultError: the reward gives no finite number for a text.
        """
        lengths = {"prompts": len(prompts), "first": len(first), "second": len(second)}
        lengths |= {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"expected lists of one length, got {lengths}")
        if not len(prompts):
            return []
        both = {name: [*values, *values] for name, values in columns.items()}
        rewards = self._rewards([*prompts, *prompts], [*first, *second], both)
        halves = rewards[: len(first)], rewards[len(first) :]
        differences = [one - other for one, other in zip(*halves, strict=True)]
        rows = zip(prompts, first, second, differences, strict=True)
        return [self._verdict(*row) for row in rows]

    def probability(self, difference: float) -> float:
        """P(the first is preferred) where its reward is higher by `difference` > tie.

        >>> round(ScriptedRater("sentiment", mistakes=0.1).probability(1.0), 4)
        0.6848
        """
        surely = _sigmoid(self.scale * difference) if difference else 0.5
        return (1 - self.mistakes) * surely + self.mistakes * (1 - surely)

    def _rewards(
        self, prompts: list[str], completions: list[str], columns: dict[str, Any]
    ) -> list[float]:
        returned = self.reward.total(prompts, completions, **columns)
        if len(returned) != len(completions):
            raise RewardFaultError(
                f"the reward {self.reward.name!r} returned {len(returned)} numbers for "
                f"{len(completions)} texts: a rater needs one for each"
            )
        for number, completion in zip(returned, completions, strict=True):
            if number is None or not math.isfinite(number):
                raise RewardFaultError(
                    f"the reward {self.reward.name!r} said {number} of {completion!r:.80}: a rater "
                    "needs a finite number for each text; leave such pairs out"
                )
        return [float(number) for number in returned if number is not None]

    def _verdict(self, prompt: str, first: str, second: str, difference: float) -> Verdict:
        if abs(difference) <= self.tie or first == second:
            return "tie"
        # Drawn for the two texts in one fixed order, so that (b, a) mirrors (a, b).
        turned = first > second
        noise, mistake = self._draws(prompt, *sorted((first, second)))
        surely = _sigmoid(self.scale * (-difference if turned else difference))
        verdict: Verdict = "better" if noise < surely else "worse"
        return _TURNED[verdict] if turned != (mistake < self.mistakes) else verdict

    def _draws(self, *texts: str) -> tuple[float, float]:
        """Two numbers in [0, 1), uniform and independent over seeds, prompts and texts."""
        key = json.dumps([self.seed, *texts]).encode()
        digest = hashlib.blake2b(key, digest_size=16, person=b"ScriptedRater").digest()
        noise, mistake = (int.from_bytes(part, "big") >> 11 for part in (digest[:8], digest[8:]))
        return noise / 2**53, mistake / 2**53


def _sigmoid(x: float) -> float:
    """1 / (1 + e⁻ˣ), without overflow."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))
