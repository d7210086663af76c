"""Saved agents come back bit for bit; folders that are none, or another's, are refused."""

from __future__ import annotations

import json
import shutil

import gymnasium as gym
import pytest
import torch

import textenv
from textenv import files
from textenv.errors import MissingExtraError, TextenvError
from textenv.models import LSTMLM, CausalLM, TabularLM, load
from textenv_agents import CheckpointError, PolicyGradient, checkpoint
from textenv_agents.run_folder import RunFolder
from textenv_agents.train_config import TrainConfig


def sentiment(**keywords):
    return gym.make_vec(
        "textenv/Sentiment-v0",
        num_envs=4,
        autoreset_mode="SameStep",
        **{"lm": "reviews", "max_tokens": 5, **keywords},
    )


def reviewer(dtype="float32", **settings):
    policy = load("reviews", dtype=dtype)
    return PolicyGradient(policy, sentiment(), group=4, kl_coefficient=0.1, seed=0, **settings)


def toy(policy=None, **settings):
    return PolicyGradient(policy, "textenv/ILoveYou-v0", episodes=8, seed=0, **settings)


def same_weights(ours, theirs):
    left, right = ours.state_dict(), theirs.state_dict()
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype, name
        assert torch.equal(tensor, right[name]), name


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_a_language_model_comes_back_bit_for_bit(dtype, tmp_path):
    """The shipped reviewer: stored in float16, its head tied to its embedding."""
    agent = reviewer(dtype).learn(20)
    agent.save(tmp_path / "saved")
    loaded = PolicyGradient.load(tmp_path / "saved")
    same_weights(loaded.policy, agent.policy)
    same_weights(loaded.reference, agent.reference)
    same_weights(loaded.reference, load("reviews", dtype=dtype))
    model = loaded.policy.model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    same_weights(loaded.learn(20).policy, agent.learn(20).policy)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_of_an_adapter_nothing_else_is_written(dtype, tmp_path):
    agent = reviewer(dtype, lora_rank=2).learn(20)
    agent.save(tmp_path / "saved")
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"adapter", "training.pt", "state.json"}
    size = sum(path.stat().st_size for path in (tmp_path / "saved").rglob("*"))
    assert size < 500_000  # the model has 2,258,928 bytes, in float16
    for env in (None, sentiment()):  # the base by its name, or of the environment
        loaded = PolicyGradient.load(tmp_path / "saved", env)
        same_weights(loaded.policy, agent.policy)
        assert any(parameter.requires_grad for parameter in loaded.policy.parameters())
    same_weights(loaded.learn(20).policy, agent.learn(20).policy)


@pytest.mark.parametrize("settings", [{}, {"lora_rank": 2}])
def test_models_come_back_where_they_were(settings, tmp_path, monkeypatch):
    reviewer(**settings).save(tmp_path / "saved")
    path = tmp_path / "saved/state.json"
    state = json.loads(path.read_text())
    assert state["device"] == "cpu"
    path.write_text(json.dumps(state | {"device": "cuda:7"}))
    with pytest.raises(CheckpointError, match=r"trained on 'cuda:7'; .*\['cpu'.* device='auto'"):
        PolicyGradient.load(tmp_path / "saved")
    loaded = PolicyGradient.load(tmp_path / "saved", device="cpu")
    assert loaded.policy.device == loaded.value_head.weight.device == torch.device("cpu")
    monkeypatch.setattr(checkpoint, "find_device", torch.device)  # as if it were there
    moved = []

    def to(self, where=None, dtype=None, **_):
        if where is not None:  # `load` itself calls it by keywords
            moved.append((where, dtype))
        return self

    monkeypatch.setattr(CausalLM, "to", to)
    PolicyGradient.load(tmp_path / "saved")
    assert set(moved) == {(torch.device("cuda:7"), torch.float32)}


def test_an_adapter_of_another_base(tmp_path):
    reviewer(lora_rank=2).save(tmp_path / "saved")
    other = load("reviews")
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    with pytest.raises(CheckpointError, match=r"the weights of this base, reviews \("):
        PolicyGradient.load(tmp_path / "saved", sentiment(lm=other))
    state = json.loads((tmp_path / "saved/state.json").read_text())
    assert state["base"] == "reviews"
    goods = gym.make_vec("textenv/GoodBad-v0", num_envs=4)
    message = "adapter for the model reviews, this environment has a TabularLM: pass env="
    with pytest.raises(CheckpointError, match=message):
        PolicyGradient.load(tmp_path / "saved", goods)
    moved = state | {"base": str(tmp_path / "gone")}
    (tmp_path / "saved/state.json").write_text(json.dumps(moved))
    with pytest.raises(CheckpointError, match=r"gone.*cannot be loaded: pass env="):
        PolicyGradient.load(tmp_path / "saved")


def test_an_adapter_of_a_model_in_memory(tmp_path):
    shipped = load("reviews")
    lm = load(shipped.model, shipped.vocabulary)
    del lm.model.textenv_loaded_as  # as if somebody had made it
    agent = PolicyGradient(lm, sentiment(lm=lm), group=4, lora_rank=2, seed=0)
    agent.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/state.json").read_text())["base"] == ""
    for env in (None, "textenv/Sentiment-v0"):
        with pytest.raises(CheckpointError, match=r"in memory only: pass env=gym\.make_vec"):
            PolicyGradient.load(tmp_path / "saved", env)
    loaded = PolicyGradient.load(tmp_path / "saved", sentiment())
    same_weights(loaded.policy, agent.policy)
    with pytest.raises(TextenvError, match="in memory only"):
        load(tmp_path / "saved")


