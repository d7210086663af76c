"""Each reward before two writers: an oracle gets the best score there is, a random one less."""

import math

import numpy as np
import pytest
import torch

from textenv.models import TabularLM
from textenv.rewards import Perplexity, as_reward, names
from textenv.rewards.reading import EASIEST
from textenv.tasks.toy_translation import SENTENCES
from textenv.testing import check_reward
from textenv.vocabulary import WordVocabulary

WORDS = ["good", "film", "the", "cat", "is", "unwatchable", "."]
LINES = [line.split("\t") for line in (SENTENCES / "test.tsv").read_text("utf-8").splitlines()[:40]]
ENGLISH, RIGHT = (list(column) for column in zip(*LINES))


def random_texts(words, blank, number=40, longest=12):
    random = np.random.default_rng(0)
    return [
        blank.join(random.choice(words, size=random.integers(2, longest))) for _ in range(number)
    ]


RANDOM = random_texts(WORDS, " ")
RANDOM_CHINESE = random_texts(sorted(set("".join(RIGHT))), "")
VARIED = ["One fine day my old friend came home."] * 40

# Of each: the reward, the oracle's texts, those of the random writer, the best score there is,
# and whether more is better. The right texts are the references of the toy language pair.
BASELINES = {
    "bleu": ("bleu", RIGHT, RANDOM_CHINESE, 1.0, True),
    "bleu in English": ("bleu", ENGLISH, RANDOM, 1.0, True),
    "chrf": ("chrf", RIGHT, RANDOM_CHINESE, 1.0, True),
    "chrf++": ({"name": "chrf", "word_order": 2}, ENGLISH, RANDOM, 1.0, True),
    "rouge-1": ({"name": "rouge", "variant": "1"}, RIGHT, RANDOM_CHINESE, 1.0, True),
    "rouge-2": ({"name": "rouge", "variant": "2"}, ENGLISH, RANDOM, 1.0, True),
    "rouge-L": ("rouge", RIGHT, RANDOM_CHINESE, 1.0, True),
    "rouge-L in characters": (
        {"name": "rouge", "unit": "characters"}, RIGHT, RANDOM_CHINESE, 1.0, True,
    ),
    "token_f1": ("token_f1", ENGLISH, RANDOM, 1.0, True),
    "exact_match": ("exact_match", RIGHT, RANDOM_CHINESE, 1.0, True),
    "edit_similarity": ("edit_similarity", RIGHT, RANDOM_CHINESE, 1.0, True),
    "edit_distance": ("edit_distance", RIGHT, RANDOM_CHINESE, 0.0, False),
    "edit_distance in words": (
        {"name": "edit_distance", "unit": "words"}, ENGLISH, RANDOM, 0.0, False,
    ),
    "distinct_n": ({"name": "distinct_n", "n": 1}, VARIED, RANDOM, 1.0, True),
    "repetition": ({"name": "repetition", "n": 1}, VARIED, RANDOM, 0.0, False),
    "self_bleu": ({"name": "self_bleu", "pool": RANDOM}, RIGHT, RANDOM[::-1], 0.0, False),
    "readability": ("readability", ["Cats. Dogs. Go!"] * 40, RANDOM, EASIEST, True),
    "length": ({"name": "length", "target": 3, "unit": "words"}, ["a b c"] * 40, RANDOM, 0, True),
    "regular_expression": (
        {"name": "regular_expression", "pattern": "^good film$"},
        ["good film"] * 40, RANDOM, 1.0, True,
    ),
    "sentiment": ("sentiment", ["wonderful, fantastic, great! " * 40] * 40, RANDOM, 1.0, True),
}  # fmt: skip


def check(reward, texts, right, tolerance=0.0):
    ids = [list(range(len(text))) for text in texts]
    prompts = [""] * len(texts)
    columns = {name: right for name in as_reward(reward).columns}
    return check_reward(reward, prompts, texts, completion_ids=ids, tolerance=tolerance, **columns)


@pytest.mark.parametrize("case", BASELINES)
def test_the_oracle_has_the_best_score_and_the_random_writer_a_worse_one(case):
    reward, best_texts, random, best, more_is_better = BASELINES[case]
    right = ENGLISH if best_texts is ENGLISH else RIGHT
    oracle, chance = check(reward, best_texts, right), check(reward, random, right)
    assert (oracle.minimum, oracle.maximum) == pytest.approx((best, best), abs=1e-3)
    low, high = as_reward(reward).range
    assert best == pytest.approx(high if more_is_better else low)
    assert (oracle.mean - chance.mean if more_is_better else chance.mean - oracle.mean) > 0.1
    # No random text beats it.
    assert chance.maximum <= best if more_is_better else chance.minimum >= best


@pytest.mark.parametrize("case", BASELINES)
def test_the_checkers_own_texts(case):
    """The empty text, Chinese, emoji, digits: with themselves and with others as the right ones."""
    reward = as_reward(BASELINES[case][0])
    assert check_reward(reward).left_out == 0
    right = ["", "我", "a film", ["x", ""], None, "…"]
    columns = {name: right for name in reward.columns}
    texts = ["we", "我爱", "", "A film!", "naïve 🙂", "."]
    assert check_reward(reward, [""] * 6, texts, **columns).left_out == bool(reward.columns)


def test_perplexity():
    """Of all texts of up to three words the likeliest a token; the random writer draws them."""
    vocabulary = WordVocabulary(["a", "b", "c"], end="$")
    model = TabularLM(4, order=1, vocabulary=vocabulary)
    with torch.no_grad():
        model.logits.normal_(generator=torch.Generator().manual_seed(1))
    reward = Perplexity(model)
    texts = [""]
    for _ in range(3):
        texts += [f"{text} {word}".strip() for text in texts for word in "abc"]
    texts = sorted(set(texts))
    assert len(texts) == 1 + 3 + 9 + 27
    scores = reward([""] * len(texts), texts)
    oracle = check(reward, [texts[int(np.argmin(scores))]] * 4, [], tolerance=1e-5)
    chance = check(reward, texts, [], tolerance=1e-5)
    assert 1 <= oracle.maximum == pytest.approx(chance.minimum)
    assert chance.mean > oracle.mean + 0.5
    # One that always says a a a $ is known by heart: exactly 1, the end of the range.
    with torch.no_grad():
        model.logits.fill_(-math.inf)
        model.logits[:, 0] = 0.0
    sure = Perplexity(model, end=False)
    assert check(sure, ["a a a"], []).minimum == sure.range[0] == 1.0
    assert check(sure, ["a b a"], []).maximum == sure.range[1] == sure.cap


def test_perplexity_of_the_reviews_model():
    real = ["A funny and moving film.", "An often funny film.", "This is a good film."]
    shuffled = ["moving film. and funny A", "film. An funny often", "film. is good a This"]
    oracle, chance = (check("perplexity", texts, [], tolerance=1e-5) for texts in (real, shuffled))
    assert oracle.maximum < chance.minimum


def test_every_reward_of_ours_has_its_baselines():
    ours = {"bleu", "chrf", "rouge", "token_f1", "exact_match", "edit_similarity", "edit_distance"}
    ours |= {"distinct_n", "repetition", "self_bleu", "readability", "length"}
    ours |= {"regular_expression", "sentiment"}
    checked = {as_reward(reward).name for reward, *_ in BASELINES.values()}
    assert checked == ours
    assert ours | {"perplexity", "per_token"} <= set(names())
