"""Our own two agents on the toys, beside the other libraries."""

from __future__ import annotations

from benchmarks.libraries_training import Training, task_of, worth
from textenv_agents import PolicyGradient, single_file_ppo


def single_file(environment_id: str, seed: int, *, steps: int = 16_384) -> Training:
    """Train by the PPO that is one file, at its own settings."""
    settings = single_file_ppo.Args(
        env_id=environment_id, seed=seed, total_timesteps=steps, print_every=0
    )
    found = single_file_ppo.train(settings)
    if found.before is None or found.value is None or found.greedy_value is None:
        raise ValueError(f"{environment_id} has too many texts for an exact J: take a smaller task")
    return Training(
        before=found.before,
        after=found.value,
        greedy=found.greedy_value,
        steps=int(found.history[-1]["timesteps"]),
    )


def policy_gradient(environment_id: str, seed: int, *, steps: int = 8_192) -> Training:
    """Train the environment's own policy by `PolicyGradient`, at its own estimator."""
    task = task_of(environment_id)
    agent = PolicyGradient(None, environment_id, learning_rate=0.05, seed=seed)
    before, _ = worth(task, agent.policy)
    agent.learn(steps)
    after, greedy = worth(task, agent.policy)
    return Training(before=before, after=after, greedy=greedy, steps=agent.tokens)
