"""The one-file PPO: its advantages against the definition, learning, masks, refusals."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.small_tasks import ragged_task, register_tasks
from textenv import exact
from textenv_agents.advantages import generalised
from textenv_agents.single_file_ppo import Agent, Args, gae, main, make_environments, train

register_tasks({"PpoRagged": {"task": ragged_task(4)}})
QUICK = Args(total_timesteps=4096, print_every=0)


def random_rollout(steps=23, envs=5):
    draw = np.random.default_rng(0)
    rewards, values, cut = (torch.tensor(draw.normal(size=(steps, envs))) for _ in range(3))
    terminated = torch.tensor(draw.random((steps, envs)) < 0.2)
    truncated = torch.tensor(draw.random((steps, envs)) < 0.1) & ~terminated
    last = torch.tensor(draw.normal(size=(1, envs)))
    ended = terminated | truncated
    following = torch.where(ended, cut * truncated, torch.cat([values[1:], last]))
    return rewards, values, following, ended


def test_the_advantages_are_their_definition():
    """A_t = Σ_k (γλ)^k·δ_{t+k}, up to the end of the text; in O(S²)."""
    rewards, values, following, ended = random_rollout()
    advantages = gae(rewards, values, following, ended, 0.9, 0.8)
    for row in range(5):
        for t in range(23):
            total, weight = 0.0, 1.0
            for k in range(t, 23):
                error = rewards[k, row] + 0.9 * following[k, row] - values[k, row]
                total += weight * float(error)
                weight *= 0.9 * 0.8
                if ended[k, row]:
                    break
            assert float(advantages[t, row]) == pytest.approx(total, abs=1e-12)


def test_the_advantages_are_those_of_our_other_agent():
    """Whole texts, one a row, as `generalised` takes them; the last one of each row is cut off."""
    rewards, values, following, ended = random_rollout()
    advantages = gae(rewards, values, following, ended, 0.9, 0.8)
    for row in range(5):
        ends = [*np.flatnonzero(ended[:, row]).tolist(), 22]
        for first, last in zip([0, *(end + 1 for end in ends)], ends):
            part = slice(first, last + 1)
            theirs = generalised(
                rewards[None, part, row],
                values[None, part, row],
                torch.ones(1, last + 1 - first, dtype=torch.bool),
                bootstrap=following[None, last, row],
                discount=0.9,
                trace=0.8,
            )
            torch.testing.assert_close(advantages[part, row], theirs[0])


def test_it_reads_up_to_the_last_token():
    """Rows of different lengths give what each gives alone, however much nothing follows."""
    agent = Agent(4, 4, 8)
    rows = torch.tensor([[4, 4, 4, 4], [4, 2, 4, 4], [1, 2, 3, 0]])
    logits, values = agent(rows)[0].logits, agent(rows)[1]
    for row in range(3):
        wider = torch.cat([rows[row], torch.full((2,), 4)])[None]
        torch.testing.assert_close(agent(wider)[0].logits[0], logits[row])
        torch.testing.assert_close(agent(wider)[1][0], values[row])


@pytest.mark.parametrize("name", ["GoodBad", "ILoveYou"])
def test_it_learns(name):
    result = train(replace(QUICK, env_id=f"textenv/{name}-v0", total_timesteps=8192))
    assert result.before == pytest.approx({"GoodBad": 0.0, "ILoveYou": 1 / 4**4}[name], abs=0.005)
    assert result.value > 0.9
    assert result.greedy_value == 1.0
    assert np.mean(result.returns[-100:]) > 0.9
    assert np.mean(result.returns[:20]) < 0.6
    first = result.history[0]  # nearly equal chances
    assert first["timesteps"] == 512
    assert all(numbers["kl"] >= 0 for numbers in result.history)
    size = {"GoodBad": 2, "ILoveYou": 4}[name]
    assert first["entropy"] == pytest.approx(np.log(size), abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GoodBad", "ILoveYou"])
@pytest.mark.parametrize("seed", range(1, 6))
def test_five_seeds_of_five(name, seed):
    result = train(Args(env_id=f"textenv/{name}-v0", seed=seed, print_every=0))
    assert result.greedy_value >= 0.9
    assert result.value >= 0.9


def test_returns_are_those_of_the_environment():
    """Each word's pay, at every step: the returns are what whole texts are paid."""
    result = train(replace(QUICK, env_id="tests/PpoRagged-v0"))
    assert set(result.returns) <= set(np.arange(-4.0, 5.0))
    task = make_environments(replace(QUICK, env_id="tests/PpoRagged-v0")).unwrapped.task
    best = exact.optimum(task).V
    mean = np.mean([best[number, ()] for number in range(3)])
    assert mean == 4
    assert result.greedy_value == mean


