"""Metrics of sets of texts: means of rewards, summed counts, and the two perplexities."""

import math
import subprocess
import sys

import numpy as np
import pytest
import sacrebleu
import torch

from tests.small_tasks import task
from textenv import metrics, rewards
from textenv.metrics import mean_score, perplexity, reference_perplexity
from textenv.models import TabularLM, load
from textenv.tasks import builder

TEXTS = ["the cat sat on the mat .", "a red dog", "", "the dog is not there ."]
RIGHT = ["the cat sat on a mat .", ["a dog", "a red cat"], "nobody", None]
KEPT = TEXTS[:3], [RIGHT[0], *RIGHT[1:3]]


def test_importing_loads_neither_torch_nor_sacrebleu():
    code = (
        "import sys, textenv.metrics; "
        "print([m for m in ('torch', 'sacrebleu', 'pyphen') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("metric", "reward"),
    [
        (metrics.bleu, "bleu"),
        (metrics.chrf, "chrf"),
        (metrics.rouge, "rouge"),
        (metrics.token_f1, "token_f1"),
        (metrics.exact_match, "exact_match"),
        (metrics.edit_distance, "edit_distance"),
        (metrics.edit_similarity, "edit_similarity"),
    ],
)
def test_a_metric_with_references_is_the_mean_of_its_reward(metric, reward):
    scores = rewards.get(reward)([""] * 4, TEXTS, reference=RIGHT)
    assert scores[3] is None  # left out of the mean
    found = metric(TEXTS, RIGHT)
    assert found.mean == pytest.approx(np.mean(scores[:3]))
    assert found.low <= found.mean <= found.high
    assert metric(TEXTS, RIGHT, confidence=0.5, resamples=200, seed=1).mean == found.mean
    with pytest.raises(
        ValueError, match=r"leaves out all 4 texts, so they have no mean.*reference"
    ):
        metric(TEXTS, [None] * 4)
    with pytest.raises(ValueError, match="4 texts, but 1 reference"):
        metric(TEXTS, ["a"])


def test_a_metric_without_references_is_the_mean_of_its_reward():
    for metric, reward in (
        (metrics.length(TEXTS), rewards.length(unit="words")),
        (metrics.length(TEXTS, unit="characters"), rewards.length(unit="characters")),
        (metrics.repetition(TEXTS, n=1), rewards.repetition(1)),
        (metrics.readability(TEXTS), rewards.readability()),
        (metrics.regular_expression(TEXTS, "dog"), rewards.regular_expression("dog")),
    ):
        assert metric.mean == pytest.approx(np.mean(reward([""] * 4, TEXTS)))


def test_any_reward_is_a_metric():
    total = rewards.get("length") - 2 * rewards.get("sentiment")
    ids = [[1, 2], [3]]
    # 2 − 2·0.4404 and 1 − 2·(−0.5423).
    assert mean_score(total, ["good", "bad"], completion_ids=ids).mean == pytest.approx(
        ((2 - 2 * 0.4404) + (1 + 2 * 0.5423)) / 2
    )
    with pytest.raises(ValueError, match="2 texts, but 1 prompts"):
        mean_score("length", ["a", "b"], prompts=["x"])


# Summed counts


def test_corpus_bleu_and_chrf_are_sacrebleus():
    texts = [text for text, right in zip(TEXTS, RIGHT) if right is not None]
    streams = [["the cat sat on a mat .", "a dog", "nobody"], [None, "a red cat", None]]
    theirs = sacrebleu.corpus_bleu(texts, streams, force=True).score / 100
    assert metrics.corpus_bleu(TEXTS, RIGHT) == pytest.approx(theirs)
    assert 0 < theirs < 1
    assert metrics.corpus_bleu(TEXTS, RIGHT) != pytest.approx(metrics.bleu(TEXTS, RIGHT).mean)
    for word_order in (0, 2):
        theirs = sacrebleu.corpus_chrf(texts, streams, word_order=word_order).score / 100
        assert metrics.corpus_chrf(TEXTS, RIGHT, word_order=word_order) == pytest.approx(theirs)


def test_corpus_bleu_in_chinese_is_sacrebleus_zh():
    texts, right = ["我爱你们。", "他是老师。"], ["我爱他们。", "他是好老师。"]
    theirs = sacrebleu.corpus_bleu(texts, [right], tokenize="zh").score / 100
    assert metrics.corpus_bleu(texts, right) == pytest.approx(theirs)
    assert theirs > 0.2


