"""Behaviour cloning against its closed form, and on the better half of a log."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.small_tasks import small_task
from tests.test_logged_texts import episodes, logged
from tests.tiny_models import lstm
from textenv import exact
from textenv.errors import TextenvError
from textenv.logged import LoggedTexts
from textenv.models import TabularLM, load
from textenv.vocabulary import WordVocabulary
from textenv_agents.behaviour_cloning import BehaviourCloningConfig, behaviour_cloning
from textenv_agents.cli import main
from textenv_agents.evaluation import evaluate
from textenv_agents.record import record

LOVE = "textenv/ILoveYou-v0"
EXACT = {"held_out": 0.0, "epochs": 150, "learning_rate": 0.2, "batch": 10_000}


def frequencies(texts, weights, size):
    """Σ w of each token after each context of one token, by a loop; the start has two contexts."""
    counts = np.zeros((size + 1, size))
    prefixes = texts.prefixes
    for row in range(len(texts)):
        for step in range(prefixes.written[row]):
            column = prefixes.start + step
            counts[prefixes.tokens[row, column - 1], prefixes.tokens[row, column]] += weights[row]
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-300), counts.sum(axis=1) > 0


def table(model):
    return torch.softmax(model.logits, dim=-1).detach().numpy()


@pytest.mark.parametrize("temperature", [None, 0.5])
def test_a_table_becomes_the_empirical_frequencies(temperature):
    made = small_task()
    texts = LoggedTexts.from_episodes(episodes(made, 300), made)
    start = TabularLM(5, order=1, vocabulary=made.vocabulary)
    cloned = behaviour_cloning(start, texts, made, temperature=temperature, **EXACT)
    returns = texts.returns()
    weights = np.ones(300) if temperature is None else np.exp((returns - returns.max()) / 0.5)
    expected, seen = frequencies(texts, weights, 5)
    assert seen.sum() == 3  # a, b and c are the only tokens that something stands behind
    found = table(cloned.policy)
    assert np.abs(found - expected)[seen].max() < 2e-3
    assert (table(start) == 0.2).all()  # what was handed in is as it was
    assert (found[~seen] == 0.2).all()
    # The loss is then the weighted conditional entropy of the log.
    logs = [
        weights[row] * np.log(expected[texts.prefixes.tokens[row, 1 + step],
                                       texts.prefixes.tokens[row, 2 + step]])
        for row in range(300) for step in range(texts.prefixes.written[row])
    ]  # fmt: skip
    entropy = -sum(logs) / (weights * texts.prefixes.written).sum()
    assert cloned.epochs[-1].training == pytest.approx(entropy, abs=1e-4)


def test_each_token_counts_the_same_whatever_the_batch():
    """A mean over each batch would weigh the tokens of short texts more, and find 2/3."""
    texts = logged([[0, 0, 3], [3]] * 15, prompt=(0,))
    cloned = behaviour_cloning(
        TabularLM(5, order=1), texts, small_task(), batch=1, epochs=20, learning_rate=0.01,
        held_out=0.0, max_gradient_norm=100.0,
    )  # fmt: skip
    # Behind an "a" (the prompt is one) there are 30 times "a" and 30 times "!".
    found = table(cloned.policy)[0]
    assert found[3] / (found[0] + found[3]) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_better_half_of_a_log_is_better_than_the_log(seed):
    task = small_task()
    texts = LoggedTexts.from_episodes(episodes(task, 200, seed), task)
    start = TabularLM(5, order=1, vocabulary=task.vocabulary)
    cloned = behaviour_cloning(start, texts, task, top=0.5, **EXACT)
    logged_mean = texts.returns().mean()
    assert cloned.average_return > logged_mean
    assert exact.value(task, cloned.policy) > logged_mean + 2 * texts.returns().std() / 200**0.5


def test_top_takes_the_highest_returns_and_of_equals_the_earlier():
    texts = logged(
        [[0, 3], [1, 3], [2, 3], [3]],
        rewards=[[0, 1, 0], [0, 3, 0], [0, 1, 0], [0, 0, 0]],
    )
    cloned = behaviour_cloning(TabularLM(5, order=0), texts, small_task(), top=0.5, **EXACT)
    assert (cloned.texts, cloned.average_return) == (2, 2.0)
    # Left are "a !" and "b !": a, b once and ! twice.
    assert table(cloned.policy)[0] == pytest.approx([0.25, 0.25, 0, 0.5, 0], abs=3e-3)


def test_shares_are_of_the_number_and_not_of_its_rounding():
    """0.07 · 100 is 7.000000000000001 in floats."""
    texts = logged([[3]] * 100)
    cloned = behaviour_cloning(
        TabularLM(5, order=0), texts, small_task(), top=0.07, held_out=0.0, epochs=1
    )
    assert cloned.texts == 7


def test_the_weights_with_the_lowest_held_out_loss_come_out():
    made = small_task()
    texts = LoggedTexts.from_episodes(episodes(made, 40), made)
    start = TabularLM(5, order=2, vocabulary=made.vocabulary)
    settings = {"held_out": 0.5, "epochs": 60, "learning_rate": 0.3}
    cloned = behaviour_cloning(start, texts, made, keep_best=True, **settings)
    last = behaviour_cloning(start, texts, made, **settings)
    losses = [epoch.held_out for epoch in cloned.epochs]
    assert losses[0] == pytest.approx(np.log(5))
    assert min(losses) < losses[-1] - 0.01  # it overfits
    order = np.random.default_rng(0).permutation(40)
    out = texts.rows(order[:20])
    for each, expected in ((cloned, min(losses)), (last, losses[-1])):
        loss = -each.policy.score(out.prefixes).log_probs.sum().item() / out.actions
        assert loss == pytest.approx(expected)
    with pytest.raises(ValueError, match="keep_best=True needs texts held out"):
        BehaviourCloningConfig(keep_best=True, held_out=0.0)


def test_a_seed_fixes_everything_and_no_global_state_is_touched():
    made, texts = _ragged()
    state = torch.get_rng_state()
    one, same = (behaviour_cloning(lstm(), texts, made, epochs=2, seed=1) for _ in range(2))
    other = behaviour_cloning(lstm(), texts, made, epochs=2, seed=2)
    assert (torch.get_rng_state() == state).all()
    for a, b in zip(one.policy.parameters(), same.policy.parameters(), strict=True):
        assert (a == b).all()
    assert one.epochs[1] != other.epochs[1]
    assert one.epochs[-1].training < one.epochs[1].training


def _ragged():
    from tests.tiny_models import VOCABULARY

    made = small_task(vocabulary=VOCABULARY, prompts=["w1", "w2 w3"], stop=[])
    return made, LoggedTexts.from_episodes(episodes(made, 40), made)


def test_what_comes_out_is_evaluated_and_saved(tmp_path):
    texts = record("start", LOVE, 200)
    cloned = behaviour_cloning("start", texts, LOVE, top=0.2, **EXACT)
    start = gym.make(LOVE).unwrapped.lm
    found = evaluate(cloned.policy, LOVE, reference=start, texts=200)
    assert found.reward.low > texts.returns().mean()
    cloned.policy.save_pretrained(tmp_path / "cloned")
    again = load(tmp_path / "cloned")
    assert (again.logits == cloned.policy.logits).all()
    # As a newcomer would: the folder by its name.
    command = ["evaluate", str(tmp_path / "cloned"), LOVE, "--texts", "200"]
    assert main([*command, "--folder", str(tmp_path / "evaluation")]) == 0
    measured = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text("utf-8"))
    assert f"{found.reward.mean}" in json.dumps(measured)


def test_bad_input():
    made = small_task()
    texts = logged([[3]])
    with pytest.raises(ValueError, match="have a vocabulary of 5 tokens, this TabularLM has 4"):
        behaviour_cloning(TabularLM(4), texts, made)
    with pytest.raises(ValueError, match="another task's"):
        behaviour_cloning(TabularLM(5), texts, small_task(max_tokens=4))
    other = WordVocabulary(["a", "b", "d", "!"], end="$")
    with pytest.raises(ValueError, match="another vocabulary than that of the language model"):
        behaviour_cloning(TabularLM(5, vocabulary=other), texts, made)
    with pytest.raises(TextenvError, match="1 are imitated and 1 of these held out"):
        behaviour_cloning(TabularLM(5), texts, made)
    never = TabularLM.from_probabilities([[0.5, 0.5, 0.0, 0.0, 0.0]], order=0)
    with pytest.raises(TextenvError, match="gives no probability to a logged token"):
        behaviour_cloning(never, texts, made, held_out=0.0)
    with pytest.raises(TextenvError, match="small has no starting policy"):
        behaviour_cloning("start", texts, made)
    frozen = TabularLM(5)
    frozen.requires_grad_(False)
    with pytest.raises(TextenvError, match="all parameters of this TabularLM are frozen"):
        behaviour_cloning(frozen, texts, made, held_out=0.0)
    for env in ("CartPole-v1", gym.make(LOVE)):
        with pytest.raises(ValueError, match="expected the id of a textenv environment"):
            behaviour_cloning(TabularLM(5), texts, env)
    with pytest.raises(TypeError, match="expected LoggedTexts, got 'mine/log-v0'"):
        behaviour_cloning(TabularLM(5), "mine/log-v0", made)
    for name, value in [
        ("learning_rate", np.inf),
        ("top", 0.0),
        ("temperature", 0.0),
        ("held_out", 1.0),
        ("epochs", 0),
    ]:
        with pytest.raises(ValueError, match=f"{name}={value} is out of range"):
            BehaviourCloningConfig(**{name: value})
    two = logged([[3], [3]], rewards=[[0, 0, 0], [9999, 0, 0]])
    with pytest.raises(TextenvError, match=r"with temperature=0\.001 hardly a text has a weight"):
        behaviour_cloning(TabularLM(5), two, made, temperature=0.001, held_out=0.5)
