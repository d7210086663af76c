"""Tabular learning in environments, against the exact values of small tasks."""

import gymnasium as gym
import numpy as np
import pytest

from benchmarks.tabular import METHODS, curve, tasks
from tests.small_tasks import ragged_task, small_task, task
from textenv import Task, TextEnv, TextVectorEnv, exact
from textenv.errors import TextenvError, TooLargeError
from textenv.preferences import RatedText
from textenv.rewards import word_preference
from textenv.vocabulary import WordVocabulary
from textenv_agents.q_learning import Tabular, TabularConfig
from textenv_agents.tabular import Table
from textenv_agents.tabular.choosing import draw

TOYS = {"GoodBad": 40, "ILoveYou": 12_000}  # texts in which every token is met often enough


def random_task(seed):
    """V = 3 words and an end, T = 3, two prompts, each word paid a random number."""
    paid = np.random.default_rng(seed).normal(size=3)
    return Task(
        name="random",
        vocabulary=WordVocabulary(["a", "b", "c"], end="$"),
        prompts=["a", "b c"],
        max_tokens=3,
        reward=word_preference(dict(zip("abc", paid)), pays="token"),
    )


def rating_of(prompt, text, rating):
    return RatedText(prompt=prompt, text=text, rating=rating)


def error(agent, made):
    return agent.table.distance(Table.from_values(made, exact.optimum(made).Q))


@pytest.mark.parametrize("name", TOYS)
def test_q_learning_is_exact_on_the_toys(name):
    env = gym.make(f"textenv/{name}-v0")
    agent = Tabular(env, step_size=1.0, epsilon=1.0, seed=0).learn(TOYS[name])
    made = env.unwrapped.task
    assert error(agent, made) == 0.0
    assert exact.value(made, agent.policy()) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_q_learning_is_exact_on_random_tasks(seed):
    made = random_task(seed)
    agent = Tabular(TextEnv(made), step_size=1.0, epsilon=1.0, seed=seed).learn(3000)
    assert error(agent, made) < 1e-12
    np.testing.assert_allclose(
        exact.value(made, agent.policy()),
        np.mean([exact.optimum(made).V[prompt, ()] for prompt in range(2)]),
        atol=1e-12,
    )


