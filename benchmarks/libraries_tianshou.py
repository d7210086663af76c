"""Tianshou's PPO and DQN on a registered environment: collectors, networks and trainers its own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from tianshou.algorithm import DQN, PPO
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OffPolicyTrainerParams, OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic
from torch import nn

from benchmarks.libraries_training import Training, allowed_only, greedy, sampled, task_of
from textenv.wrappers import MaskKey

WIDTHS = (64, 64)


def make(environment_id: str, num_envs: int, seed: int, **keywords: Any) -> DummyVectorEnv:
    """Make environments for Tianshou, which reads a mask of actions as `mask` beside `obs`."""
    masked = keywords.get("mask") == "observation"

    def single() -> gym.Env:
        env = gym.make(environment_id, **keywords)
        return MaskKey(env) if masked else env

    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (where Tianshou draws exploration and batches from)
    envs = DummyVectorEnv([single] * num_envs)
    envs.seed(seed)
    return envs


def ppo(environment_id: str, seed: int, *, steps: int = 16_384, num_envs: int = 16) -> Training:
    """Train by PPO on raw ids, with Tianshou's own MLP."""
    task = task_of(environment_id)
    envs = make(environment_id, num_envs, seed)
    length, words = task.rules.prompt_length + task.rules.max_tokens, task.vocabulary.size
    actor = DiscreteActor(preprocess_net=_net(length), action_shape=words, softmax_output=False)
    critic = DiscreteCritic(preprocess_net=_net(length))
    policy = DiscreteActorPolicy(actor=actor, action_space=envs.action_space[0])
    algorithm = PPO(
        policy=policy,
        critic=critic,
        optim=AdamOptimizerFactory(lr=3e-3),
        ent_coef=0.02,
        gamma=1.0,
        max_grad_norm=0.5,
    )
    before = sampled(task, _scores(actor))
    outcome = algorithm.run_training(
        OnPolicyTrainerParams(
            training_collector=Collector(algorithm, envs, VectorReplayBuffer(512, num_envs)),
            max_epochs=1,
            epoch_num_steps=steps,
            collection_step_num_env_steps=256,
            batch_size=256,
            update_step_num_repetitions=4,
            verbose=False,
            show_progress=False,
        )
    )
    return Training(
        before=before,
        after=sampled(task, _scores(actor)),
        greedy=greedy(task, _scores(actor)),
        steps=outcome.train_step,
    )


def dqn(
    environment_id: str, seed: int, *, steps: int = 10_000, num_envs: int = 8, **keywords: Any
) -> Training:
    """Train by DQN on raw ids; with `mask="observation"` only what the mask allows is tried."""
    task = task_of(environment_id)
    envs = make(environment_id, num_envs, seed, **keywords)
    length = task.rules.prompt_length + task.rules.max_tokens
    network = _net(length, task.vocabulary.size)
    policy = DiscreteQLearningPolicy(model=network, action_space=envs.action_space[0])
    algorithm = DQN(
        policy=policy, optim=AdamOptimizerFactory(lr=2e-3), gamma=1.0, target_update_freq=100
    )
    collector = Collector(
        algorithm, envs, VectorReplayBuffer(steps, num_envs), exploration_noise=True
    )

    def explore_less(_epoch: int, step: int) -> None:
        policy.set_eps_training(max(0.2, 1.0 - step / (0.8 * steps)))

    scores = allowed_only(environment_id, keywords, _scores(network))
    before = greedy(task, scores)
    outcome = algorithm.run_training(
        OffPolicyTrainerParams(
            training_collector=collector,
            training_fn=explore_less,
            max_epochs=1,
            epoch_num_steps=steps,
            collection_step_num_env_steps=8 * num_envs,
            batch_size=128,
            update_step_num_gradient_steps_per_sample=0.125,
            verbose=False,
            show_progress=False,
        )
    )
    after = greedy(task, scores)
    return Training(before=before, after=after, greedy=after, steps=outcome.train_step)


def _net(length: int, outputs: int = 0) -> Net:
    return Net(state_shape=(length,), action_shape=outputs, hidden_sizes=WIDTHS)


def _scores(network: nn.Module) -> Any:
    return lambda tokens: network(tokens)[0].numpy()
