"""TorchRL's PPO on a registered environment: specs, collector, loss and estimator are its own."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import EnvBase, GymWrapper
from torchrl.modules import ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from benchmarks.libraries_training import Training, greedy, sampled, task_of

EPOCHS, HIDDEN, LEARNING_RATE = 4, 64, 3e-3


class Reader(nn.Module):
    """Tokens [..., L] in 0 … V → numbers [..., outputs]: embeddings side by side, then an MLP."""

    def __init__(self, ids: int, length: int, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(ids, 16)
        self.layers = nn.Sequential(
            nn.Linear(16 * length, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, outputs)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.layers(self.embedding(tokens).flatten(-2))


def make(environment_id: str, num_envs: int, mode: str = "DISABLED", **keywords: object) -> EnvBase:
    """Make a vector environment for TorchRL; it prefers to reset rows itself: DISABLED."""
    envs = gym.make_vec(environment_id, num_envs=num_envs, autoreset_mode=mode, **keywords)
    return GymWrapper(envs, categorical_action_encoding=True)


def ppo(
    environment_id: str,
    seed: int,
    *,
    steps: int = 8_192,
    num_envs: int = 16,
    batch: int = 256,
    mode: str = "DISABLED",
    **keywords: object,
) -> Training:
    """Train by `ClipPPOLoss` on batches of a `Collector`, advantages by `GAE`."""
    torch.manual_seed(seed)
    task = task_of(environment_id)
    env = make(environment_id, num_envs, mode, **keywords)
    env.set_seed(seed)
    length, ids = env.observation_spec["observation"].shape[-1], task.vocabulary.size + 1
    network = Reader(ids, length, task.vocabulary.size)
    actor = ProbabilisticActor(
        TensorDictModule(network, in_keys=["observation"], out_keys=["logits"]),
        in_keys=["logits"],
        spec=env.action_spec,
        distribution_class=torch.distributions.Categorical,
        return_log_prob=True,
    )
    critic = ValueOperator(Reader(ids, length, 1), in_keys=["observation"])
    advantages = GAE(gamma=1.0, lmbda=0.95, value_network=critic, average_gae=True)
    loss = ClipPPOLoss(actor, critic, entropy_coeff=0.02)
    optimizer = torch.optim.Adam(loss.parameters(), LEARNING_RATE)

    def scores(tokens: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(tokens)).numpy()

    before = sampled(task, scores)
    collector = Collector(
        env,
        actor,
        frames_per_batch=batch,
        total_frames=steps,
        auto_register_policy_transforms=True,  # as its version 0.15 will do unasked
    )
    collected = 0
    for data in collector:
        collected += data.numel()
        for _ in range(EPOCHS):
            advantages(data)
            terms = loss(data.reshape(-1))
            optimizer.zero_grad()
            (terms["loss_objective"] + terms["loss_critic"] + terms["loss_entropy"]).backward()
            optimizer.step()
    collector.shutdown()
    return Training(
        before=before,
        after=sampled(task, scores),
        greedy=greedy(task, scores),
        steps=collected,
    )
