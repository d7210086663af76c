"""Low-rank adapters: a reference without a copy, files, and models they do not belong to."""

from __future__ import annotations

import copy
import json
import shutil
import warnings

import numpy as np
import pytest
import torch

from tests import tiny_models
from tests.test_policy_gradient_update import agent_of, assert_equal
from textenv.errors import TextenvError
from textenv.models import CausalLM, Prefixes, load
from textenv.models.adapter_base import fingerprint
from textenv.models.adapter_files import load_adapter, save_adapter
from textenv.models.adapters import (
    AdapterError,
    WithoutAdapter,
    adapter_off,
    adapter_parameters,
    adapter_rank,
    add_adapter,
    has_adapter,
    merged,
)

KINDS = ["gpt2", "llama", "opt", "gpt_neox", "bloom"]  # gpt2 stores [in, out], the others [out, in]


def prefixes():
    tokens = np.full((3, 8), 13)
    tokens[:, 1] = 5
    tokens[0, 2:7], tokens[1, 2:4], tokens[2, 2:8] = [7, 8, 9, 1, 12], [3, 4], [1, 2, 3, 4, 5, 6]
    return Prefixes(tokens, 2, 13, np.array([5, 2, 6]))


def distributions(lm):
    return lm.score(prefixes(), distributions=True).distributions.detach()


