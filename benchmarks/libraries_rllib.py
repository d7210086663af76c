"""RLlib's PPO on its new API stack and our native vector environment; wants `make rllib`."""

from __future__ import annotations

import logging
from typing import Any

import ray  # type: ignore[import-not-found]
import torch

from benchmarks.libraries_training import Training, greedy, sampled, task_of
from textenv_agents.rllib import ppo_config


def ppo(environment_id: str, seed: int, *, updates: int = 20) -> Training:
    """Train by PPO with `TokenModule`, in this process alone."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    if not ray.is_initialized():
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    config = ppo_config(environment_id)
    config.training(train_batch_size_per_learner=512, minibatch_size=128, num_epochs=4)
    algorithm = config.debugging(seed=seed).build_algo()

    def scores(tokens: Any) -> Any:
        module = algorithm.get_module()
        return module.forward_inference({"obs": torch.from_numpy(tokens)})["action_dist_inputs"]

    task = task_of(environment_id)
    before = sampled(task, scores)
    for _ in range(updates):
        found = algorithm.train()["env_runners"]
    after, best = sampled(task, scores), greedy(task, scores)
    algorithm.stop()
    steps = int(found["num_env_steps_sampled_lifetime"])
    return Training(before=before, after=after, greedy=best, steps=steps)
