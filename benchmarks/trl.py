"""Training beside TRL's GRPOTrainer and RLOOTrainer: `python -m benchmarks trl`.

The same weights, prompts, reward, batch and learning rate, one process, as many threads. TRL is not
a dependency of the package: `pip install "textenv[bench]"`. The model is a GPT-2 of 4 layers × 128
that `textenv pretrain` makes of the film snippets in vaderSentiment's source distribution; it is
made when its folder is not there:

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    python -m benchmarks trl --archive vaderSentiment-3.3.2.tar.gz

The settings of both are in `trl_training`.
"""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro

from benchmarks.machine import describe
from benchmarks.trl_training import (
    Clock,
    Moment,
    TRLConfig,
    make_agent,
    make_model,
    prompts,
    start,
    train_theirs,
)
from textenv.metrics import Interval, bootstrap_interval, interquartile_mean
from textenv.models import CausalLM
from textenv_agents import evaluate

ID = "textenv/Sentiment-v0"


class Run(NamedTuple):
    """What a training run came to: the mean reward of fresh texts, and their KL to the start."""

    reward: float
    kl: float


def main() -> None:
    """Print the table of speeds, or with --quality that of rewards."""
    config = tyro.cli(TRLConfig, prog="python -m benchmarks trl")
    check_installed()
    torch.set_num_threads(config.threads)
    if not config.model.exists():
        make_model(config)
    print(f"{describe()}, trl {version('trl')}\n{config}\n", flush=True)
    if config.quality:
        compare_rewards(config)
    else:
        compare_speed(config)


def check_installed() -> None:
    """Say what to install."""
    if importlib.util.find_spec("trl") is None:
        raise SystemExit(
            'this benchmark needs TRL, which is not installed: pip install "textenv[bench]"'
        )


# Speed.


def compare_speed(config: TRLConfig) -> None:
    """Print tokens a second, for texts that end by themselves and for texts of full length."""
    print(f"{'tokens a second':34}{'of wall time':>26}{'of processor time':>34}")
    print(" " * 34 + 2 * f"{'TRL':>10}{'textenv':>10}{'ratio':>8}    ")
    for ends in (True, False):
        what = "texts that end" if ends else f"texts of {config.max_tokens}"
        for method in config.methods:
            theirs, ours = speed(config, method, ends)
            rates = [
                f"{slow:10,.0f}{fast:10,.0f}{fast / slow:8.2f}    "
                for slow, fast in zip(theirs.rate(), ours.rate(), strict=True)
            ]
            print(f"{method + ', ' + what:34}{''.join(rates)}", flush=True)


def speed(config: TRLConfig, method: str, ends: bool) -> tuple[Clock, Clock]:
    """TRL's clock and ours, of iterations that take turns; one of each goes before."""
    agent = make_agent(config, method, seed=0, ends=ends)
    theirs, ours = Clock(), Clock()

    def turn(iteration: int, began: Moment, tokens: int) -> bool:
        if iteration:
            began.end(theirs, tokens)
        began = Moment.begin()
        before = agent.tokens
        agent.update()
        if iteration:
            began.end(ours, agent.tokens - before)
        return iteration == config.iterations

    train_theirs(config, method, turn, seed=0, ends=ends)
    return theirs, ours


# Quality.


def compare_rewards(config: TRLConfig) -> None:
    """Print each seed's reward and KL of both, then their interquartile means."""
    for method in config.methods:
        runs: dict[str, list[Run]] = {"TRL": [], "textenv": []}
        print(f"{method}\n{'seed':>5}" + "".join(f"{name:>10} reward      KL" for name in runs))
        for seed in range(config.seeds):
            runs["TRL"].append(run_theirs(config, method, seed))
            runs["textenv"].append(run_ours(config, method, seed))
            both = "".join(f"{run[-1].reward:17.3f}{run[-1].kl:8.2f}" for run in runs.values())
            print(f"{seed:5}{both}", flush=True)
        for name, found in runs.items():
            reward, kl = summary(found)
            print(f"  {name:10} reward {reward}, KL {kl}")
        print(f"  {verdict(runs['TRL'], runs['textenv'])}\n", flush=True)


def summary(runs: list[Run]) -> tuple[Interval, Interval]:
    """The interquartile means of rewards and of KL, with 95 % bootstrap intervals over runs."""
    generator = np.random.default_rng(0)
    reward, kl = (
        bootstrap_interval(values, interquartile_mean, generator)
        for values in zip(*runs, strict=True)
    )
    return reward, kl


def verdict(theirs: list[Run], ours: list[Run]) -> str:
    """Whether the aim is reached: the reward not below TRL's lower bound, the KL no higher."""
    (their_reward, their_kl), (our_reward, our_kl) = summary(theirs), summary(ours)
    as_good, as_near = our_reward.mean >= their_reward.low, our_kl.mean <= their_kl.mean
    return (
        f"reward {our_reward.mean:.3f} {'≥' if as_good else '<'} {their_reward.low:.3f}, "
        f"KL {our_kl.mean:.2f} {'≤' if as_near else '>'} {their_kl.mean:.2f}: "
        f"{'reached' if as_good and as_near else 'missed'}"
    )


def run_ours(config: TRLConfig, method: str, seed: int) -> Run:
    """Train with the agent."""
    agent = make_agent(config, method, seed)
    agent.learn(config.tokens)
    return measured(config, agent.policy, seed)


def run_theirs(config: TRLConfig, method: str, seed: int) -> Run:
    """Train with TRL."""
    written = 0

    def turn(_: int, __: Moment, tokens: int) -> bool:
        nonlocal written
        written += tokens
        return written >= config.tokens

    model = train_theirs(config, method, turn, seed)
    return measured(config, CausalLM(model.eval(), start(config).vocabulary), seed)


def measured(config: TRLConfig, policy: Any, seed: int) -> Run:
    """Let a policy write fresh texts after the same prompts, the same for both."""
    found = evaluate(
        policy, ID, reference=start(config), texts=config.texts, seed=1000 + seed,
        vocabulary=policy.vocabulary, prompts=list(prompts(config.model)),
        max_tokens=config.max_tokens,
    )  # fmt: skip
    return Run(found.reward.mean, found.kl.mean)
