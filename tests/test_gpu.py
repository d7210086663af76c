"""What a GPU answers beside what the CPU does; all of it needs one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.test_incremental import P, Rows, T
from tests.test_policy_gradient_update import EVERYTHING, agent_of, task
from tests.test_sampling import SETTINGS, write
from tests.test_seq2seq import make as encoder_decoder
from tests.test_seq2seq import random_prefixes
from tests.tiny_models import CAUSAL, V, causal, make
from textenv import TextVectorEnv
from textenv.models import Prefixes
from textenv.models.sampling import pack, packed, unpacked

DEVICE = "cuda"
CLOSE = {"rtol": 0, "atol": 1e-9}  # in float64, but for the softmax of some models
LOOSE = {"rtol": 0, "atol": 1e-5}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def close_for(kind):
    return LOOSE if kind in ("bloom", "gemma2, window of 4") else CLOSE


def both(kind):
    """The same model on the CPU and on the GPU, where every shape is recorded at once."""
    there = make(kind).to(DEVICE)
    if kind in CAUSAL:
        there.graphs.patience = 0
    return make(kind), there


def same(ours, theirs, **close):
    torch.testing.assert_close(ours.cpu(), theirs, **close)


@pytest.mark.parametrize("kind", ["tabular", "lstm", *CAUSAL])
def test_ragged_resets_get_the_cpu_s_answers(kind):
    here, there = both(kind)
    rows = Rows(0)
    while rows.resets < 200:
        ours, theirs = there.next(rows.prefixes()), here.next(rows.prefixes())
        assert ours.logits.device.type == DEVICE
        same(ours.logits, theirs.logits, **close_for(kind))
        same(ours.hidden, theirs.hidden, **close_for(kind))
        rows.go_on()
    if kind in CAUSAL:
        assert there.graphs.enabled
        assert there.graphs.replayed > 80


def test_the_usual_steps_are_the_replayed_ones():
    (_, replayed), (_, usual) = both("llama"), both("llama")
    usual.graphs.enabled = False
    rows = Rows(1)
    for _ in range(60):
        same(replayed.next(rows.prefixes()).logits, usual.next(rows.prefixes()).logits.cpu(),
             **CLOSE)  # fmt: skip
        rows.go_on()
    assert replayed.graphs.replayed > 30
    assert not usual.graphs.replayed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["t5", "bart", "marian"])
def test_encoder_decoders(kind):
    here, there = encoder_decoder(kind), encoder_decoder(kind).to(DEVICE)
    for seed in range(8):
        prefixes = random_prefixes(seed)
        same(there.next(prefixes).logits, here.next(prefixes).logits, **CLOSE)
        same(there.score(prefixes).log_probs, here.score(prefixes).log_probs, **CLOSE)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", ["gpt2", "llama", "lstm"])
def test_the_same_tokens_are_drawn_and_score_agrees(kind, name):
    here, there = both(kind)
    texts, log_probs, kept = write(here, SETTINGS[name])
    again, log_probs_there, kept_there = write(there, SETTINGS[name])
    np.testing.assert_array_equal(again.tokens, texts.tokens)
    np.testing.assert_allclose(log_probs_there, log_probs, rtol=0, atol=1e-9)
    if kept.bits is not None:
        np.testing.assert_array_equal(kept_there.bits, kept.bits)
    keywords = {"sampling": kept, "entropy": True, "hidden": True, "distributions": True}
    ours, theirs = there.score(texts, **keywords), here.score(texts, **keywords)
    for one, other in zip(ours, theirs, strict=True):
        same(one, other, **CLOSE)


def test_masks_are_packed_there():
    kept = torch.rand(7, 1001, device=DEVICE) < 0.5
    np.testing.assert_array_equal(pack(kept), np.packbits(kept.cpu().numpy(), axis=-1))
    assert torch.equal(unpacked(packed(kept), 1001), kept)


@pytest.mark.parametrize("plugins", [
    {"observation": "hidden", "action": "candidates:4"}, {"observation": "probabilities:5"},
])  # fmt: skip
def test_what_an_agent_sees(plugins):
    seen = []
    for lm in both("gpt2"):
        envs = TextVectorEnv(4, task(), lm=lm, autoreset_mode="same_step", **plugins)
        observation, _ = envs.reset(seed=0)
        parts = [observation]
        for step in range(9):
            action = np.full(4, step % 4)
            parts.append(envs.step(action)[0])
        seen.append(parts)
    for here, there in zip(*seen, strict=True):
        here, there = (x.values() if isinstance(x, dict) else [x] for x in (here, there))
        for one, other in zip(here, there, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", [
    {}, EVERYTHING, {"lora_rank": 2, "kl_coefficient": 0.1}, {"gradient_checkpointing": True},
    {"loss": "ppo", "epochs": 2, "minibatches": 2}, {"optimizer": "adam", "learning_rate": 0.01},
], ids=["plain", "everything", "LoRA", "checkpoints", "PPO", "Adam"])  # fmt: skip
def test_training_goes_the_same_way(settings):
    """Within what float64 sums in another order; sampled tokens are the same."""
    trained = []
    for lm in both("gpt2"):
        agent = agent_of(policy=lm, **settings)
        agent.learn(300)
        trained.append([p.detach().cpu() for p in agent.policy.parameters()])
        assert agent.bad_steps.total == 0
    for here, there in zip(*trained, strict=True):
        torch.testing.assert_close(there, here, rtol=0, atol=1e-6)


@pytest.mark.parametrize("lora", [{}, {"lora_rank": 2}])
def test_bfloat16_autocast_learns_and_keeps_the_weights(lora):
    low = agent_of(policy=causal("llama").float().to(DEVICE), precision="bfloat16",
                   kl_coefficient=0.1, **lora)  # fmt: skip
    low.learn(300)
    assert low.bad_steps.total == 0
    assert all(p.dtype == torch.float32 for p in low.policy.parameters())
    episodes = low.collect()
    scored = low.read(episodes).log_probs.detach().double().cpu()
    assert (scored - torch.as_tensor(episodes.log_probs)).abs().max() < 0.3
    assert low.policy.graphs.enabled


def test_bfloat16_weights_answer_nearly_as_float32():
    here, there = causal("llama").float(), causal("llama").to(DEVICE, torch.bfloat16)
    there.graphs.patience = 0
    rows = Rows(2)
    for _ in range(40):
        ours, theirs = there.next(rows.prefixes()).logits, here.next(rows.prefixes()).logits
        assert ours.dtype == torch.float32
        assert (ours.cpu().log_softmax(-1) - theirs.log_softmax(-1)).abs().max() < 0.3
        rows.go_on()
    assert there.graphs.enabled


def test_graphs_read_the_weights_that_training_writes():
    policy = causal("gpt2").to(DEVICE)
    policy.graphs.patience = 0
    agent = agent_of(policy=policy)
    agent.learn(300)
    before = policy.graphs.replayed
    assert before
    rows, fresh = Rows(3), causal("gpt2")
    fresh.load_state_dict({name: value.cpu() for name, value in policy.state_dict().items()})
    for _ in range(10):
        same(policy.next(rows.prefixes()).logits, fresh.next(rows.prefixes()).logits, **CLOSE)
        rows.go_on(chance=0.1)
    assert policy.graphs.replayed > before


def test_many_rows_of_many_lengths():
    here, there = both("llama")
    generator = np.random.default_rng(4)
    tokens = np.full((100, P + T), V)
    for row in range(100):
        prompt = int(generator.integers(1, P + 1))
        tokens[row, P - prompt : P] = generator.integers(V, size=prompt)
    for step in range(T):
        prefixes = Prefixes(tokens.copy(), P, V, np.full(100, step))
        same(there.next(prefixes).logits, here.next(prefixes).logits, **CLOSE)
        tokens[:, P + step] = generator.integers(V, size=100)
