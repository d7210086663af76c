"""Collecting episodes: the same texts whatever the rows, the modes, the refilling, the scoring."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import textenv
from tests import small_tasks
from tests.small_tasks import task as small
from textenv.models import LSTMLM, TabularLM
from textenv.models.sampling import Sampling
from textenv.rewards import Reward, word_preference
from textenv_agents import rollout
from textenv_agents.rollout import collect

MODES = ["next_step", "same_step", "disabled"]
N, T = 23, 6


def ragged_task(**changes):
    return small_tasks.ragged_task(T, **changes)


def vector(rows, mode="same_step", made=None, **keywords):
    return textenv.TextVectorEnv(rows, made or ragged_task(), autoreset_mode=mode, **keywords)


def queue(number=N, seed=0, prompts=3, columns=T):
    generator = np.random.default_rng(seed)
    return generator.integers(prompts, size=number), generator.random((number, columns))


def policies():
    table = TabularLM(5, order=1)
    with torch.no_grad():
        table.logits.normal_(generator=torch.Generator().manual_seed(0))
        table.logits[:, 3:] -= 1.0  # the tokens that end a text
    return {"table": table, "lstm": LSTMLM(5, 8, generator=torch.Generator().manual_seed(1))}


class Counting(TabularLM):
    """Writes down how many rows it is asked about at each step."""

    def __init__(self, *arguments, refills=True, **keywords):
        super().__init__(*arguments, **keywords)
        self.asked, self.refilling = [], refills

    @property
    def refills(self):
        return self.refilling

    def next(self, prefixes):
        self.asked.append(prefixes.written.tolist())
        return super().next(prefixes)


def same(ours, theirs):
    np.testing.assert_array_equal(ours.prefixes.tokens, theirs.prefixes.tokens)
    np.testing.assert_array_equal(ours.prefixes.written, theirs.prefixes.written)
    np.testing.assert_array_equal(ours.rewards, theirs.rewards)
    np.testing.assert_array_equal(ours.faults, theirs.faults)
    np.testing.assert_allclose(ours.log_probs, theirs.log_probs, atol=1e-6)
    if theirs.kept.bits is not None:
        np.testing.assert_array_equal(ours.kept.bits, theirs.kept.bits)


# The same texts.


@pytest.mark.parametrize("name", ["table", "lstm"])
@pytest.mark.parametrize("mode", MODES)
def test_texts_do_not_depend_on_the_rows_or_the_mode(name, mode):
    policy = policies()[name]
    whole = collect(vector(N), policy, *queue())
    assert len(set(whole.prefixes.written)) > 3  # they are ragged
    for rows in (1, 2, 7, N - 1, N, N + 4):
        same(collect(vector(rows, mode), policy, *queue()), whole)


@pytest.mark.parametrize("mode", MODES)
def test_texts_do_not_depend_on_refilling(mode):
    refilling, batchwise = Counting(5), Counting(5, refills=False)
    texts = [collect(vector(5, mode), policy, *queue()) for policy in (refilling, batchwise)]
    same(*texts)
    assert len(refilling.asked) < len(batchwise.asked)
    for written in batchwise.asked:  # they began together
        assert len(set(written)) == 1
    assert any(len(set(written)) > 1 for written in refilling.asked)


def test_no_row_waits_and_rows_that_are_done_are_not_asked_about(monkeypatch):
    policy, rows = Counting(5), 5
    in_advance = collect(vector(rows), policy, *queue())
    # Without the questions about prompts before rows take them, each question is a step.
    policy.asked.clear()
    monkeypatch.setattr(rollout._Writing, "_prepare", lambda _: None)
    episodes = collect(vector(rows), policy, *queue())
    same(in_advance, episodes)
    # By hand: a greedy schedule of these lengths on five rows, first come, first served.
    free = np.zeros(rows, dtype=int)
    for length in episodes.prefixes.written:
        free[free.argmin()] += length
    assert len(policy.asked) == free.max()
    assert sum(map(len, policy.asked)) == episodes.prefixes.written.sum()
    lengths = [len(written) for written in policy.asked]
    assert lengths == sorted(lengths, reverse=True)


def test_each_text_continues_its_prompt_in_the_order_of_the_queue():
    prompts, uniforms = queue()
    made = ragged_task()
    episodes = collect(vector(4, made=made), TabularLM(5), prompts, uniforms)
    np.testing.assert_array_equal(episodes.prefixes.tokens[:, :2], made.prompt_table[prompts])


def test_short_texts_are_not_preferred():
    """One row in two writes one token, the others six: the mean length is that of the queue."""
    table = TabularLM(5, order=0)
    with torch.no_grad():
        table.logits[:] = torch.tensor([0.0, -torch.inf, -torch.inf, -torch.inf, 0.0])
    uniforms = np.full((400, T), 0.1)
    uniforms[::2] = 0.9  # "$" at once
    episodes = collect(vector(8), table, np.zeros(400, dtype=int), uniforms)
    np.testing.assert_array_equal(episodes.prefixes.written, [1, 6] * 200)


def test_an_environment_is_used_again():
    envs, policy = vector(4, "next_step"), TabularLM(5)
    first = collect(envs, policy, *queue())
    collect(envs, policy, *queue(2, seed=3))
    same(collect(envs, policy, *queue()), first)


@pytest.mark.parametrize("mode", MODES)
def test_texts_that_are_cut_off_from_outside(mode):
    made = ragged_task(end=False, stop=())
    envs = vector(3, mode, made, max_episode_steps=2)
    episodes = collect(envs, TabularLM(5), *queue())
    assert (episodes.prefixes.written == 2).all()
    late = vector(3, mode, made, max_episode_steps=2, scoring="deferred")
    same(collect(late, TabularLM(5), *queue()), episodes)


# Sampling.


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.5},
        {"top_k": 2},
        {"top_p": 0.6, "temperature": 2.0},
        {"min_tokens": 3},
        {"forbidden": (1,)},
        {"forced": {0: 2, 2: 0}},
    ],
)
def test_every_setting_of_sampling(settings):
    policy, sampling = policies()["lstm"].double(), Sampling(**settings)
    whole = collect(vector(N), policy, *queue(), sampling=sampling)
    same(collect(vector(4, "disabled"), policy, *queue(), sampling=sampling), whole)
    assert (whole.kept.bits is not None) == sampling.cuts
    # Log-probabilities when written are the teacher-forced ones under what was kept.
    score = policy.score(whole.prefixes, sampling=whole.kept)
    np.testing.assert_allclose(whole.log_probs, score.log_probs.detach(), atol=1e-12)
    tokens = whole.prefixes.tokens[:, 2:]
    if sampling.min_tokens:
        assert (whole.prefixes.written >= 3).all()
    if sampling.forced:
        assert (tokens[:, 0] == 2).all()
    if sampling.forbidden:
        assert not (tokens == 1).any()


def test_nothing_is_stored_where_nothing_is_cut():
    assert collect(vector(4), TabularLM(5), *queue()).kept.bits is None


# Rewards.


class Counted(Reward):
    """Length, and how often and about how many texts it was asked; fails on texts with "c a"."""

    name = "counted"

    def __init__(self, fails=False):
        self.calls, self.fails = [], fails

    def __call__(self, prompts, completions, **columns):
        self.calls.append(len(completions))
        if self.fails and any(text.startswith("c") for text in completions):
            raise RuntimeError("no c, please")
        return [float(len(text)) for text in completions]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pays", ["end", "token"])
def test_deferred_scoring_pays_the_same(mode, pays):
    made = ragged_task(reward=word_preference({"a": 1.0, "b": -1.0}, pays=pays))
    at_once = collect(vector(4, mode, made), TabularLM(5), *queue())
    assert at_once.rewards.any()
    later = collect(vector(4, mode, made, scoring="deferred"), TabularLM(5), *queue())
    same(later, at_once)


@pytest.mark.parametrize("mode", MODES)
def test_deferred_scoring_is_one_call(mode):
    reward = Counted()
    envs = vector(4, mode, ragged_task(reward=reward), scoring="deferred")
    for _ in range(2):
        episodes = collect(envs, TabularLM(5), *queue())
        assert reward.calls == [N]
        assert (episodes.rewards.sum(axis=1) >= 0).all()  # no NaN is left
        reward.calls.clear()


@pytest.mark.parametrize("mode", MODES)
def test_no_reward_is_asked_about_idle_rows(mode):
    reward = Counted()
    collect(vector(9, mode, ragged_task(reward=reward)), TabularLM(5), *queue(4))
    assert sum(reward.calls) == 4


@pytest.mark.parametrize("mode", MODES)
def test_faults_are_those_of_their_texts(mode):
    made = ragged_task(reward=Counted(fails=True))
    at_once = collect(vector(4, mode, made, reward_fault="skip"), TabularLM(5), *queue())
    failed = at_once.prefixes.tokens[:, 2] == 2
    np.testing.assert_array_equal(at_once.faults, failed)
    assert 0 < failed.sum() < N
    deferred = vector(4, mode, made, reward_fault="skip", scoring="deferred")
    same(collect(deferred, TabularLM(5), *queue()), at_once)


# Bad input.


def test_queues_that_do_not_fit():
    envs, policy = vector(4), TabularLM(5)
    prompts, uniforms = queue()
    with pytest.raises(ValueError, match=r"uniforms of shape \(23, 6\), got \(23, 5\)"):
        collect(envs, policy, prompts, uniforms[:, :5])
    with pytest.raises(ValueError, match=r"uniforms of shape \(3, 6\), got \(4, 6\)"):
        collect(envs, policy, prompts[:3], uniforms[:4])
    with pytest.raises(ValueError, match=r"0 … 2, got 0 … 3"):
        collect(envs, policy, np.array([0, 3]), uniforms[:2])
    with pytest.raises(ValueError, match="N ≥ 1 prompts"):
        collect(envs, policy, prompts[:0], uniforms[:0])
    with pytest.raises(ValueError, match="top_k=6 is larger"):
        collect(envs, policy, prompts, uniforms, sampling=Sampling(top_k=6))


def test_actions_that_are_no_tokens():
    with pytest.raises(ValueError, match=r"gym\.make_vec\(…\) in the place of gym\.make, got <"):
        collect(textenv.TextEnv("GoodBad"), TabularLM(2), *queue())
    envs = vector(4, action="candidates:2", lm=TabularLM(5))
    with pytest.raises(ValueError, match=r"the actions are Candidates\(k=2.*all_tokens"):
        collect(envs, TabularLM(5), *queue())


def test_single_tokens_and_tasks_without_prompts():
    made = small(max_tokens=1, prompts=[""])
    prompts, uniforms = queue(10, prompts=1, columns=1)
    whole = collect(vector(10, made=made), TabularLM(5), prompts, uniforms)
    same(collect(vector(3, made=made), TabularLM(5), prompts, uniforms), whole)
