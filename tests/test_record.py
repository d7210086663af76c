"""`textenv record`: what any policy writes, as a Minari dataset that says what it was paid."""

from __future__ import annotations

import gymnasium as gym
import minari
import numpy as np
import pytest

from textenv import exact
from textenv.errors import TextenvError
from textenv.logged import load_minari
from textenv.models import TabularLM
from textenv.vocabulary import WordVocabulary
from textenv_agents.cli import main
from textenv_agents.evaluation import evaluate
from textenv_agents.record import RecordConfig, Recorded, record, record_dataset
from textenv_agents.record_config import json_setting

LOVE = "textenv/ILoveYou-v0"
GOOD = "textenv/GoodBad-v0"


def test_what_is_recorded_is_what_is_evaluated():
    policy = gym.make(LOVE).unwrapped.lm
    texts = record(policy, LOVE, 300, seed=12345)
    evaluation = evaluate(policy, LOVE, reference=policy, texts=300, seed=12345)
    assert texts.returns().tolist() == [reward for _, _, reward in evaluation.texts]
    assert texts.terminated.all()


def test_the_log_says_how_probable_each_token_was():
    policy = gym.make(LOVE).unwrapped.lm
    texts = record(policy, LOVE, 50)
    log_probs = policy.score(texts.prefixes).log_probs.detach().numpy()
    assert texts.log_probs == pytest.approx(log_probs, abs=1e-12)


def test_the_same_seed_writes_the_same():
    one, same, other = (record("start", LOVE, 20, seed=seed) for seed in (3, 3, 4))
    assert (one.prefixes.tokens == same.prefixes.tokens).all()
    assert (one.prefixes.tokens != other.prefixes.tokens).any()


def test_the_uniform_policy_takes_all_tokens_alike():
    """Four of 4 … the mean return is J of the uniform policy, within 4 standard errors."""
    texts = record("uniform", LOVE, 2000)
    assert np.exp(texts.log_probs[texts.written]) == pytest.approx(0.25)
    task = gym.make(LOVE).unwrapped.task
    value = exact.value(task, lambda prefixes: np.full((len(prefixes), 4), 0.25))
    returns = texts.returns()
    assert abs(returns.mean() - value) < 4 * np.sqrt(value * (1 - value) / 2000)


def test_the_command(tmp_path, capsys):
    options = ["--episodes", "40", "--folder", str(tmp_path), "--seed", "2"]
    assert main(["record", "start", GOOD, "--name", "textenv/good/start-v0", *options]) == 0
    said = capsys.readouterr().out
    texts = load_minari("textenv/good/start-v0", folder=tmp_path)
    assert (texts.returns() == record("start", GOOD, 40, seed=2).returns()).all()
    assert f"40 texts, 40 tokens in all; average return {texts.returns().mean():.4f} [" in said
    assert str(tmp_path / "textenv" / "good" / "start-v0") in said
    assert f"load_minari('textenv/good/start-v0', folder={str(tmp_path)!r})" in said
    assert main(["record", "start", GOOD, "--name", "textenv/good/start-v0", *options]) == 2
    assert "there is a dataset" in capsys.readouterr().err
    assert main(["record", "start", GOOD, "--name", "good", *options]) == 2
    assert "with a version behind it" in capsys.readouterr().err
    assert main(["record", "start", "CartPole-v1", "--name", "pole-v0", *options]) == 2
    assert "expected the id of a textenv environment" in capsys.readouterr().err


def test_a_policy_with_a_vocabulary_of_its_own_is_stored_with_the_environment(
    tmp_path, monkeypatch
):
    words = WordVocabulary(["bad", "good", "fine"])
    model = TabularLM(3, order=0, vocabulary=words)
    model.save_pretrained(tmp_path / "model")
    config = RecordConfig(
        policy=str(tmp_path / "model"), env=GOOD, name="mine-v0", episodes=5,
        folder=tmp_path / "datasets",
    )  # fmt: skip
    recorded = record_dataset(config)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    dataset = minari.load_dataset("mine-v0")
    env = dataset.recover_environment()
    assert env.unwrapped.task.vocabulary.words == words.words
    assert dataset.env_spec.kwargs["lm"] == str(tmp_path / "model")
    again = load_minari(dataset)
    assert (again.prefixes.tokens == recorded.texts.prefixes.tokens).all()
    with pytest.raises(ValueError, match="another vocabulary or other limits"):
        load_minari(dataset, GOOD)
    # Without its model nobody knows what the ids mean.
    (tmp_path / "model").rename(tmp_path / "moved")
    with pytest.raises(TextenvError, match="was recorded on textenv/GoodBad-v0, which cannot be"):
        load_minari(dataset)
    env.close()


