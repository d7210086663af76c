"""Behaviour cloning: a language model learns to write what was logged, by maximum likelihood.

    maximise  Σ_i w_i·Σ_t log π(a_it | s_it) / Σ_i w_i·n_i

over the logged texts i of n_i tokens (Pomerleau 1991). All weights 1 imitates the policy that wrote
them, on average; `top=0.5` imitates the better half of the texts only, and
w_i = exp((R_i − max R)/`temperature`) weighs them by what they were paid (reward-weighted
regression, Peters & Schaal 2007). No value is learned, nothing is written: what the log does not
hold is not found. Dropout is off, as in the other agents.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textenv import Task
from textenv.errors import TextenvError
from textenv.logged import LoggedTexts
from textenv.logged.texts import check_logged
from textenv.models import LanguageModel
from textenv_agents.environments import check_id
from textenv_agents.policies import find_policy

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
READ = 256  # texts in one pass where nothing is learned


@dataclass(frozen=True, kw_only=True)
class BehaviourCloningConfig:
    """How a log is imitated.

    Raises:
        ValueError: a number is out of range.
    """

    # What is imitated.
    top: float = 1.0
    """The share of the texts with the highest returns, in (0, 1]; of equals, the earlier ones."""
    temperature: float | None = None
    """Weigh texts by exp((R − max R)/temperature); None: all alike."""
    held_out: float = 0.1
    """The share of these texts, in [0, 1), that is not learned from: their loss is measured."""
    keep_best: bool = False
    """Return the weights with the lowest loss on the texts held out, perhaps those of the start,
    instead of the last ones. The loss is not the reward: few texts can stop too early."""

    # How.
    epochs: int = 10
    """How often each text is seen."""
    batch: int = 32
    """Texts in a step."""
    learning_rate: float = 3e-4
    """AdamW's."""
    weight_decay: float = 0.0
    """AdamW's."""
    max_gradient_norm: float = 1.0
    """Longer gradients are shortened to this."""
    seed: int = 0
    """Fixes which texts are held out, and the order of the others."""

    def __post_init__(self) -> None:
        right = {
            "top": 0 < self.top <= 1,
            "temperature": self.temperature is None or 0 < self.temperature < math.inf,
            "held_out": 0 <= self.held_out < 1,
            "epochs": self.epochs >= 1,
            "batch": self.batch >= 1,
            "learning_rate": 0 < self.learning_rate < math.inf,
            "weight_decay": self.weight_decay >= 0,
            "max_gradient_norm": self.max_gradient_norm > 0,
            "seed": self.seed >= 0,
        }
        if self.keep_best and not self.held_out:
            raise ValueError("keep_best=True needs texts held out: held_out=0.1, for one")
        for name in [name for name, fits in right.items() if not fits]:
            raise ValueError(f"{name}={getattr(self, name)!r} is out of range: see its help")


class Epoch(NamedTuple):
    """Mean −log π over the tokens, weighted as the loss, in nats; the first epoch, 0, is before.

    training: Over the texts that are learned from, while they were (epoch 0: not measured, NaN).
    held_out: Over those that are not, behind the epoch; NaN where there are none.
    """

    training: float
    held_out: float


class Cloned(NamedTuple):
    """What came out.

    policy: The language model; the one that was handed in is unchanged.
    epochs: The losses.
    texts: How many texts were imitated, those held out included.
    average_return: Theirs.
    """

    policy: LanguageModel
    epochs: list[Epoch]
    texts: int
    average_return: float


def behaviour_cloning(
    policy: LanguageModel | str | Path,
    texts: LoggedTexts,
    env: str | Task,
    config: BehaviourCloningConfig | None = None,
    *,
    device: str | None = None,
    **settings: Any,
) -> Cloned:
    """Train a language model to write what was logged.

    Args:
        policy: What it begins as: a language model, or a name as for `textenv evaluate`.
        texts: The log.
        env: The environment's id or task, which the texts must be of.
        config: The settings; None: the defaults.
        device: Where a model that is loaded computes.
        **settings: Fields of the config to replace: `behaviour_cloning(…, top=0.5)`.

    Raises:
        ValueError: the texts are not of this task, or have another vocabulary than the model, or
            `env` is no environment of ours.
        TypeError: these are no `LoggedTexts`.
        TextenvError: there is no such model, all of it is frozen, there are too few texts, or the
            loss is not finite.
    """
    check_logged(texts)
    config = replace(config or BehaviourCloningConfig(), **settings)
    model, task = _parts(policy, env, device)
    texts = texts.check(task)
    model.check(texts.prefixes)
    texts.check_vocabulary(model.vocabulary, "the language model")
    kept = _best(texts.returns(), config.top)
    chosen, weights = texts.rows(kept), _weights(texts.returns()[kept], config.temperature)
    generator = np.random.default_rng(config.seed)
    order = generator.permutation(len(chosen))
    out = _count(config.held_out, len(chosen))
    held_out, training = order[:out], np.sort(order[out:])
    if not len(training):
        raise TextenvError(
            f"of {len(texts)} logged texts {len(chosen)} are imitated and {out} of these held out, "
            "so that there is nothing to learn from: give more texts, or held_out=0"
        )
    if not weights[training].any() or (out and not weights[held_out].any()):
        raise TextenvError(
            f"with temperature={config.temperature} hardly a text has a weight above 0, as returns "
            f"are {texts.returns().min():g} … {texts.returns().max():g}: raise it, or use top="
        )
    trainer = _Trainer(model, chosen, weights, config)
    epochs = [Epoch(math.nan, trainer.loss_of(held_out))]
    best = copy.deepcopy(model.state_dict()) if config.keep_best else {}
    for _ in range(config.epochs):
        loss = trainer.learn(training, generator)
        epochs.append(Epoch(loss, trainer.loss_of(held_out)))
        if config.keep_best and epochs[-1].held_out <= min(epoch.held_out for epoch in epochs):
            best = copy.deepcopy(model.state_dict())
    if config.keep_best:
        model.load_state_dict(best)
    model.forget()
    return Cloned(model, epochs, len(chosen), float(chosen.returns().mean()))


