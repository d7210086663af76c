"""The environments of a loop: one id, with its own reward, with none, and with the learned one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, VectorEnv

from textenv.models import LanguageModel, load
from textenv.preferences.reward_model import RewardModel
from textenv.rewards import Zero
from textenv.task import Task
from textenv_agents.checkpoint import digest_of
from textenv_agents.environments import check_id
from textenv_agents.evaluation import Evaluation, evaluate
from textenv_agents.loop.config import LoopConfig


class World:
    """What all rounds share: the task, and the policy that everything began with.

    Args:
        config: The loop's.

    Attributes:
        task: The environment's, with its own reward.
        start: The starting policy, frozen: the reference of every round.
    """

    def __init__(self, config: LoopConfig) -> None:
        self.config = config
        check_id(config.env)
        envs = self._make(1)
        self.task: Task = envs.unwrapped.task  # type: ignore[attr-defined]
        if config.lm is None:
            model = copy.deepcopy(envs.unwrapped.lm)  # type: ignore[attr-defined]
        else:
            model = load(config.lm, device=config.device)
        envs.close()
        self._trainable = [parameter.requires_grad for parameter in model.parameters()]
        self.start: LanguageModel = model.requires_grad_(False).eval()

    @property
    def pays(self) -> bool:
        """Whether the environment has a reward of its own, which is then the true one."""
        return not isinstance(self.task.reward, Zero)

    def fresh(self) -> LanguageModel:
        """A copy of the starting policy, to be trained."""
        model = copy.deepcopy(self.start)
        for parameter, trainable in zip(model.parameters(), self._trainable, strict=True):
            parameter.requires_grad_(trainable)
        return model

    def trained(self, checkpoint: Path) -> LanguageModel:
        """The policy of a finished training."""
        return load(str(checkpoint), device=self.config.device)

    def columns(self, prompts: Sequence[str]) -> dict[str, list[Any]]:
        """The task's columns of some of its prompts."""
        place = {prompt: i for i, prompt in enumerate(self.task.prompts)}
        rows = [place[prompt] for prompt in prompts]
        return {name: [values[i] for i in rows] for name, values in self.task.columns.items()}

    def digest(self) -> str:
        """What tells the starting policy from all others."""
        return digest_of(self.start.named_parameters())

    def writing(self, rows: int) -> VectorEnv:
        """For writing texts: nothing is scored."""
        return self._make(rows, reward="zero")

    def learning(self, reward_model: RewardModel) -> VectorEnv:
        """For training: the learned reward pays, in log odds; see `measuring.log_odds`."""
        agent = self.config.agent
        paid = reward_model * reward_model.deviation
        return self._make(agent.rows or agent.texts, reward=paid)

    def evaluate(self, policy: LanguageModel) -> Evaluation:
        """What a policy is worth: the same prompts and random numbers in every round."""
        return evaluate(
            policy,
            self.config.env,
            reference=self.start,
            texts=self.config.texts,
            seed=self.config.seed_of(0, "texts"),
            sampling=self.config.agent.sampling,
            **self._model,
        )

    @property
    def _model(self) -> dict[str, Any]:
        """The keyword of the environment that names its model, if the loop names one."""
        return {} if self.config.lm is None else {"lm": self.config.lm}

    def _make(self, rows: int, **keywords: Any) -> VectorEnv:
        return gym.make_vec(
            self.config.env,
            num_envs=rows,
            autoreset_mode=AutoresetMode.SAME_STEP,
            scoring="deferred",
            **self._model,
            **keywords,
        )