@pytest.mark.parametrize("settings", [{}, {"lora_rank": 2}])
def test_a_checkpoint_is_the_name_of_its_policy(settings, tmp_path):
    agent = reviewer(**settings).learn(20)
    agent.save(tmp_path / "saved")
    same_weights(load(tmp_path / "saved"), agent.policy)
    envs = sentiment(lm=str(tmp_path / "saved"))
    same_weights(envs.unwrapped.lm, agent.policy)
    assert envs.spec.to_json()
    again = PolicyGradient(None, envs, group=4, seed=0, **settings)
    again.save(tmp_path / "again")
    same_weights(load(tmp_path / "again"), agent.policy)


def test_what_is_missing_is_not_called_damaged(tmp_path, monkeypatch):
    reviewer(lora_rank=2).save(tmp_path / "saved")

    def load_adapter(*_):
        raise MissingExtraError("peft", "a low-rank adapter")

    monkeypatch.setattr(checkpoint, "load_adapter", load_adapter)
    with pytest.raises(MissingExtraError, match="pip install"):
        PolicyGradient.load(tmp_path / "saved")


def test_the_checkpoint_of_another_model_changes_nothing(tmp_path):
    def lstm(width):
        return LSTMLM(4, width, generator=torch.Generator().manual_seed(width))

    toy(lstm(6)).learn(100).save(tmp_path / "saved")
    saved = checkpoint.read(tmp_path / "saved")
    for other in (lstm(8), lstm(6).double(), TabularLM(4)):
        agent = toy(other)
        before = {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}
        with pytest.raises(CheckpointError, match="the checkpoint of another model: its '"):
            checkpoint.restore(agent, saved, tmp_path / "saved")
        assert agent.tokens == 0
        for name, tensor in agent.policy.state_dict().items():
            assert torch.equal(tensor, before[name])


def test_one_bit_that_fell_over(tmp_path):
    toy(LSTMLM(4, 8, generator=torch.Generator().manual_seed(0))).save(tmp_path / "saved")
    for file in ("policy/model.safetensors", "reference/model.safetensors", "training.pt"):
        shutil.rmtree(tmp_path / "damaged", ignore_errors=True)
        shutil.copytree(tmp_path / "saved", tmp_path / "damaged")
        data = bytearray((tmp_path / "damaged" / file).read_bytes())
        data[-100] ^= 1
        (tmp_path / "damaged" / file).write_bytes(data)
        with pytest.raises(CheckpointError, match=f"is damaged: {file} is missing or not what"):
            PolicyGradient.load(tmp_path / "damaged")
    PolicyGradient.load(tmp_path / "saved")


def test_a_checkpoint_inside_a_run_is_not_an_agent(tmp_path):
    agent = toy()
    run = RunFolder.create(tmp_path / "run", TrainConfig(env="textenv/ILoveYou-v0"))
    run.save(agent)
    with pytest.raises(CheckpointError, match=r"inside a run: go on with it by textenv train"):
        PolicyGradient.load(tmp_path / "run/checkpoints/000000")
    with pytest.raises(TextenvError, match=r"inside a run, .* is in RUN/checkpoint"):
        load(tmp_path / "run/checkpoints/000000")


def test_an_environment_without_a_written_form(tmp_path):
    envs = textenv.TextVectorEnv(8, "ILoveYou")
    agent = PolicyGradient(None, envs, seed=0).learn(50)
    agent.save(tmp_path / "saved")
    with pytest.raises(CheckpointError, match="no written form: pass env="):
        PolicyGradient.load(tmp_path / "saved")
    same_weights(PolicyGradient.load(tmp_path / "saved", envs).policy, agent.policy)


def test_another_version(tmp_path):
    toy().save(tmp_path / "saved")
    path = tmp_path / "saved/state.json"
    state = json.loads(path.read_text())
    assert state["version"] == checkpoint.VERSION == 2
    path.write_text(json.dumps(state | {"version": 1}))
    with pytest.raises(CheckpointError, match="version 1, this textenv reads version 2"):
        PolicyGradient.load(tmp_path / "saved")


# Files.


def test_a_folder_is_replaced_in_one_step(tmp_path, monkeypatch):
    """Even if nothing runs after the rename, the new folder stands under its name."""
    target = tmp_path / "folder"
    with files.replaced_folder(target) as temporary:
        (temporary / "old").write_text("old")

    def crash(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.shutil, "rmtree", crash)
    with pytest.raises(KeyboardInterrupt), files.replaced_folder(target) as temporary:
        (temporary / "new").write_text("new")
    assert [path.name for path in target.iterdir()] == ["new"]


def fill(path):
    path.write_text("half")
    raise OSError("disk full")


@pytest.mark.parametrize("at_once", [True, False])
def test_a_folder_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch, at_once):
    if not at_once:
        monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    target = tmp_path / "folder"
    for number in range(3):
        with files.replaced_folder(target) as temporary:
            (temporary / "file").write_text(str(number))
    with pytest.raises(OSError, match="disk full"), files.replaced_folder(target) as temporary:
        fill(temporary / "file")
    assert (target / "file").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_files_and_folders_are_on_the_disk_before_they_get_their_name(tmp_path, monkeypatch):
    synced, fsync = [], files._fsync
    monkeypatch.setattr(files, "_fsync", lambda path: (synced.append(path.name), fsync(path)))
    with files.replaced_folder(tmp_path / "folder") as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner/file").write_text("x")
        name = temporary.name
    assert sorted(synced[:-1]) == sorted(["inner", "file", name])
    assert synced[-1] == tmp_path.name


def test_a_file_is_replaced_or_left(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.replace_file(path, "old")
    monkeypatch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        files.replace_file(path, "new")
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
