"""The exact expectation of each gradient estimator on small tasks, and so its exact bias.

Every K-tuple of texts is weighted by its exact probability; what the agent would have computed for
it goes through the agent's own code (`prepare`, `losses`). Run: `python -m benchmarks bias`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textenv import Task, TextVectorEnv, exact
from textenv.models import Prefixes, TabularLM
from textenv.rewards import word_preference
from textenv.vocabulary import WordVocabulary
from textenv_agents import PolicyGradient
from textenv_agents.rollout import Episodes
from textenv_agents.update import Batch, Reading

ESTIMATORS: dict[str, dict[str, Any]] = {
    "total return": {"returns": "total", "baseline": "none", "group": 1},
    "reward-to-go": {"baseline": "none", "group": 1},
    "running mean of past updates": {"baseline": "running_mean", "group": 1},
    "value baseline": {"baseline": "value", "group": 1},
    "leave-one-out, K = 2": {"baseline": "leave_one_out", "group": 2},
    "leave-one-out, K = 3": {"baseline": "leave_one_out", "group": 3},
    "PPO's first step, K = 2": {"loss": "ppo", "baseline": "leave_one_out", "group": 2},
    "GSPO's first step, K = 2": {"loss": "ppo", "ratio": "sequence", "group": 2},
    "biased: λ = 0.9, V wrong": {"baseline": "value", "gae_lambda": 0.9, "group": 1},
    "biased: mean of all, K = 2": {"baseline": "group_mean", "group": 2},
    "biased: mean of all, K = 3": {"baseline": "group_mean", "group": 3},
    "biased: leave-one-out / σ, K = 2": {"returns": "total", "normalise": True, "group": 2},
    "biased: leave-one-out / σ, K = 3": {"returns": "total", "normalise": True, "group": 3},
    "biased: GRPO, K = 3": {
        "returns": "total",
        "baseline": "group_mean",
        "normalise": True,
        "reduction": "episode_means",
        "group": 3,
    },
    "biased: averaged over tokens, K = 2": {"reduction": "tokens", "group": 2},
    "biased: mean of texts' means": {"reduction": "episode_means", "baseline": "none", "group": 1},
}


def expected_gradient(
    task: Task,
    policy: TabularLM,
    settings: dict[str, Any],
    values: Callable[[Prefixes], Tensor] | None = None,
) -> npt.NDArray[np.float64]:
    """E[estimate of ∇J] over all K-tuples of texts, [contexts, V].

    Args:
        task: A small task.
        policy: Its policy.
        settings: The agent's.
        values: V(s_t) of each text, [N, T], for the learned baseline; None: whatever a value head
            with random weights says.
    """
    group = settings["group"]
    agent = PolicyGradient(policy, TextVectorEnv(group, task), seed=0, **settings)
    agent.running_mean.update(0.7)  # any past
    with torch.no_grad():  # any learned value
        agent.value_head.weight.normal_(generator=torch.Generator().manual_seed(1))
    texts = exact.enumerate_texts(task, policy)
    possible = np.flatnonzero(texts.probabilities > 0)
    tuples = np.stack(np.meshgrid(*[possible] * group, indexing="ij"), axis=-1).reshape(-1, group)
    rows = tuples.reshape(-1)
    # For several prompts: only tuples of one prompt, which is drawn once.
    prompts = texts.state.prompt_index[tuples]
    weights = texts.probabilities[tuples].prod(axis=1) * (prompts == prompts[:, :1]).all(axis=1)
    weights *= float(len(task.prompts)) ** (group - 1)

    order = np.arange(len(rows))
    prefixes = Prefixes.of(task.rules, texts.state)
    score = policy.score(prefixes, hidden=True)
    episodes = Episodes(
        prefixes.rows(rows),
        texts.rewards[rows],
        score.log_probs.detach().numpy()[rows],
        np.zeros(len(rows), dtype=np.bool_),
    )
    v = agent.value_head(score.hidden)[..., 0] if values is None else values(prefixes)
    batch = agent.prepare(episodes, values=v.detach()[rows])
    # What is linear in the advantages takes the weights there; else each tuple goes by itself.
    if agent.config.reduction == "tokens":
        each = [_loss(agent, batch, score, rows, part) for part in np.split(order, len(tuples))]
        loss = (torch.stack(each) * torch.as_tensor(weights)).sum()
    else:
        share = torch.as_tensor(np.repeat(weights * len(tuples), group))[:, None]
        loss = _loss(agent, batch._replace(advantages=batch.advantages * share), score, rows, order)
    policy.zero_grad()
    loss.backward()
    assert policy.logits.grad is not None
    return -policy.logits.grad.numpy()


def _loss(agent: PolicyGradient, batch: Batch, score: Any, rows: Any, chosen: Any) -> Tensor:
    """The agent's loss of some of the tuples' texts."""
    log_probs = score.log_probs[torch.as_tensor(rows[chosen])]
    return agent.loss(batch.rows(chosen), Reading(log_probs))


def ragged_task() -> tuple[Task, TabularLM]:
    """A task whose texts have 1 to 3 tokens and are paid at each, and a random policy."""
    task = Task(
        name="ragged",
        vocabulary=WordVocabulary(["a", "b"], end="$"),
        prompts=["a", "b"],
        max_tokens=3,
        reward=word_preference({"a": 1.0, "b": -0.3}, pays="token"),
    )
    policy = TabularLM(3, order=1)
    with torch.no_grad():
        policy.logits.normal_(generator=torch.Generator().manual_seed(0))
    return task, policy


def tasks() -> dict[str, tuple[Task, TabularLM]]:
    """S1, S2 and the ragged task, with their policies."""
    found = {}
    for name in ("GoodBad", "ILoveYou"):
        env: Any = gym.make(f"textenv/{name}-v0").unwrapped
        found[name] = (env.task, env.lm)
    return found | {"ragged": ragged_task()}


def main() -> None:
    """Print max |E[estimate] − ∇J| beside max |∇J|, for each estimator and task."""
    names = list(tasks())
    print(f"{'max |E[estimate] − ∇J|':36}" + "".join(f"{name:>14}" for name in names))
    for estimator, settings in ESTIMATORS.items():
        cells = []
        for task, policy in tasks().values():
            bias = expected_gradient(task, policy, settings) - exact.gradient(task, policy)
            cells.append(f"{np.abs(bias).max():14.1e}")
        print(f"{estimator:36}" + "".join(cells))
    sizes = [np.abs(exact.gradient(*pair)).max() for pair in tasks().values()]
    print(f"{'max |∇J|':36}" + "".join(f"{size:14.3f}" for size in sizes))
