"""The agent: what it collects, that it learns, that it resumes, what it refuses."""

from __future__ import annotations

import csv
import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure

import textenv
from tests import small_tasks
from textenv import exact
from textenv.errors import TextenvError
from textenv.models import LSTMLM, TabularLM
from textenv.models.sampling import draw
from textenv.rewards import word_preference
from textenv.vocabulary import WordVocabulary
from textenv_agents import CheckpointError, PolicyGradient
from textenv_agents.rollout import collect

MODES = ["next_step", "same_step", "disabled"]
TOYS = {
    "GoodBad": {"optimizer": "sgd", "learning_rate": 1.0},
    "ILoveYou": {"learning_rate": 0.1},
}


def vector(task, rows=16, mode="same_step", **keywords):
    return textenv.TextVectorEnv(rows, task, autoreset_mode=mode, **keywords)


def ragged_task(**changes):
    return small_tasks.ragged_task(5, **changes)


# Collecting.


@pytest.mark.parametrize("reward", ["end", "token"])
def test_all_autoreset_modes_collect_the_same_episodes(reward):
    task = ragged_task(reward=word_preference({"a": 1.0, "b": -1.0}, pays=reward))
    policy = TabularLM(5, order=1)
    batches = {}
    for mode in MODES:
        agent = PolicyGradient(policy, vector(task, mode=mode), group=4, seed=7)
        batches[mode] = [agent.collect() for _ in range(5)]
    for mode in MODES[1:]:
        for ours, theirs in zip(batches[MODES[0]], batches[mode], strict=True):
            np.testing.assert_array_equal(ours.prefixes.tokens, theirs.prefixes.tokens)
            np.testing.assert_array_equal(ours.rewards, theirs.rewards)
            np.testing.assert_array_equal(ours.log_probs, theirs.log_probs)


def test_episodes_are_those_of_the_single_environment():
    """Each collected row, replayed token by token, is paid the same and ends at the same place."""
    task = ragged_task()
    episodes = PolicyGradient(TabularLM(5, order=1), vector(task), group=4, seed=1).collect()
    env = textenv.TextEnv(task)
    for row, length in enumerate(episodes.prefixes.written):
        tokens = episodes.prefixes.tokens[row]
        prompt = [int(t) for t in tokens[: task.rules.prompt_length] if t != task.rules.nothing]
        env.reset(options={"prompt": prompt})
        for step in range(length):
            action = int(tokens[task.rules.prompt_length + step])
            observation, reward, terminated, _, _ = env.step(action)
            assert reward == episodes.rewards[row, step]
            assert terminated == (step == length - 1)
        np.testing.assert_array_equal(observation, tokens)


def test_groups_share_their_prompt():
    agent = PolicyGradient(TabularLM(5), vector(ragged_task()), group=4, seed=0)
    prompts = agent.collect().prefixes.tokens[:, :2].reshape(4, 4, 2)
    assert (prompts == prompts[:, :1]).all()
    assert len({tuple(group[0]) for group in prompts}) > 1


def test_log_probs_when_written_are_the_teacher_forced_ones():
    policy = LSTMLM(5, 8, generator=torch.Generator().manual_seed(0)).double()
    episodes = PolicyGradient(policy, vector(ragged_task()), group=4, seed=0).collect()
    score = policy.score(episodes.prefixes)
    np.testing.assert_allclose(episodes.log_probs, score.log_probs.detach(), atol=1e-12)


def test_a_text_that_is_cut_off_from_outside_keeps_what_it_earned():
    envs = vector(ragged_task(end=False, stop=()), max_episode_steps=2)
    episodes = PolicyGradient(TabularLM(5), envs, group=4, seed=0).collect()
    assert (episodes.prefixes.written == 2).all()


class FailsOnA(textenv.rewards.Reward):
    name = "fails_on_a"

    def __call__(self, prompts, completions, **columns):
        if any(text.startswith("a") for text in completions):
            raise RuntimeError("no a, please")
        return [1.0] * len(completions)


@pytest.mark.parametrize("mode", MODES)
def test_texts_whose_reward_failed_are_dropped(mode):
    envs = vector(ragged_task(reward=FailsOnA()), mode=mode, reward_fault="skip")
    agent = PolicyGradient(TabularLM(5), envs, group=4, seed=0)
    episodes = agent.collect()
    failed = episodes.prefixes.tokens[:, 2] == 0
    np.testing.assert_array_equal(episodes.faults, failed)
    assert 0 < failed.sum() < 16
    batch = agent.prepare(episodes)
    assert not batch.advantages[torch.as_tensor(failed)].any()
    agent.learn(100)
    assert agent.skipped > 0


