"""`textenv demo`: the toys with every number in them, then a real language model.

Nothing is computed for show: the exact numbers come from `textenv.exact`, the estimates from the
agent, and the film reviews from the environment that `gym.make_vec` gives to everybody.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch

from textenv import exact, mdp
from textenv.files import free_folder
from textenv.models import Prefixes, TabularLM
from textenv_agents import losses
from textenv_agents.config import PolicyGradientConfig
from textenv_agents.evaluation import Evaluation
from textenv_agents.policy_gradient import PolicyGradient
from textenv_agents.rollout import Episodes
from textenv_agents.train import TrainConfig, comparison, train


@dataclass(frozen=True, kw_only=True)
class LastPart:
    """How the demonstration trains one language model."""

    title: str
    """What is printed above it."""
    agent: PolicyGradientConfig
    """The agent's settings."""
    tokens: int
    """How many tokens the model writes while it learns."""
    texts: int
    """How many fresh texts measure it before and after."""
    lm: str | None = None
    """The model's name; None: the environment's own."""


# How it was found: benchmarks/EXPERIMENTS.md.
REVIEWS = PolicyGradientConfig(
    baseline="value", kl_coefficient=0.02, learning_rate=7e-4, schedule="linear"
)
# Low-rank: no second copy of 135 million weights for the reference, no two more in Adam.
SMOLLM2 = PolicyGradientConfig(
    episodes=32,
    group=8,
    lora_rank=8,
    learning_rate=2e-3,
    kl_coefficient=0.02,
    schedule="linear",
)
LAST_PARTS = {
    "reviews": LastPart(
        title="a small language model continues the openings of film reviews",
        agent=REVIEWS,
        tokens=230_000,
        texts=1000,
    ),
    "smollm2": LastPart(
        title=(
            "SmolLM2, 135 million weights, continues the openings of film reviews; low-rank "
            "matrices beside the weights are trained"
        ),
        agent=SMOLLM2,
        tokens=19_000,  # 21 updates or more: a text has 24 tokens at most
        texts=64,
        lm="smollm2",
    ),
}


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The demonstration."""

    lm: Literal["reviews", "smollm2"] = "reviews"
    """Which language model learns to write film reviews."""
    tokens: int | None = None
    """How many tokens it writes while it learns; None: what suits the model."""
    seed: int = 0
    """The same seed prints the same numbers."""
    folder: Path = Path("runs/demo")
    """Where the run's files go; a folder from an earlier demo gets a number behind it."""
    progress_bar: bool = True
    """Show how far the training is."""


def demo(config: DemoConfig) -> None:
    """Print the toys' numbers, then train the film reviewer and print what changed."""
    good_bad(config.seed)
    i_love_you(config.seed)
    reviews(config)


def good_bad(seed: int) -> None:
    """S1 as a table: exact, estimated, after one exact step, after training."""
    env: Any = gym.make("textenv/GoodBad-v0").unwrapped
    env.reset()
    task = env.task
    policy: TabularLM = copy.deepcopy(env.lm)
    print('\n1. GoodBad: write one word; "good" pays +1, "bad" −1\n')
    print(f"{'':42}{'p(good)':>9}{'J':>18}   ∇J in the two logits")
    _good_bad_lines("at the start", task, policy, seed)
    with torch.no_grad():
        policy.logits.add_(1.0 * torch.as_tensor(exact.gradient(task, policy)))
    _good_bad_lines("after one exact step of size 1", task, policy, seed)
    trained = PolicyGradient(
        None, "textenv/GoodBad-v0", optimizer="sgd", learning_rate=1.0, seed=seed
    ).learn(20_000)
    _good_bad_lines("after 20,000 sampled words", task, trained.policy, seed)
    optimum, value = exact.kl_optimum(task, env.lm, beta=1.0)
    good = optimum(Prefixes.of(task.rules, env.state))[0, 0]
    print(
        f"{'the best for reward − 1·KL':42}{good:9.4f}{exact.value(task, optimum):+18.4f}"
        f"   worth log cosh 1 = {value:.4f}"
    )
    print(
        "\n(The first gradient is estimated without error: where p = ½, either word alone says "
        "(+½, −½).)"
    )


