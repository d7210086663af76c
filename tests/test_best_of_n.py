"""The best of n texts: its exact distribution, its KL beside the bound, and the sampler."""

from __future__ import annotations

import itertools
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy import stats

from tests import small_tasks
from tests.conftest import RandomReward
from textenv import Task, TextEnv, TextVectorEnv, exact
from textenv.filters import allowed_by
from textenv.models import TabularLM
from textenv.models.sampling import Sampling
from textenv.rewards import length, word_preference
from textenv.vocabulary import WordVocabulary
from textenv_agents.search import best_of_n, best_of_n_policy, best_of_n_probabilities, kl_bound

WORDS = word_preference({"a": 1.0, "b": -1.0}, pays="token")  # many texts are worth the same


def table(seed=0):
    policy = TabularLM(5, order=1)
    with torch.no_grad():
        policy.logits.normal_(generator=torch.Generator().manual_seed(seed))
    return policy


def vector(made, rows=16, **keywords):
    return TextVectorEnv(rows, made, autoreset_mode="same_step", **keywords)


def ragged(reward=WORDS, max_tokens=2, **changes):
    return small_tasks.ragged_task(max_tokens, reward=reward, **changes)


def toy(name):
    env = gym.make(f"textenv/{name}-v0").unwrapped
    return env.task, env.lm


# The exact distribution.


def test_the_toys_by_hand():
    # GoodBad: ½, ½. The best of n is bad only if all are: J = (1 − 2^−n) − 2^−n.
    task, policy = toy("GoodBad")
    for n in (1, 2, 5):
        assert exact.value(task, best_of_n_policy(task, policy, n)) == pytest.approx(1 - 2 / 2**n)
    # n = 2: (¾, ¼) against (½, ½): ¾·log 1.5 + ¼·log ½
    found = exact.kl(task, best_of_n_policy(task, policy, 2), policy)
    assert found == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    # ILoveYou: right with probability 0.24; J = 1 − 0.76^n.
    task, policy = toy("ILoveYou")
    for n in (1, 3, 10):
        assert exact.value(task, best_of_n_policy(task, policy, n)) == pytest.approx(1 - 0.76**n)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_against_all_tuples_of_texts(n):
    """Every n-tuple of the texts of a prompt, the first best one kept."""
    made, policy = ragged(), table()
    texts, probabilities = best_of_n_probabilities(made, policy, n)
    totals = texts.rewards.sum(axis=1)
    expected = np.zeros_like(probabilities)
    for prompt in range(3):
        rows = np.flatnonzero(texts.state.prompt_index == prompt)
        for several in itertools.product(rows, repeat=n):
            best = several[int(np.argmax(totals[list(several)]))]
            expected[best] += np.prod(3 * texts.probabilities[list(several)]) / 3
    np.testing.assert_allclose(probabilities, expected, atol=1e-14)
    assert probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize("n", [2, 7, 100])
@pytest.mark.parametrize("reward", [WORDS, RandomReward(0), length()])
def test_the_policy_writes_that_distribution(n, reward):
    made, policy = ragged(reward, 3), table(1)
    texts, probabilities = best_of_n_probabilities(made, policy, n)
    best = best_of_n_policy(made, policy, n)
    np.testing.assert_allclose(exact.enumerate_texts(made, best).probabilities, probabilities)
    worth = float(probabilities @ texts.rewards.sum(axis=1))
    assert exact.value(made, best) == pytest.approx(worth)
    positive = probabilities > 0
    ratio = probabilities[positive] / texts.probabilities[positive]
    expected = float(probabilities[positive] @ np.log(ratio))
    assert exact.kl(made, best, policy) == pytest.approx(expected)


def test_texts_that_the_policy_never_writes():
    made, policy = ragged(RandomReward(3)), table()
    with torch.no_grad():
        policy.logits[:, 0] = -torch.inf
    _, probabilities = best_of_n_probabilities(made, policy, 4)
    texts = exact.enumerate_texts(made, policy)
    assert (probabilities[texts.probabilities == 0] == 0).all()
    assert exact.kl(made, best_of_n_policy(made, policy, 4), policy) <= kl_bound(4)


# The KL.


@pytest.mark.parametrize("reward", [WORDS, RandomReward(0), RandomReward(1), length()])
def test_the_kl_never_exceeds_its_bound(reward):
    for seed in range(3):
        made, policy = ragged(reward, 3), table(seed)
        before = -1e-12
        for n in (1, 2, 3, 5, 16, 200):
            found = exact.kl(made, best_of_n_policy(made, policy, n), policy)
            assert before <= found <= kl_bound(n) + 1e-12  # and it grows with n
            before = found


@pytest.mark.parametrize("n", [2, 4, 8])
def test_the_bound_is_the_kl_in_the_limit(n):
    """V^T texts, all alike, no two worth the same: the gap closes as their number grows."""
    gaps = []
    for length_ in (2, 4, 6):
        words = WordVocabulary(list("abcd"))
        task = Task(name="no ties", vocabulary=words, max_tokens=length_, reward=_number)
        policy = TabularLM(4, order=0)
        gaps.append(kl_bound(n) - exact.kl(task, best_of_n_policy(task, policy, n), policy))
    # By hand, m texts alike: n = 2 has π₂(i) = (2i − 1)/m², and the gap falls about as log m / m².
    assert gaps[0] > 10 * gaps[1] > 100 * gaps[2] >= 0
    assert gaps[2] < 1e-5


def _number(prompts, completions, completion_ids, **columns):
    return [
        float(sum(4**place * token for place, token in enumerate(ids))) for ids in completion_ids
    ]


