"""What the over-optimisation benchmark trains on and measures: four rewards, and one truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from textenv import mdp
from textenv.models import LanguageModel, load
from textenv.preferences import Comparison
from textenv.preferences.comparisons import LABELS
from textenv.preferences.reward_model import train
from textenv.preferences.scripted import ScriptedRater
from textenv.rewards import Reward, as_reward, repetition
from textenv.rewards.compared import PreferenceReward
from textenv_agents import PolicyGradient
from textenv_agents.demo import REVIEWS
from textenv_agents.evaluation import ROWS, drawn, environments, write

ID = "textenv/Sentiment-v0"
REWARDS = ("true", "preferences", "learned", "judge")
MOMENTS = (0.0, 0.04, 0.1, 0.2, 0.35, 0.55, 0.75, 1.0)  # shares of the training
NUMBER_OF_OPPONENTS = 4
PAIRS, OPPONENTS, FRESH = 1, 2, 3  # seeds of texts that have nothing to do with others


@dataclass(frozen=True, kw_only=True)
class OveroptimisationConfig:
    """The benchmark."""

    seeds: int = 5
    """How many training runs on each reward; pairs, verdicts and reward models are drawn anew."""
    tokens: int = 60_000
    """Tokens written in each."""
    texts: int = 200
    """Fresh texts at each of the moments."""
    preferences: int = 400
    """Compared pairs that the reward model learns from: few, so that the gap shows."""
    repetition: float = 3.0
    """What repeating costs in the true reward: the weight of `repetition(2)`. A text a third of
    whose word pairs are said again loses all that praise can bring. The reward model cannot learn
    it: the start hardly repeats itself. 0: VADER's sentiment alone, which "good good good" pleases
    most, so that a proxy which likes any word of praise leads there too."""
    features: str = "tfidf"
    """What the reward model sees: see `RewardModelConfig.features`."""
    scale: float = 4.0
    """How sure one unit of sentiment makes the scripted rater."""
    judge: str = "reviews"
    """The language model that judges: "reviews" judges a text in a millisecond, "smollm2", which is
    45 times as large, far more slowly."""
    beta: float = 0.0
    """The price of a nat, in deviations of the reward; 0 shows how far a proxy leads."""
    rewards: tuple[str, ...] = REWARDS
    """Which of the four."""
    folder: Path = Path("runs/overoptimisation")
    """results.json, figure.png, and one file a run, so that a second call goes on."""
    fast: bool = False
    """A test: one seed, and a few seconds for each reward."""

    def quick(self) -> OveroptimisationConfig:
        """The same, as a test."""
        return replace(self, seeds=1, tokens=1500, texts=20, preferences=200)

    def of_run(self) -> dict[str, Any]:
        """What the numbers of one run depend on."""
        fields = asdict(self)
        return {name: fields[name] for name in fields
                if name not in ("seeds", "rewards", "folder", "fast")}  # fmt: skip


class World:
    """What all runs share: the start, its texts, and the truth.

    Args:
        config: The benchmark's settings.
    """

    def __init__(self, config: OveroptimisationConfig) -> None:
        self.config = config
        self.start = load("reviews").requires_grad_(False).eval()
        self.truth = as_reward("sentiment") - config.repetition * repetition(2)
        self.envs = environments(ID, ROWS, reward="zero")
        self.task = self.envs.unwrapped.task
        self.of_start = self.write(self.start)

    def write(self, policy: LanguageModel) -> Texts:
        """Let a policy write fresh texts; every policy by the same draws."""
        return self._written(policy, *drawn(self.task, self.config.texts, FRESH))

    def train(self, name: str, seed: int) -> dict[str, Any]:
        """Train on one reward, and measure on the way."""
        config = self.config
        proxy, about = self.proxy(name, seed)
        rewards = (proxy, self.truth, as_reward("sentiment"))
        scales = [_scale(reward, self.of_start) for reward in rewards]
        envs = gym.make_vec(ID, num_envs=64, autoreset_mode=AutoresetMode.SAME_STEP,
                            scoring="deferred", reward=proxy * (1 / scales[0][1]))  # fmt: skip
        settings = replace(REVIEWS, seed=seed, episodes=64, kl_coefficient=config.beta)
        agent = PolicyGradient(None, envs, settings)
        points: list[dict[str, float]] = []

        def measure(agent: PolicyGradient, _: dict[str, float]) -> None:
            passed = sum(agent.tokens >= share * config.tokens for share in MOMENTS)
            if passed > len(points):
                point = self._point(agent.policy, agent.tokens, rewards, scales)
                points.extend([point] * (passed - len(points)))

        measure(agent, {})
        agent.learn(config.tokens, callback=measure)
        return {"points": points, **about}

    def _point(
        self,
        policy: LanguageModel,
        tokens: int,
        rewards: Sequence[Reward],
        scales: Sequence[tuple[float, float]],
    ) -> dict[str, float]:
        texts = self.write(policy)
        proxy, true, sentiment = (
            (np.mean(reward.total(texts.prompts, texts.texts)) - mean) / deviation
            for reward, (mean, deviation) in zip(rewards, scales, strict=True)
        )
        return {
            "tokens": tokens,
            "kl": float(texts.kl.mean()),
            "proxy": float(proxy),
            "true": float(true),
            "sentiment": float(sentiment),
            "length": texts.length,
        }

    # The four rewards.

    def proxy(self, name: str, seed: int) -> tuple[Reward, dict[str, Any]]:
        """Make a reward, and say what is known of it."""
        makers: dict[str, Callable[[int], tuple[Reward, dict[str, Any]]]] = {
            "true": lambda _: (self.truth, {}),
            "preferences": self._preferences,
            "learned": self._learned,
            "judge": lambda _: (
                as_reward({"name": "judge", "lm": self.config.judge, "cache": False}), {}
            ),
        }  # fmt: skip
        reward, about = makers[name](seed)
        _scale(reward, self.of_start)  # refuses one that says nothing
        one, other = (
            each.total(self.of_start.prompts, self.of_start.texts) for each in (reward, self.truth)
        )
        return reward, {**about, "correlation": float(np.corrcoef(one, other)[0, 1])}

    def _preferences(self, seed: int) -> tuple[Reward, dict[str, Any]]:
        """The share of noisy verdicts that a text wins against a few fixed texts of the start."""
        generator = np.random.default_rng([seed, OPPONENTS])
        prompts = generator.integers(len(self.task.prompts), size=NUMBER_OF_OPPONENTS)
        uniforms = generator.random((len(prompts), self.task.rules.max_tokens))
        opponents = self._written(self.start, prompts, uniforms).texts
        rater = ScriptedRater(self.truth, scale=self.config.scale, seed=seed)
        return PreferenceReward(rater, opponents=opponents), {}

    def _learned(self, seed: int) -> tuple[Reward, dict[str, Any]]:
        """A reward model from few noisy verdicts on pairs that the start wrote."""
        number = self.config.preferences
        generator = np.random.default_rng([seed, PAIRS])
        prompts = np.tile(generator.integers(len(self.task.prompts), size=number), 2)
        uniforms = generator.random((2 * number, self.task.rules.max_tokens))
        texts = self._written(self.start, prompts, uniforms)
        sides = texts.prompts[:number], texts.texts[:number], texts.texts[number:]
        verdicts = ScriptedRater(self.truth, scale=self.config.scale, seed=seed).compare(*sides)
        data = [
            Comparison(prompt=prompt, first=first, second=second, label=LABELS[verdict])
            for prompt, first, second, verdict in zip(*sides, verdicts, strict=True)
        ]
        model, _ = train(data, seed=seed, features=self.config.features, validation=0.0)
        return model, {}

    def _written(
        self,
        policy: LanguageModel,
        prompts: npt.NDArray[np.int64],
        uniforms: npt.NDArray[np.float64],
    ) -> Texts:
        fresh = write(self.envs, policy, self.start, prompts, uniforms)
        tokens = fresh.episodes.prefixes
        decode = self.task.vocabulary.decode
        return Texts(
            [self.task.prompts[index] for index in prompts.tolist()],
            [decode(mdp.text_ids(self.task.rules, row)) for row in tokens.tokens],
            fresh.kl,
            float(tokens.written.mean()),
        )


@dataclass(frozen=True)
class Texts:
    """What a policy wrote, how far it is from the start, and the mean number of tokens."""

    prompts: list[str]
    texts: list[str]
    kl: npt.NDArray[np.float64]
    length: float


def _scale(reward: Reward, texts: Texts) -> tuple[float, float]:
    """Mean and deviation of a reward over the start's texts."""
    values = np.array(reward.total(texts.prompts, texts.texts), dtype=np.float64)
    if not values.std() > 0:
        raise ValueError(
            f"the reward {reward.name!r} says the same of all texts of the start: with a learned "
            "one, take more --preferences"
        )
    return float(values.mean()), float(values.std())