def i_love_you(seed: int) -> None:
    """S2: J before and after, and the likeliest texts."""
    env: Any = gym.make("textenv/ILoveYou-v0").unwrapped
    task = env.task
    print("\n2. ILoveYou: 1 for exactly 我爱你。, else 0\n")
    agent = PolicyGradient(None, "textenv/ILoveYou-v0", learning_rate=0.1, seed=seed)
    for title, tokens in [("before", 0), ("after 40,000 tokens", 40_000)]:
        agent.learn(tokens)
        texts = exact.enumerate_texts(task, agent.policy)
        likeliest = np.argsort(-texts.probabilities)[:3]
        decoded = [
            f"{task.vocabulary.decode(mdp.text_ids(task.rules, texts.state.tokens[i]))} "
            f"{texts.probabilities[i]:.3f}"
            for i in likeliest
        ]
        value = exact.value(task, agent.policy)
        print(f"{title:22} J = {value:.4f}   likeliest: {'   '.join(decoded)}")


def reviews(config: DemoConfig) -> None:
    """A pretrained language model learns to write positive film reviews."""
    part = LAST_PARTS[config.lm]
    print(f"\n3. Sentiment: {part.title}\n")
    run = train(
        TrainConfig(
            env="textenv/Sentiment-v0",
            lm=part.lm,
            tokens=part.tokens if config.tokens is None else config.tokens,
            folder=free_folder(config.folder),
            texts=part.texts,
            agent=replace(part.agent, seed=config.seed),
        ),
        progress_bar=config.progress_bar,
        before_training=lambda before: _show("It writes", before),
    )
    _show("Now it writes", run.after)
    print(comparison(run.before, run.after))
    print(
        f"\n{len(run.after.texts):,} fresh texts each, 95 % intervals; KL and perplexity are those "
        f"under the starting model.\nThe learning curve is {run.folder / 'curve.png'}; samples and "
        "the checkpoint are beside it."
    )


def _show(title: str, evaluation: Evaluation) -> None:
    """Three texts with their rewards; the same prompts each time."""
    print(f"{title}:")
    for prompt, text, reward in evaluation.texts[:3]:
        print(f"  {reward:+.2f}  {prompt} | {text}".replace("\n", "⏎"))
    print(flush=True)


def _good_bad_lines(title: str, task: Any, policy: Any, seed: int) -> None:
    """The exact numbers, and under them what 1,000 sampled words say."""
    good = float(torch.softmax(policy.logits.detach(), dim=1)[0, 0])
    gradient = exact.gradient(task, policy)[0]
    numbers = "  ".join(f"{number:+.4f}          " for number in gradient)
    print(
        f"{title + ', exact':42}{good:9.4f}{exact.value(task, policy):+18.4f}   {numbers}".rstrip()
    )

    envs = gym.make_vec("textenv/GoodBad-v0", num_envs=1000)
    agent = PolicyGradient(policy, envs, group=1, baseline="none", seed=seed)
    episodes = agent.collect()
    reward = _plus_minus(episodes.rewards[:, 0])
    terms = _gradient_terms(agent, episodes)
    numbers = "  ".join(_plus_minus(terms[:, word]) for word in range(2))
    print(f"{'  estimated from 1,000 words':42}{'':9}{reward:>18}   {numbers}")


def _gradient_terms(agent: PolicyGradient, episodes: Episodes) -> npt.NDArray[np.float64]:
    """The estimate of ∇J that each text makes by itself, [N, V]."""
    batch = agent.prepare(episodes)
    log_probs = agent.policy.score(episodes.prefixes).log_probs
    logits: Any = agent.policy.logits
    terms = []
    for row in range(len(log_probs)):
        one = slice(row, row + 1)
        loss = losses.policy_gradient_loss(
            log_probs[one], batch.advantages[one], batch.written[one]
        )
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        terms.append(-gradient[0].numpy())
    return np.array(terms)


def _plus_minus(values: npt.NDArray[np.float64]) -> str:
    """The mean with its 95 % half-width."""
    return f"{values.mean():+.4f} ± {1.96 * values.std() / math.sqrt(len(values)):.4f}"
