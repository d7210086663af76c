"""BLEU and chrF of one text, by the package sacrebleu, on a scale of 0 … 1.

Papers print 100 times these numbers, and BLEU of a whole set from its summed counts, which is not
the mean over its texts: that is `textenv.metrics.corpus_bleu`.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable
from typing import Any, Literal

from textenv.errors import MissingExtraError
from textenv.rewards.references import ReferenceReward
from textenv.rewards.registry import register
from textenv.rewards.units import CHINESE, KANA, check_order

Tokenize = Literal["auto", "13a", "intl", "zh", "char", "none"]
TOKENIZERS = ("auto", "13a", "intl", "zh", "char", "none")


@register("bleu")
class Bleu(ReferenceReward):
    """Sentence BLEU (Papineni et al. 2002) by sacrebleu, divided by 100.

    The geometric mean of the precisions of 1- to 4-grams, times exp(1 − |y*|/|y|) for a text
    that is shorter than the right one. Range: 0 … 1, higher is better; 1 for the right text, 0
    for a text without any right word, the empty one too. Several right texts count together, as
    in the paper: an n-gram is right that any of them has.

    As sacrebleu does for single sentences, orders that a short text does not reach are left out
    (effective order), and the k-th order without a match counts 1/2ᵏ (smoothing "exp"). What it
    leaves out: words in another form, synonyms, meaning; one text's BLEU is noisy.
    https://aclanthology.org/P02-1040, https://aclanthology.org/W18-6319

    Args:
        tokenize: How sacrebleu cuts words: "13a" (its default), "intl", "zh" (each Chinese
            character, else 13a), "char" (every character) or "none" (at blanks). "auto": by the
            right texts, "char" if they hold Japanese kana, else "zh" if they hold Chinese
            characters, else "13a".
        lowercase: Whether capitals are left out of account.
        order: The longest n-grams.
        column: The column with the right texts; a prompt whose right text is None is left out.

    Raises:
        MissingExtraError: sacrebleu is not installed.

    >>> reward = Bleu()
    >>> reward(["", ""], ["我爱你。", "cats"], reference=["我爱你。", ["a dog", "dogs"]])
    [1.0, 0.0]
    """

    name = "bleu"
    range = (0.0, 1.0)

    def __init__(
        self,
        *,
        tokenize: Tokenize = "auto",
        lowercase: bool = False,
        order: int = 4,
        column: str = "reference",
    ) -> None:
        need_sacrebleu("the reward 'bleu'")
        check_tokenize(tokenize)
        check_order(order)
        super().__init__(column)
        self.tokenize = tokenize
        self.lowercase = lowercase
        self.order = order

    def compare(self, text: str, references: list[str]) -> float:
        """Return sacrebleu's number, divided by 100."""
        scorer = bleu_of(cutting(self.tokenize, references), self.lowercase, self.order)
        return share(scorer.sentence_score(text, references).score)


@register("chrf")
class ChrF(ReferenceReward):
    """Sentence chrF (Popović 2015) by sacrebleu, divided by 100.

    An F-score of character n-grams, recall counting β² times as much as precision; it needs no
    words, so it serves any script and forgives wrong endings. Range: 0 … 1, higher is better; 1
    for the right text, blanks apart; 0 without a common n-gram, for the empty text too. Of
    several right texts the best counts. https://aclanthology.org/W15-3049

    Args:
        word_order: The longest n-grams of words that count too: 0 for chrF, 2 for chrF++.
        order: The longest n-grams of characters.
        beta: β.
        lowercase: Whether capitals are left out of account.
        column: The column with the right texts; a prompt whose right text is None is left out.

    Raises:
        MissingExtraError: sacrebleu is not installed.

    >>> ChrF()(["", ""], ["my cats", "no"], reference=["my cats", "yes"])
    [1.0, 0.0]
    """

    name = "chrf"
    range = (0.0, 1.0)

    def __init__(
        self,
        *,
        word_order: int = 0,
        order: int = 6,
        beta: int = 2,
        lowercase: bool = False,
        column: str = "reference",
    ) -> None:
        need_sacrebleu("the reward 'chrf'")
        check_order(order)
        if word_order < 0 or beta < 1:
            raise ValueError(
                f"expected word_order ≥ 0 and beta ≥ 1, got {word_order!r} and {beta!r}"
            )
        super().__init__(column)
        self.word_order = word_order
        self.order = order
        self.beta = beta
        self.lowercase = lowercase

    def compare(self, text: str, references: list[str]) -> float:
        """Return sacrebleu's number, divided by 100."""
        scorer = chrf_of(self.word_order, self.order, self.beta, self.lowercase)
        return share(scorer.sentence_score(text, references).score)


def share(score: float) -> float:
    """Return a score of 0 … 100 as 0 … 1: rounding can carry 100 a little too high."""
    return min(max(score / 100, 0.0), 1.0)


def cutting(tokenize: Tokenize, references: Iterable[str]) -> str:
    """Return sacrebleu's name of how words are cut, "auto" resolved by the right texts."""
    if tokenize != "auto":
        return tokenize
    texts = "".join(references)
    return "char" if KANA.search(texts) else "zh" if CHINESE.search(texts) else "13a"


def check_tokenize(tokenize: str) -> None:
    """Refuse what is no way to cut words; sacrebleu's others want files from the network.

    Raises:
        ValueError: it is none.
    """
    if tokenize not in TOKENIZERS:
        raise ValueError(f"tokenize must be one of {', '.join(TOKENIZERS)}, got {tokenize!r}")


def need_sacrebleu(what: str) -> None:
    """Say early that sacrebleu is missing; it is imported at the first text.

    Raises:
        MissingExtraError: it is.
    """
    if importlib.util.find_spec("sacrebleu") is None:
        raise MissingExtraError("sacrebleu", what)


@functools.cache
def bleu_of(tokenize: str, lowercase: bool, order: int, sentence: bool = True) -> Any:
    """Make sacrebleu's scorer once a process, of sentences or of whole sets."""
    from sacrebleu.metrics import BLEU

    return BLEU(
        tokenize=tokenize,
        lowercase=lowercase,
        max_ngram_order=order,
        effective_order=sentence,
        force=True,  # or texts that end in " ." would be called tokenised, in a log message
    )


@functools.cache
def chrf_of(word_order: int, order: int, beta: int, lowercase: bool) -> Any:
    """Make sacrebleu's scorer once a process."""
    from sacrebleu.metrics import CHRF

    return CHRF(word_order=word_order, char_order=order, beta=beta, lowercase=lowercase)


bleu, chrf = Bleu, ChrF
