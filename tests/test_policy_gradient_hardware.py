"""Checkpointing, precision, compilation: how the model computes; and how much memory it takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny_models
from tests.test_policy_gradient_update import (
    EVERYTHING,
    agent_of,
    assert_close,
    assert_equal,
    weights,
)
from textenv_agents.hardware import checkpointed, wants_bfloat16
from textenv_agents.memory import footprint


def gradients(lm, prefixes, checkpointing):
    lm.zero_grad()
    if checkpointing:
        with checkpointed(lm):
            log_probs = lm.score(prefixes).log_probs
    else:
        log_probs = lm.score(prefixes).log_probs
    log_probs.sum().backward()
    return [p.grad.clone() for p in lm.parameters() if p.grad is not None]


def kept(lm, prefixes, checkpointing):
    """Bytes that autograd keeps, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in lm.parameters()}
    seen = {}

    def note(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        if checkpointing:
            with checkpointed(lm):
                alive = lm.score(prefixes).log_probs
        else:
            alive = lm.score(prefixes).log_probs
    del alive
    return sum(seen.values())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "opt"])
def test_checkpointing_keeps_less_and_has_the_same_gradient(kind, training):
    """Dropout is 0.5 in these models: in training mode it would show."""
    prefixes = agent_of(kind).collect().prefixes
    lm = tiny_models.make(kind)
    lm.train(training)
    before = torch.get_rng_state()
    assert_close(gradients(lm, prefixes, False), gradients(lm, prefixes, True), 1e-12)
    assert kept(lm, prefixes, True) < 0.5 * kept(lm, prefixes, False)
    assert lm.training == lm.model.training == training
    assert torch.equal(torch.get_rng_state(), before)
    assert not any("forward" in module.__dict__ for module in lm.modules())


@pytest.mark.parametrize("lora", [{}, {"lora_rank": 2}])
def test_the_agent_with_checkpoints_goes_the_same_way(lora):
    runs = []
    for checkpointing in (False, True):
        agent = agent_of(gradient_checkpointing=checkpointing, **lora, **EVERYTHING)
        runs.append(weights(agent.learn(150)))
    assert_close(*runs)


def test_models_without_layers_are_not_checkpointed():
    with pytest.raises(ValueError, match="made of layers, this LSTMLM has none"):
        agent_of("lstm", gradient_checkpointing=True)
    with pytest.raises(ValueError, match="needs a Hugging Face model"):
        agent_of("lstm", compile=True)
    with pytest.raises(ValueError, match="do not go together"):
        agent_of(compile=True, gradient_checkpointing=True)


def test_bfloat16_is_never_chosen_on_a_cpu():
    cpu = torch.device("cpu")
    assert [wants_bfloat16(cpu, p) for p in ("float32", "auto", "bfloat16")] == [False, False, True]
    runs = [weights(agent_of("gpt2", precision=p).learn(100)) for p in ("float32", "auto")]
    assert_equal(*runs)


def test_bfloat16_computes_low_and_keeps_the_weights():
    agents = []
    for precision in ("float32", "bfloat16"):
        policy = tiny_models.make("gpt2").float()
        agents.append(agent_of(policy=policy, precision=precision, kl_coefficient=0.1))
    plain, low = agents
    episodes = plain.collect()
    readings = [agent.read(episodes) for agent in agents]
    difference = (readings[0].log_probs - readings[1].log_probs).abs().max().item()
    assert 1e-4 < difference < 0.3
    assert not readings[1].kl.any()
    low.learn(100)
    assert all(p.dtype == torch.float32 for p in low.policy.parameters())
    assert low.bad_steps.total == 0
    # What is written comes from the distribution that is scored, up to the type's own rounding.
    episodes = low.collect()
    log_probs = low.read(episodes).log_probs.detach().double()
    assert (log_probs - torch.as_tensor(episodes.log_probs)).abs().max() < 0.3


def test_weights_in_bfloat16():
    settings = {"loss": "ppo", "epochs": 2, "gae_lambda": 0.9, **EVERYTHING}
    agent = agent_of(policy=tiny_models.make("gpt2").bfloat16(), **settings)
    agent.learn(100)
    assert agent.bad_steps.total == 0
    assert all(p.dtype == torch.bfloat16 for p in agent.policy.parameters())
    assert agent.value_head.weight.dtype == torch.float32
    episodes = agent.collect()
    assert agent.prepare(episodes, values=agent.read(episodes).values).advantages.dtype == (
        torch.float32
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_has_the_same_gradient():
    runs = []
    for compiled in (False, True):
        agent = agent_of(kl_coefficient=0.1, compile=compiled)
        runs.append(weights(agent.learn(100)))
    assert_close(*runs)


# Memory.


@pytest.mark.parametrize("theirs", [False, True])
def test_what_a_token_costs_is_counted(theirs):
    """GPT-2 in float64, 2 layers of width 16 and inner width 64.

    By the library's pass, which checkpoints go through, the tanh form of GELU keeps 5 numbers.
    """
    agent = agent_of("gpt2", gradient_checkpointing=theirs)
    counted = footprint(agent.policy, agent.config)
    assert counted.layers == 2
    assert counted.width == 16 * 8
    assert counted.logits == 13 * 8
    per_layer = counted.token / 2 / 8
    assert per_layer == pytest.approx(9 * 16 + (5 if theirs else 2) * 64, rel=0.1)
    numbers = sum(p.numel() for p in agent.policy.parameters())
    assert counted.weights == 2 * 8 * numbers  # the reference is a copy
    assert counted.trained == 8 * numbers
    with_adapter = agent_of("gpt2", lora_rank=2)
    counted = footprint(with_adapter.policy, with_adapter.config)
    assert counted.weights < 1.2 * 8 * numbers
    assert counted.trained < 0.2 * 8 * numbers


@pytest.mark.parametrize("kind", [*tiny_models.CAUSAL, "lstm", "tabular"])
def test_every_model_has_a_footprint(kind):
    agent = agent_of(kind)
    counted = footprint(agent.policy, agent.config)
    assert counted.token > 0
    assert counted.layers == (2 if kind in tiny_models.CAUSAL else 1)
    assert (counted.cache > 0) == (kind in tiny_models.CAUSAL)
    more = agent.memory.peak(2, 9, 12)
    assert more > agent.memory.peak(1, 9, 6) > agent.memory.peak(0, 0, 0) > 0


def test_the_cache_by_hand():
    # Keys and values, 2 layers, 2 heads of 4 for 4 of the queries, float64.
    agent = agent_of("llama")
    assert footprint(agent.policy, agent.config).cache == 2 * 2 * 2 * 4 * 8


def test_scores_that_attention_keeps_grow_with_the_square():
    fused, eager = (agent_of("llama") for _ in range(2))
    eager.policy.model.set_attn_implementation("eager")
    assert footprint(fused.policy, fused.config).pair == pytest.approx(0, abs=1e-6)
    # What the softmax gave, in 2 layers of 4 heads, at least once.
    assert footprint(eager.policy, eager.config).pair >= 2 * 4 * 8


def test_checkpoints_take_less():
    settings = {"kl_coefficient": 0.1}
    peaks = [
        agent_of("gpt2", gradient_checkpointing=c, **settings).memory.peak(64, 60, 64)
        for c in (True, False)
    ]
    assert peaks[0] < peaks[1]


def test_asking_for_the_footprint_changes_nothing():
    agent = agent_of("gpt2")
    before = weights(agent)
    state = torch.get_rng_state()
    footprint(agent.policy, agent.config)
    assert_equal(weights(agent), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in agent.policy.parameters())
    assert np.isfinite(agent.memory.peak(1, 1, 1))
