"""Search against enumeration: the tree and the beam."""

from __future__ import annotations

import sys

import gymnasium as gym
import numpy as np
import pytest
import torch

from benchmarks import search as benchmark
from tests import small_tasks
from tests.conftest import RandomReward
from textenv import Task, TextEnv, TextVectorEnv, exact, mdp
from textenv.enumeration import count_texts
from textenv.errors import ResetNeededError
from textenv.filters import allowed_by
from textenv.models import TabularLM
from textenv.prefixes import Prefixes
from textenv.vocabulary import WordVocabulary
from textenv_agents.search import beam_search, tree_search, writes

PATTERNS = ["aa", "b?b", "ca"]  # over the words a b c ! $, of which ! and $ end a text


def table(seed=0, size=5, order=1):
    policy = TabularLM(size, order=order)
    with torch.no_grad():
        policy.logits.normal_(generator=torch.Generator().manual_seed(seed))
    return policy


def random_task(seed, max_tokens=3, **changes):
    return small_tasks.ragged_task(max_tokens, reward=RandomReward(seed), **changes)


def at(made, prompt=0, **keywords):
    env = TextEnv(made, **keywords)
    env.reset(seed=0, options={"prompt_index": prompt})
    return env


def search(env, policy=None, simulations=10_000, seed=0, **keywords):
    generator = np.random.default_rng(seed)
    return tree_search(env, policy, simulations=simulations, generator=generator, **keywords)


def all_texts(made, policy, score):
    """(prompt, score, tokens) of every text, best first of each prompt."""
    texts = exact.enumerate_texts(made, policy)
    rows = zip(
        texts.state.prompt_index.tolist(),
        [-score(p, n) for p, n in zip(texts.probabilities, texts.state.length, strict=True)],
        texts.state.tokens.tolist(),
        strict=True,
    )
    return sorted(rows)


# The tree.


@pytest.mark.parametrize(("name", "simulations"), [("GoodBad", 2), ("ILoveYou", 60)])
def test_the_tree_finds_the_best_text_of_the_toys(name, simulations):
    env = gym.make(f"textenv/{name}-v0")
    env.reset()
    best = exact.optimum(env.unwrapped.task)
    for seed in range(10):
        seen = search(env, env.unwrapped.lm, simulations, seed)
        assert seen.found.texts(env.unwrapped.task)[0] in best.texts
        assert seen.found.scores[0] == pytest.approx(best.V[()])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pays", ["end", "token"])
def test_as_many_simulations_as_texts_see_all_of_them_once(seed, pays):
    made = random_task(seed) if pays == "end" else small_tasks.ragged_task(4)
    policy, optimum = table(seed), exact.optimum(made)
    for prompt in range(3):
        number = count_texts(made) // 3
        seen = search(at(made, prompt), policy, number, seed)
        assert seen.exhausted
        assert len(np.unique(seen.found.state.tokens, axis=0)) == number == seen.visits.sum()
        assert seen.found.texts(made)[0] in optimum.texts[prompt]
        assert seen.found.scores[0] == pytest.approx(optimum.V[prompt, ()])
        assert (np.diff(seen.found.scores) <= 0).all()


def test_the_tree_finds_more_than_as_many_random_texts():
    """Where the beginnings of good texts are good, with 100 of 15,625 texts seen."""
    size, length, simulations, runs = 5, 6, 100, 12
    random = np.random.default_rng(0)
    worth = random.normal(size=(runs, length, size))
    drawn = random.integers(size, size=(runs, simulations, length))
    ours, theirs = [], []
    for run in range(runs):

        def sums(prompts, completions, completion_ids, run=run, **columns):
            return [float(worth[run, range(length), ids].sum()) for ids in completion_ids]

        words = WordVocabulary(list("abcde"))
        made = Task(name="sums", vocabulary=words, max_tokens=length, reward=sums)
        ours.append(search(at(made), None, simulations, run).found.scores[0])
        theirs.append(worth[run, range(length), drawn[run]].sum(axis=1).max())
    gains = np.array(ours) - theirs
    assert gains.mean() > 3 * gains.std(ddof=1) / np.sqrt(runs)


