"""How varied a text is: within itself, and against a fixed set of texts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

from textenv.rewards.base import Reward
from textenv.rewards.pool import Pool
from textenv.rewards.registry import register
from textenv.rewards.translation import Tokenize, check_tokenize, need_sacrebleu
from textenv.rewards.units import check_order, ngrams, units

Counted = Literal["words", "characters", "tokens"]


class _NGrams(Reward):
    """What looks at the n-grams of single texts; subclasses say what it makes of them."""

    range = (0.0, 1.0)

    def __init__(self, n: int, *, unit: Counted) -> None:
        check_order(n)
        if unit not in ("words", "characters", "tokens"):
            raise ValueError(f'unit must be "words", "characters" or "tokens", got {unit!r}')
        self.n = n
        self.unit = unit

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        """Count the n-grams of each text."""
        cut: Sequence[Sequence[Any]]
        if self.unit != "tokens":
            cut = [units(text, self.unit) for text in completions]
        elif "completion_ids" in columns:
            cut = columns["completion_ids"]
        else:
            raise ValueError(f'{self.name} in tokens needs completion_ids; or take unit="words"')
        counts = [ngrams(text, self.n) for text in cut]
        return [self._worth(len(grams), grams.total()) for grams in counts]

    def _worth(self, different: int, all_of_them: int) -> float:
        raise NotImplementedError


@register("distinct_n")
class DistinctN(_NGrams):
    """The share of different n-grams among the n-grams of the text (after Li et al. 2016).

    Range: 0 … 1, higher is more varied; 1 where no n-gram comes twice; 0 for a text that is
    shorter than n, which is not varied either. It falls with the length of a text, so a policy
    can raise it by writing less. Over a set of texts: `textenv.metrics.distinct_n`.

    Args:
        n: The length of the n-grams.
        unit: "words" (see `textenv.rewards.units.words`), "characters" or "tokens".

    >>> DistinctN(1)(["", ""], ["good good film", "我爱我"])
    [0.6666666666666666, 0.6666666666666666]
    """

    name = "distinct_n"

    def __init__(self, n: int = 2, *, unit: Counted = "words") -> None:
        super().__init__(n, unit=unit)

    def _worth(self, different: int, all_of_them: int) -> float:
        return different / all_of_them if all_of_them else 0.0


@register("repetition")
class Repetition(_NGrams):
    """The share of n-grams that repeat an earlier one of the text (seq-rep-n, Welleck et al. 2020).

    Range: 0 … 1 (never quite 1), **lower is better**: as a reward write `-repetition()`. 0 where
    no n-gram comes twice, and for a text that is shorter than n; else 1 − `distinct_n` with the
    same n. https://arxiv.org/abs/1908.04319

    Args:
        n: The length of the n-grams.
        unit: "words" (see `textenv.rewards.units.words`), "characters" or "tokens".

    >>> Repetition(1)(["", ""], ["good good film", "我爱你"])
    [0.33333333333333337, 0.0]
    """

    name = "repetition"

    def __init__(self, n: int = 4, *, unit: Counted = "words") -> None:
        super().__init__(n, unit=unit)

    def _worth(self, different: int, all_of_them: int) -> float:
        return 1 - different / all_of_them if all_of_them else 0.0


@register("self_bleu")
class SelfBleu(Reward):
    """How much a text is like those of a fixed pool: its BLEU, all of them being right ones.

    Range: 0 … 1, **lower is more novel**: as a reward write `-self_bleu(pool)`. A reward may not
    depend on which texts are scored beside it, so the pool is handed in: what the policy wrote
    before, or the texts that it was pretrained on. The measure of Zhu et al. (2018), each text of
    a set against the others of that set, is `textenv.metrics.self_bleu`. Smoothing, and what it is
    worth: as of `bleu`.

    Args:
        pool: At least one text; each n-gram is counted once, here.
        tokenize: As of `bleu`; "auto" looks at the pool.
        order: The longest n-grams.

    Raises:
        MissingExtraError: sacrebleu is not installed.
        ValueError: the pool is empty, or no list of texts.

    >>> SelfBleu(["a fine film", "a bad film"])(["", ""], ["a fine film", "我爱你"])
    [1.0, 0.0]
    """

    name = "self_bleu"
    range = (0.0, 1.0)

    def __init__(self, pool: Sequence[str], *, tokenize: Tokenize = "auto", order: int = 4) -> None:
        need_sacrebleu("the reward 'self_bleu'")
        check_tokenize(tokenize)
        check_order(order)
        if isinstance(pool, str) or not len(pool) or not all(isinstance(t, str) for t in pool):
            raise ValueError(f"pool must be a list of at least one text, got {pool!r:.80}")
        self.pool = list(pool)
        self.tokenize = tokenize
        self.order = order

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        """Compare each text with the whole pool."""
        return [self._counted.bleu(text) for text in completions]

    @functools.cached_property
    def _counted(self) -> Pool:
        return Pool(self.pool, self.tokenize, self.order)


distinct_n, repetition, self_bleu = DistinctN, Repetition, SelfBleu