class _Trainer:
    """A model, its optimizer and the texts."""

    def __init__(
        self,
        model: LanguageModel,
        texts: LoggedTexts,
        weights: Floats,
        config: BehaviourCloningConfig,
    ) -> None:
        self.model, self.texts, self.weights, self.config = model, texts, weights, config
        self.parameters = [each for each in model.parameters() if each.requires_grad]
        if not self.parameters:
            raise TextenvError(
                f"all parameters of this {type(model).__name__} are frozen, so that nothing can be "
                "learned: set requires_grad of some, or add an adapter"
            )
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def learn(self, rows: Numbers, generator: np.random.Generator) -> float:
        """See each text once; return the mean loss of its tokens meanwhile."""
        total, mean = 0.0, self._tokens(rows) / len(rows)
        shuffled = generator.permutation(rows)
        for batch in np.split(shuffled, range(self.config.batch, len(rows), self.config.batch)):
            # Divided by what a batch holds on average, not by what this one does: so each token
            # of the log counts the same, whatever else is in its batch.
            loss = self._sum(batch) / (len(batch) * mean)
            if not torch.isfinite(loss):
                raise TextenvError(
                    "the loss is not finite: the model gives no probability to a logged token, or "
                    f"the learning rate {self.config.learning_rate} is too high"
                )
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, self.config.max_gradient_norm)
            self.optimizer.step()
            total += float(loss.detach()) * len(batch) * mean
        return total / self._tokens(rows)

    @torch.no_grad()
    def loss_of(self, rows: Numbers) -> float:
        """The mean loss of some texts' tokens, NaN of none."""
        if not len(rows):
            return math.nan
        parts = np.split(rows, range(READ, len(rows), READ))
        return sum(float(self._sum(part)) for part in parts) / self._tokens(rows)

    def _sum(self, rows: Numbers) -> Tensor:
        """Σ_i w_i·Σ_t −log π(a_it | s_it)."""
        log_probs = self.model.score(self.texts.prefixes.rows(rows)).log_probs.sum(dim=1)
        return -(log_probs * torch.as_tensor(self.weights[rows]).to(log_probs)).sum()

    def _tokens(self, rows: Numbers) -> float:
        """Σ_i w_i·n_i."""
        return float((self.weights[rows] * self.texts.prefixes.written[rows]).sum())


def _parts(
    policy: LanguageModel | str | Path, env: str | Task, device: str | None
) -> tuple[LanguageModel, Task]:
    """A copy of the model that may be trained, and the task."""

    def start() -> LanguageModel:
        if isinstance(env, Task):
            if env.starting_policy is None:
                raise TextenvError(f"{env.name} has no starting policy: name a language model")
            return env.starting_policy()
        return gym.make(env).unwrapped.lm  # type: ignore[attr-defined]

    if not isinstance(env, Task):
        check_id(env)
    found = find_policy(policy, start, device=device)
    model = copy.deepcopy(found.model).eval()
    if isinstance(env, Task):
        return model, env
    own: dict[str, Any] = {} if model.vocabulary is None else {"lm": found.model}
    return model, gym.make(env, **own).unwrapped.task  # type: ignore[attr-defined]


def _best(returns: Floats, share: float) -> Numbers:
    """The texts with the highest returns, in their order."""
    count = _count(share, len(returns))
    return np.sort(np.argsort(-returns, kind="stable")[:count])


def _count(share: float, number: int) -> int:
    """Round a share of so many texts up; 0.07 of 100 are 7, though 0.07 · 100 > 7 in floats."""
    return math.ceil(round(share * number, 6))


def _weights(returns: Floats, temperature: float | None) -> Floats:
    if temperature is None:
        return np.ones(len(returns))
    return np.exp((returns - returns.max()) / temperature)
