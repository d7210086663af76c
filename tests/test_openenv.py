"""Served over OpenEnv's protocol and driven by its own client: the same episodes as here."""

from __future__ import annotations

import threading

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("openenv")

import textenv
from tests.serving import TEXTS, TOY, connected
from textenv.actions import AllTokens, Candidates, Fragments
from textenv.interop.openenv import ServedEnvironment, Server, TextEnvClient
from textenv.interop.openenv.environment import plain
from textenv.testing.choosing import choose_action


def message(env, action):
    """An action of the local environment as the client sends it."""
    kind = env.setup.action
    if isinstance(kind, Candidates):
        return {"candidate": int(action)}
    if isinstance(kind, AllTokens | Fragments):
        return {"tokens": np.asarray(action).tolist()}
    return {"text": action}


# The same episodes.


@pytest.mark.parametrize(
    ("environment_id", "keywords"),
    [
        (TOY, {}),
        (TEXTS, {"prompt_length": 3, "mask": "info", "info_text": True}),
        (TEXTS, {"prompt_length": 2, "action": "fragments:3", "mask": "observation"}),
        (TEXTS, {"action": "strings", "observation": "text", "max_tokens": 4}),
        (TEXTS, {"action": "completion", "prompt_length": 1, "reward": ["length", "sentiment"]}),
        ("textenv/Sentiment-v0", {"action": "candidates:4", "max_tokens": 4}),
        ("textenv/Sentiment-v0", {"observation": "probabilities:3", "max_tokens": 3}),
        ("textenv/ToyTranslation-v0", {"max_tokens": 5, "mask": "method"}),
        ("textenv/ReasoningGym-v0", {"task": "gcd", "size": 5, "action": "completion"}),
    ],
    ids=str,
)
def test_episodes_are_those_of_the_local_environment(environment_id, keywords):
    local = gym.make(environment_id, **keywords).unwrapped
    generator = np.random.default_rng(0)
    with Server(environment_id, **keywords) as server, connected(server.address) as client:
        for seed in range(6):
            seen, info = local.reset(seed=seed)
            result = client.reset(seed=seed)
            assert result.reward is None
            compare(local, result, seen, info, None, False)
            over = False
            while not over:
                action = choose_action(local, generator)
                seen, reward, over, _, info = local.step(action)
                compare(local, client.step(message(local, action)), seen, info, reward, over)
            assert client.state()["text"] == local.text


def compare(local, result, seen, info, reward, over):
    got, rules = result.observation, local.task.rules
    assert (result.reward, result.done) == (reward, over)
    assert (got["prompt"], got["text"]) == (local.prompt, local.text)
    assert got["tokens"] == local.state.tokens[rules.prompt_length :][: local.state.length].tolist()
    if got["prompt_tokens"] is not None:
        prompt = local.state.tokens[: rules.prompt_length]
        assert got["prompt_tokens"] == prompt[prompt != rules.nothing].tolist()
    mask = {"info": info.get("action_mask"), "method": None, "observation": None, None: None}
    if local.setup.mask == "observation":
        assert got["action_mask"] == seen["action_mask"].tolist()
        seen = seen["observation"]
    elif local.setup.mask == "method":
        assert got["action_mask"] == local.action_masks().astype(int).tolist()
    else:
        expected = mask[local.setup.mask]
        assert got["action_mask"] == (None if expected is None else expected.tolist())
    if "candidates" in info:
        assert got["candidates"] == info["candidates"].tolist()
        assert got["candidate_log_probs"] == pytest.approx(info["candidate_log_probs"].tolist())
    if not isinstance(local.setup.observation, textenv.Tokens):
        probabilities = isinstance(local.setup.observation, textenv.Probabilities)
        assert got["seen"] == (pytest.approx(plain(seen)) if not probabilities else got["seen"])
        if probabilities:
            assert got["seen"]["ids"] == seen["ids"].tolist()
            assert got["seen"]["probabilities"] == pytest.approx(seen["probabilities"].tolist())
    else:
        assert got["seen"] is None
    assert (result.metadata or {}) == {k: v for k, v in info.items() if k == "reward_parts"}