def test_twice_the_same_and_nothing_of_the_callers_is_touched():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, second = (train(replace(QUICK, total_timesteps=1024)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.history == second.history
    assert first.returns == second.returns
    for a, b in zip(first.agent.parameters(), second.agent.parameters()):
        assert torch.equal(a, b)
    other = train(replace(QUICK, total_timesteps=1024, seed=2))
    assert other.returns != first.returns


def test_blocked_words_are_never_written():
    """Without "a" and "b" all that is left to write is worth 0."""
    args = replace(QUICK, env_id="tests/PpoRagged-v0", blocklist=("a",), total_timesteps=1024)
    result = train(args)
    assert max(result.returns) <= 0
    assert result.greedy_value == 0
    envs = make_environments(args)
    observation = envs.reset(seed=0)[0]
    tokens = torch.from_numpy(observation["observation"])
    mask = torch.from_numpy(observation["action_mask"]).bool()
    chances = result.agent(tokens, mask)[0].probs
    assert (chances[:, 0] == 0).all()
    assert (chances[:, 1:] > 0).all()


def test_suppressed_tokens_count_for_nothing_where_the_mask_forbids_them():
    """J is that of the masked policy, and without a mask that of the bare one."""
    made = ragged_task(2)
    made.vocabulary.suppressed_tokens = (1,)
    register_tasks({"PpoSuppressed": {"task": made}})
    for mask, allowed in ((None, [1, 1, 1, 1, 1]), ("observation", [1, 0, 1, 1, 1])):
        keywords = json.dumps({"mask": mask})
        args = replace(QUICK, env_id="tests/PpoSuppressed-v0", env_keywords=keywords)
        result = train(replace(args, total_timesteps=512))

        def policy(prefixes, agent=result.agent, allowed=allowed):
            rows = torch.tensor([allowed]).bool().expand(len(prefixes), -1)
            with torch.no_grad():
                return agent(torch.from_numpy(prefixes.tokens), rows)[0].probs.double().numpy()

        assert result.value == pytest.approx(exact.value(made, policy), abs=1e-6)


@pytest.mark.parametrize("blocklist", [(), ("a",)])
def test_observations_that_the_environment_overwrites_are_kept(blocklist):
    args = replace(QUICK, env_id="tests/PpoRagged-v0", blocklist=blocklist, total_timesteps=1024)
    fresh, reused = (
        train(replace(args, env_keywords=json.dumps({"copy": copy}))) for copy in (True, False)
    )
    assert reused.history == fresh.history


def test_a_text_that_is_cut_off_is_worth_its_value(monkeypatch):
    """With T = 4 and 2 steps allowed, the second step is cut off unless the text ended there."""
    from textenv_agents import single_file_ppo

    caught = {}

    def spy(rewards, values, following, ended, gamma, lam):
        caught.update(following=following.clone(), ended=ended)
        return gae(rewards, values, following, ended, gamma, lam)

    monkeypatch.setattr(single_file_ppo, "gae", spy)
    keywords = json.dumps({"max_episode_steps": 2})
    args = replace(QUICK, env_id="tests/PpoRagged-v0", env_keywords=keywords, total_timesteps=512)
    train(args)
    ended = caught["ended"]
    assert (caught["following"][~ended] != 0).all()
    # A text that ends is worth nothing more, one that is cut off V.
    assert (caught["following"][ended] != 0).any()
    assert (caught["following"][ended] == 0).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_envs": 0}, "num_envs ≥ 1, got 0"),
        ({"num_envs": 3, "num_steps": 5}, "3 × 5 tokens do not make 4 equal parts"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"gamma": 1.5}, r"0 ≤ gamma ≤ 1, got 1\.5"),
        ({"total_timesteps": 100}, "= 512 tokens.*got 100"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(QUICK, **changes)


def test_what_it_cannot_read():
    for keywords in ({"observation": "hidden"}, {"action": "candidates:2"}):
        with pytest.raises(ValueError, match='needs observation="tokens"'):
            train(replace(QUICK, env_keywords=json.dumps(keywords)))
    with pytest.raises(ValueError, match="env_keywords"):
        train(replace(QUICK, env_keywords="[1]"))
    for name, value in (("scoring", "deferred"), ("autoreset_mode", "NEXT_STEP")):
        with pytest.raises(ValueError, match=f"'{name}' is no keyword for env_keywords"):
            train(replace(QUICK, env_keywords=json.dumps({name: value})))
    with pytest.raises(gym.error.NameNotFound, match="ILoveYou"):
        train(replace(QUICK, env_id="textenv/ILoveYo-v0"))


def test_the_command(capsys):
    words = ["--env-id", "textenv/GoodBad-v0", "--total-timesteps", "1024", "--num-envs", "8"]
    main([*words, "--print-every", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5  # 1024 / (8 · 32) updates, and the end
    assert re.fullmatch(r"exact J -?0\.0\d+ → 0\.\d+, of the likeliest tokens 1\.0000", lines[-1])
    with pytest.raises(SystemExit, match=r"^error: expected env_keywords such as .*, got \{$"):
        main(["--env-keywords", "{"])
