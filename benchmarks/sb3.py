"""Stable-Baselines3 at the speed of a sequence model: `python -m benchmarks sb3`.

`LMPolicy` with `SequenceRolloutBuffer`, beside what a user writes without them (`sb3_naive`): the
same numbers to rounding, in less time; and the same learning curve as SB3's own buffer and as
`textenv_agents.PolicyGradient` with the same settings. Times are CPU-seconds of one thread.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import torch
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks.sb3_naive import NaivePolicy, PartBuffer
from textenv import Task, TextVectorEnv
from textenv.metrics import mean_interval
from textenv.models import LSTMLM, CausalLM
from textenv.rewards import word_preference
from textenv.vocabulary import WordVocabulary
from textenv_agents import PolicyGradient
from textenv_agents.sb3 import LMPolicy, SB3VecEnv, SequenceRolloutBuffer

ROWS, BATCH, EPOCHS = 32, 256, 4
TIMED = 3  # minibatches of the naive way that are timed: its cost is the same in all of them
LOOKS = (1, 5, 10, 20, 30, 40)  # updates at which curves are shown


@dataclass(frozen=True, kw_only=True)
class SB3Benchmark:
    """The benchmark."""

    sizes: tuple[tuple[int, int], ...] = ((512, 128), (49_152, 32))
    """Vocabulary and length of the texts that are timed."""
    repeats: int = 3
    """How often each is timed, in turns; the medians are shown."""
    seeds: int = 10
    """Runs of each learning curve."""


def task(size: int, length: int) -> Task:
    """Texts of exactly `length` words out of `size`; the reward costs next to nothing."""
    words = WordVocabulary([f"w{number}" for number in range(size)])
    words.start_token = 0
    reward = word_preference({"w1": 1.0, "w2": -1.0}, pays="token")
    return Task(name="timed", vocabulary=words, max_tokens=length, reward=reward)


def gpt2(size: int, length: int, dtype: torch.dtype = torch.float32) -> Any:
    """GPT-2 of 2 layers of width 128, with the same random weights each time."""
    import transformers

    settings = transformers.GPT2Config(
        vocab_size=size, n_positions=length + 1, n_embd=128, n_layer=2, n_head=4,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.GPT2LMHeadModel(settings).to(dtype).eval()


def agents(size: int, length: int, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """An agent of each way, that has collected nothing yet."""
    made, texts = {}, task(size, length)
    ways: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "naive": (NaivePolicy, PartBuffer, {"model": gpt2(size, length, dtype), "start": 0}),
        "sequences": (
            LMPolicy,
            SequenceRolloutBuffer,
            {"lm": CausalLM(gpt2(size, length, dtype), texts.vocabulary)},
        ),
    }
    for way, (policy, buffer, settings) in ways.items():
        env = SB3VecEnv(TextVectorEnv(ROWS, texts, autoreset_mode="SameStep"))
        made[way] = PPO(
            policy, env, n_steps=length, batch_size=BATCH, n_epochs=EPOCHS, seed=0, device="cpu",
            rollout_buffer_class=buffer, policy_kwargs=settings,
        )  # fmt: skip
        made[way].benchmark_callback = made[way]._setup_learn(10**9)[1]
        made[way]._update_current_progress_remaining(0, 1)
    return made


def rollout(agent: Any) -> None:
    """Collect one rollout."""
    agent.collect_rollouts(agent.env, agent.benchmark_callback, agent.rollout_buffer, agent.n_steps)


def seconds(work: Callable[[], Any]) -> float:
    """CPU-seconds that something takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def speeds(size: int, length: int, repeats: int) -> dict[str, dict[str, float]]:
    """Tokens a CPU-second of each way, in rollouts and in an update's epoch."""
    made = agents(size, length)
    tokens = ROWS * length
    found: dict[str, dict[str, list[float]]] = {way: {"rollout": [], "update": []} for way in made}
    for _ in range(repeats):
        for way, agent in made.items():
            found[way]["rollout"].append(tokens / seconds(lambda agent=agent: rollout(agent)))
            learned = EPOCHS * tokens
            if way == "naive":
                agent.n_epochs, agent.rollout_buffer.minibatches = 1, TIMED
                learned = TIMED * BATCH
            found[way]["update"].append(learned / seconds(agent.train))
    return {
        way: {part: float(np.median(times)) for part, times in parts.items()}
        for way, parts in found.items()
    }


