"""How different the texts of a set are, within themselves and from one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textenv import rewards
from textenv.metrics.intervals import Interval
from textenv.metrics.scores import list_of_texts, mean_score
from textenv.rewards.pool import Pool
from textenv.rewards.translation import Tokenize, check_tokenize, need_sacrebleu
from textenv.rewards.units import Unit, check_order, words


def distinct_n(texts: Sequence[Sequence[int]] | Sequence[str], n: int = 2) -> float:
    """The share of different n-grams among all n-grams of all texts, 0 … 1 (Li et al. 2016).

    It falls with the number of texts, so compare equal numbers only. Texts shorter than n add
    nothing; without any n-gram it is 0. Of single texts: the reward `distinct_n`.

    Args:
        texts: Lists of ids; or texts, which are cut into words (`textenv.rewards.units.words`).
        n: The length of the n-grams.

    >>> distinct_n([[1, 2, 3], [1, 2]])  # (1, 2), (2, 3), (1, 2)
    0.6666666666666666
    """
    check_order(n)
    if isinstance(texts, str):  # or each of its characters would be a text
        raise ValueError(f"expected texts to be a list, got one text: write [{texts!r:.60}]")
    cut = [words(text) if isinstance(text, str) else text for text in texts]
    grams = [tuple(text[i : i + n]) for text in cut for i in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def self_bleu(texts: Sequence[str], *, tokenize: Tokenize = "auto", order: int = 4) -> float:
    """The mean BLEU of each text, all the others being right ones (Zhu et al. 2018), 0 … 1.

    Lower is more diverse; 1 where each text stands there twice. It rises with the number of
    texts, so compare equal numbers only; and it has no interval, because its texts are not
    independent. The BLEU is that of the reward `bleu` (sacrebleu, smoothed, effective order);
    Texygen, where the measure comes from, smooths otherwise, so compare its numbers with its own.
    https://arxiv.org/abs/1802.01886

    Args:
        texts: At least two.
        tokenize: As of the reward `bleu`; "auto" looks at all texts.
        order: The longest n-grams; papers report 2 … 5.

    Raises:
        ValueError: fewer than two texts.

    >>> self_bleu(["a fine film", "a fine film", "我爱你"])
    0.6666666666666666
    """
    need_sacrebleu("self_bleu")
    check_tokenize(tokenize)
    check_order(order)
    written = list_of_texts("texts", texts)
    if len(written) < 2:
        raise ValueError(
            f"self_bleu compares texts with one another, got {len(written)}: give more"
        )
    scores = Pool(written, tokenize, order).each_against_the_others()
    return sum(scores) / len(scores)


def repetition(
    texts: Sequence[str], *, n: int = 4, unit: Unit = "words", **interval: Any
) -> Interval:
    """The mean share of n-grams that a text repeats, 0 … 1: see the reward `repetition`.

    Lower is better. It looks into each text; texts that are all the same have none of it.

    Args:
        texts: n texts.
        n: The length of the n-grams.
        unit: What is counted.
        **interval: `confidence`, `resamples` and `seed` of `mean_interval`.

    >>> repetition(["so so so so so", "a fine film"], n=1).mean
    0.4
    """
    return mean_score(rewards.repetition(n, unit=unit), texts, **interval)
