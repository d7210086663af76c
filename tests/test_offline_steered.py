"""The steered language model as any other, its folders, and those of the learner."""

import json

import numpy as np
import pytest
import torch

from tests.test_offline_learner import TABLE, Logged, learned, some_texts
from tests.tiny_models import causal, lstm
from textenv import exact
from textenv.errors import TextenvError
from textenv.logged import LoggedTexts
from textenv.models import SteeredLM, load
from textenv.models.adapters import add_adapter
from textenv.models.loading import DTYPES
from textenv.models.sampling import Sampling
from textenv.tasks import builder
from textenv_agents import PolicyGradient
from textenv_agents.checkpoint import CheckpointError
from textenv_agents.evaluation import drawn, environments, evaluate
from textenv_agents.offline import ImplicitQLearning
from textenv_agents.rollout import collect


@pytest.mark.parametrize("make", [lstm, lambda: causal("gpt2"), lambda: causal("llama")])
def test_the_policy_is_the_formula(make):
    lm = make()
    learner = learned(lm)
    policy, prefixes = learner.policy(3.0), some_texts(1).prefixes
    ours, own, values = policy.next(prefixes), lm.next(prefixes), learner.values(prefixes)
    expected = own.logits.softmax(-1) * (3.0 * (values.q - values.v[:, None])).exp()
    expected = expected / expected.sum(-1, keepdim=True)
    torch.testing.assert_close(ours.logits.softmax(-1), expected, rtol=0, atol=1e-12)
    assert torch.equal(ours.hidden, own.hidden)
    score = policy.score(prefixes, distributions=True)
    row, step = np.nonzero(score.counts.numpy())
    for place, (text, before) in enumerate(zip(row, step)):
        asked = some_texts(1).before(np.array([text]), np.array([before]))
        log_probs = policy.next(asked).logits.log_softmax(-1)[0]
        torch.testing.assert_close(score.distributions[place], log_probs, rtol=0, atol=1e-9)


def test_without_steering_it_is_the_language_model_itself():
    lm = causal("gpt2", suppressed_tokens=(3,))
    policy, prefixes = learned(lm).policy(0.0), some_texts(1).prefixes
    assert torch.equal(policy.next(prefixes).logits, lm.next(prefixes).logits)
    assert torch.equal(policy.score(prefixes).log_probs, lm.score(prefixes).log_probs)
    steered = learned(lm).policy(50.0).next(prefixes).logits
    assert (steered[:, 3] == -torch.inf).all()
    assert steered.isfinite().sum() == 12 * len(prefixes)


def with_adapter():
    lm = causal("gpt2")
    add_adapter(lm, rank=2)
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    return lm


def partly_frozen():
    lm = lstm()
    lm.embedding.requires_grad_(False)
    return lm


@pytest.mark.parametrize("settings", [{}, {"lm_learning_rate": 1e-3}])
@pytest.mark.parametrize("make", [lstm, with_adapter, partly_frozen])
def test_going_on_is_not_having_stopped(tmp_path, make, settings):
    whole = learned(make(), **settings).learn(4)
    part = learned(make(), **settings)
    part.save(tmp_path / "learner")
    again = ImplicitQLearning.load(tmp_path / "learner", some_texts()).learn(4)
    assert again.updates == whole.updates == 9
    for name in ("q", "target_q", "v", "lm"):
        one, other = getattr(whole, name).state_dict(), getattr(again, name).state_dict()
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("make", [lstm, lambda: causal("gpt2")])
def test_a_policy_comes_back_from_its_folder(tmp_path, make):
    policy, prefixes = learned(make()).policy(2.0), some_texts(1).prefixes
    policy.save_pretrained(tmp_path / "policy")
    again = load(tmp_path / "policy", dtype="float64")
    assert isinstance(again, SteeredLM)
    assert again.settings() == {"beta": 2.0, "heads": 2, "hidden_units": 7, "trainable": False}
    torch.testing.assert_close(
        again.next(prefixes).logits, policy.next(prefixes).logits, rtol=0, atol=1e-5
    )
    assert [again.vocabulary.token(i) for i in range(13)] == [
        policy.vocabulary.token(i) for i in range(13)
    ]