def differences() -> dict[str, float]:
    """How far the two ways are apart on the same rollout, in float64: the most of each number."""
    made = agents(64, 24, torch.float64)
    fast, naive = made["sequences"], made["naive"]
    with torch.no_grad():
        fast.policy.value_head.weight.normal_(generator=torch.Generator().manual_seed(1))
    naive.policy.value_head.load_state_dict(fast.policy.value_head.state_dict())
    for agent in made.values():
        agent.rollout_buffer.buffer_size = agent.n_steps = 20  # texts of 24 cross rollouts
        agent.rollout_buffer.reset()
    ours, theirs = fast.rollout_buffer, naive.rollout_buffer
    add, compute = ours.add, ours.compute_returns_and_advantage

    def add_to_both(*step: Any) -> None:
        add(*step)
        theirs.add(*step)

    def compute_both(**last: Any) -> None:
        compute(**last)
        theirs.compute_returns_and_advantage(**last)

    ours.add, ours.compute_returns_and_advantage = add_to_both, compute_both
    for _ in range(2):
        theirs.reset()
        rollout(fast)
    texts = ours.texts()
    places = ours._places(texts, np.arange(len(texts.env)))
    minibatch = ours._samples(texts, np.arange(len(texts.env)))
    prefixes = torch.as_tensor(theirs.observations[places])
    sides = []
    for agent, observations in ((fast, minibatch.observations), (naive, prefixes)):
        values, log_probs, _ = agent.policy.evaluate_actions(observations, minibatch.actions)
        ratio = (log_probs - minibatch.old_log_prob).exp()
        loss = -(minibatch.advantages * ratio).mean()
        loss = loss + 0.5 * torch.nn.functional.mse_loss(minibatch.returns, values.flatten())
        loss.backward()
        model = agent.policy.lm.model if agent is fast else agent.policy.model
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        sides.append((log_probs, values.flatten(), ratio, gradient))
    (own, own_v, ratio, own_g), (its, its_v, _, its_g) = sides
    rows = [
        ("log π", own - its),
        ("V", own_v - its_v),
        ("advantage", minibatch.advantages - torch.as_tensor(theirs.advantages[places])),
        ("return", minibatch.returns - torch.as_tensor(theirs.returns[places])),
        ("gradient", own_g - its_g),
        ("ratio − 1, before the first step", ratio - 1),
    ]
    return {name: float(difference.detach().abs().max()) for name, difference in rows}


class Paid(BaseCallback):
    """Notes what the texts of each rollout were paid on average."""

    def __init__(self, texts: int) -> None:
        super().__init__()
        self.texts, self.rewards = texts, list[float]()

    def _on_rollout_end(self) -> None:
        self.rewards.append(float(self.locals["rollout_buffer"].rewards.sum()) / self.texts)

    def _on_step(self) -> bool:
        return True


def curves(seeds: int) -> dict[str, np.ndarray]:
    """Mean reward of the texts of each update, [seeds, updates], of the three ways to do PPO.

    64 texts of 8 words out of 12, an LSTM, 4 epochs of 4 minibatches, λ = 0.95; the value head
    leaves the LSTM alone, as `PolicyGradient`'s does.
    """
    texts, length, updates, rate = 64, 8, max(LOOKS), 0.004
    words = WordVocabulary([f"w{number}" for number in range(12)])
    reward = word_preference({"w1": 1.0, "w2": -1.0, "w3": 0.5}, pays="token")
    made = Task(name="curve", vocabulary=words, max_tokens=length, reward=reward)
    found: dict[str, list[list[float]]] = {
        "LMPolicy, our buffer": [], "LMPolicy, SB3's buffer": [], "PolicyGradient": [],
    }  # fmt: skip
    for seed in range(seeds):
        lm = LSTMLM(12, 16, vocabulary=words, generator=torch.Generator().manual_seed(seed))
        for name in list(found)[:2]:
            env = SB3VecEnv(TextVectorEnv(texts, made, autoreset_mode="SameStep"))
            paid = Paid(texts)
            PPO(
                LMPolicy, env, n_steps=length, batch_size=texts * length // 4, n_epochs=4,
                learning_rate=rate, gamma=1.0, gae_lambda=0.95, normalize_advantage=False,
                max_grad_norm=math.inf, seed=seed, device="cpu",
                rollout_buffer_class=SequenceRolloutBuffer if "our" in name else None,
                policy_kwargs={
                    "lm": lm, "value_gradient": False, "optimizer_kwargs": {"eps": 1e-8},
                },
            ).learn(updates * texts * length, callback=paid)  # fmt: skip
            found[name].append(paid.rewards)
        agent = PolicyGradient(
            lm, TextVectorEnv(texts, made, autoreset_mode="SameStep", scoring="deferred"),
            loss="ppo", baseline="value", gae_lambda=0.95, epochs=4, minibatches=4, group=1,
            reduction="tokens", learning_rate=rate, value_learning_rate=rate,
            max_gradient_norm=None, seed=seed,
        )  # fmt: skip
        rewards: list[float] = []
        agent.learn(
            updates * texts * length,
            callback=lambda _, logged, rewards=rewards: rewards.append(logged["rollout/reward"]),
        )
        found["PolicyGradient"].append(rewards)
    return {name: np.array(runs) for name, runs in found.items()}


def main() -> None:
    """Print the three tables."""
    config = tyro.cli(SB3Benchmark, prog="python -m benchmarks sb3")
    torch.set_num_threads(1)
    print(f"{date.today()}, {platform.machine()}, torch {torch.__version__}, one thread\n")
    print("largest difference from the naive way, on the same rollout, float64 weights")
    for name, difference in differences().items():
        print(f"{name:36}{difference:>12.1e}")
    for size, length in config.sizes:
        found = speeds(size, length, config.repeats)
        print(f"\nV = {size:,}, T = {length}:  tokens a CPU-second")
        for part in ("rollout", "update"):
            fast, naive = found["sequences"][part], found["naive"][part]
            print(f"{part:10}naive {naive:>8,.0f}   sequences {fast:>8,.0f}   {fast / naive:.1f}x")
    print(f"\n{'mean reward of update':24}" + "".join(f"{number:>24}" for number in LOOKS))
    for name, runs in curves(config.seeds).items():
        looks = [mean_interval(runs[:, number - 1]) for number in LOOKS]
        print(f"{name:24}" + "".join(f"{look!s:>24}" for look in looks))


if __name__ == "__main__":
    main()
