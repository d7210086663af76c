"""`SequenceRolloutBuffer` beside SB3's own buffer on the same data, token by token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from benchmarks.sb3_naive import NaivePolicy
from tests.small_tasks import ragged_task
from tests.tiny_models import VOCABULARY, V, causal, library_model, make
from textenv import TextVectorEnv
from textenv.metrics import mean_interval
from textenv.rewards import word_preference
from textenv_agents.sb3 import LMPolicy, SB3VecEnv, SequenceRolloutBuffer

T, ROWS, STEPS = 6, 5, 9  # texts of 1 to 6 tokens: some end, and some go on from rollout to rollout
PAYS = {"w1": 1.0, "w2": -0.5, "w4": 0.3}


class Both(SequenceRolloutBuffer):
    """Ours, which fills SB3's own with the same steps."""

    def reset(self):
        super().reset()
        self.slow = RolloutBuffer(
            self.buffer_size, self.observation_space, self.action_space, "cpu",
            gae_lambda=self.gae_lambda, gamma=self.gamma, n_envs=self.n_envs,
        )  # fmt: skip

    def add(self, obs, action, *rest):
        super().add(obs, action, *rest)
        self.slow.add(obs, action, *rest)

    def compute_returns_and_advantage(self, last_values, dones):
        super().compute_returns_and_advantage(last_values, dones)
        if self.kl_coefficient:  # what is charged is tested by itself
            self.slow.rewards = self.rewards
        self.slow.compute_returns_and_advantage(last_values, dones)


def environment(rows=ROWS, prompts=("w1", "w2 w3"), **keywords):
    task = ragged_task(
        T, vocabulary=VOCABULARY, prompts=list(prompts), stop=["w5"],
        reward=word_preference(PAYS, pays="token"),
    )  # fmt: skip
    return SB3VecEnv(TextVectorEnv(rows, task, autoreset_mode="SameStep", **keywords))


def filled(kind="gpt2", env=None, rollouts=3, algorithm=PPO, kl=0.0, **policy):
    """An agent after some rollouts without an update, its value head no longer 0."""
    agent = algorithm(
        LMPolicy,
        environment() if env is None else env,
        n_steps=STEPS,
        gamma=0.9,
        gae_lambda=0.8,
        rollout_buffer_class=Both,
        rollout_buffer_kwargs={"kl_coefficient": kl},
        policy_kwargs={"lm": make(kind), **policy},
        seed=0,
        device="cpu",
        **({"batch_size": ROWS * STEPS} if algorithm is PPO else {}),
    )
    with torch.no_grad():
        agent.policy.value_head.weight.normal_(generator=torch.Generator().manual_seed(1))
    _, callback = agent._setup_learn(10_000)
    for _ in range(rollouts):
        agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, STEPS)
    return agent


def slow_data(buffer):
    """SB3's arrays, [S·E, …], in the order of our whole batch."""
    texts = buffer.texts()
    places = buffer._places(texts, np.arange(len(texts.env)))
    names = ("observations", "actions", "values", "log_probs", "advantages", "returns")
    return {name: torch.as_tensor(getattr(buffer.slow, name)[places]) for name in names}


def whole(buffer):
    """Our only minibatch, its texts in the order in which they are stored."""
    texts = buffer.texts()
    return buffer._samples(texts, np.arange(len(texts.env)))


def loss(policy, observations, actions, advantages, returns, old):
    """What PPO.train computes of a minibatch, with all its terms."""
    values, log_probs, entropy = policy.evaluate_actions(observations, actions.long().flatten())
    scaled = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    ratio = (log_probs - old).exp()
    policy_loss = -torch.min(scaled * ratio, scaled * ratio.clamp(0.8, 1.2)).mean()
    value_loss = torch.nn.functional.mse_loss(returns, values.flatten())
    return policy_loss - 0.1 * entropy.mean() + 0.5 * value_loss, values.flatten(), log_probs


