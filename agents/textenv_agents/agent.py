"""What an agent is around its algorithm: its parts, the loop, predicting, saving and going on."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3.common.logger import Logger
from torch import nn

from textenv.models import LanguageModel, Prefixes, load
from textenv.models.adapters import AdapterError, WithoutAdapter, adapter_rank, add_adapter
from textenv.models.sampling import draw
from textenv.vocabulary import same_vocabulary
from textenv_agents import advantages as adv
from textenv_agents import checkpoint
from textenv_agents.config import PolicyGradientConfig
from textenv_agents.environments import make_environment, settings_for
from textenv_agents.hardware import Hardware
from textenv_agents.kl_control import KLController
from textenv_agents.memory import Memory
from textenv_agents.update import BadSteps


class Agent(ABC):
    """A language model that learns in a text environment; `PolicyGradient` says how.

    Args:
        policy: The language model to train, in place; or its name or folder. None: a copy of the
            environment's own starting policy.
        env: An id (a vector environment in SAME_STEP mode is made), or a `TextVectorEnv` in any
            autoreset mode.
        config: Settings; keywords replace some of them: `PolicyGradient(lm, id, seed=1)`.
        logger: SB3's logger; None: nothing is logged.
        inspect_folder: Where the texts of steps that are not finite are written, beside those that
            are there; None: nowhere.

    Attributes:
        policy: The language model.
        reference: The policy as it was handed in, frozen, or without its adapter; what the KL is
            measured against.
        tokens: How many tokens were written so far, `updates` how many batches were learned from.
        kl: Holds β.
        bad_steps: Counts the steps that were left out; `bad_steps.folder` is the inspect_folder.

    Raises:
        ValueError: policy and environment have different vocabularies, or the settings do not fit
            the environment or the model.
        BudgetError: one text alone takes more than the memory budget.
    """

    def __init__(
        self,
        policy: LanguageModel | str | Path | None,
        env: str | VectorEnv,
        config: PolicyGradientConfig | None = None,
        *,
        logger: Logger | None = None,
        inspect_folder: str | Path | None = None,
        **settings: Any,
    ) -> None:
        self.config = settings_for(env, config or PolicyGradientConfig(), settings)
        if isinstance(policy, str | Path):
            policy = load(str(policy))
        if policy is not None and not isinstance(policy, LanguageModel):
            raise ValueError(
                "expected a language model, its name or folder, or None, got "
                f"{type(policy).__name__}"
            )
        self.env = make_environment(env, policy, self.config)
        self.policy = copy.deepcopy(self._texts.lm) if policy is None else policy
        rules, vocabulary = self._texts.task.rules, self._texts.task.vocabulary
        if self.policy.vocabulary_size != rules.vocabulary_size:
            raise ValueError(
                f"the policy has {self.policy.vocabulary_size} tokens, the environment "
                f"{rules.vocabulary_size}: make the environment with lm=policy"
            )
        own = self.policy.vocabulary
        if own is not None and not same_vocabulary(own, vocabulary):
            raise ValueError(
                f"the policy and the environment have {rules.vocabulary_size} tokens each, but "
                "other ones: make the environment with lm=policy"
            )
        self.config.sampling.check(rules.vocabulary_size)
        self.reference = self._make_reference()
        self.hardware = Hardware(self.policy, self.config)
        self.memory = Memory(self.policy, self.config)
        self.memory.check(rules.prompt_length, rules.max_tokens)
        self._forget()
        self.logger = logger or Logger(None, [])
        self.tokens = self.updates = self.skipped = self.penalised = 0
        self.generator = np.random.default_rng(self.config.seed)
        self.running_mean = adv.RunningMean(self.config.running_mean_decay)
        self.kl = KLController(self.config.kl_coefficient, self.config.kl_target)
        self.bad_steps = BadSteps(self.config.max_bad_steps, inspect_folder)
        self._learning: tuple[int, int] | None = None  # tokens when `learn` began, and to write
        # The weights' type, and at least float32: returns and values lose too much below.
        dtype = torch.promote_types(next(self.policy.parameters()).dtype, torch.float32)
        # Made without torch's global generator, which is the caller's.
        self.value_head = nn.utils.skip_init(nn.Linear, self.policy.hidden_size, 1, dtype=dtype)
        nn.init.zeros_(self.value_head.weight)  # no baseline before there is something to learn
        nn.init.zeros_(self.value_head.bias)
        self.value_head.to(self.policy.device)
        self.optimizer = self._make_optimizer()
        self.value_optimizer = torch.optim.Adam(
            self.value_head.parameters(), lr=self.config.value_learning_rate
        )

    @abstractmethod
    def update(self) -> dict[str, float]:
        """Write one batch of texts and learn from it; return what was logged."""

    def learn(
        self,
        total_tokens: int,
        *,
        progress_bar: bool = False,
        callback: Callable[[Any, dict[str, float]], Any] | None = None,
        resume: bool = False,
    ) -> Self:
        """Train until that many more tokens are written.

        Args:
            total_tokens: Tokens to write, at least.
            progress_bar: Show one, with the mean reward.
            callback: Called after each update with the agent and what was logged; training stops
                when it returns False.
            resume: Go on with the `learn` in which this agent's state was saved: what was written
                since it began counts, and the schedule goes on where it was.

        Raises:
            ValueError: there is nothing to resume, or it was to write another number of tokens.
        """
        from tqdm.auto import tqdm

        if not resume:
            self._learning = (self.tokens, total_tokens)
        if self._learning is None or self._learning[1] != total_tokens:
            what = "none" if self._learning is None else f"one of {self._learning[1]:,} tokens"
            raise ValueError(
                "resume=True goes on with an interrupted learn, there was "
                f"{what}: got total_tokens={total_tokens:,}; without resume a new one begins"
            )
        start, until = self._learning[0], self._learning[0] + total_tokens
        behind = min(self.tokens, until) - start
        bar = tqdm(total=total_tokens, initial=behind, disable=not progress_bar, unit="token")
        with bar:
            while self.tokens < until:
                before = self.tokens
                self._set_learning_rate((before - start) / total_tokens)
                metrics = self.update()
                bar.update(min(self.tokens, until) - before)
                bar.set_postfix(reward=f"{metrics['rollout/reward']:.2f}", refresh=False)
                if callback is not None and callback(self, metrics) is False:
                    break
        return self

    def predict(
        self,
        observation: npt.ArrayLike | dict[str, npt.ArrayLike],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        """Choose the next token of each observation, as SB3's `evaluate_policy` asks for it.

        Args:
            observation: "tokens" observations, int64 [B, P + T] or [P + T].
            state: Handed back as it came; a language model needs none.
            episode_start: Not used.
            deterministic: The likeliest token instead of a sample.
        """
        if isinstance(observation, dict):
            observation = observation["observation"]
        tokens = np.asarray(observation)
        rules, sampling = self._texts.task.rules, self.config.sampling
        prefixes = Prefixes.from_observations(tokens, rules.prompt_length, rules.nothing)
        with self.hardware.computing():
            logits = self.policy.next(prefixes).logits
        guard = self._texts.setup.guard
        allowed = None if guard is None else guard.allowed_after(prefixes)
        kept = sampling.keep(logits, prefixes.written, rules.ending_tokens, allowed)
        if deterministic:
            shown = logits if kept is None else logits.masked_fill(~kept, -torch.inf)
            actions = shown.argmax(dim=-1).cpu().numpy()
        else:
            uniforms = self.generator.random(len(logits))
            actions = draw(logits, uniforms, temperature=sampling.temperature, kept=kept).tokens
        return (actions if tokens.ndim > 1 else actions[0]), state

    # Going on.

    def save(self, path: str | Path) -> None:
        """Write everything that training needs to go on into a folder, whole or not at all."""
        checkpoint.save(self, Path(path))

    @classmethod
    def load(
        cls,
        path: str | Path,
        env: str | VectorEnv | None = None,
        *,
        device: str | None = None,
        logger: Logger | None = None,
    ) -> Self:
        """Read what `save` wrote.

        Args:
            path: The folder.
            env: As for the constructor; None: the environment that was trained in, if it has a
                spec that could be written down.
            device: Where to put the models, as for `textenv.models.load`; None: where they were.
            logger: As for the constructor.

        Raises:
            CheckpointError: the folder is no checkpoint, is damaged, or of another version; or the
                device is not there.
        """
        return checkpoint.load(cls, Path(path), env, device, logger)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that must go on but the policy's and the reference's weights.

        Tensors and plain values only, so that `torch.load(weights_only=True)` reads it.
        """
        return {
            "tokens": self.tokens,
            "updates": self.updates,
            "skipped": self.skipped,
            "penalised": self.penalised,
            "learning": self._learning,
            "bad_steps": [self.bad_steps.total, self.bad_steps.in_a_row],
            "running_mean": [self.running_mean.total, self.running_mean.weight],
            "kl_coefficient": self.kl.coefficient,
            "generator": self.generator.bit_generator.state,
            "optimizer": self.optimizer.state_dict(),
            "value_optimizer": self.value_optimizer.state_dict(),
            "value_head": self.value_head.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; the policy's weights are the caller's to load."""
        self.tokens, self.updates = state["tokens"], state["updates"]
        self.skipped, self.penalised = state["skipped"], state["penalised"]
        learning = state["learning"]
        self._learning = None if learning is None else (learning[0], learning[1])
        self.bad_steps.total, self.bad_steps.in_a_row = state["bad_steps"]
        self.running_mean.total, self.running_mean.weight = state["running_mean"]
        self.kl.coefficient = state["kl_coefficient"]
        self.generator.bit_generator.state = state["generator"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.value_optimizer.load_state_dict(state["value_optimizer"])
        self.value_head.load_state_dict(state["value_head"])
        self._forget()

    @property
    def _texts(self) -> Any:
        """The `TextVectorEnv` inside whatever wrappers."""
        return self.env.unwrapped

    def _forget(self) -> None:
        """Drop what the models have read."""
        for model in (self.policy, self.reference):
            model.forget()

    def _make_reference(self) -> LanguageModel:
        """The policy as it is now: a frozen copy, or the same model without its adapter."""
        rank = self.config.lora_rank
        if rank is None:
            return copy.deepcopy(self.policy).requires_grad_(False).eval()
        if adapter_rank(self.policy) is None:
            add_adapter(self.policy, rank=rank, alpha=self.config.lora_alpha, seed=self.config.seed)
        elif adapter_rank(self.policy) != rank:
            raise AdapterError(
                f"the policy has an adapter of rank {adapter_rank(self.policy)}, lora_rank={rank}: "
                "leave lora_rank out to train all that is trainable, or load the model without it"
            )
        return WithoutAdapter(self.policy)

    @property
    def _trained(self) -> list[nn.Parameter]:
        """The policy's parameters that the optimizer writes."""
        return [p for p in self.policy.parameters() if p.requires_grad]

    def _make_optimizer(self) -> torch.optim.Optimizer:
        if self.config.optimizer == "sgd":
            return torch.optim.SGD(self._trained, lr=self.config.learning_rate)
        return torch.optim.Adam(self._trained, lr=self.config.learning_rate)

    def _set_learning_rate(self, done: float) -> None:
        """Follow the schedule, `done` being the share of the training that is behind."""
        left = 1 - done if self.config.schedule == "linear" else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * left
