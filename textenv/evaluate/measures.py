"""The measures of a report: what each is computed from, and where it applies.

Of texts that belong to one set, such as corpus BLEU, the whole statistic is computed again on each
bootstrap sample, from counts of each text. Left out on purpose: the spread of a reference model, a
rater or a filter, which are taken as they are.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, NamedTuple

import numpy as np

from textenv.errors import TextenvError, UnknownNameError
from textenv.evaluate.resampling import Array, Distinct, Statistic, Sums, mean_of, perplexity_of
from textenv.evaluate.written import Written
from textenv.rewards import get


class Measure(NamedTuple):
    """One measure of one policy's texts.

    meaning: In words.
    statistic: What is computed.
    number: How many texts it is taken over.
    """

    meaning: str
    statistic: Statistic
    number: int


NEEDS_REFERENCES = ("reference_perplexity", "bleu", "chrf", "rouge_1", "rouge_2", "rouge_l",
                    "exact_match")  # fmt: skip
NAMES = ("reward", "kl", "perplexity", *NEEDS_REFERENCES, "distinct_1", "distinct_2", "self_bleu",
         "repetition", "flagged", "length", "win_rate")  # fmt: skip
_ORDER = 4  # of BLEU: the longest n-grams
_ROUGE = {"rouge_1": "1", "rouge_2": "2", "rouge_l": "L"}


def measures_of(
    written: Written,
    *,
    asked: Sequence[str] | None = None,
    flags: Sequence[str | None] | None = None,
) -> dict[str, Measure]:
    """Collect the measures that apply to a policy's texts, by name.

    Args:
        written: The texts.
        asked: The names of those that are wished; None: all that apply.
        flags: Why a filter flags each text, or None for those that it does not.

    Raises:
        UnknownNameError: a name that is none of `NAMES`.
        TextenvError: a measure is asked for that these texts have nothing for.
    """
    check_names(asked)
    found: dict[str, Measure] = {}
    for make in (_of_reward, _of_models, _of_references, _of_variety):
        found |= make(written, asked)
    if flags is not None:
        marked = mean_of([flag is not None for flag in flags])
        found["flagged"] = Measure("share of texts that the filter flags", marked, len(flags))
    found["length"] = Measure(
        "tokens written, the end token included", mean_of(written.tokens), len(written.texts)
    )
    if asked is None:
        return found
    missing = [name for name in asked if name not in found and name != "win_rate"]
    if missing:
        raise TextenvError(f"{missing[0]!r} cannot be measured here: {_why(missing[0])}")
    return {name: found[name] for name in found if name.split(".")[0] in asked}


def check_names(asked: Sequence[str] | None) -> None:
    """Refuse names that are no measure.

    Raises:
        UnknownNameError: there is one.
    """
    for name in asked or ():
        if name not in NAMES:
            raise UnknownNameError("measure", name, NAMES)


def check_references(asked: Sequence[str] | None, columns: Container[str]) -> None:
    """Refuse, before anything is written, what needs right texts where there are none.

    Args:
        asked: The names of the measures that are wished.
        columns: The names of the task's columns.

    Raises:
        TextenvError: there are none.
    """
    for name in asked or ():
        if name in NEEDS_REFERENCES and "reference" not in columns:
            raise TextenvError(f"{name!r} cannot be measured here: {_why(name)}")


def _why(name: str) -> str:
    if name in NEEDS_REFERENCES:
        return (
            'it needs the right text of every prompt, in the task\'s column "reference"; this task '
            "has none"
        )
    return "it needs what was not asked for (a reference model, or a filter)"


def _wished(name: str, asked: Sequence[str] | None) -> bool:
    return asked is None or name in asked


def _of_reward(written: Written, asked: Sequence[str] | None) -> dict[str, Measure]:
    counted = written.counted
    number = int(counted.sum())
    if not number:
        raise TextenvError("the reward failed for every text, and all were skipped")
    total = Measure("what a text is paid", mean_of(written.rewards, counted), number)
    parts = {
        f"reward.{name}": Measure(f"of it by {name}, weighted", mean_of(part, counted), number)
        for name, part in written.parts.items()
    }
    return {"reward": total, **parts}


def _of_models(written: Written, asked: Sequence[str] | None) -> dict[str, Measure]:
    found, number = {}, len(written.texts)
    if written.kl is not None:
        meaning = "KL to the reference, nats a text, exact at each state"
        found["kl"] = Measure(meaning, mean_of(written.kl), number)
    if written.log_probs is not None:
        statistic = perplexity_of(written.log_probs, written.tokens)
        found["perplexity"] = Measure("of the texts under the fixed model", statistic, number)
    if written.reference_tokens is not None and written.reference_tokens.any():
        assert written.reference_log_probs is not None
        statistic = perplexity_of(written.reference_log_probs, written.reference_tokens)
        known = int((written.reference_tokens > 0).sum())
        found["reference_perplexity"] = Measure(
            "the policy's, of the right texts", statistic, known
        )
    return found


def _of_references(written: Written, asked: Sequence[str] | None) -> dict[str, Measure]:
    if written.references is None:
        return {}
    known = sum(right is not None for right in written.references)
    singles: dict[str, tuple[str, Any]] = {
        "chrf": ("mean of the texts' chrF", "chrf"),
        **{
            name: (f"mean of the texts' ROUGE-{variant}", {"name": "rouge", "variant": variant})
            for name, variant in _ROUGE.items()
        },
        "exact_match": ("share of texts that are right", "exact_match"),
    }
    found = {}
    if _wished("bleu", asked):
        found["bleu"] = Measure("corpus BLEU", _bleu(written.texts, written.references), known)
    for name, (meaning, reward) in singles.items():
        if _wished(name, asked):
            found[name] = Measure(meaning, _by_reward(reward, written), known)
    return found


def _of_variety(written: Written, asked: Sequence[str] | None) -> dict[str, Measure]:
    found, number = {}, len(written.texts)
    for n in (1, 2):
        if _wished(f"distinct_{n}", asked):
            items = [_grams(ids, n) for ids in written.token_ids]
            meaning = f"share of different {n}-grams of tokens in all texts"
            found[f"distinct_{n}"] = Measure(meaning, Distinct(items), number)
    if _wished("self_bleu", asked) and number > 1:
        meaning = "mean BLEU of a text, all others being right ones"
        found["self_bleu"] = Measure(meaning, _self_bleu(written.texts), number)
    if _wished("repetition", asked):
        meaning = "share of a text's n-grams that it has said before"
        found["repetition"] = Measure(meaning, _by_reward("repetition", written), number)
    return found


def _bleu(texts: Sequence[str], references: Sequence[list[str] | None]) -> Sums:
    """Corpus BLEU as sacrebleu computes it, from the summed counts of the sentences, 0 … 1.

    Of each text: matches and n-grams of 1 to 4 words, its length and that of the right text.
    """
    from textenv.rewards.translation import bleu_of, cutting, need_sacrebleu

    need_sacrebleu("the measure 'bleu'")
    rights = [right for several in references for right in several or ()]
    scorer = bleu_of(cutting("auto", rights), False, _ORDER)
    counts = np.zeros((len(texts), 2 * _ORDER + 2))
    for row, (text, several) in enumerate(zip(texts, references, strict=True)):
        if several is not None:
            score = scorer.sentence_score(text, several)
            counts[row] = [*score.counts, *score.totals, score.sys_len, score.ref_len]

    def formula(sums: Array) -> Array:
        whole = sums.reshape(-1, 2 * _ORDER + 2).astype(np.int64).tolist()
        scores = [
            scorer.compute_bleu(
                row[:_ORDER], row[_ORDER : 2 * _ORDER], *row[2 * _ORDER :], smooth_method="exp"
            ).score
            for row in whole
        ]
        return np.array(scores).reshape(sums.shape[:-1]) / 100

    return Sums(counts, formula)


def _self_bleu(texts: Sequence[str]) -> Sums:
    """The mean of each text's BLEU against the others.

    A bootstrap sample draws texts, not what they are compared with: otherwise a text that was drawn
    twice would be compared with itself. So the interval leaves out the spread of the others.
    """
    from textenv.rewards.pool import Pool
    from textenv.rewards.translation import need_sacrebleu

    need_sacrebleu("the measure 'self_bleu'")
    return mean_of(Pool(texts, "auto", _ORDER).each_against_the_others())


def _by_reward(reward: Any, written: Written) -> Sums:
    """The mean of a reward, of the texts that it does not leave out."""
    columns = {**written.columns, "completion_ids": [list(ids) for ids in written.token_ids]}
    values = get(reward).total(list(written.prompts), list(written.texts), **columns)
    counted = np.array([value is not None for value in values])
    return mean_of([0.0 if value is None else value for value in values], counted)


def _grams(ids: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)]