@pytest.mark.parametrize("settings", [
    {}, {"kind": "lstm"}, {"kind": "tabular"}, {"kind": "mistral, window of 4"},
    {"rollouts": 1}, {"algorithm": A2C}, {"lora_rank": 2}, {"kl": 0.1},
    {"env": "truncated"}, {"env": "monitored"}, {"env": "blocked"}, {"env": "normalised"},
], ids=str)  # fmt: skip
def test_all_numbers_are_those_of_sb3s_own_buffer(settings):
    settings = dict(settings)
    name = settings.pop("env", None)
    env = {
        "truncated": lambda: environment(max_episode_steps=4),
        "monitored": lambda: VecMonitor(environment()),
        "blocked": lambda: environment(blocklist=["w1 w2", "w4"]),
        "normalised": lambda: VecNormalize(environment(), norm_obs=False),
        None: environment,
    }[name]()
    agent = filled(env=env, **settings)
    buffer, policy = agent.rollout_buffer, agent.policy
    fast, slow = whole(buffer), slow_data(buffer)
    assert len(fast.actions) == ROWS * STEPS
    assert torch.equal(fast.actions, slow["actions"].flatten())
    for ours, theirs in (
        (fast.old_values, slow["values"]), (fast.old_log_prob, slow["log_probs"]),
        (fast.advantages, slow["advantages"]), (fast.returns, slow["returns"]),
    ):  # fmt: skip
        assert torch.equal(ours, theirs)
    if name == "truncated":
        assert (buffer.rewards[buffer.texts().first[1:] - 1] != 0).any()
    sides = []
    for observations, data in ((fast.observations, fast), (slow["observations"], fast)):
        policy.zero_grad()
        total, values, log_probs = loss(
            policy, observations, data.actions, data.advantages, data.returns, data.old_log_prob
        )
        total.backward()
        grads = [p.grad for p in policy.parameters() if p.grad is not None]
        sides.append([values.detach(), log_probs.detach(), *grads])
    assert max(gradient.abs().max() for gradient in sides[0][2:]) > 1e-3
    torch.testing.assert_close(sides[0], sides[1], rtol=0, atol=2e-6)
    # The policy is the one that wrote: the ratio is 1.
    torch.testing.assert_close(sides[0][1], fast.old_log_prob, rtol=0, atol=2e-6)
    torch.testing.assert_close(sides[0][0], fast.old_values, rtol=0, atol=2e-6)


def test_the_same_as_a_policy_without_any_of_our_code():
    agent = filled(env=environment(prompts=[""], end=False))
    fast, slow = whole(agent.rollout_buffer), slow_data(agent.rollout_buffer)
    naive = NaivePolicy(
        agent.observation_space, agent.action_space, lambda _: 0.0,
        model=library_model("gpt2").eval(), start=0,
    )  # fmt: skip
    naive.value_head.load_state_dict(agent.policy.value_head.state_dict())
    sides = []
    for policy, observations in ((agent.policy, fast.observations), (naive, slow["observations"])):
        total, values, log_probs = loss(
            policy, observations, fast.actions, fast.advantages, fast.returns, fast.old_log_prob
        )
        total.backward()
        model = policy.lm.model if policy is agent.policy else policy.model
        grads = {name: parameter.grad for name, parameter in model.named_parameters()}
        sides.append({"values": values.detach(), "log_probs": log_probs.detach(), **grads})
    torch.testing.assert_close(sides[0], sides[1], rtol=0, atol=2e-6)


def test_texts_that_cross_a_rollout_keep_their_beginning_as_context():
    agent = filled(rollouts=2)
    buffer, start = agent.rollout_buffer, agent.policy.prompt_length
    texts = buffer.texts()
    context = (texts.tokens[:, start:] != V).sum(axis=1) - texts.length
    going_on = (texts.first == 0) & (buffer.episode_starts[0, texts.env] == 0)
    assert going_on.any()
    assert (context[going_on] > 0).any()
    assert (context[texts.first > 0] == 0).all()
    for row in range(len(texts.env)):
        steps = np.flatnonzero(texts.live[row])
        assert steps.tolist() == list(range(context[row], context[row] + texts.length[row]))
        first = buffer.slow.observations[texts.first[row], texts.env[row]].astype(int)
        assert np.array_equal(first[: start + context[row]],
                              texts.tokens[row, : start + context[row]])  # fmt: skip
    assert texts.live.sum() == ROWS * STEPS


@pytest.mark.parametrize("batch_size", [1, 4, 10, 45, 1_000, None])
def test_minibatches_hold_each_token_once(batch_size):
    buffer = filled("tabular").rollout_buffer
    every = np.sort(buffer.log_probs.flatten())
    orders = []
    for _ in range(2):
        batches = list(buffer.get(batch_size))
        assert all(batch.observations["live"].sum() == len(batch.actions) for batch in batches)
        found = np.concatenate([batch.old_log_prob.numpy() for batch in batches])
        assert np.array_equal(np.sort(found), every)
        orders.append(found)
        if batch_size is not None and batch_size >= T:
            assert len(batches) == max(round(45 / batch_size), 1)
            assert all(abs(len(b.actions) - 45 / len(batches)) <= T for b in batches)
    assert not np.array_equal(*orders)


