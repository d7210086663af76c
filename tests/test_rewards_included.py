"""The included rewards, each on its own, with the numbers worked out by hand."""

import math
import sys

import numpy as np
import pytest

from textenv.errors import MissingExtraError
from textenv.rewards import exact_match, get, length, regular_expression, word_preference, zero
from textenv.rewards import sentiment as sentiment_reward
from textenv.rewards.lexicon import _polarity
from textenv.vocabulary import CharacterVocabulary, WordVocabulary


def score(reward, *texts, **columns):
    return reward([""] * len(texts), list(texts), **columns)


def test_zero():
    assert zero().total(["", ""], ["a", ""]) == [0.0, 0.0]
    assert score(zero(), "a b", "", completion_ids=[[1, 2], []]) == [[0.0, 0.0], []]
    assert zero().token_table(WordVocabulary(["a", "b"])).tolist() == [0.0, 0.0]


def test_exact_match():
    assert score(exact_match("我爱你。"), "我爱你。", "我爱你", " 我爱你。") == [1.0, 0.0, 0.0]
    assert score(exact_match(""), "", " ") == [1.0, 0.0]
    own = exact_match(column="label")
    assert own.columns == ("label",)
    assert exact_match("a").columns == ()
    # A prompt without a right text is left out.
    assert score(own, "a", "b", "c", label=["a", "x", None]) == [1.0, 0.0, None]
    with pytest.raises(ValueError, match="needs the column 'label', got \\['other'\\]"):
        score(own, "a", other=["a"])
    with pytest.raises(ValueError, match="target must be a text"):
        exact_match(3)


def test_length():
    ids = {"completion_ids": [[4, 4, 4], []]}
    assert score(length(), "one two", "", **ids) == [3.0, 0.0]
    assert score(length(unit="characters"), "我爱 你", "") == [4.0, 0.0]
    assert score(length(unit="words"), " one  two ", "") == [2.0, 0.0]
    assert score(length(1), "one two", "", **ids) == [-2.0, -1.0]
    at_target = score(length(2, unit="words"), "one two")[0]
    assert (at_target, math.copysign(1, at_target)) == (0.0, 1.0)  # not −0.0
    assert (length().range, length(1).range) == ((0.0, math.inf), (-math.inf, 0.0))
    with pytest.raises(ValueError, match="needs completion_ids"):
        score(length(), "one two")
    with pytest.raises(ValueError, match='unit must be "tokens"'):
        length(unit="token")
    with pytest.raises(ValueError, match="0 or more, got -1"):
        length(-1)


def test_regular_expression():
    assert score(regular_expression("b+"), "abba", "aa") == [1.0, 0.0]
    assert score(regular_expression("b+", full=True), "abba", "bb") == [0.0, 1.0]
    assert score(regular_expression("(?i)GOOD|爱"), "good", "我爱你") == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"'\(a' is no regular expression: missing \)"):
        regular_expression("(a")
    with pytest.raises(ValueError, match="pattern must be a text"):
        regular_expression(3)


# Word preference


