"""What `Candidates(k)` costs, exactly: by hand, analytically, and beside the environment."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from textenv import Task, TextEnv, exact
from textenv.models import TabularLM
from textenv.prefixes import Prefixes
from textenv.rewards import word_preference
from textenv.vocabulary import WordVocabulary


def i_love_you():
    env = gym.make("textenv/ILoveYou-v0").unwrapped
    return env.task, env.lm


def word_preference_task(words, weights, tokens, end):
    """Each word pays its weight at once."""
    return Task(
        name="words",
        vocabulary=WordVocabulary(words, end="$" if end else None),
        max_tokens=tokens,
        reward=word_preference(weights, pays="token"),
    )


class TestByHand:
    def test_i_love_you(self):
        """J of the policy that goes on among the k likeliest; the best text is always there."""
        task, policy = i_love_you()
        # 我 has 0.5 (the others 0.5/3), then 爱 0.8 (0.2/3), then 你 0.6 (0.4/3), then 。 1.
        of = {
            1: 1.0,
            2: 0.5 / (0.5 + 0.5 / 3) * 0.8 / (0.8 + 0.2 / 3) * 0.6 / (0.6 + 0.4 / 3),
            3: 0.5 / (1 - 0.5 / 3) * 0.8 / (1 - 0.2 / 3) * 0.6 / (1 - 0.4 / 3),
            4: 0.5 * 0.8 * 0.6,
        }
        assert of[2] == pytest.approx(3 / 4 * 12 / 13 * 9 / 11)
        for k, expected in of.items():
            restricted = exact.candidates(task, policy, k)
            assert exact.value(task, restricted) == pytest.approx(expected)
            best = exact.optimum(task, allowed=restricted)
            assert (best.V[()], best.texts) == (1.0, ["我爱你。"])
        # The bias of k = 2 is 0.566 − 0.24.
        bias = exact.value(task, exact.candidates(task, policy, 2)) - exact.value(task, policy)
        assert bias == pytest.approx(0.326434, abs=1e-6)

    def test_what_cannot_be_written_cannot_be_reached(self):
        task, _ = i_love_you()
        # 你 is nowhere among the 3 likeliest: no text can pay.
        policy = TabularLM.from_probabilities([[0.4, 0.3, 0.0, 0.3]] * 5, order=1)
        restricted = exact.candidates(task, policy, 3)
        best = exact.optimum(task, allowed=restricted)
        assert exact.optimum(task).V[()] == 1.0
        assert best.V[()] == 0.0
        assert "我爱你。" not in best.texts
        assert all("你" not in text for text in best.texts)
        assert best.Q[(0, 1)].shape == (4,)

    def test_word_preference_of_the_registered_id(self):
        """Uniform: the smaller ids come first, which are the preferred words; and the end."""
        env = gym.make("textenv/WordPreference-v0", max_tokens=3).unwrapped
        for k, best in ((2, 3.0), (5, 3.0)):
            restricted = exact.candidates(env.task, env.lm, k)
            assert exact.optimum(env.task, allowed=restricted).V[()] == best
        # k = 2: good, or the end in place of great: E = ½ + ¼ + ⅛
        assert exact.value(env.task, exact.candidates(env.task, env.lm, 2)) == pytest.approx(7 / 8)
        # All 17: preferred and unwanted words cancel out.
        assert exact.value(env.task, env.lm) == pytest.approx(0.0, abs=1e-12)

    def test_the_bias_of_the_optimum(self):
        """bad, the, good, $ alike: among two candidates stand bad and the end, so 0 is best."""
        task = word_preference_task(["bad", "the", "good"], {"bad": -1.0, "good": 1.0}, 4, True)
        uniform = TabularLM(4, order=0)
        restricted = exact.candidates(task, uniform, 2)
        assert exact.optimum(task).V[()] == 4.0
        best = exact.optimum(task, allowed=restricted)
        assert (best.V[()], best.texts) == (0.0, [""])
        # Each time bad with ½, else the end: −(½ + ¼ + ⅛ + 1/16) = −(1 − 2^−4)
        assert exact.value(task, restricted) == pytest.approx(-(1 - 2**-4))
        # Three: bad, the, $: still no good.
        assert exact.optimum(task, allowed=exact.candidates(task, uniform, 3)).V[()] == 0.0
        assert exact.optimum(task, allowed=exact.candidates(task, uniform, 4)).V[()] == 4.0


class TestAnalytically:
    @pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
    def test_word_preference_in_closed_form(self, k):
        """J_k = T·Σ_{a ∈ C} π(a)·w(a) / Σ_{a ∈ C} π(a), J*_k = T·max_{a ∈ C} w(a), no end token."""
        generator = np.random.default_rng(k)
        weights = generator.normal(size=5)
        probabilities = generator.dirichlet(np.ones(5))
        words = list("vwxyz")
        task = word_preference_task(words, dict(zip(words, weights.tolist())), 3, False)
        policy = TabularLM.from_probabilities(probabilities[None], order=0)
        chosen = np.argsort(-probabilities)[:k]
        kept = probabilities[chosen]
        restricted = exact.candidates(task, policy, k)
        expected = 3 * (kept @ weights[chosen]) / kept.sum()
        assert exact.value(task, restricted) == pytest.approx(expected)
        best = exact.optimum(task, allowed=restricted).V[()]
        assert best == pytest.approx(3 * weights[chosen].max())

    @pytest.mark.parametrize("k", [2, 3, 4])
    def test_the_bias_is_bounded_by_what_is_left_out(self, random_task, random_policy, k):
        """|J_k − J| ≤ (max r − min r)·(1 − (1 − ε)^T), ε the largest mass left out of a state.

        The two policies write the same text with probability (1 − ε)^T at least (coupling).
        """
        restricted = exact.candidates(random_task, random_policy, k)
        everything = exact.enumerate_texts(random_task, random_policy)
        rewards = everything.rewards.sum(axis=1)
        bias = exact.value(random_task, restricted) - exact.value(random_task, random_policy)
        table = random_policy.logits.detach().softmax(-1).numpy()
        start = Prefixes(np.array([[4, 4, 4]] * 5), 0, 4, np.zeros(5, dtype=np.int64))
        rows = [(0, ()), *((1, (token,)) for token in range(4))]
        for row, (length, written) in enumerate(rows):
            start.tokens[row, :length] = written
            start.written[row] = length
        kept = restricted(start) > 0
        order = [4, 0, 1, 2, 3]  # the table's row of each of these contexts
        left_out = 1 - (table[order] * kept).sum(axis=1).min()
        bound = (rewards.max() - rewards.min()) * (1 - (1 - left_out) ** 3)
        assert abs(bias) <= bound + 1e-12
        if k == 4:
            assert bias == pytest.approx(0.0, abs=1e-12)
        else:
            assert abs(bias) > 1e-3


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_environment_offers_the_same(random_task, random_policy, k):
    """The exact value of playing the environment's candidates by their log-probabilities."""
    env = TextEnv(random_task, lm=random_policy, action=f"candidates:{k}")
    worth, best = played_out(env, *env.reset(seed=0)[1:])
    restricted = exact.candidates(random_task, random_policy, k)
    assert worth == pytest.approx(exact.value(random_task, restricted))
    assert best == pytest.approx(exact.optimum(random_task, allowed=restricted).V[()])


