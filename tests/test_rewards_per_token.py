"""`per_token`: what each token is paid telescopes to the score of the text."""

import functools
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch

from textenv import Task, TextEnv, TextVectorEnv, exact
from textenv.errors import NotSerialisableError
from textenv.models import TabularLM
from textenv.rewards import Scorer, get, length, per_token, perplexity
from textenv.rewards import steps as steps_module
from textenv.testing import check_env, check_reward, check_vector_env
from textenv.vocabulary import ByteVocabulary, CharacterVocabulary, WordVocabulary, load_vocabulary

ENGLISH = WordVocabulary(["the", "cat", "sat", "good", "bad", "."], end="$")
CHINESE = WordVocabulary(["我", "爱", "你", "他们", "。"], separator="", end="$")

# (reward, vocabulary, right text)
CASES = {
    "bleu": ("bleu", ENGLISH, "the good cat sat ."),
    "rouge": ("rouge", ENGLISH, ["the cat sat .", "cat"]),
    "sentiment": ("sentiment", ENGLISH, None),
    "token_f1": ("token_f1", ENGLISH, "the good cat"),
    "length": ("length", ENGLISH, None),
    "bleu in Chinese": ("bleu", CHINESE, "我爱他们。"),
    "chrf in Chinese": ("chrf", CHINESE, "我爱他们。"),
    "similarity by character": ("edit_similarity", CharacterVocabulary("我爱你。"), "我爱你。"),
    "similarity by byte": ("edit_similarity", ByteVocabulary(), "我é"),
    "a sum": (
        [{"name": "distinct_n", "n": 1}, {"name": "sum", "terms": [[-2.0, "repetition"]]}],
        ENGLISH,
        None,
    ),
}


def task(case, **changes):
    reward, vocabulary, right = CASES[case]
    made = Task(
        name="steps",
        vocabulary=vocabulary,
        max_tokens=5,
        reward=per_token(reward),
        columns={"reference": [right]},
        end=vocabulary.end_token is not None,
    )
    return made.with_changes(**changes)


def whole(case, text, ids):
    reward, _, right = CASES[case]
    return get(reward)([""], [text], completion_ids=[ids], reference=[right])[0] if ids else 0.0


def random_ids(vocabulary, random, longest=5):
    known = range(vocabulary.size - (vocabulary.end_token is not None))
    if isinstance(vocabulary, ByteVocabulary):
        known = vocabulary.encode("我é")  # of 256 bytes hardly any would be right
    return random.choice(known, size=random.integers(longest + 1)).tolist()


