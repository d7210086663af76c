"""Models in bfloat16, by their weights or by autocast: asked, scored, drawn from, seen, trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.test_incremental import Rows
from tests.test_policy_gradient_update import agent_of, task
from tests.test_sampling import write
from tests.test_seq2seq import make as encoder_decoder
from tests.test_seq2seq import random_prefixes
from tests.tiny_models import CAUSAL, V, make
from textenv import TextVectorEnv, exact
from textenv.models import Sampling, TabularLM
from textenv.models.sampling import draw

LOW = torch.bfloat16
WAYS = ["weights", "autocast"]


def lower(model, way):
    return model.to(LOW) if way == "weights" else model.float()


def computing(way):
    return torch.autocast("cpu", LOW, enabled=way == "autocast")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["tabular", "lstm", *CAUSAL])
def test_answers_are_float32_and_near_those_of_float32(kind, way):
    low, high, rows = lower(make(kind), way), make(kind).float(), Rows(0)
    difference = 0.0
    for _ in range(25):
        with computing(way):
            ours = low.next(rows.prefixes())
        theirs = high.next(rows.prefixes())
        assert ours.logits.dtype == torch.float32
        error = (ours.logits.log_softmax(-1) - theirs.logits.log_softmax(-1)).abs()
        difference = max(difference, float(error.max()))
        drawn = draw(ours.logits, rows.generator.random(len(rows.tokens)))
        assert ((drawn.tokens >= 0) & (drawn.tokens < V)).all()
        assert (drawn.log_probs <= 0).all()
        rows.go_on()
    assert difference < 0.3
    # A table is looked up, which autocast does not change.
    assert (difference == 0) == (kind == "tabular" and way == "autocast")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["tabular", "lstm", "gpt2", "llama"])
def test_score_says_what_was_drawn_in_float32(kind, way):
    """The ratio before the first update is 1, but for what bfloat16 itself is off."""
    model = lower(make(kind), way)
    with computing(way):
        texts, log_probs, kept = write(model, Sampling(temperature=0.7, top_k=5))
        score = model.score(texts, sampling=kept, entropy=True, distributions=True)
    assert score.log_probs.dtype == score.entropy.dtype == torch.float32
    assert np.abs(score.log_probs.detach().numpy() - log_probs).max() < 0.15
    torch.testing.assert_close(score.distributions.exp().sum(-1), torch.ones(len(texts) * 5))
    score.log_probs.sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_encoder_decoders(kind, way):
    model, high = encoder_decoder(kind), encoder_decoder(kind).float()
    with torch.no_grad():
        for parameter in [*model.parameters(), *high.parameters()]:
            parameter.mul_(0.3)  # these are large, and T5 divides no scores: errors would grow
    model = lower(model, way)
    for seed in range(4):
        prefixes = random_prefixes(seed)
        with computing(way):
            ours = model.next(prefixes).logits
            scored = model.score(prefixes).log_probs
        theirs = high.next(prefixes).logits
        assert ours.dtype == scored.dtype == torch.float32
        known = theirs > -torch.inf
        difference = (ours.log_softmax(-1) - theirs.log_softmax(-1))[known].abs()
        assert 0 < difference.max() < 0.1


@pytest.mark.parametrize("kind", ["lstm", "gpt2"])
def test_what_an_agent_sees_of_it(kind):
    lm = make(kind).to(LOW)
    envs = TextVectorEnv(3, task(), lm=lm, observation="hidden", action="candidates:4")
    observation, _ = envs.reset(seed=0)
    assert observation.dtype == np.float32
    assert observation.any()
    assert envs.observation_space.contains(observation)
    observation, *_ = envs.step(np.zeros(3, np.int64))
    assert np.isfinite(observation).all()
    envs = TextVectorEnv(3, task(), lm=lm, observation="probabilities:5")
    probabilities = envs.reset(seed=0)[0]["probabilities"]
    assert probabilities.dtype == np.float32
    assert (probabilities.sum(axis=1) > 0).all()
    assert (probabilities.sum(axis=1) <= 1).all()


def test_exact_values_of_it(random_task):
    low = TabularLM(4, order=1)
    high = TabularLM(4, order=1)
    with torch.no_grad():
        for model in (low, high):
            model.logits.normal_(generator=torch.Generator().manual_seed(0))
    low.to(LOW)
    assert exact.value(random_task, low) == pytest.approx(exact.value(random_task, high), abs=0.02)


@pytest.mark.parametrize("settings", [{}, {"baseline": "value"}, {"lora_rank": 2}])
def test_weights_in_bfloat16_are_trained(settings):
    agent = agent_of(policy=make("llama").to(LOW), kl_coefficient=0.1, **settings)
    batch = agent.prepare(agent.collect(), values=torch.zeros(16, 6))
    assert batch.advantages.dtype == agent.value_head.weight.dtype == torch.float32
    before = [p.detach().clone() for p in agent._trained]
    agent.learn(200)
    assert agent.bad_steps.total == 0
    pairs = list(zip(before, agent._trained, strict=True))
    assert any(not torch.equal(old, new) for old, new in pairs)
    assert all(new.isfinite().all() for _, new in pairs)
