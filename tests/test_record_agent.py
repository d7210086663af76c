"""Agents with SB3's `predict` are logged token by token, whatever they see and do."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from textenv.errors import TextenvError
from textenv.logged import load_minari, save_minari
from textenv_agents import PolicyGradient
from textenv_agents.record_agent import record_agent
from textenv_agents.sb3 import SB3VecEnv

LOVE, WORDS = "textenv/ILoveYou-v0", "textenv/WordPreference-v0"
STEERED = {"observation": "hidden", "action": "candidates:3"}


class Cycle:
    """Writes the same actions in turn."""

    def __init__(self, actions):
        self.actions = actions

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        place = 0 if episode_start.all() else state
        return self.actions[place % len(self.actions)], place + 1


class Alternating:
    """Writes one text after another, and begins again."""

    def __init__(self, texts):
        self.texts, self.number = texts, -1

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        if episode_start.all():
            self.number, state = (self.number + 1) % len(self.texts), 0
        return self.texts[self.number][state], state + 1


def test_tokens_come_of_candidates_and_are_paid_as_evaluated():
    agent = DQN("MlpPolicy", SB3VecEnv(LOVE, 4, **STEERED), learning_starts=100, seed=0)
    agent.learn(300)
    texts = record_agent(agent, LOVE, 5, deterministic=True, **STEERED)
    env = Monitor(gym.make(LOVE, **STEERED))
    returns, lengths = evaluate_policy(agent, env, 5, return_episode_rewards=True)
    assert texts.returns().tolist() == returns
    assert texts.prefixes.written.tolist() == lengths
    assert texts.terminated.all()
    task = gym.make(LOVE).unwrapped.task
    assert texts.check(task).vocabulary is task.vocabulary


def test_prompts_are_those_of_the_seed_and_a_dataset_holds_them(tmp_path):
    prompts = {"prompts": ["good", "bad good", "kind"], "max_tokens": 3}
    texts = record_agent(Cycle([0, 1, 2]), WORDS, 6, seed=7, **prompts)
    env = gym.make(WORDS, **prompts)
    shown = [env.reset(seed=None if number else 7)[0] for number in range(6)]
    start = env.unwrapped.task.rules.prompt_length
    assert start > 0
    assert (texts.prefixes.tokens[:, :start] == np.array(shown)[:, :start]).all()
    assert (texts.prefixes.tokens[:, start:] == [0, 1, 2]).all()
    save_minari(texts, env, "textenv/words/cycle-v0", folder=tmp_path)
    again = load_minari("textenv/words/cycle-v0", folder=tmp_path)
    np.testing.assert_array_equal(again.prefixes.tokens, texts.prefixes.tokens)
    np.testing.assert_array_equal(again.rewards, texts.rewards)


def test_several_tokens_at_once_are_paid_at_the_last():
    words = {"words": ["a", "b"], "weights": {"a": 1.0, "b": -2.0}, "max_tokens": 5}
    texts = record_agent(Cycle([np.array([0, 1])]), WORDS, 1, action="fragments:2", **words)
    assert texts.prefixes.tokens.tolist() == [[0, 1, 0, 1, 0]]
    assert texts.rewards.tolist() == [[0.0, -1.0, 0.0, -1.0, 1.0]]


def test_texts_that_are_cut_off():
    texts = record_agent(Cycle([0]), gym.wrappers.TimeLimit(gym.make(WORDS, max_tokens=5), 2), 3)
    assert texts.prefixes.written.tolist() == [2, 2, 2]
    assert not texts.terminated.any()


def test_masks_and_memories():
    contrib = pytest.importorskip("sb3_contrib")
    agent = contrib.MaskablePPO("MlpPolicy", SB3VecEnv(LOVE, 4, blocklist=["爱"]), seed=0)
    texts = record_agent(agent, LOVE, 30, blocklist=["爱"])
    written = texts.prefixes.tokens[texts.prefixes.written_mask]
    assert 1 not in written
    assert {0, 2, 3} <= set(written.tolist())
    agent = contrib.RecurrentPPO("MlpLstmPolicy", SB3VecEnv(WORDS, 2, max_tokens=4), seed=0)
    texts = record_agent(agent, WORDS, 4, deterministic=True, max_tokens=4)
    env = Monitor(gym.make(WORDS, max_tokens=4))
    returns, _ = evaluate_policy(agent, env, 4, return_episode_rewards=True)
    assert texts.returns() == pytest.approx(returns)


def test_our_own_agent():
    agent = PolicyGradient(None, LOVE, learning_rate=0.3, seed=0)
    agent.learn(total_tokens=6_000)
    assert record_agent(agent, LOVE, 20, deterministic=True).returns().mean() == 1.0


def test_failed_rewards_are_left_out():
    def fails(prompts, completions, **columns):
        if completions[0].startswith("我"):
            raise ValueError("no")
        return [0.5]

    env = gym.make(LOVE, reward=fails, reward_fault="skip")
    prefixes = record_agent(Alternating([[0, 3], [3]]), env, 4).prefixes
    assert prefixes.written.tolist() == [1, 1]
    assert (prefixes.tokens[:, 0] == 3).all()
    with pytest.raises(TextenvError, match="failed for all 2 texts"):
        record_agent(Cycle([0, 3]), env, 2)


def test_rewards_that_failed_in_the_middle_are_left_out():
    def fails(completions, completion_ids):
        if "我爱" in completions:
            raise ValueError("no")
        return [[0.5] * len(ids) for ids in completion_ids]

    fails.pays = "token"
    env = gym.make(LOVE, reward=fails, reward_fault="skip")
    texts = record_agent(Alternating([[0, 1, 3], [0, 3]]), env, 4)
    assert texts.prefixes.tokens.tolist() == [[0, 3, 4, 4]] * 2
    assert texts.returns().tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("agent", "env", "keywords", "error", "said"),
    [
        ("reviews", LOVE, {}, TypeError, "textenv_agents.record.record"),
        (Cycle([0]), "CartPole-v1", {}, ValueError, "textenv list"),
        (Cycle([0]), gym.make("CartPole-v1"), {}, TypeError, "CartPole"),
        (Cycle([0]), gym.make(LOVE), {"max_tokens": 2}, ValueError, "max_tokens: keywords are"),
        (Cycle([0]), LOVE, {"episodes": 0}, ValueError, "episodes ≥ 1, got 0"),
    ],
)
def test_mistakes(agent, env, keywords, error, said):
    with pytest.raises(error, match=said):
        record_agent(agent, env, **{"episodes": 2} | keywords)