def test_the_tree_is_the_same_twice_and_leaves_the_environment_alone():
    env, policy = at(random_task(0)), table()
    env.step(0)
    before = env.state
    one, two, other = (search(env, policy, 5, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.found.state.tokens, two.found.state.tokens)
    assert not np.array_equal(one.found.state.tokens, other.found.state.tokens)
    np.testing.assert_array_equal(env.state.tokens, before.tokens)
    assert env.state.length == 1
    # It goes on from there: "a" is the first token of each text.
    assert (one.found.state.tokens[:, env.task.rules.prompt_length] == 0).all()
    env.step(4)
    with pytest.raises(ResetNeededError, match="reset"):
        search(env)


def test_the_tree_pays_what_the_environment_pays():
    env = at(small_tasks.ragged_task(4))
    found = search(env, table(), 30).found
    for row, score in enumerate(found.scores):
        env.reset(options={"prompt_index": 0})
        length = int(found.state.length[row])
        tokens = found.state.tokens[row, env.task.rules.prompt_length :][:length]
        assert sum(env.step(token)[1] for token in tokens) == pytest.approx(score)


def test_tokens_of_probability_0_and_those_outside_the_width_are_never_tried():
    made, policy = random_task(1), table()
    with torch.no_grad():
        policy.logits[:, 1] = -torch.inf
    allowed = exact.optimum(made, allowed=policy)
    seen = search(at(made), policy)
    assert seen.exhausted
    assert not (seen.found.state.tokens[:, 2:] == 1).any()
    assert seen.found.scores[0] == pytest.approx(allowed.V[0, ()])
    endless = made.with_changes(end=False)  # candidates always offer an end token
    best = exact.optimum(endless, allowed=exact.candidates(endless, policy, 2))
    two = search(at(endless), policy, width=2).found
    assert two.scores[0] == pytest.approx(best.V[0, ()])


@pytest.mark.parametrize("policy", [None, table()])
def test_the_blocklist_holds_in_tree_and_beam(policy):
    made = random_task(2, 4)
    allowed = allowed_by(made, PATTERNS, policy)
    best = exact.optimum(made, allowed=allowed)
    env = at(made, 1, blocklist=PATTERNS)
    seen = search(env, policy)
    assert seen.exhausted
    assert seen.found.texts(made)[0] in best.texts[1]
    beams = beam_search(env, policy, 10_000)
    expected = all_texts(made, allowed, lambda p, n: p)
    possible = [row for row in expected if row[1] < 0]
    assert len(beams.scores) == len(possible)
    probabilities = np.exp(beams.scores) / 3
    np.testing.assert_allclose(probabilities, [-row[1] for row in possible])


class Suppressing(WordVocabulary):
    """Never writes "c"."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.suppressed_tokens = (2,)


def test_suppressed_tokens_are_never_written():
    made = random_task(0, vocabulary=Suppressing(["a", "b", "c", "!"], end="$"))
    env = at(made)
    assert not (search(env, table()).found.state.tokens[:, 2:] == 2).any()
    assert not (beam_search(env, table(), 100).state.tokens[:, 2:] == 2).any()


def test_texts_whose_reward_failed_do_not_count():
    def fails(prompts, completions, **columns):
        if any("a" in text for text in completions):
            raise RuntimeError("no a, please")
        return [-1.0 - text.count("b") for text in completions]

    made = small_tasks.ragged_task(2, reward=fails)
    for seed in range(10):  # some begin with failures
        seen = search(at(made, reward_fault="skip"), table(seed), seed=seed)
        assert seen.exhausted
        assert seen.found.scores[0] == -1.0  # and not the 0 of a skipped text
        assert not any("a" in text for text in seen.found.texts(made))
    for length in (1, 3):
        env = at(made.with_changes(max_tokens=length), reward_fault="skip")
        with pytest.raises(ValueError, match="failed and was skipped"):  # "a" after "a"
            search(env, lambda p: np.eye(5)[[0] * len(p)])
    env = at(made, reward_fault="skip")
    env.step(0)
    with pytest.raises(ValueError, match="of the 5 texts failed"):
        search(env, table())


def test_failures_before_the_first_reward_do_not_draw_the_search_to_them():
    """Beside rewards of about −100 a 0 would look best for good."""

    def fails(prompts, completions, **columns):
        if any(text.startswith("a") for text in completions):
            raise RuntimeError("no a, please")
        return [10.0 * text.count("c") - 100 for text in completions]

    made = small_tasks.ragged_task(5, reward=fails)
    first_failed = 0
    for seed in range(10):
        env = at(made, reward_fault="skip")
        try:
            search(env, simulations=1, seed=seed)
        except ValueError:
            first_failed += 1
        seen = search(env, simulations=60, seed=seed)
        assert seen.visits[0] < 20
        assert len(seen.found.scores) > 40
    assert first_failed > 0


@pytest.mark.parametrize("keywords", [{"simulations": 0}, {"exploration": 0.0}, {"width": 0}])
def test_numbers_out_of_range(keywords):
    with pytest.raises(ValueError, match="expected simulations ≥ 1"):
        search(at(random_task(0)), **keywords)


def test_other_environments_are_refused():
    with pytest.raises(ValueError, match="environment of textenv"):
        search(gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="single environment"):
        search(TextVectorEnv(2, random_task(0)))
    with pytest.raises(ValueError, match="all_tokens"):
        beam_search(at(random_task(0), action="strings"), table(), 2)
    with pytest.raises(ValueError, match="another vocabulary"):
        search(at(random_task(0)), lambda prefixes: np.full((len(prefixes), 4), 0.25))
    with pytest.raises(ValueError, match="nothing that may be written"):
        search(at(random_task(0)), lambda prefixes: np.zeros((len(prefixes), 5)))


# The beam.


@pytest.mark.parametrize("power", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_as_wide_as_the_tree_is_exhaustive(seed, power):
    made, policy = random_task(seed, 4), table(seed, order=3)  # no two texts are as likely
    number = count_texts(made) // 3
    found = beam_search(at(made), policy, number, length_normalisation=power)
    expected = all_texts(made, policy, lambda p, n: np.log(3 * p) / n**power)
    assert found.state.tokens.tolist() == [row[2] for row in expected]
    np.testing.assert_allclose(found.scores, [-row[1] for row in expected])
    assert found.state.prompt_index.tolist() == [row[0] for row in expected]


def test_normalisation_prefers_longer_texts():
    made, policy = random_task(0, 4), table(1)
    lengths = [
        beam_search(at(made), policy, 300, length_normalisation=power).first(made.rules)
        for power in (0.0, 1.0)
    ]
    assert lengths[1].state.length.sum() > lengths[0].state.length.sum()


class Asked:
    """A policy that counts its questions."""

    def __init__(self, policy):
        self.policy, self.rows = policy, []

    def __call__(self, prefixes):
        self.rows.append(len(prefixes))
        return torch.softmax(self.policy.next(prefixes).logits, dim=1).detach().numpy()


def test_a_beam_of_one_is_greedy_and_prompts_share_their_questions():
    made, policy = random_task(0, 4), Asked(table(2))
    found = beam_search(TextVectorEnv(2, made), policy, 1)
    assert policy.rows[0] == 3
    assert len(policy.rows) <= 4
    for row in range(3):
        state = mdp.initial(made.rules, made.prompt_table[row])
        while not mdp.terminal(made.rules, state):
            answer = policy(Prefixes.of(made.rules, state))
            state = mdp.transition(made.rules, state, int(answer.argmax()))
        np.testing.assert_array_equal(found.state.tokens[row], state.tokens)


def test_wider_beams_of_chosen_prompts_alone_are_those_of_all():
    made, policy = random_task(0, 4), table(3)
    whole = beam_search(at(made), policy, 4)
    some = beam_search(at(made), policy, 4, prompt_index=[2, 0])
    for prompt in (0, 2):
        one, other = (found.rows(found.state.prompt_index == prompt) for found in (whole, some))
        np.testing.assert_array_equal(one.state.tokens, other.state.tokens)
        np.testing.assert_allclose(one.scores, other.scores)
    assert len(whole.scores) == 12
    assert some.first(made.rules).state.prompt_index.tolist() == [2, 0]


def test_a_language_model_writes_after_its_prompts():
    env = gym.make("textenv/Sentiment-v0", max_tokens=6, prompts=["a fine film", "the plot is"])
    found = beam_search(env, env.unwrapped.lm, 3)
    texts = found.texts(env.unwrapped.task)
    assert len(set(texts)) == 6
    greedy = beam_search(env, env.unwrapped.lm, 1)
    assert (found.first(env.unwrapped.task.rules).scores >= greedy.scores - 1e-6).all()


@pytest.mark.parametrize(
    "keywords",
    [{"width": 0}, {"length_normalisation": -1.0}, {"length_normalisation": np.nan},
     {"prompt_index": [0, 0]}, {"prompt_index": [3]}, {"prompt_index": []}],
)  # fmt: skip
def test_settings_of_the_beam(keywords):
    with pytest.raises(ValueError, match=r"expected (width|prompt_index)"):
        beam_search(at(random_task(0)), table(), **{"width": 2, **keywords})


# The benchmark.


def test_the_tables(monkeypatch, capsys):
    arguments = ["search", "--numbers", "1", "2", "--texts", "10", "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", arguments)
    benchmark.main()
    printed = capsys.readouterr().out
    # ILoveYou: J = 1 − 0.76²; KL = 0.4224·log(0.4224/0.24) + 0.5776·log(0.5776/0.76) = 0.0803
    assert "| 2 | 0.4224 | 0.0803 | 0.1931 | 0.1931 |" in printed
    assert "of 2 |" in printed


# The policy that writes what was found.


def test_a_policy_of_texts_is_worth_what_they_are():
    made, policy = random_task(4), table()
    found = [search(at(made, prompt), policy, 8).found.first(made.rules) for prompt in range(3)]
    for one in found:
        assert len(one.scores) == 1
    states = [one.state for one in found]
    joined = mdp.State(*(np.concatenate([state[i] for state in states]) for i in range(3)))
    worth = exact.value(made, writes(made, joined))
    assert worth == pytest.approx(np.mean([one.scores[0] for one in found]))


def test_a_distribution_over_all_texts_is_the_policy_that_it_came_from():
    made, policy = random_task(4), table()
    texts = exact.enumerate_texts(made, policy)
    again = writes(made, texts.state, texts.probabilities)
    assert exact.kl(made, again, policy) == pytest.approx(0, abs=1e-12)


def test_elsewhere_it_is_the_other_policy():
    made, policy = random_task(4), table()
    found = beam_search(at(made), policy, 1)
    start = Prefixes.of(made.rules, mdp.initial(made.rules, made.prompt_table[0]))
    other = writes(made, found.rows(np.array([1])).state, None, policy)
    expected = torch.softmax(policy.next(start).logits, dim=1).detach().numpy()
    np.testing.assert_allclose(other(start), expected)
    alike = writes(made, found.rows(np.array([1])).state)
    np.testing.assert_allclose(alike(start), np.full((1, 5), 0.2))


def test_what_is_no_distribution_over_texts():
    made = random_task(4)
    state = beam_search(at(made), table(), 1).state
    for wrong in (np.ones(2), np.array([1, 1, -1]), np.array([1, 1, np.nan])):
        with pytest.raises(ValueError, match="probabilities ≥ 0"):
            writes(made, state, wrong)
    with pytest.raises(ValueError, match="finished"):
        writes(made, mdp.initial(made.rules, made.prompt_table))