def test_word_preference_counts_words():
    reward = word_preference()
    texts = ("good", "bad", "good bad good", "", "goodness", "Good", "so good.", "“good”, (bad)")
    # The last: good without its quotes and comma, bad without its brackets: 1 − 1.
    assert score(reward, *texts) == [1.0, -1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert reward.range == (-math.inf, math.inf)


def test_word_preference_takes_weights_and_lists():
    reward = word_preference({"fine": 0.5}, preferred=["nice"], unwanted=["dull", ":("])
    # 0.5 + 1 − 1 − 1: ":(" is a word as it stands, though it is punctuation.
    assert score(reward, "fine nice dull :(", "good") == [-0.5, 0.0]
    assert word_preference(preferred=["nice"]).range == (0.0, math.inf)
    tokens = word_preference({"a": 2, "b": 3}, pays="token")
    assert tokens.range == (0.0, 3.0)


def test_word_preference_in_chinese():
    # 我 1, 爱 2 and 你 0 in 我爱你。: 3.
    assert score(word_preference({"我": 1, "爱": 2}), "我爱你。", "你") == [3.0, 0.0]
    # The longest first: 我们 is one word of weight 5, and the 我 in it is not counted.
    assert score(word_preference({"我": 1, "我们": 5}), "我们爱我") == [6.0]
    # A weight of 0 protects the longer word.
    assert score(word_preference({"我": 1, "我们": 0}), "我们爱我") == [1.0]
    assert score(word_preference({"我": 1}), "我们爱我") == [2.0]
    # 。 is a word too, and may be unwanted; words between blanks are found beside others.
    assert score(word_preference({"。": -1, "good": 4}), "good 我爱你。", "good我") == [3.0, 0.0]


def test_word_preference_with_a_separator():
    assert score(word_preference(separator="-"), "good-bad-good", "good bad") == [1.0, 0.0]
    letters = word_preference({"a": 1, "ab": 10}, separator="")
    # "cab" = c + ab: 10. "aab" = a + ab: 11.
    assert score(letters, "cab", "aab", "b") == [10.0, 11.0, 0.0]


@pytest.mark.parametrize(
    ("vocabulary", "reward"),
    [
        (WordVocabulary(["good", "bad", "film", "good.", "goodness"]), {}),
        (
            WordVocabulary(["我", "爱", "你", "。"], separator=""),
            {"weights": {"我": 1, "。": -0.5}},
        ),
        (WordVocabulary(["我们", "爱", "你"], separator=""), {"weights": {"我": 1, "你": 3}}),
        (CharacterVocabulary("abc"), {"weights": {"a": 1, "b": -2}, "separator": ""}),
    ],
)
def test_word_preference_by_token_agrees_with_the_text(vocabulary, reward):
    at_end, by_token = word_preference(**reward), word_preference(**reward, pays="token")
    assert at_end.token_table(vocabulary) is None
    table = by_token.token_table(vocabulary)
    assert (table.shape, table.dtype) == ((vocabulary.size,), np.float64)
    random = np.random.default_rng(0)
    for _ in range(200):
        ids = random.integers(vocabulary.size, size=random.integers(6))
        text = vocabulary.decode(ids)
        assert table[ids].sum() == pytest.approx(score(at_end, text)[0])
        assert by_token.total([""], [text]) == score(at_end, text)


def test_word_preference_by_token_called_without_a_vocabulary():
    reward = word_preference(pays="token")
    assert score(reward, "good film", completion_ids=[[7, 8]]) == [[1.0, 0.0]]
    with pytest.raises(ValueError, match="2 words and 3 ids"):
        score(reward, "good film", completion_ids=[[7, 8, 9]])


def test_word_preference_refuses():
    for wrong in (
        {"preferred": "good"},
        {"weights": {"": 1.0}},
        {"weights": {"two words": 1.0}},
        {"weights": {"a": float("inf")}},
        {"preferred": ["a"], "unwanted": ["a"]},
        {"pays": "both"},
        {"weights": {"a-b": 1.0}, "separator": "-"},
    ):
        with pytest.raises(ValueError, match=r"list of words|single words|finite|two weights|pays"):
            word_preference(**wrong)


# Sentiment


def test_sentiment():
    # VADER's lexicon gives good 1.9: 1.9 / √(1.9² + 15) = 0.4404; bad −2.5: −0.5423.
    assert score(sentiment_reward(), "good", "bad", "", "   ", "the film") == [
        0.4404,
        -0.5423,
        0.0,
        0.0,
        0.0,
    ]


def test_sentiment_with_the_prompt():
    reward = sentiment_reward(include_prompt=True)
    # After "not" good counts −0.74 times: −1.406 / √(1.406² + 15) = −0.3412.
    assert reward(["not", ""], ["good", "good"]) == [-0.3412, 0.4404]
    joined = sentiment_reward(include_prompt=True, separator="")
    assert joined(["not", "go"], [" good", "od"]) == [-0.3412, 0.4404]


def test_sentiment_reads_its_lexicon_once():
    score(sentiment_reward(), "good")
    assert _polarity() is _polarity()


def test_sentiment_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "vaderSentiment", None)
    with pytest.raises(MissingExtraError, match=r'pip install "textenv\[text\]"'):
        get("sentiment")
