"""V of a policy, policy improvement and softmax preferences, against `exact`."""

import gymnasium as gym
import numpy as np
import pytest

from tests.small_tasks import ragged_task, small_task, task
from tests.test_q_learning import random_task
from textenv import TextEnv, exact
from textenv.prefixes import Prefixes
from textenv_agents.q_learning import Tabular
from textenv_agents.tabular import SoftmaxPreferences, Table, evaluate_policy, sweep_policy


def made(name):
    if name in ("GoodBad", "ILoveYou"):
        return gym.make(f"textenv/{name}-v0").unwrapped.task
    return {"small": small_task(), "ragged": ragged_task(4), "random": random_task(7)}[name]


NAMES = ["GoodBad", "ILoveYou", "small", "ragged", "random"]


def random_policy(of, seed):
    preferences = SoftmaxPreferences(of)
    table = preferences.table
    table.values[:] = np.random.default_rng(seed).normal(scale=1.5, size=table.values.shape)
    return preferences


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_gives_the_exact_values(name):
    of = made(name)
    policy = random_policy(of, 0)
    swept = sweep_policy(TextEnv(of), policy)
    truth = Table.from_values(of, exact.values(of, policy).V, columns=1)
    assert len(swept) == len(truth)
    assert swept.distance(truth) < 1e-12


def test_td_comes_to_the_values_of_a_policy():
    of = random_task(1)
    policy = random_policy(of, 1)
    truth = Table.from_values(of, exact.values(of, policy).V, columns=1)
    starts = Prefixes.from_observations(
        np.concatenate([of.prompt_table, np.full((2, 3), 4)], axis=1), 2, 4
    )
    expected = truth.read(starts)[0][:, 0]
    runs = [
        evaluate_policy(TextEnv(of), policy, 1500, seed=seed).read(starts)[0][:, 0]
        for seed in range(5)
    ]
    # t(4 degrees of freedom, 99.9 %) = 8.61 standard errors of the mean over seeds
    error = np.std(runs, axis=0, ddof=1) / np.sqrt(5)
    assert (np.abs(np.mean(runs, axis=0) - expected) < 8.61 * error).all()
    assert (np.abs(np.mean(runs, axis=0) - expected) < 0.1).all()


def test_td_of_a_deterministic_policy_is_exact():
    of = small_task()
    policy = Table.from_values(of, exact.values(of, random_policy(of, 2)).Q).policy()
    learned = evaluate_policy(TextEnv(of), policy, 60, step_size=1.0)
    truth = Table.from_values(of, exact.values(of, policy).V, columns=1)
    assert learned.values[:, 0].tolist() == truth.read(learned.prefixes)[0][:, 0].tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(5))
def test_policy_improvement_never_lowers_j(name, seed):
    of = made(name)
    policy = random_policy(of, seed)
    worth = [exact.value(of, policy)]
    for _ in range(of.max_tokens + 1):  # greedy in Q^π, again and again
        policy = Table.from_values(of, exact.values(of, policy).Q).policy()
        worth.append(exact.value(of, policy))
    assert (np.diff(worth) >= -1e-12).all()
    assert worth[1] > worth[0]
    best = exact.optimum(of)
    top = np.mean([best.V[key] for key in best.V if key == () or key[-1] == ()])
    assert worth[-1] == pytest.approx(top, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_expected_step_is_the_exact_gradient(name):
    of = made(name)
    policy = random_policy(of, 3)
    texts = exact.enumerate_texts(of, policy)
    to_go = np.cumsum(texts.rewards[:, ::-1], axis=1)[:, ::-1]
    weighted = to_go * texts.probabilities[:, None]
    found = policy.gradient(Prefixes.of(of.rules, texts.state), weighted)
    np.testing.assert_allclose(found, exact.gradient(of, policy), atol=1e-12)
    assert np.abs(found).max() > 1e-4


def test_the_gradient_of_good_bad_is_a_half():
    of = made("GoodBad")
    np.testing.assert_allclose(exact.gradient(of, SoftmaxPreferences(of)), [[0.5, -0.5]])


def test_the_gradient_is_that_of_j():
    of = random_task(4)
    policy = random_policy(of, 4)
    gradient, step = exact.gradient(of, policy), 1e-6
    for place in [(0, 0), (1, 2), (3, 1), (6, 3)]:
        values = []
        for sign in (1, -1):
            policy.table.values[place] += sign * step
            values.append(exact.value(of, policy))
            policy.table.values[place] -= sign * step
        assert gradient[place] == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-8)


@pytest.mark.parametrize(("name", "texts"), [("GoodBad", 300), ("ILoveYou", 3000)])
def test_preferences_learn_the_toys(name, texts):
    env = gym.make(f"textenv/{name}-v0")
    of = env.unwrapped.task
    agent = SoftmaxPreferences(of).learn(env, texts, learning_rate=0.5)
    assert exact.value(of, agent) > 0.95
    again = SoftmaxPreferences(of).learn(env, texts, learning_rate=0.5)
    assert (again.table.values == agent.table.values).all()


def test_preferences_keep_to_the_blocklist():
    env = TextEnv(small_task(), blocklist=["ab", "cc"])
    agent = SoftmaxPreferences(env.task).learn(env, 200)  # a forbidden token would raise
    assert np.isneginf(agent.logits).any()
    swept = sweep_policy(env, agent)  # writes all that has a probability
    assert np.isfinite(swept.values).all()


def test_a_skipped_reward_teaches_nothing():
    def fails(completions):
        if "bad" in completions:
            raise RuntimeError("no")
        return [1.0] * len(completions)

    env = gym.make("textenv/GoodBad-v0", reward=fails, reward_fault="skip")
    policy = SoftmaxPreferences(env.unwrapped.task)
    # Only "good" counts: V(start) is 1 though every other text is "bad". The baseline is the mean
    # of the rewards before, 1 as well, so that there is nothing to prefer.
    assert evaluate_policy(env, policy, 50).values.tolist() == [[1.0]]
    assert policy.learn(env, 50).table.values.tolist() == [[0.0, 0.0]]
    with pytest.raises(ValueError, match=r"the reward of 'bad' failed.*is not known"):
        sweep_policy(env, policy)


def test_a_table_of_all_prefixes_asks_no_reward():
    def fails(completions):
        raise RuntimeError("no")

    assert len(Table.complete(task(reward=fails))) == len(Table.complete(task()))


def test_a_learned_table_is_a_policy_that_exact_takes():
    of = small_task()
    agent = Tabular(TextEnv(of), epsilon=0.5).learn(500)
    greedy, mixed = agent.policy(), agent.policy("epsilon_greedy", epsilon=0.5)
    soft = agent.policy("softmax", temperature=0.2)
    worth = [exact.value(of, policy) for policy in (greedy, soft, mixed)]
    assert worth[0] >= max(worth)
    assert exact.kl(of, greedy, mixed) > 0


def test_what_cannot_be_evaluated():
    env = gym.make("textenv/ILoveYou-v0", action="candidates:2")
    policy = SoftmaxPreferences(env.unwrapped.task)
    for evaluate in (sweep_policy, lambda *parts: evaluate_policy(*parts, 3)):
        with pytest.raises(ValueError, match="these actions are candidates"):
            evaluate(env, policy)
    with pytest.raises(ValueError, match="of ILoveYou; the environment writes GoodBad, in another"):
        policy.learn("textenv/GoodBad-v0", 1)
    finished = Prefixes.from_observations([[5, 0, 1, 3, 5]], 2, 5)
    with pytest.raises(ValueError, match="expected unfinished prefixes"):
        SoftmaxPreferences(task())(finished)