def test_where_all_texts_are_worth_the_same_nothing_changes():
    made, policy = ragged("zero", 3), table()
    assert exact.kl(made, best_of_n_policy(made, policy, 9), policy) == pytest.approx(0, abs=1e-12)


# The sampler.


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("reward", [WORDS, RandomReward(0)])
def test_the_sampler_has_the_exact_distribution(n, reward):
    made, policy, number = ragged(reward), table(), 3000
    queue = np.arange(number) % 3
    found = best_of_n(vector(made, 64), policy, n, queue, np.random.default_rng(n)).found
    texts, probabilities = best_of_n_probabilities(made, policy, n)
    place = {
        (int(i), row.tobytes()): k
        for k, (i, row) in enumerate(zip(texts.state.prompt_index, texts.state.tokens, strict=True))
    }
    rows = zip(found.state.prompt_index, found.state.tokens, strict=True)
    keys = [place[int(i), row.tobytes()] for i, row in rows]
    counts = np.bincount(keys, minlength=len(probabilities))
    _chi_square(counts, number * probabilities)
    if n > 1:  # and the test would notice: the policy itself does not have it
        with pytest.raises(AssertionError):
            _chi_square(counts, number * texts.probabilities)


def _chi_square(counts, expected):
    """Texts of fewer than five expected counts are counted together."""
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] == 0:
        assert counts[-1] == 0
        counts, expected = counts[:-1], expected[:-1]
    assert stats.chisquare(counts, expected).pvalue > 0.001


def test_the_best_of_each_n_is_kept_and_the_first_of_equals():
    made, policy = ragged(max_tokens=3), table()
    best = best_of_n(vector(made), policy, 4, [2, 0, 0, 1], np.random.default_rng(0))
    totals = best.episodes.rewards.sum(axis=1).reshape(4, 4)
    np.testing.assert_allclose(best.found.scores, totals.max(axis=1))
    for row, chosen in enumerate(best.chosen - np.arange(0, 16, 4)):
        assert (totals[row, :chosen] < totals[row, chosen]).all()
    assert best.found.state.prompt_index.tolist() == [2, 0, 0, 1]
    tokens = best.episodes.prefixes.tokens[best.chosen]
    np.testing.assert_array_equal(best.found.state.tokens, tokens)
    again = best_of_n(vector(made, 3), policy, 4, [2, 0, 0, 1], np.random.default_rng(0))
    np.testing.assert_array_equal(again.found.state.tokens, tokens)


@pytest.mark.parametrize("reward", ["length", {"name": "length"}, length(), WORDS, _number])
def test_another_reward_chooses(reward):
    made, policy = ragged(RandomReward(0), 3), table()
    best = best_of_n(vector(made), policy, 5, [0, 1], np.random.default_rng(1), reward=reward)
    paid = best_of_n(vector(made.with_changes(reward=reward)), policy, 5, [0, 1],
                     np.random.default_rng(1))  # fmt: skip
    np.testing.assert_array_equal(best.chosen, paid.chosen)
    np.testing.assert_allclose(best.found.scores, paid.found.scores)
    _, ours = best_of_n_probabilities(made, policy, 5, reward=reward)
    _, theirs = best_of_n_probabilities(made.with_changes(reward=reward), policy, 5)
    np.testing.assert_allclose(ours, theirs)


def test_the_blocklist_and_sampling_hold():
    made, policy, patterns = ragged(length(), 3), table(), ["aa", "b?b", "ca"]
    envs = vector(made, blocklist=patterns)
    best = best_of_n(envs, policy, 8, [0] * 20, np.random.default_rng(0))
    _, probabilities = best_of_n_probabilities(made, allowed_by(made, patterns, policy), 8)
    texts = exact.enumerate_texts(made, policy)
    possible = {row.tobytes() for row in texts.state.tokens[probabilities > 0]}
    assert {row.tobytes() for row in best.found.state.tokens} <= possible
    one = Sampling(forbidden=(1,))
    best = best_of_n(envs, policy, 2, [0] * 20, np.random.default_rng(0), sampling=one)
    assert not (best.found.state.tokens[:, 2:] == 1).any()


def test_a_skipped_text_is_kept_only_where_there_is_no_other():
    def fails(prompts, completions, **columns):
        if any("a" in text for text in completions):
            raise RuntimeError("no a, please")
        return [-1.0] * len(completions)

    made, policy = ragged(fails, 1), TabularLM(5)
    envs = vector(made, reward_fault="skip")
    best = best_of_n(envs, policy, 6, [0] * 30, np.random.default_rng(0))
    assert best.episodes.faults.any()
    assert not best.episodes.faults[best.chosen].any()


def test_bad_input():
    made, policy, generator = ragged(), table(), np.random.default_rng(0)
    for n in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="expected n to be an integer"):
            best_of_n(vector(made), policy, n, [0], generator)
        with pytest.raises(ValueError, match="expected n to be an integer"):
            best_of_n_policy(made, policy, n)
        with pytest.raises(ValueError, match="expected n to be an integer"):
            kl_bound(n)
    with pytest.raises(ValueError, match="one finite number"):
        best_of_n(vector(made), policy, 2, [0], generator, reward=_nan)
    for wrong in (TextEnv(made), "textenv/ILoveYou-v0"):
        with pytest.raises(ValueError, match=r"gym\.make_vec\(…\) in the place of gym\.make"):
            best_of_n(wrong, policy, 2, [0], generator)


def _nan(prompts, completions, **columns):
    return [math.nan] * len(completions)
