"""BLEU and chrF of sets of texts, by the package sacrebleu, on a scale of 0 … 1.

A set has two numbers, which differ: the mean over its texts (`bleu`, `chrf`: what a policy is paid,
with an interval), and the one of its summed counts (`corpus_bleu`, `corpus_chrf`: what papers
print, times 100).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from textenv import rewards
from textenv.metrics.intervals import Interval
from textenv.metrics.scores import References, list_of_texts, mean_score
from textenv.rewards.references import references_in
from textenv.rewards.translation import (
    Tokenize,
    bleu_of,
    check_tokenize,
    chrf_of,
    cutting,
    need_sacrebleu,
    share,
)


def bleu(
    texts: Sequence[str],
    references: References,
    *,
    tokenize: Tokenize = "auto",
    lowercase: bool = False,
    **interval: Any,
) -> Interval:
    """The mean of the sentence BLEUs, 0 … 1: see the reward `bleu`.

    Args:
        texts: n texts.
        references: The right text of each, several, or None, which leaves the text out.
        tokenize: How words are cut: see the reward.
        lowercase: Whether capitals are left out of account.
        **interval: `confidence`, `resamples` and `seed` of `mean_interval`.

    >>> bleu(["我爱你。", "cats"], ["我爱你。", "a dog"]).mean
    0.5
    """
    reward = rewards.bleu(tokenize=tokenize, lowercase=lowercase)
    return mean_score(reward, texts, reference=references, **interval)


def chrf(
    texts: Sequence[str], references: References, *, word_order: int = 0, **interval: Any
) -> Interval:
    """The mean of the sentence chrFs, 0 … 1: see the reward `chrf`.

    Args:
        texts: n texts.
        references: As of `bleu`.
        word_order: 0 for chrF, 2 for chrF++.
        **interval: As of `bleu`.

    >>> chrf(["my cats", "no"], ["my cats", "yes"]).mean
    0.5
    """
    reward = rewards.chrf(word_order=word_order)
    return mean_score(reward, texts, reference=references, **interval)


def corpus_bleu(
    texts: Sequence[str],
    references: References,
    *,
    tokenize: Tokenize = "auto",
    lowercase: bool = False,
) -> float:
    """BLEU of the whole set, 0 … 1: n-grams and lengths are summed over the texts first.

    sacrebleu's number for a set, divided by 100; the orders that short texts do not reach are not
    left out, and one bad text weighs by its length. For an interval, or for few and short texts,
    take `bleu`.

    Args:
        texts: n texts.
        references: As of `bleu`.
        tokenize: How words are cut; "auto" looks at all right texts, once.
        lowercase: Whether capitals are left out of account.

    Raises:
        ValueError: no text has a right one.

    >>> corpus_bleu(["a big cat sat there"], [["a big cat sat there", "a cat"]])
    1.0
    """
    need_sacrebleu("corpus_bleu")
    check_tokenize(tokenize)
    kept, rights = _with_references("corpus_bleu", texts, references)
    cut = cutting(tokenize, [text for several in rights for text in several])
    scorer = bleu_of(cut, lowercase, 4, sentence=False)
    return share(scorer.corpus_score(kept, _streams(rights)).score)


def corpus_chrf(texts: Sequence[str], references: References, *, word_order: int = 0) -> float:
    """The chrF of the whole set, 0 … 1: n-grams are summed over the texts first.

    Args:
        texts: n texts.
        references: As of `bleu`.
        word_order: 0 for chrF, 2 for chrF++.

    Raises:
        ValueError: no text has a right one.

    >>> corpus_chrf(["my cats"], ["my cats"])
    1.0
    """
    need_sacrebleu("corpus_chrf")
    kept, rights = _with_references("corpus_chrf", texts, references)
    scorer = chrf_of(word_order, 6, 2, False)
    return share(scorer.corpus_score(kept, _streams(rights)).score)


def _with_references(
    name: str, texts: Sequence[str], references: References
) -> tuple[list[str], list[list[str]]]:
    written = list_of_texts("texts", texts)
    listed = references_in(name, "references", {"references": list(references)})
    if len(listed) != len(written):
        raise ValueError(f"{name} got {len(written)} texts, but {len(listed)} references")
    pairs = [(text, right) for text, right in zip(written, listed, strict=True) if right]
    if not pairs:
        raise ValueError(
            f"{name} needs at least one text with a right one, got {len(written)} texts"
        )
    return [text for text, _ in pairs], [right for _, right in pairs]


def _streams(rights: list[list[str]]) -> list[list[str | None]]:
    """Turn the right texts of each text into sacrebleu's form: all first ones, all second ones."""
    return [list(stream) for stream in zip_longest(*rights)]