@pytest.mark.parametrize("written", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("read", [None, "float64", "bfloat16"])
def test_a_policy_comes_back_in_any_type(tmp_path, written, read):
    """A language model in half precision has values in float32; both compute with each other."""
    policy, prefixes = learned(causal("gpt2").to(dtype=DTYPES[written])).policy(2.0), some_texts(1)
    expected = policy.next(prefixes.prefixes).logits.log_softmax(-1).double()
    policy.save_pretrained(tmp_path / "policy")
    again = load(tmp_path / "policy", dtype=read)
    found = again.next(prefixes.prefixes).logits.log_softmax(-1).double()
    close = 0.2 if "bfloat16" in (written, read) else 1e-4
    torch.testing.assert_close(found, expected, rtol=0, atol=close)
    score = again.score(prefixes.prefixes).log_probs
    assert score.isfinite().all()


def test_a_steered_model_learns_online(tmp_path):
    """Its values, learned and done with, stay; a checkpoint of it comes back."""
    logged = Logged("ILoveYou")
    policy = ImplicitQLearning(logged.lm, logged.texts, **TABLE).learn(50).policy(2.0)
    agent = PolicyGradient(policy, "textenv/ILoveYou-v0", seed=0).learn(500)
    agent.save(tmp_path / "agent")
    again = PolicyGradient.load(tmp_path / "agent").policy
    prefixes = logged.moves.states
    assert torch.equal(again.next(prefixes).logits, agent.policy.next(prefixes).logits)
    assert again.lm.logits.abs().max() > 1e-4  # they began as 0
    for one, other in zip(again.values.parameters(), policy.values.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_translator_is_steered(tmp_path):
    """An encoder–decoder: what it writes is read from prompts, and comes back from a folder."""
    made, lm = builder("ToyTranslation")(), load("translator")
    envs = environments("textenv/ToyTranslation-v0", 32)
    draws = drawn(made, 32, 0)
    texts = LoggedTexts.from_episodes(collect(envs, lm, *draws), made)
    policy = ImplicitQLearning(lm, texts, batch_texts=8).learn(20).policy(8.0)
    policy.save_pretrained(tmp_path / "policy")
    sampling = Sampling(top_k=20, temperature=0.7, min_tokens=2)
    episodes = collect(envs, load(tmp_path / "policy"), *draws, sampling=sampling)
    score = policy.score(episodes.prefixes, sampling=episodes.kept)
    np.testing.assert_allclose(score.log_probs.detach(), episodes.log_probs, rtol=0, atol=1e-4)
    own = lm.score(episodes.prefixes, sampling=episodes.kept)
    assert np.abs(own.log_probs.detach().numpy() - episodes.log_probs).max() > 1e-3


def test_damaged_folders(tmp_path):
    learner = learned(lstm())
    learner.policy(1.0).save_pretrained(tmp_path / "policy")
    about = tmp_path / "policy" / "steering.json"
    for wrong in ({"beta": -1.0}, {"hidden_units": 3}, {"model_type": "other"}, {"more": 1}):
        good = about.read_text("utf-8")
        about.write_text(json.dumps(json.loads(good) | wrong), "utf-8")
        with pytest.raises(TextenvError, match="no whole SteeredLM"):
            load(tmp_path / "policy")
        about.write_text(good, "utf-8")
    about.unlink()  # the values alone are damage, too: not the language model without them
    with pytest.raises(TextenvError, match="no whole SteeredLM"):
        load(tmp_path / "policy")
    (tmp_path / "policy" / "steering.safetensors").unlink()
    with pytest.raises(TextenvError, match=r"no SteeredLM: use textenv\.models\.load"):
        SteeredLM.from_pretrained(tmp_path / "policy")
    with pytest.raises(CheckpointError, match=r"expected a folder that ImplicitQLearning\.save"):
        ImplicitQLearning.load(tmp_path / "policy", some_texts())
    learner.save(tmp_path / "learner")
    with pytest.raises(TextenvError, match=r"an offline learner.*\.policy\(beta\)"):
        load(tmp_path / "learner")
    training = tmp_path / "learner" / "training.pt"
    training.write_bytes(training.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="or is damaged"):
        ImplicitQLearning.load(tmp_path / "learner", some_texts())


def test_it_writes_in_environments():
    logged = Logged("ILoveYou")
    learner = ImplicitQLearning(logged.lm, logged.texts, expectile=0.9, **TABLE).learn(200)
    policy = learner.policy(10.0)
    found = evaluate(policy, "textenv/ILoveYou-v0", reference=logged.lm, texts=400)
    assert found.reward.mean == pytest.approx(exact.value(logged.task, policy), abs=0.08)
    assert found.kl.mean == pytest.approx(exact.kl(logged.task, policy, logged.lm), abs=0.3)
    assert found.reward.low > logged.texts.returns().mean()