@pytest.mark.parametrize("lora", [None, 2])
def test_the_divergence_is_charged_before_advantages(lora):
    agent = filled(kl=0.3, lora_rank=lora, rollouts=1)
    assert agent.rollout_buffer.kl == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        for parameter in agent.policy.optimizer.param_groups[0]["params"]:
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
            parameter.add_(0.1 * noise)
    _, callback = agent._setup_learn(10_000, reset_num_timesteps=False)
    paid = []
    step = agent.env.step

    def noted(actions):
        result = step(actions)
        paid.append(result[1].copy())
        return result

    agent.env.step = noted
    agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, STEPS)
    buffer, reference = agent.rollout_buffer, causal("gpt2")
    expected = np.zeros((STEPS, ROWS))
    for place in np.ndindex(STEPS, ROWS):  # prefix by prefix, in a model of its own
        observation = torch.as_tensor(buffer.slow.observations[place][None].astype(int))
        prefixes = agent.policy.prefixes(observation)
        own, its = (m.next(prefixes).logits.log_softmax(-1) for m in (agent.policy.lm, reference))
        token = int(buffer.actions[place])
        expected[place] = float(own[0, token] - its[0, token])
    assert np.abs(expected).max() > 0.1
    assert np.allclose(np.stack(paid) - 0.3 * expected, buffer.rewards, rtol=0, atol=1e-5)
    assert buffer.kl == pytest.approx(expected.mean(), abs=1e-5)


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_training_runs_unmodified_and_begins_with_ratio_one(algorithm):
    agent = filled("gpt2", algorithm=algorithm, rollouts=1)
    before = [p.detach().clone() for p in agent.policy.parameters()]
    agent._update_current_progress_remaining(0, 1)
    if algorithm is PPO:
        agent.n_epochs = 1  # one minibatch: all of it before the first step
    agent.train()
    if algorithm is PPO:
        assert agent.logger.name_to_value["train/approx_kl"] == pytest.approx(0, abs=1e-9)
        assert agent.logger.name_to_value["train/clip_fraction"] == 0
    assert any(not torch.equal(a, b) for a, b in zip(before, agent.policy.parameters()))


def test_a_blocklist_is_kept():
    agent = filled(env=environment(blocklist=["w1 w2", "w4", "w7"]), rollouts=4)
    texts = agent.rollout_buffer.texts()
    written = texts.tokens[:, agent.policy.prompt_length :]
    assert not np.isin(written, [4, 7]).any()
    assert (written == 1).any()
    assert not ((written[:, :-1] == 1) & (written[:, 1:] == 2)).any()


def test_another_policy_and_other_observations_are_refused():
    env = environment()
    agent = PPO("MlpPolicy", env, n_steps=4, batch_size=20, device="cpu",
                rollout_buffer_class=SequenceRolloutBuffer)  # fmt: skip
    with pytest.raises(ValueError, match="another policy wrote: use"):
        agent.learn(20)
    with pytest.raises(ValueError, match='observation="tokens"'):
        PPO(LMPolicy, environment(observation="hidden", lm=make("lstm")),
            rollout_buffer_class=SequenceRolloutBuffer)  # fmt: skip
    with pytest.raises(ValueError, match=r"kl_coefficient ≥ 0, got -1"):
        SequenceRolloutBuffer(4, env.observation_space, env.action_space, kl_coefficient=-1)
    with pytest.raises(ValueError, match="0 of 4 steps"):
        next(SequenceRolloutBuffer(4, env.observation_space, env.action_space).get())


def test_observations_that_do_not_follow_are_refused():
    agent = filled("tabular", rollouts=1)
    buffer, env = agent.rollout_buffer, environment()
    buffer.reset()
    observation = env.reset()
    with torch.no_grad():
        tokens, values, log_probs = agent.policy(torch.as_tensor(observation))
    starts = np.ones(ROWS, dtype=bool)
    buffer.add(observation, tokens.numpy(), np.zeros(ROWS), starts, values, log_probs)
    with pytest.raises(ValueError, match=r"row 0 wrote the token .* leave out wrappers"):
        buffer.add(observation, tokens.numpy(), np.zeros(ROWS), ~starts, values, log_probs)


def test_an_interrupted_run_goes_on_with_new_texts():
    """SB3 forgets what was written in the step that a callback ended, and would go on without."""
    env = environment(prompts=[""], end=False)
    agent = filled("tabular", env=env, rollouts=1)
    agent.learn(10_000, callback=lambda variables, _: agent.num_timesteps < 3 * ROWS)
    assert agent.num_timesteps == 3 * ROWS
    with pytest.raises(ValueError, match=r"begin new texts: agent\.set_env\(agent\.get_env\(\)\)"):
        agent.learn(STEPS * ROWS, reset_num_timesteps=False)
    agent.set_env(agent.get_env())
    agent.learn(STEPS * ROWS, reset_num_timesteps=False)
    texts = agent.rollout_buffer.texts()
    assert texts.live[texts.first == 0, 0].all()


@pytest.mark.slow
def test_both_ways_learn_alike():
    """J after 30 updates of a toy, over seeds: each way's mean lies in the other's interval."""
    found = {}
    for name, kind in (("fast", SequenceRolloutBuffer), ("slow", None)):
        found[name] = []
        for seed in range(8):
            env = VecMonitor(SB3VecEnv("textenv/ILoveYou-v0", 8))
            agent = PPO(LMPolicy, env, n_steps=12, batch_size=32, n_epochs=4, learning_rate=0.01,
                        rollout_buffer_class=kind, seed=seed, device="cpu")  # fmt: skip
            agent.learn(30 * 96)
            found[name].append(np.mean([info["r"] for info in agent.ep_info_buffer]))
    fast, slow = (mean_interval(np.array(found[name])) for name in ("fast", "slow"))
    assert fast.low <= slow.mean <= fast.high
    assert slow.low <= fast.mean <= slow.high
