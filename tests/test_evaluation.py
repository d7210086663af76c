"""Metrics by hand, and evaluations against exact values."""

from __future__ import annotations

import copy
import json

import gymnasium as gym
import numpy as np
import pytest
import torch

from textenv import exact
from textenv.metrics import distinct_n, mean_interval
from textenv.models import Sampling, TabularLM
from textenv_agents import Evaluation, evaluate


def test_an_evaluation_agrees_with_the_exact_values():
    env = gym.make("textenv/ILoveYou-v0").unwrapped
    policy = TabularLM(4, order=1)  # uniform
    with torch.no_grad():
        policy.logits[2, :3] = -torch.inf  # where the reference has probability 0
        policy.logits[4, 0] = 2.0
    result = evaluate(policy, "textenv/ILoveYou-v0", reference=env.lm, texts=2000)
    value, kl = exact.value(env.task, policy), exact.kl(env.task, policy, env.lm)
    assert result.reward.low <= value <= result.reward.high
    assert result.kl.low <= kl <= result.kl.high
    assert len(result.texts) == 2000
    lengths = [len(text) for _, text, _ in result.texts]
    assert result.length == pytest.approx(np.mean(lengths))
    again = evaluate(policy, "textenv/ILoveYou-v0", reference=env.lm, texts=2000)
    assert again == result


def test_the_perplexity_is_the_references():
    """A uniform reference finds every text of four words equally surprising: 4."""
    uniform = TabularLM(4, order=1)
    policy = gym.make("textenv/ILoveYou-v0").unwrapped.lm
    result = evaluate(policy, "textenv/ILoveYou-v0", reference=uniform, texts=10)
    assert result.perplexity == pytest.approx(4.0)


def test_the_texts_of_a_seed_stay_the_same():
    """Numbers of the time when 250 rows wrote 250 texts, waited for each other and began again."""
    lm = gym.make("textenv/ILoveYou-v0").unwrapped.lm
    result = evaluate(lm, "textenv/ILoveYou-v0", reference=lm, texts=620)
    assert sum(reward for _, _, reward in result.texts) == 154
    assert sum(len(text) for _, text, _ in result.texts) == 1784
    assert result.perplexity == pytest.approx(2.355619019915541)
    short = evaluate(lm, "textenv/ILoveYou-v0", reference=lm, texts=500)
    assert short.texts == result.texts[:500]


def test_an_evaluation_is_kept_whole():
    lm = gym.make("textenv/ILoveYou-v0").unwrapped.lm
    result = evaluate(lm, "textenv/ILoveYou-v0", reference=lm, texts=20)
    assert Evaluation.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_distinct_n_by_hand():
    # bigrams ab, bc, ab: 2 different of 3; trigrams: abc alone
    assert distinct_n([[1, 2, 3], [1, 2]]) == pytest.approx(2 / 3)
    assert distinct_n([[1, 2, 3], [1, 2]], 3) == 1.0
    assert distinct_n([[1], []]) == 0.0


def test_intervals_cover():
    """The 95 % interval of 200 draws covers the true mean in about 95 of 100 repetitions."""
    generator = np.random.default_rng(0)
    covered = sum(
        low <= 1.0 <= high
        for _, low, high in (
            mean_interval(generator.exponential(size=200), resamples=300) for _ in range(100)
        )
    )
    assert 88 <= covered <= 99
    with pytest.raises(ValueError, match="at least one finite"):
        mean_interval([])
    with pytest.raises(ValueError, match="at least one finite"):
        mean_interval([1.0, np.nan])


def test_an_evaluation_samples_as_it_is_told():
    """With the likeliest token alone every text is the same, and both models are sure of it."""
    lm = gym.make("textenv/ILoveYou-v0").unwrapped.lm
    policy = copy.deepcopy(lm)
    with torch.no_grad():
        policy.logits.mul_(1.5)
    plain = evaluate(policy, "textenv/ILoveYou-v0", reference=lm, texts=300)
    assert plain.kl.mean > 0
    sure = Sampling(top_k=1)
    result = evaluate(policy, "textenv/ILoveYou-v0", reference=lm, texts=300, sampling=sure)
    assert len({text for _, text, _ in result.texts}) == 1
    assert (result.kl.mean, result.perplexity) == (0.0, 1.0)
    warm = Sampling(temperature=1.5)  # the policy, divided by it, is the reference
    result = evaluate(policy, "textenv/ILoveYou-v0", reference=policy, texts=300, sampling=warm)
    same = evaluate(lm, "textenv/ILoveYou-v0", reference=lm, texts=300)
    assert result.texts == same.texts
    assert result.perplexity == pytest.approx(same.perplexity)