def test_corpus_bleu_by_hand():
    # 1-grams 3/4 + 4/4 = 7/8; 2-grams 2/3 + 3/3 = 5/6; 3-grams 1/2 + 2/2 = 3/4; 4-grams 0 + 1 = ½.
    texts, right = ["a b c x", "d e f g"], ["a b c y", "d e f g"]
    expected = (7 / 8 * 5 / 6 * 3 / 4 * 1 / 2) ** 0.25
    assert metrics.corpus_bleu(texts, right) == pytest.approx(expected)


def test_corpus_scores_without_references():
    for metric in (metrics.corpus_bleu, metrics.corpus_chrf):
        with pytest.raises(ValueError, match="at least one text with a right one, got 2 texts"):
            metric(["a", "b"], [None, None])
        with pytest.raises(ValueError, match="got 2 texts, but 1 references"):
            metric(["a", "b"], ["a"])


def test_distinct_n_of_texts_cuts_words():
    # the cat, cat sat; the cat: 2 of 3.
    assert metrics.distinct_n(["The cat sat.", "the cat"]) == pytest.approx(2 / 3)
    assert metrics.distinct_n([[1, 2, 3], [1, 2]]) == pytest.approx(2 / 3)
    assert metrics.distinct_n(["我爱我"], 1) == pytest.approx(2 / 3)


# The two perplexities


def table(made):
    """After anything: a ½, b and ! ⅛ each, c 0, the end ¼; as a policy of the small task."""
    model = TabularLM(5, order=0, vocabulary=made.vocabulary)
    with torch.no_grad():
        model.logits.copy_(torch.tensor([0.5, 0.125, 0.0, 0.125, 0.25]).log().expand(1, 5))
    return model


def test_perplexity_of_texts_by_hand():
    model = table(task())
    found = perplexity(["a a", "b"], lm=model)
    # a a $: ½·½·¼ = 2⁻⁴; b $: ⅛·¼ = 2⁻⁵.
    assert found.log_probs == pytest.approx([-4 * math.log(2), -5 * math.log(2)])
    assert found.counts.tolist() == [3, 2]
    # Over all: 2^(9/5); text by text 2^(4/3) and 2^(5/2).
    assert found.value == pytest.approx(2**1.8)
    assert found.by_text == pytest.approx([2 ** (4 / 3), 2**2.5])
    low, high = found.interval()[1:]
    assert (low, high) == pytest.approx((2 ** (4 / 3), 2**2.5))  # of two texts: either alone


def test_perplexity_is_not_the_mean_of_the_reward():
    model = table(task())
    mean = mean_score(rewards.perplexity(model), ["a a", "b"]).mean
    assert mean == pytest.approx((2 ** (4 / 3) + 2**2.5) / 2)


def test_reference_perplexity_by_hand():
    made = task(columns={"reference": [["a a", "b"], "a !"]})
    policy = table(made)
    found = reference_perplexity(policy, made)
    # a a $: 2⁻⁴; b $: 2⁻⁵; "a !" ends with the stop token, so that no end follows: ½·⅛ = 2⁻⁴.
    assert found.log_probs / -math.log(2) == pytest.approx([4, 5, 4])
    assert found.counts.tolist() == [3, 2, 2]
    assert found.value == pytest.approx(2 ** (13 / 7))
    # Without the end: ¼ over 2, ⅛ over 1, and the last as before.
    without = reference_perplexity(policy, made, end=False)
    assert (without.counts.tolist(), without.value) == ([2, 1, 2], pytest.approx(2 ** (9 / 5)))
    # The same from lists, where nobody knows of stop tokens.
    lists = reference_perplexity(policy, prompts=["a", "b c"], references=[["a a", "b"], None])
    assert lists.log_probs.tolist() == found.log_probs[:2].tolist()


