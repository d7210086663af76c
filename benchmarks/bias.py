"""The exact expectation of each gradient estimator on small tasks, and so its exact bias.

Twice: of ∇J, and of ∇(J − β·KL(π‖ρ)), whose parts an advantage may weigh differently.

Every K-tuple of texts is weighted by its exact probability; what the agent would have computed for
it goes through the agent's own code (`prepare`, `losses`). Run: `python -m benchmarks bias`.
"""

from __future__ import annotations

import copy
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
from textenv_agents.update import Reading

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

WITH_KL = [
    "reward-to-go",
    "leave-one-out, K = 2",
    "leave-one-out, K = 3",
    "biased: mean of all, K = 2",
    "biased: mean of all, K = 3",
    "biased: leave-one-out / σ, K = 2",
    "biased: GRPO, K = 3",
]
BETA = 0.5


def expected_gradient(
    task: Task,
    policy: TabularLM,
    settings: dict[str, Any],
    values: Callable[[Prefixes], Tensor] | None = None,
    reference: TabularLM | None = None,
) -> npt.NDArray[np.float64]:
    """E[estimate of ∇(J − β·KL)] over all K-tuples of texts, [contexts, V].

    Args:
        task: A small task.
        policy: Its policy.
        settings: The agent's.
        values: V(s_t) of each text, [N, T], for the learned baseline; None: whatever a value head
            with random weights says.
        reference: ρ, where the settings have a kl_coefficient.
    """
    group = settings["group"]
    agent = PolicyGradient(policy, TextVectorEnv(group, task), seed=0, **settings)
    agent.reference = agent.reference if reference is None else reference
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
    each = Episodes(
        prefixes,
        texts.rewards,
        policy.score(prefixes).log_probs.detach().numpy(),
        np.zeros(len(texts.rewards), dtype=np.bool_),
    )
    reading = _repeated(agent.read(each), rows)
    episodes = Episodes(
        prefixes.rows(rows), each.rewards[rows], each.log_probs[rows], each.faults[rows]
    )
    hidden = policy.score(prefixes, hidden=True).hidden
    v = agent.value_head(hidden)[..., 0] if values is None else values(prefixes)
    batch = agent.prepare(episodes, kl=reading.kl, values=v.detach()[rows])
    # What is linear in the terms takes the weights there; else each tuple goes by itself.
    if agent.config.reduction == "tokens":
        parts = np.split(np.arange(len(rows)), len(tuples))
        found = [agent.loss(batch.rows(part), _repeated(reading, part)) for part in parts]
        loss = (torch.stack(found) * torch.as_tensor(weights)).sum()
    else:
        share = torch.as_tensor(np.repeat(weights * len(tuples), group))[:, None]
        kl = None if reading.kl is None else reading.kl * share
        batch = batch._replace(advantages=batch.advantages * share)
        loss = agent.loss(batch, reading._replace(kl=kl))
    policy.zero_grad()
    loss.backward()
    assert policy.logits.grad is not None
    return -policy.logits.grad.numpy()


def _repeated(reading: Reading, rows: npt.NDArray[np.int64]) -> Reading:
    """What was read of some texts, each as often as it is named."""
    index = torch.as_tensor(rows)
    return Reading(reading.log_probs[index], kl=None if reading.kl is None else reading.kl[index])


def moved(policy: TabularLM) -> TabularLM:
    """The policy somewhere else: 0.8, −0.4, −1.6, … is added to each row, −∞ stays."""
    other = copy.deepcopy(policy)
    with torch.no_grad():
        other.logits.add_(0.8 - 1.2 * torch.arange(policy.vocabulary_size))
    return other


def exact_gradient(
    task: Task, policy: TabularLM, reference: TabularLM, beta: float
) -> npt.NDArray[np.float64]:
    """∇(J − β·KL(π‖ρ)), [contexts, V], by differentiating the sum over all texts."""
    texts = exact.enumerate_texts(task, policy)
    possible = np.flatnonzero(texts.probabilities > 0)
    prefixes = Prefixes.of(task.rules, texts.state).rows(possible)
    log_probs = policy.score(prefixes).log_probs.sum(dim=1)
    with torch.no_grad():
        ratio = log_probs - reference.score(prefixes).log_probs.sum(dim=1)
    worth = torch.as_tensor(texts.rewards[possible].sum(axis=1)) - beta * (ratio + 1)
    objective = (log_probs.exp() * worth).sum() / len(task.prompts)
    (gradient,) = torch.autograd.grad(objective, policy.logits)
    return gradient.numpy()


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
    """Print max |E[estimate] − ∇J| beside max |∇J|, for each estimator and task; then with KL."""
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

    found = {name: (task, moved(lm), lm) for name, (task, lm) in tasks().items()}
    truth = {name: exact_gradient(*parts, BETA) for name, parts in found.items()}
    print(f"\n{f'the same of J − {BETA}·KL(π‖ρ)':36}" + "".join(f"{name:>14}" for name in names))
    for estimator in WITH_KL:
        settings = ESTIMATORS[estimator] | {"kl_coefficient": BETA}
        cells = []
        for name, (task, policy, reference) in found.items():
            bias = expected_gradient(task, policy, settings, None, reference) - truth[name]
            cells.append(f"{np.abs(bias).max():14.1e}")
        print(f"{estimator:36}" + "".join(cells))
    sizes = [np.abs(gradient).max() for gradient in truth.values()]
    print(f"{'max |∇(J − β·KL)|':36}" + "".join(f"{size:14.3f}" for size in sizes))
