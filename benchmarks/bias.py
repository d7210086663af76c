"""The exact expectation of each gradient estimator on small tasks, and so its exact bias.

Every K-tuple of texts is weighted by its exact probability; what the agent would have computed for
it goes through the agent's own code (`prepare`, `losses`). Run: `python -m benchmarks bias`.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch

from textenv import Task, TextVectorEnv, exact
from textenv.models import Prefixes, TabularLM
from textenv.rewards import word_preference
from textenv.vocabulary import WordVocabulary
from textenv_agents import PolicyGradient
from textenv_agents.losses import policy_gradient_loss
from textenv_agents.rollout import Episodes

ESTIMATORS: dict[str, dict[str, Any]] = {
    "total return": {"returns": "total", "baseline": "none", "group": 1},
    "reward-to-go": {"baseline": "none", "group": 1},
    "running mean of past updates": {"baseline": "running_mean", "group": 1},
    "value baseline": {"baseline": "value", "group": 1},
    "leave-one-out, K = 2": {"baseline": "leave_one_out", "group": 2},
    "leave-one-out, K = 3": {"baseline": "leave_one_out", "group": 3},
    "normalised by the group, K = 2": {"returns": "total", "normalise": True, "group": 2},
    "normalised by the group, K = 3": {"returns": "total", "normalise": True, "group": 3},
    "averaged over tokens, K = 2": {"reduction": "tokens", "group": 2},
}
BIASED = ("normalised", "averaged")


def expected_gradient(
    task: Task, policy: TabularLM, settings: dict[str, Any]
) -> npt.NDArray[np.float64]:
    """E[estimate of ∇J] over all K-tuples of texts, [contexts, V]."""
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

    prefixes = Prefixes.of(task.rules, texts.state)
    score = policy.score(prefixes, hidden=True)
    episodes = Episodes(
        prefixes.rows(rows),
        texts.rewards[rows],
        score.log_probs.detach().numpy()[rows],
        np.zeros(len(rows), dtype=np.bool_),
    )
    values = agent.value_head(score.hidden)[..., 0].detach()[rows]
    batch = agent.prepare(episodes, values=values)
    log_probs = score.log_probs[torch.as_tensor(rows)]
    if agent.config.reduction == "tokens":
        # The number of tokens is that of one tuple: its loss is computed by itself.
        parts = zip(
            log_probs.split(group),
            batch.advantages.split(group),
            batch.written.split(group),
            strict=True,
        )
        each = torch.stack([policy_gradient_loss(*part, "tokens") for part in parts])
        loss = (each * torch.as_tensor(weights)).sum()
    else:
        weighted = (
            batch.advantages * torch.as_tensor(np.repeat(weights * len(tuples), group))[:, None]
        )
        loss = policy_gradient_loss(log_probs, weighted, batch.written)
    policy.zero_grad()
    loss.backward()
    assert policy.logits.grad is not None
    return -policy.logits.grad.numpy()


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
    print(f"{'max |E[estimate] − ∇J|':32}" + "".join(f"{name:>14}" for name in names))
    for estimator, settings in ESTIMATORS.items():
        cells = []
        for task, policy in tasks().values():
            bias = expected_gradient(task, policy, settings) - exact.gradient(task, policy)
            cells.append(f"{np.abs(bias).max():14.1e}")
        print(f"{estimator:32}" + "".join(cells))
    sizes = [np.abs(exact.gradient(*pair)).max() for pair in tasks().values()]
    print(f"{'max |∇J|':32}" + "".join(f"{size:14.3f}" for size in sizes))