def test_it_is_what_training_by_maximum_likelihood_lowers():
    made = builder("ToyTranslation")(split="test")
    few = made.with_changes(
        prompts=made.prompts[:50], columns={"reference": made.columns["reference"][:50]}
    )
    policy = load("translator")
    found = reference_perplexity(policy, few)
    assert 1 < found.value < 1.5  # the shipped translator knows this language
    shuffled = few.with_changes(columns={"reference": few.columns["reference"][::-1]})
    assert reference_perplexity(policy, shuffled).value > 100 * found.value
    # In one batch and one by one.
    alone = [
        reference_perplexity(policy, prompts=[prompt], references=[right]).value
        for prompt, right in zip(few.prompts[:5], few.columns["reference"][:5])
    ]
    assert found.by_text[:5] == pytest.approx(alone, rel=1e-5)
    interval = found.interval()
    assert interval.low < found.value == interval.mean < interval.high


def test_what_the_model_never_writes():
    made = task(columns={"reference": ["a", "c"]})
    found = reference_perplexity(table(made), made)
    assert found.value == math.inf
    with pytest.raises(ValueError, match=r"never writes 1 of the 2 texts.*written\(\)\.interval"):
        found.interval()
    assert found.written().value == pytest.approx(2**1.5)  # a $: ½·¼ over 2


def test_the_docstrings_say_the_difference_in_the_same_words():
    same = [
        paragraph
        for paragraph in (perplexity.__doc__ or "").split("\n\n")
        if "Two things are called perplexity" in paragraph
    ]
    assert len(same) == 1
    assert same[0] in (reference_perplexity.__doc__ or "")
    assert "fixed language model" in (perplexity.__doc__ or "").splitlines()[0]
    assert "under the policy itself" in (reference_perplexity.__doc__ or "").splitlines()[0]


def test_what_is_refused():
    made = task()
    policy = table(made)
    for ask, message in (
        (lambda: reference_perplexity(policy, made), r"needs the column 'reference', got \[\]"),
        (lambda: reference_perplexity(policy), "needs a task, or prompts= and references="),
        (lambda: reference_perplexity(policy, prompts=["a"]), "give both"),
        (lambda: reference_perplexity(policy, made, prompts=["a"]), "not both"),
        (
            lambda: reference_perplexity(policy, prompts=["a"], references=["a", "b"]),
            "1 prompts, but 2 references",
        ),
        (
            lambda: reference_perplexity(policy, prompts=["a"], references=[None]),
            "1 prompts, none with a reference",
        ),
        (
            lambda: reference_perplexity(TabularLM(5), prompts=["a"], references=["a"]),
            "has no vocabulary",
        ),
        (
            lambda: reference_perplexity(policy, prompts=["a"], references=["zebra"]),
            "'zebra' is not in the vocabulary",
        ),
        (lambda: perplexity(["a"], ["x", "y"], lm=policy), "1 texts, but 2 prompts"),
        (lambda: perplexity([], lm=policy).interval(), "at least one finite number"),
    ):
        with pytest.raises(ValueError, match=message):
            ask()


@pytest.mark.parametrize(
    "metric",
    [
        lambda texts: metrics.length(texts),
        lambda texts: metrics.rouge(texts, ["a"] * len(texts)),
        lambda texts: metrics.corpus_bleu(texts, ["a"] * len(texts)),
        lambda texts: metrics.self_bleu(texts),
        lambda texts: metrics.perplexity(texts),
    ],
)
def test_texts_are_a_list_of_texts(metric):
    with pytest.raises(ValueError, match=r"list of texts, got one: write \['a film'\]"):
        metric("a film")  # each character would be a text
    with pytest.raises(ValueError, match="list of texts, but number 1 is None"):
        metric(["a film", None])


def test_lists_that_are_none():
    with pytest.raises(ValueError, match=r"got one text: write \['a film'\]"):
        metrics.distinct_n("a film")
    with pytest.raises(ValueError, match=r"must be an integer ≥ 1, got 0"):
        metrics.distinct_n(["a film"], 0)
    with pytest.raises(ValueError, match="no texts have no mean"):
        metrics.length([])
    with pytest.raises(ValueError, match="list of texts, got one: write"):
        metrics.rouge(["a"], "a", prompts="b")
    # A keyword that is misspelt is taken for a column, and says so.
    with pytest.raises(ValueError, match="expected tokenise= to be a list of 1 values, a column"):
        metrics.bleu(["a"], ["a"], tokenise="zh")
    with pytest.raises(ValueError, match="expected reference= to be a list of 1 values"):
        metrics.rouge(["a"], "a")