def moved(lm, seed=1):
    """Give the adapter something to say."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter_parameters(lm):
            parameter.normal_(std=0.3, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_adapter_changes_nothing_and_off_it_is_the_base(kind):
    base, lm = tiny_models.make(kind), tiny_models.make(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        add_adapter(lm, rank=2)
    assert has_adapter(lm)
    assert adapter_rank(lm) == 2
    truth = distributions(base)
    assert torch.equal(distributions(lm), truth)
    moved(lm)
    assert not torch.allclose(distributions(lm), truth)
    with adapter_off(lm):
        assert torch.equal(distributions(lm), truth)
    assert torch.equal(distributions(WithoutAdapter(lm)), truth)
    assert not torch.allclose(distributions(lm), truth)


def test_next_notices_that_the_adapter_is_off():
    base, lm = tiny_models.make("gpt2"), tiny_models.make("gpt2")
    add_adapter(lm, rank=2)
    moved(lm)
    on, off = lm.next(prefixes()).logits, base.next(prefixes()).logits
    for _ in range(2):  # what was remembered of one is not the other's
        np.testing.assert_allclose(WithoutAdapter(lm).next(prefixes()).logits, off, atol=1e-12)
        np.testing.assert_allclose(lm.next(prefixes()).logits, on, atol=1e-12)


def test_only_the_adapter_is_trained_and_switching_keeps_that():
    lm = tiny_models.make("gpt2")
    add_adapter(lm, rank=2)
    trained = [name for name, p in lm.named_parameters() if p.requires_grad]
    assert all("lora_" in name for name in trained)
    assert len(trained) == 2 * 4 * 2  # A and B of 4 matrices in 2 layers; not of the head
    frozen = adapter_parameters(lm)[0].requires_grad_(False)
    log_probs = lm.score(prefixes()).log_probs
    with pytest.raises(RuntimeError, match="inside"), adapter_off(lm):
        raise RuntimeError("inside")
    assert not frozen.requires_grad
    frozen.requires_grad_(True)
    log_probs.sum().backward()  # of a graph made before the switching
    assert all(p.grad is not None for p in adapter_parameters(lm)[1:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_beside_half_precision_it_is_float32(kind, dtype, tmp_path):
    """A step of 1e-4 from 0.3 would be lost in bfloat16."""
    base, lm = tiny_models.make(kind).to(dtype), tiny_models.make(kind).to(dtype)
    add_adapter(lm, rank=2)
    assert torch.equal(distributions(lm), distributions(base))
    moved(lm)
    lm.score(prefixes()).log_probs.sum().backward()
    for parameter in adapter_parameters(lm):
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(1e-4)
        assert (parameter != before).all()
    save_adapter(lm, tmp_path / "adapter")
    load_adapter(base, tmp_path / "adapter")
    assert_equal(adapter_parameters(base), adapter_parameters(lm))
    assert torch.equal(distributions(base), distributions(lm))
    assert next(merged(lm.model).parameters()).dtype == dtype


def test_the_first_weights_follow_the_seed_alone():
    before = torch.get_rng_state()
    first = [tiny_models.make("gpt2") for _ in range(3)]
    for lm, seed in zip(first, [1, 1, 2]):
        add_adapter(lm, rank=2, seed=seed)
    assert torch.equal(torch.get_rng_state(), before)
    parameters = [adapter_parameters(lm) for lm in first]
    assert_equal(parameters[0], parameters[1])
    assert not torch.equal(parameters[0][0], parameters[2][0])
    assert all(not p.any() for p in parameters[0][1::2])  # B


def test_alpha_scales_what_is_added():
    """The adapter of a linear layer adds α/r·x·Aᵀ·Bᵀ."""
    lm = tiny_models.make("llama")
    add_adapter(lm, rank=2, alpha=5.0)
    moved(lm)
    layer = lm.model.model.layers[0].mlp.up_proj
    x = torch.randn(3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    added = layer(x) - layer.base_layer(x)
    np.testing.assert_allclose(added.detach(), (2.5 * x @ a.T @ b.T).detach(), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_adapter_comes_back_bitwise(kind, tmp_path):
    lm = tiny_models.make(kind)
    add_adapter(lm, rank=3, alpha=4.0)
    moved(lm)
    save_adapter(lm, tmp_path / "adapter")
    files = sorted(path.name for path in (tmp_path / "adapter").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors", "base.json"]
    other = tiny_models.make(kind)
    load_adapter(other, tmp_path / "adapter")
    assert torch.equal(distributions(other), distributions(lm))
    assert_equal(adapter_parameters(other), adapter_parameters(lm))
    assert all(p.requires_grad for p in adapter_parameters(other))
    save_adapter(other, tmp_path / "adapter")  # over the old one
    assert fingerprint(other) == fingerprint(lm)


@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
def test_peft_reads_the_files(tmp_path):
    from peft import PeftModel

    lm = tiny_models.make("gpt2")
    add_adapter(lm, rank=2)
    moved(lm)
    save_adapter(lm, tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(tiny_models.library_model("gpt2"), tmp_path / "adapter")
    wrapped = CausalLM(theirs.merge_and_unload(), tiny_models.VOCABULARY)
    np.testing.assert_allclose(distributions(wrapped), distributions(lm), atol=1e-5)


def test_an_adapter_for_another_base(tmp_path):
    lm = tiny_models.make("gpt2")
    add_adapter(lm, rank=2)
    save_adapter(lm, tmp_path / "adapter")
    other = tiny_models.make("gpt2")
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    with pytest.raises(AdapterError, match=r"weights of this base, .*GPT2.*, are not those"):
        load_adapter(other, tmp_path / "adapter")
    assert not has_adapter(other)
    # Without base.json, as PEFT alone writes it, the shapes tell.
    (tmp_path / "adapter/base.json").unlink()
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    config["base_model_name_or_path"] = "their/gpt2"
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(config))
    llama = tiny_models.make("llama")
    with pytest.raises(AdapterError, match=r"another base: their/gpt2; this one is .*Llama"):
        load_adapter(llama, tmp_path / "adapter")
    assert not has_adapter(llama)
    load_adapter(tiny_models.make("gpt2"), tmp_path / "adapter")


def test_other_kinds_of_adapter(tmp_path):
    lm = tiny_models.make("gpt2")
    add_adapter(lm, rank=2)
    save_adapter(lm, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(config | {"peft_type": "IA3"}))
    with pytest.raises(AdapterError, match="of the kind IA3: expected LORA"):
        load_adapter(tiny_models.make("gpt2"), tmp_path / "adapter")


# By name.


def settings_of(folder):
    return json.loads((folder / "adapter_config.json").read_text())


def test_an_adapter_is_loaded_beside_the_base_that_it_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = load("reviews")
    tiny.save_pretrained("tiny")
    for name, written in [("reviews", "reviews"), ("tiny", str(tmp_path / "tiny"))]:
        lm = load(name)
        add_adapter(lm, rank=2)
        moved(lm)
        save_adapter(lm, "adapter")
        assert settings_of(tmp_path / "adapter")["base_model_name_or_path"] == written
        loaded = load("adapter", dtype="float32")
        assert_equal(adapter_parameters(loaded), adapter_parameters(lm))
        save_adapter(loaded, "again")
        assert settings_of(tmp_path / "again")["base_model_name_or_path"] == written
    assert load("adapter", dtype="bfloat16").model.dtype == torch.bfloat16
    lm = copy.deepcopy(load("reviews"))
    add_adapter(lm, rank=2)
    save_adapter(lm, "adapter")
    assert settings_of(tmp_path / "adapter")["base_model_name_or_path"] == "reviews"


def test_an_adapter_whose_base_has_no_name(tmp_path):
    lm = tiny_models.make("gpt2")
    lm.model.config.name_or_path = lm.model.name_or_path = "/somebody's/folder"
    add_adapter(lm, rank=2)
    save_adapter(lm, tmp_path / "adapter")
    written = settings_of(tmp_path / "adapter")
    assert written["base_model_name_or_path"] is None
    with pytest.raises(TextenvError, match=r"in memory only: load that model, then .*load_adapter"):
        load(tmp_path / "adapter")
    path = tmp_path / "adapter/adapter_config.json"
    itself = written | {"base_model_name_or_path": str(tmp_path / "adapter")}
    for text, message in [("{", "no whole adapter"), (json.dumps(itself), "beside an adapter")]:
        path.write_text(text)
        with pytest.raises(TextenvError, match=message):
            load(tmp_path / "adapter")


@pytest.mark.parametrize("damage", ["config", "weights", "base", "pickle", "matrix"])
def test_damaged_adapters(damage, tmp_path):
    lm = tiny_models.make("gpt2")
    add_adapter(lm, rank=2)
    folder = tmp_path / "adapter"
    save_adapter(lm, folder)
    weights = folder / "adapter_model.safetensors"
    if damage == "config":
        (folder / "adapter_config.json").write_text("{")
    elif damage == "weights":
        weights.write_bytes(weights.read_bytes()[:50])
    elif damage == "base":
        (folder / "base.json").write_text("[]")
    elif damage == "pickle":  # PEFT would read it
        weights.unlink()
        torch.save({}, folder / "adapter_model.bin")
    else:
        from safetensors.torch import load_file, save_file

        kept = load_file(weights)
        kept.pop(next(iter(kept)))
        save_file(kept, weights)
    other = tiny_models.make("gpt2")
    truth = distributions(other)
    with pytest.raises(AdapterError, match=r"adapter|base\.json"):
        load_adapter(other, folder)
    assert not has_adapter(other)
    assert torch.equal(distributions(other), truth)
    assert all(p.requires_grad for p in other.parameters())
    add_adapter(other, rank=2)
    other = tiny_models.make("gpt2")
    shutil.rmtree(folder)
    with pytest.raises(AdapterError, match="no whole adapter"):
        load_adapter(other, folder)


def test_models_that_have_none_or_one_already(tmp_path):
    for kind in ("lstm", "tabular"):
        with pytest.raises(AdapterError, match="has none: train its weights"):
            add_adapter(tiny_models.make(kind), rank=2)
    lm = tiny_models.make("gpt2")
    for function in (lambda: save_adapter(lm, tmp_path / "a"), lambda: WithoutAdapter(lm)):
        with pytest.raises(AdapterError, match="add_adapter gives it one"):
            function()
    with pytest.raises(AdapterError, match="no adapter to switch off"), adapter_off(lm):
        pass
    with pytest.raises(ValueError, match="rank ≥ 1"):
        add_adapter(lm, rank=0)
    add_adapter(lm, rank=2)
    with pytest.raises(AdapterError, match="already"):
        add_adapter(lm, rank=2)
    with pytest.raises(AdapterError, match="save_adapter"):
        WithoutAdapter(lm).save_pretrained(tmp_path / "b")


# The agent's keyword.


def test_the_agent_trains_the_adapter_and_the_value_head_alone():
    lm = tiny_models.make("gpt2")
    base = {name: p.detach().clone() for name, p in lm.named_parameters()}
    settings = {"baseline": "value", "kl_coefficient": 0.1, "optimizer": "adam"}
    agent = agent_of(policy=lm, lora_rank=2, learning_rate=0.01, **settings)
    assert agent.reference.whole is lm
    before = [p.detach().clone() for p in adapter_parameters(lm)]
    metrics = agent.update()
    assert metrics["rollout/kl"] == 0.0  # before the first step
    assert agent.update()["rollout/kl"] > 0
    now = {name.replace(".base_layer", ""): p for name, p in lm.named_parameters()}
    for name, tensor in base.items():
        assert torch.equal(now[name], tensor)
    assert any(not torch.equal(a, b) for a, b in zip(before, adapter_parameters(lm)))
    assert agent.value_head.weight.any()
    kl = agent.read(agent.collect()).kl
    assert torch.isfinite(kl).all()


def test_the_reference_without_a_copy_is_the_copy():
    """The same run with a deep copy of the adapted model as its reference, bit for bit."""
    runs = []
    for copied in (False, True):
        lm = tiny_models.make("gpt2")
        agent = agent_of(policy=lm, lora_rank=2, kl_coefficient=0.5)
        if copied:
            agent.reference = tiny_models.make("gpt2").requires_grad_(False)
        runs.append([p.detach() for p in adapter_parameters(agent.learn(200).policy)])
    assert_equal(*runs)


def test_an_adapter_that_is_there_is_trained_on():
    lm = tiny_models.make("gpt2")
    add_adapter(lm, rank=2)
    moved(lm)
    before = [p.detach().clone() for p in adapter_parameters(lm)]
    agent = agent_of(policy=lm, lora_rank=2, kl_coefficient=0.1)
    assert_equal(before, adapter_parameters(agent.policy))
    with pytest.raises(AdapterError, match="rank 2, lora_rank=3"):
        agent_of(policy=lm, lora_rank=3)
    with pytest.raises(AdapterError, match="has none"):
        agent_of("lstm", lora_rank=3)


@pytest.mark.slow
def test_the_shipped_model_trains_with_an_adapter():
    from textenv_agents import PolicyGradient

    lm = load("reviews")
    agent = PolicyGradient(
        lm,
        "textenv/Sentiment-v0",
        lora_rank=4,
        learning_rate=5e-3,
        baseline="value",
        kl_coefficient=0.02,
        seed=0,
    )
    rewards = []
    agent.learn(18_000, callback=lambda _, metrics: rewards.append(metrics["rollout/reward"]))
    assert np.mean(rewards[-4:]) > np.mean(rewards[:4]) + 0.15