def test_decreasing_steps_come_near():
    made = random_task(1)
    agent = Tabular(TextEnv(made), step_power=0.6, epsilon=1.0, seed=1)
    errors = [error(agent.learn(texts), made) for texts in (300, 3_000, 5_000)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-2


def test_discounted_values():
    # Texts of two words, x pays 1: Q(start, x) = 1 + γ·1, Q(start, y) = 0 + γ·1
    made = Task(
        name="tokens",
        vocabulary=WordVocabulary(["x", "y"]),
        max_tokens=2,
        reward=word_preference({"x": 1.0}, pays="token"),
    )
    agent = Tabular(TextEnv(made), gamma=0.5, step_size=1.0, epsilon=1.0).learn(60)
    start = agent.table.find(np.array([2, 2]))
    np.testing.assert_array_equal(agent.table.values[start], [1.5, 0.5])


def test_sarsa_learns_the_policy_that_explores():
    """With ε = 1 that is the uniform one, whose values `exact` knows."""
    made = random_task(2)
    uniform = exact.values(made, lambda prefixes: np.full((len(prefixes), 4), 1 / 4))
    agent = Tabular(TextEnv(made), method="sarsa", step_power=1.0, epsilon=1.0).learn(8_000)
    assert agent.table.distance(Table.from_values(made, uniform.Q)) < 0.15
    assert error(agent, made) > 0.3  # Q* is something else


@pytest.mark.parametrize("seed", range(3))
def test_sarsa_with_exploring_starts_is_exact(seed):
    settings = {"method": "sarsa", "step_size": 1.0, "epsilon": 0.0, "exploring_starts": True}
    made = random_task(seed)
    assert error(Tabular(TextEnv(made), seed=seed, **settings).learn(3_000), made) < 1e-12


def test_sarsa_that_explores_less_and_less_writes_the_best_text():
    env = gym.make("textenv/ILoveYou-v0")
    agent = Tabular(env, method="sarsa", epsilon=1.0, epsilon_power=0.3, seed=3).learn(4_000)
    assert exact.value(env.unwrapped.task, agent.policy()) == 1.0
    assert exact.value(env.unwrapped.task, agent.policy("epsilon_greedy", epsilon=0.0)) == 1.0


@pytest.mark.parametrize("exploration", ["epsilon_greedy", "softmax"])
@pytest.mark.parametrize("method", ["q_learning", "sarsa"])
def test_the_same_seed_learns_the_same(method, exploration):
    tables = [
        Tabular(TextEnv(small_task()), method=method, exploration=exploration, seed=seed)
        .learn(60)
        .table
        for seed in (4, 4, 5)
    ]
    assert (tables[0].tokens == tables[1].tokens).all()
    assert (tables[0].values == tables[1].values).all()
    assert not np.array_equal(tables[0].visits, tables[2].visits)


@pytest.mark.parametrize("mask", [None, "info", "observation"])
def test_the_blocklist_is_respected(mask):
    env = TextEnv(small_task(), blocklist=["ab", "b?b", "cc"], mask=mask)
    agent = Tabular(env, step_size=1.0, epsilon=1.0).learn(2_000)  # a forbidden token would raise
    assert not agent.table.visits[~agent.table.allowed].any()
    assert (~agent.table.allowed).any()
    # The values are those of the task in which only allowed tokens are written.
    best = exact.optimum(env.task, allowed=agent.policy("epsilon_greedy", epsilon=1.0))
    truth = Table.from_values(env.task, best.Q)
    for row, tokens in enumerate(agent.table.tokens):
        allowed = agent.table.allowed[row]
        expected = truth.values[truth.find(tokens)]
        np.testing.assert_array_equal(agent.table.values[row][allowed], expected[allowed])
    # Prefixes that were never met have the environment's masks too.
    unlearned = Tabular(env).policy()
    met = agent.table.prefixes
    assert (unlearned(met)[~agent.table.allowed] == 0).all()


def test_suppressed_tokens_are_never_chosen():
    made = small_task()
    made.vocabulary.suppressed_tokens = (1,)
    agent = Tabular(TextEnv(made), epsilon=1.0, initial=-5.0).learn(300)
    assert not agent.table.visits[:, 1].any()
    assert agent.table.policy("softmax")(Table.complete(made).prefixes)[:, 1].max() == 0


def test_truncated_texts_are_bootstrapped():
    made = ragged_task(3)
    env = gym.wrappers.TimeLimit(TextEnv(made), 1)
    agent = Tabular(env, step_size=1.0, epsilon=1.0, initial=7.0).learn(300)
    first = agent.table.find(np.concatenate([made.prompt_table[0], [5, 5, 5]]))
    # a: 1 + the 7 that was never learned; b: −1 + 7; c: 0 + 7; ! and $ end the text: 0
    np.testing.assert_array_equal(agent.table.values[first], [8, 6, 7, 0, 0])


def test_candidates_can_be_learned_but_are_no_policy_over_tokens():
    env = gym.make("textenv/ILoveYou-v0", action="candidates:2")
    agent = Tabular(env, step_size=1.0, epsilon=1.0).learn(500)
    assert agent.table.values.shape[1] == 2
    assert agent.table.values[0].max() == 1.0
    with pytest.raises(ValueError, match='for candidates: learn with action="all_tokens"'):
        agent.policy()


def test_ratings_give_the_mean_of_those_who_rated():
    agent = Tabular(TextEnv(task()), step_power=1.0)
    rated = [rating_of("a", "b a", 4.0), rating_of("a", "b", 1.0), rating_of("a", "c !", -2.0)]
    agent.learn_from_ratings(rated)
    start = agent.table.find(np.array([5, 0, 5, 5, 5]))
    # b: (4 + 1)/2, c: −2
    np.testing.assert_array_equal(agent.table.values[start], [0, 2.5, -2, 0, 0])
    after_b = agent.table.find(np.array([5, 0, 1, 5, 5]))
    np.testing.assert_array_equal(agent.table.values[after_b], [4, 0, 0, 0, 1])  # "b" ends with $


def test_noisy_ratings_of_first_tokens():
    generator = np.random.default_rng(0)
    agent = Tabular("textenv/GoodBad-v0", step_power=1.0)
    ratings = [
        (word, 2.0 * (word == "good") + generator.normal()) for word in ["good", "bad"] * 500
    ]
    agent.learn_from_ratings([rating_of("", *pair) for pair in ratings], first_token=True)
    good = [rating for word, rating in ratings if word == "good"]
    assert agent.table.values[0, 0] == pytest.approx(np.mean(good), abs=1e-12)
    np.testing.assert_allclose(agent.table.values[0], [2.0, 0.0], atol=4 / np.sqrt(500))
    assert exact.value(agent.task, agent.policy()) == 1.0


def test_a_constant_step_follows_ratings():
    agent = Tabular("textenv/GoodBad-v0", step_size=0.5)
    agent.learn_from_ratings([rating_of("", "good", 1.0), rating_of("", "good", 3.0)])
    assert agent.table.values[0, 0] == 1.75  # ½·(½·0 + ½·1) + ½·3


def test_a_skipped_reward_teaches_nothing():
    def failing(completions):
        raise RuntimeError("no")

    env = TextEnv(task(reward=failing), reward_fault="skip")
    assert not Tabular(env).learn(20).table.visits[:, 3:].any()  # ends of texts are what is paid


def test_draws_have_their_frequencies():
    generator = np.random.default_rng(0)
    drawn = [draw(np.array([0.0, 0.3, 0.7, 0.0]), generator) for _ in range(5000)]
    counts = np.bincount(drawn, minlength=4)
    assert counts[0] == counts[3] == 0
    assert counts[1] / 5000 == pytest.approx(0.3, abs=0.03)


def test_bad_environments_and_settings():
    with pytest.raises(TooLargeError, match=r"could take 10\^21 bytes, .*candidates:4"):
        Tabular(gym.make("textenv/ILoveYou-v0", max_tokens=40))
    with pytest.raises(ValueError, match='make one environment, with observation="tokens"'):
        Tabular(TextVectorEnv(2, task()))
    with pytest.raises(ValueError, match="got MultiDiscrete"):
        Tabular(TextEnv(task(), action="fragments:2"))
    with pytest.raises(ValueError, match='with observation="tokens"'):
        Tabular(TextEnv(task(), observation="text"))
    with pytest.raises(ValueError, match="expected a textenv environment"):
        Tabular(gym.make("CartPole-v1"))
    for settings in ({"epsilon": 2.0}, {"step_power": 0.5}, {"gamma": 1.1}, {"step_size": 0.0}):
        with pytest.raises(ValueError, match="expected"):
            TabularConfig(**settings)
    for settings in ({"method": "dqn"}, {"exploration": "none"}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match="expected"):
            TabularConfig(**settings)
    with pytest.raises(ValueError, match="not both"):
        Tabular(TextEnv(task()), TabularConfig(), epsilon=0.2)


@pytest.mark.parametrize("text", ["a b c a", "! a", "$ a"])
def test_bad_ratings(text):
    with pytest.raises(ValueError, match=r"rated text|tokens"):
        Tabular(TextEnv(task())).learn_from_ratings([rating_of("a", text, 1.0)])


def test_a_table_is_saved_and_loaded(tmp_path):
    made = small_task()
    agent = Tabular(TextEnv(made, blocklist=["ab"])).learn(50)
    agent.table.save(tmp_path / "q.npz")
    again = Table.load(tmp_path / "q.npz", made)
    for name in ("values", "visits", "allowed", "tokens"):
        np.testing.assert_array_equal(getattr(again, name), getattr(agent.table, name))
    met = again.prefixes
    np.testing.assert_array_equal(again.policy()(met), agent.table.policy()(met))
    other = made.with_changes(vocabulary=WordVocabulary([*"abc!d"], end="$"))
    with pytest.raises(TextenvError, match="on another task: its vocabulary is"):
        Table.load(tmp_path / "q.npz", other)
    with pytest.raises(TextenvError, match="its max_tokens is 3, that of small is 4"):
        Table.load(tmp_path / "q.npz", made.with_changes(max_tokens=4))
    whole = (tmp_path / "q.npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no table"):
        (tmp_path / "bad.npz").write_bytes(damaged)
        with pytest.raises(TextenvError, match="none or is damaged"):
            Table.load(tmp_path / "bad.npz", made)
    np.savez(tmp_path / "pickle.npz", about=np.array([{"version": 1}], dtype=object))
    with pytest.raises(TextenvError, match="none or is damaged"):
        Table.load(tmp_path / "pickle.npz", made)


def test_a_mask_that_forbids_everything():
    table = Table(task())
    with pytest.raises(ValueError, match="forbids all 5 actions after the prefix"):
        table.row(np.array([5, 0, 5, 5, 5]), np.zeros(5, dtype=np.bool_))


def test_the_benchmark_comes_near():
    for name, made in tasks().items():
        looks = curve(made, METHODS["Q-learning, α = 1"], (1, 2_000), seed=0)
        assert looks[0][0] > looks[1][0] or name == "GoodBad"
        assert looks[1] == pytest.approx((0, 0), abs=1e-12)
