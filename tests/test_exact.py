"""The exact solutions against numbers worked out by hand."""

from __future__ import annotations

import itertools
import math

import gymnasium as gym
import numpy as np
import pytest
import torch

import textenv
from textenv import Task, exact, mdp
from textenv.enumeration import count_texts
from textenv.errors import TooLargeError
from textenv.models import TabularLM
from textenv.prefixes import Prefixes
from textenv.rewards import exact_match, word_preference
from textenv.vocabulary import WordVocabulary


def toy(name):
    env = gym.make(f"textenv/{name}-v0").unwrapped
    return env.task, env.lm


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_good_bad_value_and_gradient():
    task, policy = toy("GoodBad")
    # J = ½·(+1) + ½·(−1) = 0
    assert exact.value(task, policy) == pytest.approx(0.0, abs=1e-15)
    # ∂J/∂θ_good = p(1 − p)·(+1) − p(1 − p)·(−1) = 2·¼ = +½, and −½ for bad
    np.testing.assert_allclose(exact.gradient(task, policy), [[0.5, -0.5]], atol=1e-15)


def test_good_bad_one_step_of_ascent():
    task, policy = toy("GoodBad")
    policy = TabularLM.from_probabilities([[0.5, 0.5]], order=0)
    with torch.no_grad():
        policy.logits += 1.0 * torch.as_tensor(exact.gradient(task, policy))
    # The logits differ by 1 now: p(good) = σ(1), and J = p − (1 − p) = 2σ(1) − 1
    assert exact.value(task, policy) == pytest.approx(2 * sigmoid(1) - 1)


def test_good_bad_kl_optimum():
    task, policy = toy("GoodBad")
    optimum, value = exact.kl_optimum(task, policy, beta=1.0)
    start = Prefixes(np.array([[2]]), 0, 2, np.array([0]))
    # π* ∝ ½·e^{±1}: p(good) = e / (e + 1/e) = σ(2); value log(½e + ½/e) = log cosh 1
    np.testing.assert_allclose(optimum(start), [[sigmoid(2), 1 - sigmoid(2)]])
    assert value == pytest.approx(math.log(math.cosh(1)))
    # and the value is what it says: E[r] − β·KL
    assert value == pytest.approx(exact.value(task, optimum) - exact.kl(task, optimum, policy))


def test_i_love_you_value_and_gradient():
    task, policy = toy("ILoveYou")
    # J = 0.5·0.8·0.6·1.0
    assert exact.value(task, policy) == pytest.approx(0.24)
    # d(s)·π(a|s)·(Q(s, a) − V(s)), row by row:
    # start: V = 0.24; 我: 1·½·(0.48 − 0.24) = 0.12; others: (½/3)·(0 − 0.24) = −0.04
    # 我:   d = ½, V = 0.48; 爱: ½·0.8·(0.6 − 0.48) = 0.048; others: ½·(0.2/3)·(−0.48) = −0.016
    # 爱:   d = 0.4 on 我爱 (V = 0.6; elsewhere Q = 0): 你: 0.4·0.6·(1 − 0.6) = 0.096;
    #        others: 0.4·(0.4/3)·(−0.6) = −0.032
    # 你:   。 has probability 1, the others −∞ as logit: 0
    expected = [
        [-0.016, 0.048, -0.016, -0.016],
        [-0.032, -0.032, 0.096, -0.032],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0.12, -0.04, -0.04, -0.04],
    ]
    np.testing.assert_allclose(exact.gradient(task, policy), expected, atol=1e-12)


def test_i_love_you_values_by_prefix():
    task, policy = toy("ILoveYou")
    values, action_values = exact.values(task, policy)
    assert values[()] == pytest.approx(0.24)
    assert values[(0,)] == pytest.approx(0.48)
    assert values[(0, 1)] == pytest.approx(0.6)
    np.testing.assert_allclose(action_values[(0, 1, 2)], [0, 0, 0, 1])


def test_optimum_and_best_texts():
    best = exact.optimum(toy("ILoveYou")[0])
    assert best.texts == ["我爱你。"]
    assert best.V[()] == 1.0
    np.testing.assert_array_equal(best.Q[(0,)], [0, 1, 0, 0])


def test_all_ties_are_best_texts():
    task = Task(
        name="ties",
        vocabulary=WordVocabulary(["x", "y"]),
        max_tokens=2,
        reward=word_preference({"x": 0.0, "y": 0.0}),
    )
    assert sorted(exact.optimum(task).texts) == ["x x", "x y", "y x", "y y"]


def test_token_rewards_are_paid_on_the_way():
    task = Task(
        name="tokens",
        vocabulary=WordVocabulary(["x", "y"]),
        max_tokens=2,
        reward=word_preference({"x": 1.0}, pays="token"),
    )
    uniform = TabularLM(2, order=0)
    # E[number of x in two tokens] = 2·½
    assert exact.value(task, uniform) == pytest.approx(1.0)
    # Q(start, x) = 1 + ½, Q(start, y) = 0 + ½
    np.testing.assert_allclose(exact.values(task, uniform).Q[()], [1.5, 0.5])


def test_prompts_weigh_alike_and_name_their_prefixes():
    task = Task(
        name="prompts",
        vocabulary=WordVocabulary(["x", "y"]),
        prompts=["x", "y y"],
        columns={"reference": ["x", "y"]},
        max_tokens=1,
        reward=exact_match(column="reference"),
    )
    copy_last = TabularLM.from_probabilities([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]], order=1)
    assert exact.value(task, copy_last) == pytest.approx(0.9)
    best = exact.optimum(task)
    assert best.texts == [["x"], ["y"]]
    assert best.V == {(0, ()): 1.0, (1, ()): 1.0}