def played_out(env, info):
    """V of the policy that chooses by the candidates' probabilities, and V*, by trying all."""
    valid = np.flatnonzero(info["candidates"] != env.task.rules.nothing)
    probabilities = np.exp(info["candidate_log_probs"][valid])
    state, values, optima = env.state, [], []
    for action in valid:
        env.set_state(state)
        _, reward, terminated, _, following = env.step(int(action))
        after, best = (0.0, 0.0) if terminated else played_out(env, following)
        values.append(reward + after)
        optima.append(reward + best)
    return probabilities @ values / probabilities.sum(), max(optima)


def test_k_must_fit():
    task, policy = i_love_you()
    for k in (0, 5):
        with pytest.raises(ValueError, match=r"an integer ≥ 1|at least 5 tokens"):
            exact.candidates(task, policy, k)


def test_candidates_of_any_policy():
    task, policy = i_love_you()
    uniform = exact.candidates(task, lambda prefixes: np.full((len(prefixes), 4), 0.25), 2)
    # Ties by id: 我 and 爱 alone.
    start = Prefixes(np.full((1, 4), 4), 0, 4, np.array([0]))
    assert uniform(start).tolist() == [[0.5, 0.5, 0.0, 0.0]]
    assert exact.value(task, uniform) == 0.0
    assert exact.kl(task, exact.candidates(task, policy, 4), policy) == pytest.approx(
        0.0, abs=1e-12
    )