def test_several_tokens_in_one_message_pay_their_sum():
    local = gym.make(TEXTS, prompt_length=2).unwrapped
    with Server(TEXTS, prompt_length=2) as server, TextEnvClient(server.address).sync() as client:
        for seed in range(5):
            ids = np.random.default_rng(seed).integers(local.task.rules.vocabulary_size, size=16)
            local.reset(seed=seed)
            client.reset(seed=seed)
            total, over, written = 0.0, False, []
            for token in ids.tolist():
                if not over:
                    _, reward, over, _, _ = local.step(token)
                    total, written = total + reward, [*written, token]
            result = client.step(ids)
            assert result.observation.tokens == written
            assert (result.reward, result.done) == (total, True)
            assert client.state().step_count == 1


def test_where_an_episode_starts(served_toy):
    with Server(TEXTS, prompt_length=2) as server, connected(server.address) as client:
        here = {"prompt": "good day", "prefix": "the tree"}
        result = client.reset(episode_id="mine", **here)
        assert (result.observation["prompt"], result.observation["text"]) == tuple(here.values())
        assert client.state() == {"episode_id": "mine", "step_count": 0,
                                  "prompt": "good day", "text": "the tree"}  # fmt: skip
        local = gym.make(TEXTS, prompt_length=2).unwrapped
        for start in ({"prompt_index": 7}, {"split": "train", "index": 7}):
            assert client.reset(**start).observation["prompt"] == local.task.prompts[7]


# Several at once.


def test_sessions_have_environments_of_their_own_and_one_model():
    with Server("textenv/Sentiment-v0", action="candidates:3", max_tokens=5) as server:
        told = {}

        def play(seed):
            with connected(server.address) as client:
                result = client.reset(seed=seed)
                for step in range(5):
                    if not result.done:
                        result = client.step({"candidate": (seed + step) % 3})
                told[seed] = result.observation["prompt"], result.observation["text"]

        threads = [threading.Thread(target=play, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    env = gym.make("textenv/Sentiment-v0", action="candidates:3", max_tokens=5).unwrapped
    for seed in range(6):
        env.reset(seed=seed)
        over = False
        for step in range(5):
            if not over:
                over = env.step((seed + step) % 3)[2]
        assert told[seed] == (env.prompt, env.text)


def test_a_session_too_many_is_told_so_and_leaves_room_again():
    with Server(TOY, sessions=1) as server:
        with connected(server.address) as first:
            first.reset()
            second = connected(server.address)
            with pytest.raises(RuntimeError, match="capacity"):
                second.reset()
            second.close()
            assert first.step({"tokens": 0}).observation["tokens"] == [0]
        with connected(server.address) as third:
            assert third.reset().observation["tokens"] == []


def test_copies_share_their_model():
    env = gym.make("textenv/Sentiment-v0", action="candidates:3")
    from textenv.interop.openenv.server import application

    app = application("textenv/Sentiment-v0", action="candidates:3", lm=env.unwrapped.lm)
    assert app.title
    served = ServedEnvironment(env)
    assert served.SUPPORTS_CONCURRENT_SESSIONS


# Learning through it.


def test_the_best_of_n_and_a_policy_gradient(client):
    """Best of n is better than one; REINFORCE on a table finds 我爱你。 through the client."""
    generator = np.random.default_rng(0)

    def episode(logits):
        client.reset()
        taken, last, done, reward = [], 4, False, 0.0
        while not done:
            weights = np.exp(logits[last] - logits[last].max())
            chosen = int(generator.choice(4, p=weights / weights.sum()))
            result = client.step({"tokens": chosen})
            taken.append((last, chosen, weights / weights.sum()))
            last, done, reward = chosen, result.done, result.reward
        return taken, reward

    start = np.log(np.full((5, 4), 0.25))
    start[[4, 0, 1, 2], [0, 1, 2, 3]] += 1.0  # each right word: e / (e + 3) = 0.475
    rewards = np.array([episode(start)[1] for _ in range(160)])
    # 0.475⁴ = 0.051 alone, 1 − 0.949⁸ = 0.34 for the best of eight.
    assert rewards.mean() < 0.15 < rewards.reshape(20, 8).max(axis=1).mean()

    logits = start.copy()
    for _ in range(400):
        taken, reward = episode(logits)
        for last, chosen, probabilities in taken:
            logits[last] += 2.0 * (reward - 0.05) * (np.eye(4)[chosen] - probabilities)
    assert np.mean([episode(logits)[1] for _ in range(30)]) >= 0.9
