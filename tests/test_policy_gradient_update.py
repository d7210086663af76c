"""The update: sampling settings, several steps, parts of a batch, KL control, going on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny_models
from textenv import Task, TextVectorEnv, exact
from textenv.models import Prefixes, Sampling
from textenv.rewards import word_preference
from textenv_agents import PolicyGradient, PolicyGradientConfig, losses
from textenv_agents.batching import minibatches, parts_that_fit
from textenv_agents.kl_control import KLController
from textenv_agents.memory import BudgetError, rollout_memory

ALL = {"temperature": 0.7, "top_k": 9, "top_p": 0.9, "min_tokens": 2, "forbidden": (1, 5)}
SAMPLINGS = {
    "plain": {},
    "temperature": {"temperature": 0.7},
    "top_k": {"top_k": 3},
    "top_p": {"top_p": 0.8},
    "min_tokens": {"min_tokens": 3},
    "forbidden": {"forbidden": (1, 2)},
    "forced": {"forced": {0: 3, 2: 4}},
    "all": {**ALL, "forced": {1: 7}},
}
EVERYTHING = {"kl_coefficient": 0.3, "entropy_coefficient": 0.1, "baseline": "value"}


def task(**changes):
    """Texts of 1 to 6 of 13 tokens after prompts of 1 to 3."""
    made = Task(
        name="words",
        vocabulary=tiny_models.VOCABULARY,
        prompts=["w1", "w2 w3", "w4 w5 w6"],
        max_tokens=6,
        reward=word_preference({"w1": 1.0, "w2": -0.5, "w7": 0.7}, pays="token"),
    )
    return made.with_changes(**changes)


def agent_of(kind="gpt2", rows=16, policy=None, **settings):
    policy = tiny_models.make(kind) if policy is None else policy
    settings = {"group": 4, "seed": 0, "optimizer": "sgd", "learning_rate": 0.1} | settings
    return PolicyGradient(policy, TextVectorEnv(rows, task()), **settings)


def weights(agent):
    return [
        p.detach().clone() for p in [*agent.policy.parameters(), *agent.value_head.parameters()]
    ]


def assert_close(ours, theirs, tolerance=1e-10):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


# Sampling: what was cut when a token was drawn stays cut.


@pytest.mark.parametrize("kind", ["gpt2", "lstm", "tabular"])
@pytest.mark.parametrize("name", SAMPLINGS)
def test_ratio_one_and_kl_zero_before_the_first_update(name, kind):
    agent = agent_of(kind, sampling=Sampling(**SAMPLINGS[name]), kl_coefficient=1.0)
    episodes = agent.collect()
    reading = agent.read(episodes)
    written = torch.as_tensor(episodes.written)
    old = torch.as_tensor(episodes.log_probs)
    for ratio in ("token", "sequence"):
        w = losses.ratios(reading.log_probs.detach(), old, written, ratio)
        np.testing.assert_allclose(w, torch.ones_like(w), atol=1e-5)
    assert not reading.kl.any()


@pytest.mark.parametrize("name", SAMPLINGS)
def test_the_kl_stays_finite_when_the_policy_has_moved(name):
    agent = agent_of(sampling=Sampling(**SAMPLINGS[name]), kl_coefficient=0.1)
    agent.learn(300)
    reading = agent.read(agent.collect())
    kl = reading.kl.sum(dim=1)
    assert torch.isfinite(kl).all()
    assert kl.min() > -1e-12
    assert kl.max() > 1e-3
    assert agent.bad_steps.total == 0


def test_the_temperature_is_that_of_policy_and_reference():
    """KL(softmax(z/τ)‖softmax(z₀/τ)), by hand for one state."""
    agent = agent_of("tabular", sampling=Sampling(temperature=2.0), kl_coefficient=1.0)
    with torch.no_grad():
        agent.policy.logits.add_(torch.linspace(0, 3, 13, dtype=torch.float64))
    episodes = agent.collect()
    context = agent.policy.contexts(Prefixes(episodes.prefixes.tokens[:1], 3, 13, np.array([0])))
    p = torch.log_softmax(agent.policy.logits[context] / 2, dim=-1)
    q = torch.log_softmax(agent.reference.logits[context] / 2, dim=-1)
    expected = (p.exp() * (p - q)).sum().item()
    assert agent.read(episodes).kl[0, 0].item() == pytest.approx(expected, abs=1e-12)


def test_predict_writes_nothing_that_is_cut():
    agent = agent_of(sampling=Sampling(forbidden=(0, 2, 3, 4), min_tokens=1))
    observation, _ = agent.env.reset(seed=0)
    for deterministic in (True, False):
        for _ in range(20):
            actions, _ = agent.predict(observation, deterministic=deterministic)
            assert not set(actions.tolist()) & {0, 2, 3, 4, 12}


# Several steps on one batch.


@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("sampling", ["plain", "all"])
def test_ppos_first_step_is_the_policy_gradients(sampling, ratio):
    results = []
    for loss in ("policy_gradient", "ppo"):
        settings = {"sampling": Sampling(**SAMPLINGS[sampling]), "max_gradient_norm": None}
        agent = agent_of(loss=loss, ratio=ratio, learning_rate=0.01, **settings, **EVERYTHING)
        before = weights(agent)
        agent.update()
        results.append(weights(agent))
        assert any(not torch.equal(a, b) for a, b in zip(before, results[-1], strict=True))
    assert_close(*results)


def test_each_text_comes_once_an_epoch():
    generator = np.random.default_rng(0)
    parts = minibatches(generator, 10, 3)
    assert sorted(len(part) for part in parts) == [3, 3, 4]
    assert sorted(np.concatenate(parts).tolist()) == list(range(10))
    assert [part.tolist() for part in parts] != [p.tolist() for p in minibatches(generator, 10, 3)]
    (whole,) = minibatches(np.random.default_rng(0), 4, 1)
    assert whole.tolist() == [0, 1, 2, 3]


def test_epochs_and_minibatches_are_steps(monkeypatch):
    agent = agent_of(loss="ppo", epochs=3, minibatches=4, baseline="value", kl_coefficient=0.1)
    steps = []
    take = agent.optimizer.step
    monkeypatch.setattr(agent.optimizer, "step", lambda: steps.append(1) or take())
    metrics = agent.update()
    assert len(steps) == 12
    assert 0 <= metrics["train/clipped"] <= 1


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_ppo_learns_the_toy(ratio):
    agent = PolicyGradient(
        None,
        "textenv/ILoveYou-v0",
        loss="ppo",
        ratio=ratio,
        epochs=2,
        minibatches=2,
        learning_rate=0.05,
        seed=0,
    ).learn(40_000)
    assert exact.value(agent.env.unwrapped.task, agent.policy) > 0.95


def test_grpo_learns_the_toy():
    agent = PolicyGradient(
        None,
        "textenv/ILoveYou-v0",
        returns="total",
        baseline="group_mean",
        normalise=True,
        reduction="episode_means",
        learning_rate=0.1,
        seed=0,
    ).learn(40_000)
    assert exact.value(agent.env.unwrapped.task, agent.policy) > 0.95


# Parts that fit in memory.


@pytest.mark.parametrize("reduction", ["episodes", "tokens", "episode_means"])
@pytest.mark.parametrize("loss", [{}, {"loss": "ppo", "epochs": 2, "minibatches": 2}])
def test_parts_have_the_gradient_of_the_whole(reduction, loss):
    results, numbers = [], []
    for budget in (None, "small"):
        agent = agent_of(
            reduction=reduction, gae_lambda=0.9, sampling=Sampling(top_k=6), **loss, **EVERYTHING
        )
        if budget == "small":
            agent.memory.budget = agent.memory.peak(3, 9, 18)
        episodes = agent.collect()
        numbers.append(len(agent.memory.parts(np.arange(16), episodes.prefixes)))
        metrics = agent.step(episodes)
        results.append(weights(agent))
        assert metrics["train/value_loss"] > 0
    assert numbers[0] == 1
    assert numbers[1] >= 4
    assert_close(*results)


def test_the_longest_texts_come_first_and_together():
    read, written = np.array([5, 9, 2, 9, 3]), np.array([4, 8, 1, 8, 2])
    # A part of n texts takes n·L: 9 and 9 (18), then 5 and 3 (10) and 2 (15).
    parts = parts_that_fit(
        np.arange(5), read, written, lambda texts, columns, tokens: texts * columns, 18
    )
    assert [part.tolist() for part in parts] == [[1, 3], [0, 2, 4]]
    # By tokens that count: 8 and 8 are 16 > 14; 8, 8 + 4 + 2, 1.
    parts = parts_that_fit(np.arange(5), read, written, lambda t, columns, tokens: tokens, 14)
    assert [part.tolist() for part in parts] == [[1], [0, 3, 4], [2]]


def test_a_budget_that_no_text_fits_in():
    need = agent_of().memory.peak(1, 9, 6) / 1e9
    agent_of(memory_budget=need * 1.02)
    with pytest.raises(BudgetError, match=r"one text of 9 tokens alone takes .*lora_rank=8"):
        agent_of(memory_budget=need * 0.98)
    with pytest.raises(BudgetError, match="memory_budget=") as caught:
        agent_of(memory_budget=1e-6)
    said = float(str(caught.value).split("memory_budget=")[1].split()[0])
    agent_of(memory_budget=said)


def test_rows_that_do_not_fit():
    agent = agent_of(optimizer="adam")
    one, all_rows = (rollout_memory(agent.memory.footprint, rows, 9) for rows in (1, 16))
    alone = agent.memory.peak(1, 9, 6)
    # This model is so small that an update of one text takes more than writing in 16 rows.
    assert one < all_rows < alone
    with pytest.raises(
        BudgetError, match=r"writing 512 texts of 9 tokens .* rows=(\d+) or"
    ) as caught:
        agent_of(rows=512, episodes=512, optimizer="adam", memory_budget=alone / 1e9)
    fit = int(str(caught.value).split("rows=")[1].split()[0])
    agent_of(rows=fit, episodes=512, optimizer="adam", memory_budget=alone / 1e9)
    with pytest.raises(BudgetError, match="rows="):
        agent_of(rows=fit + 1, episodes=512, optimizer="adam", memory_budget=alone / 1e9)


# The divergence's price.


def test_the_controller_by_hand():
    fixed = KLController(0.1)
    fixed.update(100.0)
    assert fixed.coefficient == 0.1
    # Target 10: at 11 e = 0.1, β·1.01; at 100 e = 0.2 at most, β·1.02; at 0 e = −0.2, β·0.98.
    for kl, factor in [(11.0, 1.01), (100.0, 1.02), (0.0, 0.98), (10.0, 1.0)]:
        controller = KLController(0.1, 10.0)
        controller.update(kl)
        assert controller.coefficient == pytest.approx(0.1 * factor)
    with pytest.raises(ValueError, match="target > 0"):
        KLController(0.1, 0.0)


def test_the_price_follows_the_target():
    """Far below the target it falls, far above it rises; and it goes on where it was."""
    low = agent_of(kl_coefficient=0.1, kl_target=1e4)
    low.learn(200)
    assert low.kl.coefficient == pytest.approx(0.1 * 0.98**low.updates)
    high = agent_of(kl_coefficient=0.1, kl_target=1e-9)
    high.learn(400)
    # The first update has KL 0, which is below any target.
    assert high.kl.coefficient == pytest.approx(0.1 * 0.98 * 1.02 ** (high.updates - 1))
    other = agent_of(kl_coefficient=0.1, kl_target=1e-9)
    other.load_state_dict(high.state_dict())
    assert other.kl.coefficient == high.kl.coefficient


# Going on.


@pytest.mark.parametrize(
    "settings",
    [
        {"baseline": "value", "kl_coefficient": 0.1, "kl_target": 0.5, "optimizer": "adam"},
        {"baseline": "running_mean", "loss": "ppo", "epochs": 2, "minibatches": 3},
    ],
)
def test_a_state_goes_on_bitwise(settings, tmp_path):
    settings = {"schedule": "linear", "learning_rate": 0.01, **settings}
    whole = agent_of("lstm", **settings).learn(600)
    first = agent_of("lstm", **settings)
    first.learn(600, callback=lambda agent, _: agent.updates < 3)
    assert first.updates == 3 < whole.updates
    torch.save(first.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    second = agent_of("lstm", policy=first.policy, **settings | {"seed": 99})
    second.reference = first.reference
    second.load_state_dict(state)
    second.learn(600, resume=True)
    assert (second.tokens, second.updates) == (whole.tokens, whole.updates)
    assert_equal(weights(second), weights(whole))


def test_resuming_what_was_not_interrupted():
    agent = agent_of("tabular")
    with pytest.raises(ValueError, match="there was none"):
        agent.learn(100, resume=True)
    agent.learn(100)
    with pytest.raises(ValueError, match="one of 100 tokens: got total_tokens=200"):
        agent.learn(200, resume=True)
    tokens = agent.tokens
    assert agent.learn(100, resume=True).tokens == tokens  # there is nothing left to do


def test_an_update_leaves_nothing_remembered(monkeypatch):
    agent = agent_of(kl_coefficient=0.1)
    for name in ("policy", "reference"):
        model = getattr(agent, name)
        forgotten = []
        monkeypatch.setattr(model, "forget", lambda f=forgotten: f.append(1))
        agent.update()
        assert forgotten
        monkeypatch.undo()


def test_fewer_rows_write_the_same_texts():
    ours = agent_of(rows=16)
    theirs = agent_of(rows=5, episodes=16)
    assert (theirs.config.rows, theirs.config.episodes, theirs.env.num_envs) == (5, 16, 5)
    a, b = ours.collect(), theirs.collect()
    np.testing.assert_array_equal(a.prefixes.tokens, b.prefixes.tokens)
    np.testing.assert_array_equal(a.rewards, b.rewards)
    with pytest.raises(ValueError, match="rows=4, but the environment has 16"):
        agent_of(rows=16, config=PolicyGradientConfig(rows=4))
    made = PolicyGradient(None, "textenv/ILoveYou-v0", rows=8, seed=0)
    assert made.env.num_envs == 8
    assert len(made.collect().prefixes) == 64


def test_texts_that_were_cut_off_bootstrap_the_value():
    """A time limit ends texts after 2 tokens: their last token is worth V of what follows."""
    envs = TextVectorEnv(4, task(end=False), max_episode_steps=2)
    agent = PolicyGradient(
        tiny_models.make("lstm"), envs, group=1, baseline="value", gae_lambda=0.5, seed=0
    )
    with torch.no_grad():
        agent.value_head.bias.fill_(2.0)  # V = 2 everywhere
    episodes = agent.collect()
    assert (episodes.prefixes.written == 2).all()
    batch, _ = agent._survey(episodes, [np.arange(4)], agent.read(episodes), None)
    # δ = r + 2 − 2 = r, so A_1 = r_1 and A_0 = r_0 + ½·r_1; were they the end: 2 less each.
    r = torch.as_tensor(episodes.rewards)
    np.testing.assert_allclose(batch.advantages[:, 1], r[:, 1], atol=1e-12)
    np.testing.assert_allclose(batch.advantages[:, 0], r[:, 0] + 0.5 * r[:, 1], atol=1e-12)


def test_a_cut_larger_than_the_vocabulary():
    with pytest.raises(ValueError, match="top_k=14 is larger than the vocabulary of 13"):
        agent_of(sampling=Sampling(top_k=14))