def test_the_sampler_follows_the_distribution():
    """Chi-square over 100,000 draws, and never a token of probability zero."""
    logits = torch.tensor([0.0, -torch.inf, 1.0, 2.0, -torch.inf]).expand(100_000, 5)
    tokens, log_probs = draw(logits, np.random.default_rng(0).random(100_000))
    probabilities = torch.softmax(logits[0], dim=0).numpy()
    counts = np.bincount(tokens, minlength=5)
    assert counts[1] == counts[4] == 0
    expected = 100_000 * probabilities[[0, 2, 3]]
    chi_square = ((counts[[0, 2, 3]] - expected) ** 2 / expected).sum()
    assert chi_square < 13.8  # 99.9 % quantile for 2 degrees of freedom
    np.testing.assert_allclose(log_probs, np.log(probabilities[tokens]), atol=1e-6)


@pytest.mark.parametrize("number", [0.0, np.nextafter(1.0, 0.0)])
def test_the_sampler_at_the_edges(number):
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]])
    (token,), _ = draw(logits, np.array([number]))
    assert token == (1 if number == 0 else 2)


# Learning.


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("baseline", ["none", "running_mean", "value", "leave_one_out"])
def test_every_baseline_learns_the_toys(name, baseline):
    agent = PolicyGradient(None, f"textenv/{name}-v0", baseline=baseline, seed=0, **TOYS[name])
    task = agent.env.unwrapped.task
    agent.learn(20_000 if name == "GoodBad" else 60_000)
    value = exact.value(task, agent.policy)
    # S1: p(good) > 0.99 is J > 0.98; S2: J > 0.95
    assert value > (0.98 if name == "GoodBad" else 0.95)


def test_an_lstm_learns_from_scratch():
    policy = LSTMLM(4, 16, generator=torch.Generator().manual_seed(0))
    agent = PolicyGradient(policy, "textenv/ILoveYou-v0", learning_rate=0.02, seed=0)
    agent.learn(40_000)
    assert exact.value(agent.env.unwrapped.task, policy) > 0.95


def test_the_kl_term_ends_at_the_regularised_optimum():
    """β = 1 on S1: p(good) = σ(2) ≈ 0.8808."""
    agent = PolicyGradient(
        None, "textenv/GoodBad-v0", kl_coefficient=1.0, learning_rate=0.02, episodes=256, seed=0
    )
    agent.learn(100_000)
    p = torch.softmax(agent.policy.logits, dim=1)[0, 0].item()
    assert p == pytest.approx(1 / (1 + np.exp(-2)), abs=0.03)


def test_the_kl_to_itself_is_exactly_zero():
    for policy in (None, LSTMLM(4, 8, generator=torch.Generator().manual_seed(0)).double()):
        agent = PolicyGradient(policy, "textenv/ILoveYou-v0", kl_coefficient=1.0, seed=0)
        episodes = agent.collect()
        kl = agent.read(episodes).kl
        assert not kl.any()
        np.testing.assert_array_equal(agent.prepare(episodes, kl=kl).rewards, episodes.rewards)
        gradients = torch.autograd.grad(kl.sum(), list(agent.policy.parameters()))
        assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-12


def test_the_linear_schedule_ends_at_zero():
    agent = PolicyGradient(None, "textenv/GoodBad-v0", schedule="linear", learning_rate=0.1, seed=0)
    rates = []
    agent.learn(640, callback=lambda a, _: rates.append(a.optimizer.param_groups[0]["lr"]))
    np.testing.assert_allclose(rates, 0.1 * (1 - np.arange(10) / 10))  # 64 words an update


def test_the_entropy_bonus_keeps_the_policy_open():
    values = []
    for coefficient in (0.0, 2.0):
        agent = PolicyGradient(
            None, "textenv/GoodBad-v0", entropy_coefficient=coefficient, learning_rate=0.1, seed=0
        )
        values.append(exact.value(agent.env.unwrapped.task, agent.learn(10_000).policy))
    assert values[1] < 0.8 < values[0]


