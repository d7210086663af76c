"""Variety, likeness to a pool, and readability: by hand and against sacrebleu."""

import numpy as np
import pytest
import sacrebleu

from textenv.metrics import self_bleu as self_bleu_of_a_set
from textenv.rewards import distinct_n, get, readability, repetition, self_bleu
from textenv.rewards.reading import EASIEST, syllables


def score(reward, *texts, **columns):
    return reward([""] * len(texts), list(texts), **columns)


# Within a text


def test_distinct_n_by_hand():
    # so good so good so: pairs so-good, good-so, so-good, good-so: 2 of 4.
    assert score(distinct_n(), "So good, so good, so!", "one two", "one", "") == [0.5, 1.0, 0, 0]
    assert score(distinct_n(1, unit="characters"), "我爱 我", "") == [pytest.approx(2 / 3), 0]
    ids = [[7, 7, 7, 8], []]
    # 7-7, 7-7, 7-8: 2 of 3.
    assert score(distinct_n(unit="tokens"), "x", "", completion_ids=ids) == [
        pytest.approx(2 / 3),
        0,
    ]


def test_repetition_is_the_rest():
    # a-b-a-b, b-a-b-a, a-b-a-b: one of three repeats; texts shorter than n repeat nothing.
    assert score(repetition(), "a b a b a b", "a b c", "") == [pytest.approx(1 / 3), 0.0, 0.0]
    texts = ["a b a b a b", "a b c", "我我我我"]
    for n in (1, 2, 3):
        varied, repeated = score(distinct_n(n), *texts), score(repetition(n), *texts)
        assert repeated == pytest.approx([1 - value for value in varied])


def test_settings_that_make_no_sense():
    for make, message in (
        (lambda: distinct_n(0), "integer ≥ 1, got 0"),
        (lambda: repetition(2.0), r"integer ≥ 1, got 2\.0"),
        (lambda: distinct_n(unit="lines"), '"words", "characters" or "tokens"'),
        (lambda: self_bleu([]), "list of at least one text"),
        (lambda: self_bleu("a text"), "list of at least one text"),
        (lambda: self_bleu(["a"], tokenize="spm"), "tokenize must be one of"),
        (lambda: score(distinct_n(unit="tokens"), "a"), "needs completion_ids"),
        (lambda: self_bleu_of_a_set(["a"]), "got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


# Against a pool


def texts_of(number, seed):
    random = np.random.default_rng(seed)
    words = ["the", "cat", "sat", "on", "mat", ".", "red"]
    return [" ".join(random.choice(words, size=random.integers(8))) for _ in range(number)]


@pytest.mark.parametrize("order", [2, 4])
def test_self_bleu_with_a_pool_is_sacrebleus(order):
    pool, texts = texts_of(20, 0), texts_of(30, 1)
    library = sacrebleu.metrics.BLEU(effective_order=True, max_ngram_order=order)
    theirs = [library.sentence_score(text, pool).score / 100 for text in texts]
    ours = score(self_bleu(pool, order=order), *texts)
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert 0.1 < np.mean(ours) < 1


def test_self_bleu_of_a_set_is_sacrebleus_of_each_against_the_others():
    texts = [*texts_of(25, 2), "the cat sat", "the cat sat", "我爱你"]
    library = sacrebleu.metrics.BLEU(effective_order=True, tokenize="13a")
    theirs = [
        library.sentence_score(text, texts[:row] + texts[row + 1 :]).score / 100
        for row, text in enumerate(texts)
    ]
    assert self_bleu_of_a_set(texts, tokenize="13a") == pytest.approx(np.mean(theirs), abs=1e-12)


def test_self_bleu_by_hand():
    # The first two are each other's copy: 1 each. The third shares no word with them.
    assert self_bleu_of_a_set(["a b", "a b", "c"]) == pytest.approx(2 / 3)
    # "a a" against "a": 1/2 of the words, and no pair: ½ of 1/1: √¼. "a" against "a a": exp(1 − 2).
    assert self_bleu_of_a_set(["a a", "a"]) == pytest.approx((0.5 + np.exp(-1)) / 2)
    assert score(self_bleu(["我爱你"]), "我爱你", "他们") == [1.0, 0.0]


def test_self_bleu_keeps_its_pool():
    pool = ["a b", "c"]
    reward = self_bleu(pool)
    pool.clear()
    assert reward.spec() == {"name": "self_bleu", "pool": ["a b", "c"]}
    assert score(get(reward.spec()), "a b") == [1.0]


# Readability


def test_readability_by_hand():
    # 6 words, 1 sentence, 6 syllables: 206.835 − 6.09 − 84.6 = 116.145.
    assert score(readability(), "The cat sat on the mat.") == [pytest.approx(116.145)]
    # 2 sentences of 2 and 4 words; the last has no full stop; won-der-ful 3, wa-ter 2.
    expected = 206.835 - 1.015 * 6 / 2 - 84.6 * (1 + 1 + 1 + 1 + 3 + 2) / 6
    assert score(readability(), "We go! You saw wonderful water") == [pytest.approx(expected)]
    # 3.5 ends no sentence and is no word; don't is one.
    assert score(readability(), "I don't like 3.5 cats.") == [
        pytest.approx(206.835 - 1.015 * 4 - 84.6)
    ]
    assert score(readability(), "", "3.5 !", "我") == [0.0, 0.0, pytest.approx(EASIEST)]


def test_readability_orders_ordinary_prose():
    easy = "The dog ran to the tree. He saw a cat. The cat was not glad."
    law = (
        "Notwithstanding any provision to the contrary, the aforementioned contracting authority "
        "may unilaterally terminate the agreement without compensation."
    )
    high, low = score(readability(), easy, law)
    assert high > 90 > 30 > low


# How many syllables each word has, by hand.
SYLLABLES = {
    1: "the a film walked loved played makes house time don't",
    2: "about above again any many very only every movie story acting actor boring funny little "
    "people water table music happy city open over under never ever even being doing going really "
    "create science quiet reading seven wanted needed places changes people's isn't poem lion "
    "drama",
    3: "idea area wonderful terrible beautiful character comedy family created interesting "
    "different chocolate understand hospital computer banana eleven animal example important "
    "possible probably government performance audience director serious obvious piano radio video "
    "cinema romantic",
    4: "education information american television philosophy emotional original experience "
    "enjoyable",
    5: "electricity university unfortunately",
}


def test_words_of_one_syllable_are_seen():
    words = "the of you your two small she when which their said would through great where help"
    assert {syllables(word) for word in words.split()} == {1}


def test_syllables_are_right_for_seven_in_ten_common_words():
    counted = [(n, syllables(word)) for n, words in SYLLABLES.items() for word in words.split()]
    right = sum(real == ours for real, ours in counted)
    share = sum(ours for _, ours in counted) / sum(real for real, _ in counted)
    # With pyphen 0.17: 73 and 0.90, as the docstring says; its dictionaries change a little.
    assert len(counted) == 100
    assert 70 <= right <= 80
    assert 0.87 < share < 0.95
