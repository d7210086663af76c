"""Implicit language Q-learning, top to bottom: values from logged texts, which steer the model.

Nothing is written while it learns. V(s) is an expectile of Q(s, a) over the tokens that were
logged, Q(s, a) follows r + γ·V(s′), or a λ-return, and what writes is
π′(a|s) ∝ π(a|s)·exp(β·(Q(s, a) − V(s))) (Snell et al. 2022, "Offline RL for Natural Language
Generation with Implicit Language Q Learning", https://arxiv.org/abs/2206.11871). Left out: the
paper's second model; here the model that is steered is the one whose states the values read.

B = texts, M = their actions, R = M + B states, K = heads, V = vocabulary.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from textenv.logged import LoggedTexts
from textenv.models import LanguageModel, Prefixes, SteeredLM, load
from textenv.models.steered import ActionValues, body, zero_linear
from textenv_agents.offline import folder as files
from textenv_agents.offline import losses
from textenv_agents.offline.config import ImplicitQConfig
from textenv_agents.offline.states import Reader, States


class LearnedValues(NamedTuple):
    """What the learner holds of B states: q [B, V], the lowest of Q̂'s heads, and v [B]."""

    q: Tensor
    v: Tensor


class ImplicitQLearning:
    """Learns from logged texts what tokens are worth, and steers a language model by it.

    Args:
        lm: The language model whose hidden states the values read, usually the one that wrote the
            texts or was cloned from them; or its name or folder. It is never changed: with
            `lm_learning_rate` a copy of it learns.
        texts: The logged texts.
        config: Settings; keywords replace some of them: `ImplicitQLearning(lm, texts, seed=1)`.

    Attributes:
        lm: The language model, or its copy that learns.
        q: Q(s, ·), `target_q` its slowly following copy Q̂, `v` the head of V(s).
        optimizer: Adam, of the heads and of what learns of the language model.
        updates: How many there were.
        losses: Of the last update, by name: "td", "expectile", "conservative", "cloning".

    Raises:
        ValueError: there are no texts, or they have another vocabulary than the language model;
            or that is steered already, or is to learn and has no weight that requires a gradient.
        TypeError: these are no `LoggedTexts`.
    """

    def __init__(
        self,
        lm: LanguageModel | str | Path,
        texts: LoggedTexts,
        config: ImplicitQConfig | None = None,
        **settings: Any,
    ) -> None:
        self.config = replace(config or ImplicitQConfig(), **settings)
        config = self.config
        lm = load(str(lm)) if isinstance(lm, str | Path) else lm
        if isinstance(lm, SteeredLM):
            raise ValueError(
                "expected a language model that nothing steers yet, got a SteeredLM: learn on its "
                ".lm, or on textenv.models.loading.load_unsteered(folder)"
            )
        frozen = config.lm_learning_rate is None
        self.lm = lm if frozen else copy.deepcopy(lm)
        self.texts = texts
        self._reader = Reader(self.lm, texts, frozen=frozen)
        self.generator = np.random.default_rng(config.seed)
        first = torch.Generator().manual_seed(config.seed)
        width, units = lm.hidden_size, config.hidden_units
        self.q = ActionValues(
            width, lm.vocabulary_size, hidden_units=units, heads=config.heads, generator=first
        )
        self.v = nn.Sequential(body(width, units, first), zero_linear(units or width, 1))
        # The weights' type, and at least float32: values lose too much below.
        dtype = torch.promote_types(next(lm.parameters()).dtype, torch.float32)
        for head in (self.q, self.v):
            head.to(device=lm.device, dtype=dtype)
        self.target_q = copy.deepcopy(self.q).requires_grad_(False)
        groups = [{"params": [*self.q.parameters(), *self.v.parameters()]}]
        self.optimizer = torch.optim.Adam(groups, lr=config.learning_rate)
        if config.lm_learning_rate is not None:
            weights = [p for p in self.lm.parameters() if p.requires_grad]
            if not weights:
                raise ValueError(
                    "lm_learning_rate trains the language model, but none of its weights requires "
                    "a gradient: lm.requires_grad_() first, or leave lm_learning_rate out"
                )
            self.optimizer.add_param_group({"params": weights, "lr": config.lm_learning_rate})
        self.updates = 0
        self.losses: dict[str, float] = {}

    def learn(self, updates: int) -> Self:
        """Take so many steps, each on texts drawn from all of them.

        Raises:
            ValueError: a negative number of them.
            FloatingPointError: a loss or gradient is not finite; the weights are those before.
        """
        if updates < 0:
            raise ValueError(f"expected updates ≥ 0, got {updates}")
        for _ in range(updates):
            self._update()
        return self

    def _update(self) -> None:
        config = self.config

        # 1. Read some texts.
        states = self._reader.states(self._draw())
        hidden = states.hidden.to(next(self.v.parameters()).dtype)
        acting = hidden[states.acts]  # [M, H]

        # 2. What they are worth: V of all states, Q and Q̂ of what was written.
        v = self.v(hidden)[:, 0].masked_fill(states.over, 0.0)  # [R]
        v_t, _ = states.before_and_after(v)
        targets = states.targets(v.detach(), config.discount, config.trace)
        with torch.no_grad():
            lowest = self.target_q.at(acting, states.actions).amin(dim=0)  # [M]

        # 3. The losses.
        q_t, conservative = self._q_of(acting, states.actions)
        parts = {
            "td": losses.td_loss(q_t, targets),
            "expectile": losses.expectile_loss(lowest, v_t, config.expectile),
            "conservative": config.conservative_weight * conservative,
        }
        if config.lm_learning_rate is not None:
            parts["cloning"] = config.cloning_weight * _cloning(states)

        # 4. The step.
        self._step(torch.stack(list(parts.values())).sum())
        losses.follow(self.target_q, self.q, config.target_rate)
        self.losses = {name: float(part.detach()) for name, part in parts.items()}
        self.updates += 1

    def _draw(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        number = len(self.texts)
        if number <= self.config.batch_texts:
            return np.arange(number)
        return np.sort(self.generator.choice(number, self.config.batch_texts, replace=False))

    def _q_of(self, hidden: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Q(s, a) [K, M] of what was written, and the conservative loss."""
        if not self.config.conservative_weight:  # the other tokens' values are not needed
            return self.q.at(hidden, actions), hidden.new_zeros(())
        whole = self.q(hidden)  # [K, M, V]
        q_t = whole.gather(2, actions.expand(len(whole), -1)[..., None])[..., 0]
        return q_t, losses.conservative_loss(whole, actions)

    def _step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        limit = self.config.max_gradient_norm
        norm = nn.utils.clip_grad_norm_(parameters, float("inf") if limit is None else limit)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise FloatingPointError(
                f"the loss of update {self.updates} is {loss.item():g}, its gradient's norm "
                f"{norm.item():g}: look for logged tokens that the language model never writes, "
                "scale the rewards, or lower learning_rate and lm_learning_rate"
            )
        self.optimizer.step()

    @torch.no_grad()
    def values(self, prefixes: Prefixes) -> LearnedValues:
        """Return Q̂ and V at the end of each prefix; of one that is finished they mean nothing."""
        hidden = self.lm.next(prefixes).hidden.to(next(self.v.parameters()).dtype)
        return LearnedValues(self.target_q.lowest(hidden), self.v(hidden)[:, 0])

    def policy(self, beta: float) -> SteeredLM:
        """Return π′(a|s) ∝ π(a|s)·exp(β·(Q̂(s, a) − V(s))), as it is now.

        Later updates do not change it; a frozen language model is shared, not copied.
        `policy(beta).save_pretrained(folder)` writes a folder that `textenv.models.load` and
        `textenv evaluate` take.

        Args:
            beta: β ≥ 0; with 0 it is the language model itself.
        """
        lm = self.lm if self.config.lm_learning_rate is None else copy.deepcopy(self.lm)
        return SteeredLM(lm, copy.deepcopy(self.target_q), float(beta))

    def save(self, folder: str | Path) -> None:
        """Write the learner, whole or not at all; the texts are not part of it."""
        files.write(self, folder)

    @classmethod
    def load(cls, folder: str | Path, texts: LoggedTexts, *, device: str | None = None) -> Self:
        """Make a learner from what `save` wrote; with the same texts it goes on bit for bit.

        Args:
            folder: Where it is.
            texts: The logged texts.
            device: Where it computes; None: the CPU.

        Raises:
            CheckpointError: the folder holds no learner, a damaged one, or another version's.
            ValueError: there are no texts, or they have another vocabulary.
        """
        saved = files.read(Path(folder), device)
        learner = cls(saved.lm, texts, saved.config)
        files.restore(learner, saved, Path(folder))
        return learner


def _cloning(states: States) -> Tensor:
    """Mean of −log π(a|s) over what was written."""
    assert states.log_probs is not None
    return -states.log_probs.mean()