@pytest.mark.parametrize("case", CASES)
def test_it_telescopes(case):
    reward, vocabulary, right = CASES[case]
    paid = per_token(get(reward) if isinstance(reward, str) else reward)
    paid = paid.with_vocabulary(vocabulary)
    random = np.random.default_rng(0)
    rows = [random_ids(vocabulary, random, 8) for _ in range(50)]
    texts = [vocabulary.decode(ids) for ids in rows]
    columns = {"completion_ids": rows, "reference": [right] * len(rows)}
    payments = paid([""] * len(rows), texts, **columns)
    assert [len(payment) for payment in payments] == [len(ids) for ids in rows]
    expected = [whole(case, text, ids) for text, ids in zip(texts, rows)]
    assert [sum(payment) for payment in payments] == pytest.approx(expected, abs=1e-12)
    assert paid.total([""] * len(rows), texts, **columns) == pytest.approx(expected, abs=1e-12)
    assert len(set(expected)) > 3
    # Each token: the score of the beginning up to it, less that of the beginning before.
    for ids, payment in zip(rows[:10], payments):
        scores = [whole(case, vocabulary.decode(ids[:t]), ids[:t]) for t in range(len(ids) + 1)]
        assert payment == pytest.approx(np.diff(scores), abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_it_telescopes_in_the_environment_and_in_a_vector(case):
    made = task(case)
    env = TextEnv(made)
    envs = TextVectorEnv(6, made)
    deferred = TextVectorEnv(6, made, scoring="deferred")
    random = np.random.default_rng(1)
    end = made.rules.end_token
    actions = random.integers(made.vocabulary.size, size=(5, 6))
    envs.reset(seed=0)
    deferred.reset(seed=0)
    returns, later, over, numbers = np.zeros(6), np.zeros(6), np.zeros(6, dtype=bool), {}
    for step in actions:
        _, rewards, terminated, _, _ = envs.step(step)
        _, postponed, _, _, infos = deferred.step(step)
        returns[~over] += rewards[~over]
        later[~over & ~terminated] += postponed[~over & ~terminated]
        assert np.isnan(postponed[~over & terminated]).all()
        for row in np.flatnonzero(~over & terminated):
            numbers[int(infos["episode_id"][row])] = row
        over |= terminated
    assert over.all()
    for number, reward in deferred.score().items():
        if number in numbers:
            later[numbers[number]] += reward
    for row in range(6):
        ids = actions[:, row].tolist()
        ids = ids[: ids.index(end)] if end in ids else ids
        expected = whole(case, made.vocabulary.decode(ids), ids)
        env.reset(seed=0)
        total = 0.0
        for token in actions[:, row]:
            _, reward, terminated, _, _ = env.step(int(token))
            total += reward
            if terminated:
                break
        for paid in (total, returns[row], later[row]):
            assert paid == pytest.approx(expected, abs=1e-12)


def test_the_whole_battery_with_a_language_model_beside():
    model = TabularLM(CHINESE.size, order=1, vocabulary=CHINESE)
    with torch.no_grad():
        model.logits.normal_(generator=torch.Generator().manual_seed(0))
    reward = per_token("bleu") - 0.1 * perplexity(model) + per_token(-0.1 * perplexity(model))
    made = task("bleu in Chinese", reward=reward)
    check_env(TextEnv(made), tolerance=1e-5)
    check_vector_env(
        functools.partial(TextVectorEnv, task=made),
        functools.partial(TextEnv, task=made),
        num_envs=2,
        steps=40,
        tolerance=1e-5,
    )


def test_parts_of_a_sum_that_is_paid_by_token():
    env = gym.make("textenv/ToyTranslation-v0", reward=per_token("bleu") - 2.0 * length())
    env.reset(seed=3)
    end, total = env.unwrapped.task.vocabulary.end_token, 0.0
    for token in [183, 190, 196, end]:
        _, reward, _, _, info = env.step(token)
        total += reward
    parts = info["reward_parts"]
    assert set(parts) == {"bleu_per_token", "length"}
    assert parts["length"] == -6.0
    assert total == pytest.approx(sum(parts.values()))


def test_exact_sees_the_same_value():
    by_token = task("bleu in Chinese", max_tokens=3)
    at_end = by_token.with_changes(reward=get("bleu"))
    steps, whole_texts = exact.optimum(by_token), exact.optimum(at_end)
    assert steps.texts == whole_texts.texts == ["我爱他们", "爱他们。"]
    assert max(whole_texts.V.values()) == pytest.approx(np.exp(1 - 5 / 4))
    assert max(steps.V.values()) == pytest.approx(np.exp(1 - 5 / 4))


def test_none_leaves_out():
    reward = per_token("exact_match").with_vocabulary(ENGLISH)
    columns = {"completion_ids": [[1, 2], [1, 2]], "reference": [None, "cat sat"]}
    assert reward(["", ""], ["cat sat"] * 2, **columns) == [None, [0.0, 1.0]]
    assert reward.total(["", ""], ["cat sat"] * 2, **columns) == [None, 1.0]


def gappy(completions):
    """Score words, but say nothing of texts of two words."""
    counts = [len(text.split()) for text in completions]
    return [None if count == 2 else float(count) for count in counts]


def test_a_beginning_that_is_left_out_counts_as_the_one_before():
    reward = per_token(gappy).with_vocabulary(ENGLISH)
    paid = reward([""] * 3, [""] * 3, completion_ids=[[1, 1, 1], [1, 1], []])
    assert paid == [[1.0, 0.0, 2.0], None, []]


def test_a_reward_that_pays_each_token_counts_by_its_sum():
    inner = {"name": "word_preference", "pays": "token"}
    reward = per_token(inner).with_vocabulary(ENGLISH)
    # good +1, bad −1.
    paid = reward([""], ["good cat bad"], completion_ids=[[3, 1, 4]])
    assert paid == [[1.0, 0.0, -1.0]]


# What it costs


class Counting:
    """A reward that counts what it is asked about."""

    def __init__(self):
        self.texts = 0

    def __call__(self, completions, reference=None):
        self.texts += len(completions)
        return [float(len(text)) for text in completions]


def test_a_step_scores_one_beginning_a_text():
    inner = Counting()
    envs = TextVectorEnv(4, task("length", reward=per_token(inner), max_tokens=5))
    envs.reset(seed=0)
    for step in range(5):
        before = inner.texts
        # All different from the first token on, and never the end.
        envs.step(np.array([0, 1, 2, 3]) if step == 0 else np.full(4, step % 6))
        assert inner.texts - before == 4


def test_what_is_remembered_is_bounded_and_right_when_it_is_lost(monkeypatch):
    monkeypatch.setattr(steps_module, "REMEMBERED", 3)
    inner = Counting()
    reward = per_token(inner).with_vocabulary(ENGLISH)
    for number in range(6):
        assert reward([""], ["x"], completion_ids=[[number, 1, 1]])[0][0] > 0
    assert len(reward._remembered) == 3
    before = inner.texts
    reward([""], ["x"], completion_ids=[[5, 1, 1]])
    assert inner.texts == before
    reward([""], ["x"], completion_ids=[[0, 1, 1]])
    assert inner.texts == before + 3


def test_other_prompts_and_columns_are_not_mistaken_for_one_another():
    reward = per_token("exact_match").with_vocabulary(ENGLISH)
    rows = [[1], [1], [1], [1]]
    rights = ["cat", "sat", ["cat", "x"], ["sat"]]
    paid = reward([""] * 4, ["cat"] * 4, completion_ids=rows, reference=rights)
    assert paid == [[1.0], [0.0], [1.0], [0.0]]

    def by_prompt(prompts, completions):
        return [float(len(prompt)) for prompt in prompts]

    paid = per_token(by_prompt).with_vocabulary(ENGLISH)
    assert paid(["a", "ab"], ["cat"] * 2, completion_ids=[[1], [1]]) == [[1.0], [2.0]]

    # What cannot be compared is scored again.
    def by_object(completions, label):
        return [float(one.sum()) for one in label]

    paid = per_token(by_object).with_vocabulary(ENGLISH)
    for value in (1.0, 2.0):
        columns = {"completion_ids": [[1, 1]], "label": [np.array([value])]}
        assert paid([""], [""], **columns) == [[value, 0.0]]


# Forms


def test_forms():
    reward = per_token("bleu")
    assert reward.name == "bleu_per_token"
    assert (reward.range, reward.columns, reward.pays) == ((-1.0, 1.0), ("reference",), "token")
    assert per_token("length").range == (-float("inf"), float("inf"))
    assert json.loads(json.dumps(reward.spec())) == {"name": "per_token", "reward": "bleu"}
    assert get(reward.spec()).spec() == reward.spec()
    bound = reward.with_vocabulary(ENGLISH)
    assert pickle.loads(pickle.dumps(bound)).name == reward.name
    with pytest.raises(NotSerialisableError, match="once it was handed a vocabulary"):
        bound.spec()
    with pytest.raises(ValueError, match=r"got no vocabulary: in a task .*with_vocabulary"):
        reward([""], ["cat"], completion_ids=[[1]], reference=["cat"])
    with pytest.raises(ValueError, match="got no completion_ids"):
        bound([""], ["cat"], reference=["cat"])
    with pytest.raises(ValueError, match="in another process"):
        Scorer(reward, ENGLISH, end_token=6, timeout=1.0)


@pytest.mark.parametrize("case", ["bleu", "bleu in Chinese", "a sum"])
def test_check_reward(case):
    reward, vocabulary, right = CASES[case]
    random = np.random.default_rng(0)
    rows = [[0, 1], *(random_ids(vocabulary, random) for _ in range(8))]
    report = check_reward(
        per_token(reward),
        completions=[vocabulary.decode(ids) for ids in rows],
        prompts=[""] * 9,
        completion_ids=rows,
        vocabulary=vocabulary,
        tolerance=1e-12,
        reference=[right] * 9,
    )
    assert report.minimum < report.maximum


def test_a_subword_tokenizer():
    from textenv.catalogue import folder_of

    vocabulary = load_vocabulary(folder_of("reviews"))
    text = "The uninspired director's thrillers"
    ids = vocabulary.encode(text)
    assert len(ids) > len(text.split())
    paid = per_token("bleu").with_vocabulary(vocabulary)(
        [""], [text], completion_ids=[ids], reference=[text]
    )
    assert sum(paid[0]) == pytest.approx(1.0)
    assert min(paid[0]) > -1.0
