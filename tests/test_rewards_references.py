"""Rewards that compare with right texts: by hand, and against sacrebleu and rouge-score."""

import math
import sys
from itertools import combinations

import gymnasium as gym
import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from textenv import Task
from textenv.errors import MissingExtraError
from textenv.rewards import (
    bleu,
    chrf,
    edit_distance,
    edit_similarity,
    exact_match,
    get,
    rouge,
    token_f1,
)
from textenv.rewards.edits import edits
from textenv.rewards.overlap import common_subsequence
from textenv.rewards.units import units, words
from textenv.vocabulary import WordVocabulary

WORDS = ["the", "a", "cat", "Dog", "sat", "on", "mat", ".", "don't", "3.5", "&", "red-hot"]
SEVERAL = [bleu(), chrf(), rouge(), token_f1(), edit_distance(), edit_similarity(), exact_match()]


def pairs(number=200):
    """Texts of a few words, and right ones that share some of them."""
    random = np.random.default_rng(0)

    def text():
        return " ".join(random.choice(WORDS, size=random.integers(9)))

    return [text() for _ in range(number)], [text() for _ in range(number)]


def score(reward, texts, references):
    return reward([""] * len(texts), texts, reference=references)


# Against the libraries


@pytest.mark.parametrize("tokenize", ["13a", "intl", "char", "none"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_bleu_is_sacrebleus(tokenize, lowercase):
    texts, right = pairs(60)
    ours = score(bleu(tokenize=tokenize, lowercase=lowercase), texts, right)
    theirs = [
        sacrebleu.sentence_bleu(
            text, [one], tokenize=tokenize, lowercase=lowercase, use_effective_order=True
        ).score
        / 100
        for text, one in zip(texts, right)
    ]
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert 0 < np.mean(ours) < 1


def test_bleu_of_several_right_texts_is_sacrebleus():
    texts, right = pairs(60)
    several = [[right[row], right[row - 1], right[row - 2]] for row in range(len(right))]
    theirs = [
        sacrebleu.sentence_bleu(text, rights, tokenize="13a", use_effective_order=True).score / 100
        for text, rights in zip(texts, several)
    ]
    assert score(bleu(), texts, several) == pytest.approx(theirs, abs=1e-12)
    assert np.mean(theirs) > np.mean(score(bleu(), texts, right))


def test_bleu_by_hand():
    # Precisions 3/4, 2/3, 1/2 and for the missing 4-gram 1/2 of 1/1; as long as the right text.
    # (3/4 · 2/3 · 1/2 · 1/2)^(1/4) = (1/8)^(1/4) = 0.5946.
    assert score(bleu(), ["a b c x"], ["a b c d"]) == [pytest.approx(0.125**0.25)]
    # Two words have no 3-grams: effective order 2, all right; half as long: exp(1 − 4/2).
    assert score(bleu(), ["a b"], ["a b c d"]) == [pytest.approx(math.exp(-1))]
    assert score(bleu(), ["", "x"], ["a b", "a b"]) == [0.0, 0.0]


def test_bleu_cuts_chinese_into_characters():
    # 我 爱 你 。 against 我 爱 他 。: 3/4, 1/3, ½ of 1/2 and ¼ of 1/1.
    expected = (3 / 4 * 1 / 3 * 1 / 4 * 1 / 4) ** 0.25
    assert score(bleu(), ["我爱你。"], ["我爱他。"]) == [pytest.approx(expected)]
    assert score(bleu(tokenize="13a"), ["我爱你。"], ["我爱他。"]) == [0.0]  # one word for 13a
    kana = score(bleu(), ["ねこがいる"], ["ねこがいた"])
    assert kana == score(bleu(tokenize="char"), ["ねこがいる"], ["ねこがいた"]) > [0.5]


@pytest.mark.parametrize("word_order", [0, 2])
def test_chrf_is_sacrebleus(word_order):
    texts, right = pairs(60)
    theirs = [
        sacrebleu.sentence_chrf(text, [one], word_order=word_order).score / 100
        for text, one in zip(texts, right)
    ]
    assert score(chrf(word_order=word_order), texts, right) == pytest.approx(theirs, abs=1e-12)


def test_chrf_by_hand():
    # One order: "ab" against "ac": precision 1/2, recall 1/2, so F = 1/2 whatever β.
    assert score(chrf(order=1), ["ab"], ["ac"]) == [pytest.approx(0.5)]
    # "a" against "ab": precision 1, recall 1/2: F₂ = 5 · 1/2 / (4 + 1/2) = 0.5556.
    assert score(chrf(order=1), ["a"], ["ab"]) == [pytest.approx(5 / 9)]


@pytest.mark.parametrize("variant", ["1", "2", "L"])
def test_rouge_is_rouge_scores(variant):
    texts, right = pairs()
    library = RougeScorer([f"rouge{variant}"], use_stemmer=False)
    theirs = [
        library.score(one, text)[f"rouge{variant}"].fmeasure for text, one in zip(texts, right)
    ]
    assert score(rouge(variant), texts, right) == pytest.approx(theirs, abs=1e-12)
    several = [[right[row], right[row - 1]] for row in range(len(right))]
    best = [
        library.score_multi(rights, text)[f"rouge{variant}"].fmeasure
        for text, rights in zip(texts, several)
    ]
    assert score(rouge(variant), texts, several) == pytest.approx(best, abs=1e-12)


class Characters(Tokenizer):
    def tokenize(self, text):
        return list("".join(text.split()))


@pytest.mark.parametrize("variant", ["1", "2", "L"])
def test_rouge_of_chinese_is_rouge_scores_with_a_tokenizer_of_characters(variant):
    texts, right = ["我爱你。", "老师很新", ""], ["我爱他。", "新老师很老", "我"]
    library = RougeScorer([f"rouge{variant}"], tokenizer=Characters())
    theirs = [
        library.score(one, text)[f"rouge{variant}"].fmeasure for text, one in zip(texts, right)
    ]
    ours = score(rouge(variant, unit="characters"), texts, right)
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert ours[0] > 0


def test_rouge_by_hand():
    # 7 and 6 words, 5 of them common in order: the cat · · the mat … with 2·5/13.
    text, right = "the cat is lying on the mat", "the cat sat on the mat"
    assert score(rouge("L"), [text], [right]) == [pytest.approx(10 / 13)]
    # Pairs: the cat, on the, the mat of 6 and 5.
    assert score(rouge("2"), [text], [right]) == [pytest.approx(6 / 11)]
    # Words alone: the ×2, cat, on, mat = 5.
    assert score(rouge("1"), [text], [right]) == [pytest.approx(10 / 13)]
    # In words too each Chinese character is one, and 。 is none: 我爱 of 3 and 3.
    assert score(rouge("1"), ["我爱你。"], ["我爱他。"]) == [pytest.approx(2 / 3)]


def test_words():
    assert words("Don't_stop: 3.5!") == ["don", "t", "stop", "3", "5"]
    assert words("Straße NAÏVE über-gut") == ["straße", "naïve", "über", "gut"]
    assert words("किताब पढ़ो") == ["किताब", "पढ़ो"]  # vowel signs belong to their letters
    assert words("iPhone我们ねこ") == ["iphone", "我", "们", "ね", "こ"]
    assert units("Ab c。", "characters") == ["a", "b", "c", "。"]


def squad_f1(text, right):
    """The F1 of SQuAD 1.1's own script, written out."""

    def cut(answer):
        kept = "".join(c for c in answer.lower() if c not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
        return [word for word in kept.split() if word not in ("a", "an", "the")]

    ours, theirs = cut(text), cut(right)
    common = sum(min(ours.count(word), theirs.count(word)) for word in set(ours))
    if not ours or not theirs:
        return float(ours == theirs)
    if not common:
        return 0.0
    precision, recall = common / len(ours), common / len(theirs)
    return 2 * precision * recall / (precision + recall)


def test_token_f1_is_squads():
    texts, right = pairs()
    expected = [squad_f1(text, one) for text, one in zip(texts, right)]
    assert score(token_f1(), texts, right) == pytest.approx(expected, abs=1e-12)


def test_token_f1_by_hand():
    # "eiffel tower paris" against "eiffel tower": 2·2/(3 + 2).
    assert score(token_f1(), ["the Eiffel Tower, Paris"], ["Eiffel tower"]) == [0.8]
    assert score(token_f1(), ["", "the", "", "x"], ["", "", "x", "…"]) == [1.0, 1.0, 0.0, 0.0]
    # 我爱你 against 我爱他, without 。: 2·2/6; the articles are gone, and blanks do not count.
    assert score(token_f1(), ["我爱 你。"], ["我爱他"]) == [pytest.approx(2 / 3)]
    assert score(token_f1(unit="characters"), ["a bc"], ["BCD!"]) == [pytest.approx(4 / 5)]


def test_edit_distance_by_hand():
    # kitten → sitten → sittin → sitting.
    assert score(edit_distance(), ["kitten", "", "我你"], ["sitting", "abc", "我爱你"]) == [3, 3, 1]
    assert score(edit_distance(unit="words"), ["a  b c"], ["a c"]) == [1.0]
    assert score(edit_distance(), ["cat"], [["dog", "cart"]]) == [1.0]
    assert edit_distance().range == (0.0, math.inf)


def test_the_best_of_several_right_texts_counts():
    several = [["a dog", "my cats sat there"]]
    for reward in SEVERAL:
        best = score(reward, ["my cats sat there"], several)
        assert best == score(reward, ["my cats sat there"], ["my cats sat there"])
    assert score(exact_match(), ["b", "c"], [("a", "b"), ["a", "b"]]) == [1.0, 0.0]


# Missing columns and right texts


@pytest.mark.parametrize("reward", SEVERAL, ids=lambda reward: reward.name)
def test_no_right_text_leaves_out_and_a_missing_column_is_an_error(reward):
    assert score(reward, ["a", "b"], [None, "b"])[0] is None
    message = (
        rf"{reward.name} needs the column 'reference', got \['label'\]: give the right texts "
        r"with the prompts, as in columns=\{\"reference\": \[…\]\}"
    )
    with pytest.raises(ValueError, match=message):
        reward([""], ["a"], label=["a"])
    for wrong in (3, [], ["a", None], {"a": 1}):
        with pytest.raises(ValueError, match="to hold a text, a list of at least one text, or"):
            score(reward, ["a"], [wrong])


@pytest.mark.parametrize("reward", SEVERAL, ids=lambda reward: reward.name)
def test_a_task_without_the_column_says_what_to_do(reward):
    vocabulary = WordVocabulary(["a", "b"], end="$")
    task = {"name": "t", "vocabulary": vocabulary, "max_tokens": 2, "prompts": ["a", "b"]}
    message = rf"'{reward.name}' needs the columns \['reference'\], the task has \[\]: give the .*"
    with pytest.raises(ValueError, match=message + r"columns=\{\"reference\": \[…\]\}"):
        Task(**task, reward=reward)
    made = Task(**task, reward=reward, columns={"reference": ["a b", None]})
    assert made.reward is reward


def test_an_environment_without_right_texts():
    with pytest.raises(ValueError, match=r"'bleu' needs the columns \['reference'\].*or choose"):
        gym.make("textenv/Sentiment-v0", reward="bleu")
    # A prompt that the caller brings has no right text, unless the caller brings that too.
    env = gym.make("textenv/ToyTranslation-v0", reward="bleu", max_tokens=2)
    task = env.unwrapped.task
    for columns, expected, left_out in (({}, 0.0, 1), ({"reference": "学生"}, 1.0, 1)):
        env.reset(seed=0, options={"prompt": "the student is new .", "columns": columns})
        for token in [*task.vocabulary.encode("学生"), task.vocabulary.end_token]:
            _, reward, terminated, _, _ = env.step(token)
            if terminated:
                break
        assert reward == expected
        assert env.unwrapped.setup.scorer.counts["none"] == left_out


def test_another_column():
    for name in ("bleu", "chrf", "rouge", "token_f1", "edit_distance", "edit_similarity"):
        reward = get({"name": name, "column": "answer"})
        assert reward.columns == ("answer",)
        assert reward.spec() == {"name": name, "column": "answer"}
        assert reward([""], ["a"], answer=["a"]) == [0.0 if name == "edit_distance" else 1.0]


def test_settings_that_make_no_sense():
    for make, message in (
        (lambda: bleu(tokenize="spm"), "tokenize must be one of auto, 13a, intl, zh, char, none"),
        (lambda: bleu(order=0), "must be an integer ≥ 1, got 0"),
        (lambda: chrf(beta=0), "beta ≥ 1"),
        (lambda: rouge("3"), 'variant must be "1", "2" or "L", got \'3\''),
        (lambda: rouge(unit="tokens"), 'unit must be "words" or "characters"'),
        (lambda: token_f1(unit="tokens"), 'unit must be "words" or "characters"'),
        (lambda: edit_distance(unit="tokens"), 'unit must be "characters" or "words"'),
        (lambda: rouge(column=""), "name of a column"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_without_sacrebleu(monkeypatch, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(MissingExtraError, match=r'pip install "textenv\[text\]"'):
        get(name)


def edits_by_the_table(one, other):
    """Levenshtein's table, row by row: what `edits` computes by the bits of integers."""
    above = list(range(len(other) + 1))
    for row, unit in enumerate(one, start=1):
        current = [row]
        for column, target in enumerate(other):
            replaced = above[column] + (unit != target)
            current.append(min(replaced, above[column + 1] + 1, current[column] + 1))
        above = current
    return above[-1]


def test_edits_and_common_subsequences_of_random_texts():
    generator = np.random.default_rng(0)
    for _ in range(2000):
        sizes = generator.integers(9, size=2)
        one, other = ("".join(generator.choice(list("ab我"), size=size)) for size in sizes)
        count = edits_by_the_table(one, other)
        assert edits(one, other) == edits(other, one) == count
        common = subsequences(one) & subsequences(other)
        assert common_subsequence(one, other) == max(map(len, common))
        assert edits(one.split("a"), other.split("a")) == edits_by_the_table(
            one.split("a"), other.split("a")
        )


def subsequences(text):
    return {"".join(part) for n in range(len(text) + 1) for part in combinations(text, n)}
