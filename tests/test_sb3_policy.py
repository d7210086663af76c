"""`LMPolicy`: what it writes, what it refuses, what comes back from a file."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from tests.small_tasks import ragged_task
from tests.tiny_models import VOCABULARY, V, causal, lstm, make
from textenv import TextVectorEnv
from textenv.models import Prefixes, TabularLM
from textenv.models.adapters import adapter_parameters
from textenv.rewards import word_preference
from textenv_agents.sb3 import LMPolicy, SB3VecEnv, SequenceRolloutBuffer
from textenv_agents.sb3.drawing import draw_tokens

CHANGES = {"vocabulary": VOCABULARY, "prompts": ["w1", "w2 w3"], "stop": ["w5"]}


def environment(rows=4, **keywords):
    task = ragged_task(5, **CHANGES, reward=word_preference({"w1": 1.0, "w4": -0.5}, pays="token"))
    return SB3VecEnv(TextVectorEnv(rows, task, autoreset_mode="SameStep", **keywords))


def trained(lm=None, env=None, kind=PPO, **policy):
    settings = {"n_steps": 8, "batch_size": 16} if kind is PPO else {"n_steps": 8}
    return kind(
        LMPolicy,
        environment() if env is None else env,
        rollout_buffer_class=SequenceRolloutBuffer,
        policy_kwargs=policy if lm is None else {"lm": lm, **policy},
        seed=0,
        device="cpu",
        **settings,
    )


@pytest.mark.parametrize("size", [5, 256, 700])
def test_tokens_are_drawn_by_their_probability(size):
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(size, generator=generator)
    row[1::3] = -torch.inf
    tokens, log_probs = draw_tokens(row.expand(50_000, -1), generator=generator)
    exact = row.softmax(0)
    found = tokens.bincount(minlength=size) / len(tokens)
    assert (found[1::3] == 0).all()
    deviation = (exact * (1 - exact) / len(tokens)).sqrt()
    assert ((found - exact).abs() <= 5 * deviation).all()
    torch.testing.assert_close(log_probs, row.log_softmax(0)[tokens], rtol=0, atol=2e-6)
    greedy, _ = draw_tokens(row.expand(3, -1), deterministic=True)
    assert greedy.tolist() == [int(row.argmax())] * 3


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_no_distribution_is_an_error(bad):
    with pytest.raises(ValueError, match=r"nothing can be drawn in row 1.*learning_rate"):
        draw_tokens(torch.tensor([[0.0, 1.0], [0.0, bad]]))
    with pytest.raises(ValueError, match="nothing but −∞"):
        draw_tokens(torch.full((1, 3), -torch.inf))


@pytest.mark.parametrize("kind", ["gpt2", "lstm", "tabular"])
def test_it_says_what_the_model_says(kind):
    lm = make(kind)
    policy = trained(lm).policy
    with torch.no_grad():
        policy.value_head.weight.normal_(generator=torch.Generator().manual_seed(1))
    env = environment(6)
    observation = env.reset()
    for _ in range(4):
        tokens, values, log_probs = policy(torch.as_tensor(observation))
        answer = lm.next(Prefixes.from_observations(observation, 2, V))
        expected = answer.logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
        torch.testing.assert_close(log_probs, expected.float(), rtol=0, atol=1e-6)
        hidden = answer.hidden.to(policy.value_head.weight.dtype)
        expected = policy.value_head(hidden).float()
        torch.testing.assert_close(values, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(policy.predict_values(torch.as_tensor(observation)), expected)
        greedy, _ = policy.predict(observation, deterministic=True)
        assert greedy.tolist() == answer.logits.argmax(-1).tolist()
        single, _ = policy.predict(observation[0], deterministic=True)
        assert single.shape == ()
        assert single == greedy[0]
        distribution = policy.get_distribution(torch.as_tensor(observation))
        torch.testing.assert_close(distribution.log_prob(tokens).float(), log_probs, atol=1e-6,
                                   rtol=0)  # fmt: skip
        observation = env.step(tokens.numpy())[0]


@pytest.mark.parametrize("kind", [PPO, A2C])
def test_learns_the_toys_and_twice_the_same(kind):
    runs = []
    for _ in range(2):
        env = VecMonitor(SB3VecEnv("textenv/ILoveYou-v0", 16))
        settings = {"n_steps": 16, "batch_size": 64} if kind is PPO else {"n_steps": 8}
        agent = kind(
            LMPolicy, env, rollout_buffer_class=SequenceRolloutBuffer, learning_rate=0.03, seed=1,
            device="cpu", **settings,
        )  # fmt: skip
        agent.learn(3_000)
        runs.append(agent.policy.lm.logits.detach())
    assert torch.equal(*runs)
    test = VecMonitor(SB3VecEnv("textenv/ILoveYou-v0", 4))
    assert evaluate_policy(agent, test, 8)[0] >= 0.9
    assert all(1 <= info["l"] <= 4 for info in agent.ep_info_buffer)


def test_only_the_adapter_and_the_head_are_trained():
    lm = causal("gpt2")
    before = {name: tensor.clone() for name, tensor in lm.state_dict().items()}
    agent = trained(lm, lora_rank=2)
    base = {name: tensor.clone() for name, tensor in agent.policy.lm.state_dict().items()}
    agent.learn(96)
    for name, tensor in agent.policy.lm.state_dict().items():
        assert torch.equal(tensor, base[name]) == ("lora_" not in name), name
    number = len(agent.policy.optimizer.param_groups[0]["params"])
    assert number == len(adapter_parameters(agent.policy.lm)) + 2
    assert all(torch.equal(lm.state_dict()[name], tensor) for name, tensor in before.items())


def test_the_value_may_leave_the_model_alone():
    def gradient(**settings):
        agent = trained(causal("gpt2"), **settings)
        with torch.no_grad():
            agent.policy.value_head.weight.fill_(1.0)
        observation = torch.as_tensor(agent.env.reset())
        values = agent.policy.evaluate_actions(observation, torch.zeros(4))[0]
        values.sum().backward()
        return [p.grad for p in agent.policy.lm.parameters()]

    assert all(grad is None for grad in gradient(value_gradient=False))
    assert any(grad is not None and grad.abs().max() > 0 for grad in gradient())


def test_dropout_is_off_while_it_learns():
    agent = trained(causal("gpt2"))  # whose configuration has a dropout of one half
    agent.policy.set_training_mode(True)
    observation, actions = torch.as_tensor(agent.env.reset()), torch.tensor([1, 2, 3, 4])
    first, second = (agent.policy.evaluate_actions(observation, actions)[1] for _ in range(2))
    assert torch.equal(first, second)


def test_entropy_can_be_left_out():
    agent = trained(lstm(), entropy=False)
    observation = torch.as_tensor(agent.env.reset())
    _, log_probs, entropy = agent.policy.evaluate_actions(observation, torch.zeros(4))
    assert torch.equal(entropy, -log_probs)  # which SB3 logs in its place
    agent.learn(32)
    agent.ent_coef = 0.01
    with pytest.raises(ValueError, match=r"ent_coef is not 0: set ent_coef=0\.0, or leave"):
        agent.learn(32)


@pytest.mark.parametrize("where", ["policy", "environment", "folder"])
def test_the_reference_is_never_another_model_than_it_was(where, tmp_path):
    """A model that was changed since would be charged for in silence."""
    lm, folder = lstm(), tmp_path / "lm"
    lm.save_pretrained(folder)
    agent = {
        "policy": lambda: trained(lm),
        "environment": lambda: trained(env=environment(lm=lm)),
        "folder": lambda: trained(str(folder)),
    }[where]()
    agent.save(tmp_path / "agent")
    assert PPO.load(tmp_path / "agent", device="cpu").policy.reference is not lm
    with torch.no_grad():
        lm.head.weight[0, 0] += 1.0
    lm.save_pretrained(folder)
    agent.save(tmp_path / "agent")
    for one in (agent, PPO.load(tmp_path / "agent", device="cpu")):
        with pytest.raises(ValueError, match=r"changed since: in memory, or in its folder"):
            one.policy.reference.next(Prefixes.from_observations(environment().reset(), 2, V))


# Files.


def same(one, other):
    ours, theirs = one.policy.state_dict(), other.policy.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("lora", [None, 2])
def test_an_agent_comes_back_and_goes_on(lora, tmp_path):
    lm = causal("gpt2")
    agent = trained(lm, lora_rank=lora)
    agent.learn(64)
    agent.save(tmp_path / "agent")
    again = PPO.load(tmp_path / "agent", env=environment(), device="cpu")
    assert same(agent, again)
    observation = environment().reset()
    greedy = [one.predict(observation, deterministic=True)[0] for one in (agent, again)]
    assert np.array_equal(*greedy)
    # The reference is what training started from, not what it had come to.
    prefixes = Prefixes.from_observations(observation, 2, V)
    for one in (agent, again):
        logits = one.policy.reference.next(prefixes).logits
        torch.testing.assert_close(logits, lm.next(prefixes).logits, rtol=0, atol=1e-12)
        assert not torch.equal(one.policy.lm.next(prefixes).logits, logits)
    again.learn(64)
    assert not same(agent, again)


def test_a_policy_alone_comes_back(tmp_path):
    agent = trained(lstm())
    agent.policy.save(tmp_path / "policy")
    again = LMPolicy.load(tmp_path / "policy", device="cpu")
    observation = environment().reset()
    a, b = (one.predict(observation, deterministic=True)[0] for one in (agent.policy, again))
    assert np.array_equal(a, b)


def test_a_named_model_and_the_environments_own(tmp_path):
    lstm().save_pretrained(tmp_path / "lm")
    named = trained(str(tmp_path / "lm"))
    own = trained(env=environment(lm=lstm()))
    for agent in (named, own):
        agent.learn(32)
        agent.save(tmp_path / "agent")
        assert same(agent, PPO.load(tmp_path / "agent", device="cpu"))


def test_another_vocabulary_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"another vocabulary \(5 tokens\) than .* \(13\)"):
        trained(TabularLM(5))
    other = lstm()
    other.vocabulary = ragged_task(2).vocabulary
    other.vocabulary_size = V
    with pytest.raises(ValueError, match="another vocabulary"):
        trained(other)
    agent = trained(lstm())
    agent.save(tmp_path / "agent")
    with pytest.raises(ValueError, match="another vocabulary"):
        PPO.load(tmp_path / "agent", custom_objects={"policy_kwargs": {"lm": TabularLM(5)}})
    words = type(VOCABULARY)([f"v{i}" for i in range(V - 1)], end="$")
    task = ragged_task(5, **CHANGES | {"vocabulary": words, "prompts": ["v1", "v2 v3"],
                                       "stop": ["v5"]}, reward="zero")  # fmt: skip
    env = SB3VecEnv(TextVectorEnv(4, task, autoreset_mode="SameStep"))
    with pytest.raises(ValueError, match=r"do not match: TextSpace.*'w0'.* != TextSpace.*'v0'"):
        PPO.load(tmp_path / "agent", env=env)


# What it refuses.


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"observation": "hidden", "lm": "own"}, 'observation="tokens"'),
        ({"action": "candidates:3", "lm": "own"}, 'action="all_tokens"; for "candidates:k"'),
        ({"action": "fragments:2"}, "one token at a time"),
        ({"mask": "observation"}, "leave mask="),
    ],
)
def test_other_spaces_are_refused(keywords, message):
    keywords = {**keywords, **({"lm": lstm()} if "lm" in keywords else {})}
    with pytest.raises(ValueError, match=message):
        PPO(LMPolicy, environment(**keywords), policy_kwargs={"lm": lstm()})


def test_what_else_is_missing_is_said():
    with pytest.raises(ValueError, match=r"no language model: give one, as in\s+policy_kwargs"):
        PPO(LMPolicy, environment())
    with pytest.raises(ValueError, match="SB3VecEnv"):
        PPO(LMPolicy, gym.make("textenv/ILoveYou-v0"))
    with pytest.raises(ValueError, match="leave use_sde out"):
        LMPolicy(spaces.Discrete(2), spaces.Discrete(2), lambda _: 0.1, True)
    with pytest.raises(ValueError, match=r"all weights .* frozen.*requires_grad_\(True\)"):
        trained(lstm().requires_grad_(False))
    with pytest.raises(ValueError, match="prompt_length=2, or to leave it out, got 3"):
        trained(lstm(), prompt_length=3)
    with pytest.raises(ValueError, match="give its lora_rank too"):
        trained(causal("gpt2"), lora_alpha=16)
    agent = trained(lstm())
    with pytest.raises(ValueError, match="got a dict: PPO and A2C"):
        agent.policy.predict_values({"tokens": 0})
    with pytest.raises(ValueError, match=r"integers, got float32: .* norm_obs=False"):
        trained(lstm(), env=VecNormalize(environment())).learn(8)
    policy = agent.policy
    with pytest.raises(ValueError, match=r"take 156\.0 GB.*candidates:32"):
        policy.get_distribution(np.broadcast_to(np.zeros((1, 7), dtype=np.int64), (10**9, 7)))


def test_single_environments_do_where_the_prompt_is_told():
    agent = PPO(
        LMPolicy, gym.make("textenv/ILoveYou-v0"), n_steps=16, batch_size=16, device="cpu",
        policy_kwargs={"prompt_length": 0, "lm": gym.make("textenv/ILoveYou-v0").unwrapped.lm},
        rollout_buffer_class=SequenceRolloutBuffer,
    )  # fmt: skip
    agent.learn(32)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (-1, r"=0 … 3, got -1"),
        (9, r"got 9"),
        (1.5, r"got 1\.5"),
        (2, "no prompt can end.*column 2"),
    ],
)
def test_a_wrong_prompt_length_is_refused(given, message):
    """With SB3's own buffer nothing else would see it."""
    env = gym.make("textenv/ILoveYou-v0")
    settings = {"prompt_length": given, "lm": env.unwrapped.lm}
    with pytest.raises(ValueError, match=message):
        PPO(LMPolicy, env, n_steps=16, batch_size=16, device="cpu", policy_kwargs=settings).learn(
            16
        )
