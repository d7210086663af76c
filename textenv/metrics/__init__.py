"""Numbers about sets of texts and about samples, with intervals.

A reward says what each text is worth; the metric of the same name says it of a set, as a mean with
its interval. No torch here, unless a language model is asked, and no sacrebleu before the first
BLEU.
"""

from textenv.metrics.diversity import distinct_n, repetition, self_bleu
from textenv.metrics.form import length, readability, regular_expression
from textenv.metrics.intervals import (
    Interval,
    bootstrap_interval,
    interquartile_mean,
    mean_interval,
)
from textenv.metrics.overlap import edit_distance, edit_similarity, exact_match, rouge, token_f1
from textenv.metrics.perplexities import TextPerplexity, perplexity, reference_perplexity
from textenv.metrics.scores import mean_score
from textenv.metrics.translation import bleu, chrf, corpus_bleu, corpus_chrf

__all__ = [
    "Interval",
    "TextPerplexity",
    "bleu",
    "bootstrap_interval",
    "chrf",
    "corpus_bleu",
    "corpus_chrf",
    "distinct_n",
    "edit_distance",
    "edit_similarity",
    "exact_match",
    "interquartile_mean",
    "length",
    "mean_interval",
    "mean_score",
    "perplexity",
    "readability",
    "reference_perplexity",
    "regular_expression",
    "repetition",
    "rouge",
    "self_bleu",
    "token_f1",
]