def test_the_policy_handed_in_is_trained_and_the_environments_own_is_not():
    envs = gym.make_vec("textenv/GoodBad-v0", num_envs=8)
    agent = PolicyGradient(None, envs, seed=0).learn(100)
    assert agent.policy is not envs.unwrapped.lm
    assert not envs.unwrapped.lm.logits.diff().any()
    mine = TabularLM(2, order=0)
    assert PolicyGradient(mine, envs, seed=0).learn(100).policy is mine
    assert mine.logits.diff().any()


@pytest.mark.parametrize("baseline", ["running_mean", "value", "leave_one_out"])
def test_same_seed_same_weights(baseline):
    def run(seed):
        agent = PolicyGradient(
            None, "textenv/ILoveYou-v0", baseline=baseline, learning_rate=0.1, seed=seed
        )
        return agent.learn(2000).policy.logits.detach()

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_no_global_seed_is_read_or_set():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    PolicyGradient(None, "textenv/ILoveYou-v0", baseline="value", seed=1).learn(500)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


# Using.


def test_sb3_evaluates_the_agent():
    agent = PolicyGradient(None, "textenv/ILoveYou-v0", learning_rate=0.1, seed=0).learn(40_000)
    env = gym.wrappers.RecordEpisodeStatistics(gym.make("textenv/ILoveYou-v0"))
    mean, _ = evaluate_policy(agent, env, n_eval_episodes=20, deterministic=True, warn=False)
    assert mean == 1.0


def test_predict_takes_one_observation_or_many():
    agent = PolicyGradient(None, "textenv/ILoveYou-v0", seed=0)
    observation, _ = agent.env.reset(seed=0)
    actions, state = agent.predict(observation, state="kept", deterministic=True)
    assert actions.shape == (64,)
    assert state == "kept"
    assert (actions == 0).all()  # 我 is the likeliest first word
    action, _ = agent.predict({"observation": observation[0]}, deterministic=True)
    assert action == 0
    assert len({int(agent.predict(observation[0])[0]) for _ in range(50)}) > 1


def test_the_logger_and_the_callback(tmp_path):
    logger = configure(str(tmp_path), ["csv", "tensorboard"])
    seen = []
    agent = PolicyGradient(None, "textenv/ILoveYou-v0", logger=logger, seed=0)
    agent.learn(10**6, callback=lambda a, metrics: seen.append(metrics) or len(seen) < 3)
    logger.close()
    assert len(seen) == agent.updates == 3
    with (tmp_path / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["time/tokens"]) for row in rows] == [m["time/tokens"] for m in seen]
    assert list(tmp_path.glob("events.out.tfevents*"))


@pytest.mark.parametrize("baseline", ["running_mean", "value"])
def test_a_loaded_agent_goes_on_bitwise(baseline, tmp_path):
    def start():
        return PolicyGradient(
            None,
            "textenv/ILoveYou-v0",
            baseline=baseline,
            learning_rate=0.1,
            kl_coefficient=0.1,
            seed=0,
        ).learn(2000)

    uninterrupted = start().learn(2000)
    start().save(tmp_path / "checkpoint")
    resumed = PolicyGradient.load(tmp_path / "checkpoint").learn(2000)
    assert resumed.tokens == uninterrupted.tokens
    assert torch.equal(resumed.policy.logits, uninterrupted.policy.logits)
    assert torch.equal(resumed.reference.logits, uninterrupted.reference.logits)
    resumed.save(tmp_path / "checkpoint")  # over the old one
    assert PolicyGradient.load(tmp_path / "checkpoint").tokens == resumed.tokens
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


# Bad input.