def test_a_policy_of_the_environments_vocabulary_is_not(tmp_path):
    gym.make(LOVE).unwrapped.lm.save_pretrained(tmp_path / "model")
    config = RecordConfig(
        policy=str(tmp_path / "model"), env=LOVE, name="mine-v0", episodes=5,
        folder=tmp_path / "datasets", keywords='{"max_tokens": 3}',
    )  # fmt: skip
    dataset = record_dataset(config).dataset
    assert dataset.env_spec.kwargs == {"task": "ILoveYou", "max_tokens": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "taken-v0"}, "there is a dataset 'taken-v0'"),
        ({"name": "other"}, "with a version behind it"),
        ({"keywords": '{"observation": "hidden"}'}, "logged texts are tokens"),
    ],
)
def test_what_cannot_be_saved_is_said_before_anything_is_written(
    tmp_path, monkeypatch, changes, message
):
    settings = {"policy": "start", "env": LOVE, "episodes": 2, "folder": tmp_path}
    record_dataset(RecordConfig(name="taken-v0", **settings))
    monkeypatch.setattr("textenv_agents.record.collect", None)
    with pytest.raises(ValueError, match=message):
        record_dataset(RecordConfig(**{"name": "new-v0", **settings, **changes}))


def test_texts_whose_reward_failed_are_left_out_and_counted(tmp_path):
    def choosy(prompts, completions, **columns):
        if any("你" in text for text in completions):
            raise RuntimeError("no")
        return [1.0] * len(completions)

    texts = record("uniform", LOVE, 40, reward=choosy, reward_fault="skip")
    assert 0 < len(texts) < 40
    assert (texts.returns() == 1.0).all()
    assert "; 3 whose reward failed" in Recorded(texts, _Dataset(tmp_path), 3).summary()
    with pytest.raises(TextenvError, match="the reward 'fails' failed for all 3 texts"):
        record("uniform", LOVE, 3, reward=fails, reward_fault="skip")


def fails(prompts, completions, **columns):
    raise RuntimeError("no")


class _Dataset:
    id = "some-v0"

    def __init__(self, path):
        self.storage = type("Storage", (), {"data_path": path / "data"})


def test_texts_that_a_time_limit_cut_off(tmp_path):
    config = RecordConfig(
        policy="uniform", env=LOVE, name="short-v0", episodes=30, folder=tmp_path,
        keywords='{"max_episode_steps": 2}',
    )  # fmt: skip
    texts = record_dataset(config).texts
    lengths = texts.prefixes.written
    last = texts.prefixes.tokens[np.arange(30), lengths - 1]
    assert lengths.max() == 2
    assert (texts.terminated == (last == 3)).all()  # 。 ends a text, two tokens do not
    assert not texts.terminated.all()
    again = load_minari("short-v0", folder=tmp_path)
    assert (again.terminated == texts.terminated).all()


def test_settings():
    with pytest.raises(ValueError, match="expected episodes ≥ 1 and seed ≥ 0, got 0 and 0"):
        RecordConfig(policy="start", env=LOVE, name="a-v0", episodes=0)
    with pytest.raises(ValueError, match="expected --keywords to be JSON"):
        RecordConfig(policy="start", env=LOVE, name="a-v0", keywords="{")
    with pytest.raises(ValueError, match=r"'seed' is no keyword of environments.*textenv record"):
        RecordConfig(policy="start", env=LOVE, name="a-v0", keywords='{"seed": 1}')
    config = RecordConfig(policy="start", env=LOVE, name="a-v0", reward="length")
    assert json_setting(config, "reward", "textenv record") == "length"
    with pytest.raises(ValueError, match="expected episodes ≥ 1, got 0"):
        record("start", LOVE, 0)
    with pytest.raises(ValueError, match=r"expected the id of a textenv environment.*ILoveYou-v0>"):
        record("start", gym.make(LOVE), 5)