def test_gradient_is_the_finite_difference(random_task, random_policy):
    gradient = exact.gradient(random_task, random_policy)
    finite = torch.isfinite(random_policy.logits)
    step = 1e-6
    for place in finite.nonzero().tolist():
        shifted = []
        for sign in (1, -1):
            with torch.no_grad():
                random_policy.logits[tuple(place)] += sign * step
            shifted.append(exact.value(random_task, random_policy))
            with torch.no_grad():
                random_policy.logits[tuple(place)] -= sign * step
        difference = (shifted[0] - shifted[1]) / (2 * step)
        assert gradient[tuple(place)] == pytest.approx(difference, abs=1e-8)
    assert (gradient[~finite.numpy()] == 0).all()


def test_texts_and_probabilities_by_brute_force(random_task, random_policy):
    everything = exact.enumerate_texts(random_task, random_policy)
    assert len(everything.probabilities) == count_texts(random_task) == 1 + 3 + 9 * 4
    assert everything.probabilities.sum() == pytest.approx(1)
    assert everything.probabilities @ everything.rewards.sum(axis=1) == pytest.approx(
        exact.value(random_task, random_policy)
    )
    # Each probability is the product of the policy's own, read from the table.
    table = torch.softmax(random_policy.logits, dim=1).detach().numpy()
    for tokens, length, probability in zip(
        everything.state.tokens, everything.state.length, everything.probabilities, strict=True
    ):
        path = [4, *tokens[:length].tolist()]
        product = math.prod(table[before, after] for before, after in itertools.pairwise(path))
        assert probability == pytest.approx(product)


def test_kl_optimum_is_the_tilted_reference(random_task, random_policy):
    beta = 0.5
    optimum, value = exact.kl_optimum(random_task, random_policy, beta)
    prior = exact.enumerate_texts(random_task, random_policy)
    weights = prior.probabilities * np.exp(prior.rewards.sum(axis=1) / beta)
    posterior = exact.enumerate_texts(random_task, optimum)
    np.testing.assert_allclose(posterior.probabilities, weights / weights.sum(), atol=1e-12)
    assert value == pytest.approx(beta * math.log(weights.sum()))


def test_kl_against_the_sum_over_texts(random_task, random_policy):
    other = TabularLM(4, order=1)  # uniform
    p = exact.enumerate_texts(random_task, random_policy).probabilities
    q = exact.enumerate_texts(random_task, other).probabilities
    expected = (p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum()
    assert exact.kl(random_task, random_policy, other) == pytest.approx(expected)
    assert exact.kl(random_task, random_policy, random_policy) == 0.0
    # The other way round, the uniform policy writes what this one never does.
    assert exact.kl(random_task, other, random_policy) == math.inf


def test_monte_carlo_agrees(random_task, random_policy):
    envs = textenv.TextVectorEnv(2000, random_task, autoreset_mode="same_step")
    envs.reset(seed=0)
    generator = np.random.default_rng(0)
    total = np.zeros(2000)
    live = np.ones(2000, dtype=bool)
    for _ in range(3):
        logits = random_policy.next(Prefixes.of(random_task.rules, envs.state)).logits
        noise = torch.as_tensor(generator.gumbel(size=logits.shape))
        _, rewards, ended, _, _ = envs.step((logits + noise).argmax(1).numpy())
        total += rewards * live
        live &= ~ended
    error = total.std() / math.sqrt(len(total))
    assert abs(total.mean() - exact.value(random_task, random_policy)) < 4 * error


def test_a_task_that_is_too_large_says_how_large():
    task = gym.make("textenv/WordPreference-v0").unwrapped.task
    with pytest.raises(TooLargeError, match=r"17 tokens, up to 16 written.*limit is 200,000"):
        exact.value(task, TabularLM(17, order=0))


@pytest.mark.parametrize("answer", [np.full((1, 2), 0.4), np.ones((1, 3)), [[1.5, -0.5]]])
def test_a_policy_must_answer_with_probabilities(answer):
    task, _ = toy("GoodBad")
    with pytest.raises(ValueError, match="probabilities"):
        exact.value(task, lambda prefixes: np.array(answer))


def test_a_name_is_no_policy():
    task, _ = toy("GoodBad")
    with pytest.raises(TypeError, match=r"a language model .*or a function .*got 'reviews'"):
        exact.value(task, "reviews")


def test_an_environment_is_no_task():
    env = gym.make("textenv/GoodBad-v0")
    for ask in (
        lambda: exact.value(env, env.unwrapped.lm),
        lambda: exact.optimum(env),
        lambda: exact.candidates(env, env.unwrapped.lm, 1),
    ):
        with pytest.raises(
            TypeError, match=r"expected a task, got .*GoodBad.*env\.unwrapped\.task"
        ):
            ask()


def test_gradient_needs_a_table():
    task, _ = toy("GoodBad")
    with pytest.raises(TypeError, match="TabularLM"):
        exact.gradient(task, lambda prefixes: np.full((1, 2), 0.5))


def test_beta_must_be_positive():
    task, policy = toy("GoodBad")
    with pytest.raises(ValueError, match="beta > 0"):
        exact.kl_optimum(task, policy, 0.0)


def test_an_optimum_knows_its_own_prefixes_only():
    task, policy = toy("GoodBad")
    optimum, _ = exact.kl_optimum(task, policy, 1.0)
    finished = mdp.transition(task.rules, mdp.initial(task.rules, np.zeros(0, np.int64)), 0)
    with pytest.raises(ValueError, match="unfinished prefixes"):
        optimum(Prefixes.of(task.rules, finished))