def test_checkpoints_that_are_none(tmp_path):
    agent = PolicyGradient(None, "textenv/GoodBad-v0", seed=0)
    folder = tmp_path / "checkpoint"
    with pytest.raises(CheckpointError, match=r"it has no training.pt, state.json"):
        PolicyGradient.load(folder)
    agent.save(folder)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"version": 99}))
    with pytest.raises(CheckpointError, match="version 99, this textenv reads version 2"):
        PolicyGradient.load(folder)
    (folder / "state.json").write_text('{"version"')
    with pytest.raises(CheckpointError, match="damaged"):
        PolicyGradient.load(folder)
    (folder / "state.json").write_text(json.dumps(state))
    whole = (folder / "training.pt").read_bytes()
    (folder / "training.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        PolicyGradient.load(folder)


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    agent = PolicyGradient(None, "textenv/GoodBad-v0", seed=0)
    agent.save(tmp_path / "checkpoint")
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        agent.learn(100).save(tmp_path / "checkpoint")
    monkeypatch.undo()
    assert PolicyGradient.load(tmp_path / "checkpoint").tokens == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


def test_environments_of_a_module_that_is_not_imported_yet(tmp_path, monkeypatch):
    """ "module:id", as `gym.make` takes it: how the command line reaches your environments."""
    (tmp_path / "mine_alone.py").write_text(
        "import gymnasium as gym\n"
        "import textenv\n"
        "toy = gym.spec('textenv/GoodBad-v0')\n"
        "gym.register('mine/Toy-v0', toy.entry_point, kwargs=toy.kwargs,\n"
        "             vector_entry_point=toy.vector_entry_point)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    agent = PolicyGradient(None, "mine_alone:mine/Toy-v0", seed=0)
    assert agent.env.unwrapped.task.rules.vocabulary_size == 2
    with pytest.warns(UserWarning, match="latest versioned environment"):
        assert PolicyGradient(None, "mine/Toy", seed=0).env.spec.id == "mine/Toy-v0"
    with pytest.raises(TextenvError, match="No module named 'not_there'"):
        PolicyGradient(None, "not_there:mine/Toy-v0")


def test_environments_that_do_not_fit():
    with pytest.raises(ValueError, match="TextVectorEnv"):
        PolicyGradient(None, gym.make_vec("CartPole-v1", num_envs=8))
    with pytest.raises(ValueError, match="TextVectorEnv"):
        PolicyGradient(None, "CartPole-v1")
    with pytest.raises(ValueError, match="expected a language model"):
        PolicyGradient(3, "textenv/GoodBad-v0")
    with pytest.raises(ValueError, match="the policy has 3 tokens, the environment 2"):
        PolicyGradient(TabularLM(3), "textenv/GoodBad-v0")
    toy = gym.make("textenv/GoodBad-v0").unwrapped
    other = toy.task.with_changes(vocabulary=WordVocabulary(["good", "evil"]))
    with pytest.raises(ValueError, match="2 tokens each, but other ones"):
        PolicyGradient(toy.lm, vector(other))
    for action in ("candidates:2", "fragments:2", "strings"):
        with pytest.raises(ValueError, match=r'action="all_tokens", not .*s\('):
            PolicyGradient(None, gym.make_vec("textenv/GoodBad-v0", num_envs=8, action=action))
    with pytest.raises(ValueError, match='observation="tokens"'):
        PolicyGradient(
            None, gym.make_vec("textenv/GoodBad-v0", num_envs=8, observation="probabilities:2")
        )


@pytest.mark.parametrize("pays", ["end", "token"])
def test_texts_scored_together_are_paid_the_same(pays):
    task = ragged_task(reward=word_preference({"a": 1.0, "b": -1.0}, pays=pays))
    runs = []
    for scoring in ("step", "deferred"):
        agent = PolicyGradient(
            TabularLM(5, order=1), vector(task, scoring=scoring), group=4, baseline="value", seed=0
        )
        runs.append(agent.learn(200).policy.logits.detach())
    assert torch.equal(*runs)


def test_a_queue_and_its_numbers_belong_together():
    envs = vector(ragged_task(), rows=4)
    with pytest.raises(ValueError, match=r"uniforms of shape \(3, 5\), got \(4, 5\)"):
        collect(envs, TabularLM(5), np.array([0, 1, 2]), np.zeros((4, 5)))


def test_a_batch_in_which_every_reward_failed():
    class Fails(textenv.rewards.Reward):
        def __call__(self, prompts, completions, **columns):
            raise RuntimeError("always")

    envs = vector(ragged_task(reward=Fails()), reward_fault="skip")
    agent = PolicyGradient(TabularLM(5), envs, group=4, baseline="running_mean", seed=0)
    with pytest.raises(textenv.errors.RewardFaultError, match="all 16 texts"):
        agent.update()
    assert agent.running_mean.value == 0.0


@pytest.mark.parametrize("damage", ["key", "list", "setting", "policy"])
def test_damaged_checkpoints(damage, tmp_path):
    folder = tmp_path / "checkpoint"
    PolicyGradient(None, "textenv/GoodBad-v0", seed=0).save(folder)
    state = json.loads((folder / "state.json").read_text())
    if damage == "key":
        del state["config"]
    elif damage == "setting":
        state["config"]["unheard_of"] = 1
    elif damage == "list":
        state = [1]
    else:
        weights = folder / "policy" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:20])
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match="damaged"):
        PolicyGradient.load(folder)
