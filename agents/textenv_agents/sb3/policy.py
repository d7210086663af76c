"""A language model as a policy of Stable-Baselines3, for PPO and A2C.

It writes token by token from the model's own distribution, incrementally (`LanguageModel.next`),
and is evaluated in one teacher-forced pass over whole texts where `SequenceRolloutBuffer` hands it
such, or prefix by prefix where SB3's own buffer does. Dropout is off in both, so that the ratio is
1 before the first step.

B = batch, N = tokens, P = the longest prompt, T = the longest completion, V = vocabulary.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from textenv.models import LanguageModel, Prefixes
from textenv.models.adapters import WithoutAdapter, add_adapter
from textenv.models.chosen import Allowed, Chosen, chosen
from textenv_agents.sb3.checks import MUCH
from textenv_agents.sb3.drawing import draw_tokens
from textenv_agents.sb3.starting import check_mark, check_model, mark, starting_model
from textenv_agents.sb3.text_space import (
    TextSpace,
    check_spaces,
    read_prefixes,
    start_of_writing,
)


class LMPolicy(ActorCriticPolicy):
    """A language model with a linear value head on its hidden state.

    `PPO(LMPolicy, SB3VecEnv(id, 32), rollout_buffer_class=SequenceRolloutBuffer,
    policy_kwargs={"lm": "reviews"})`; with A2C in the same way, and slowly with SB3's own buffer.

    A model in memory is copied and never changed. `agent.save` writes it, as it was handed in, and
    the trained weights; a model that was given by name or folder is found again by it, and the
    trained weights come from the file.

    Args:
        observation_space: That of `SB3VecEnv` with "tokens" observations.
        action_space: `Discrete(V)`.
        lr_schedule: SB3's.
        use_sde: False: there is no such exploration of tokens.
        lm: A language model, its name or folder; None: the environment's own.
        lora_rank: Train low-rank matrices beside the weights, which stay as they are (LoRA); the
            reference is then the same model without them. None: train the weights.
        lora_alpha: The adapter is scaled by alpha / rank; None: alpha = 2·rank.
        entropy: Return the entropies of `evaluate_actions`; what they cost beside the
            log-probabilities is a few per cent while ent_coef is 0. False: SB3 logs −log π of the
            sampled tokens for them, and another ent_coef than 0 is an error.
        value_gradient: Whether the value's loss changes the model, and not its head alone.
        prompt_length: P, for spaces that do not say it themselves, as those of `DummyVecEnv`.
        optimizer_class: As SB3's; its Adam is the fused one.
        optimizer_kwargs: As SB3's.

    Attributes:
        lm: The model that is trained.
        value_head: V(s) = v·h(s) + c; 0 before there is something to learn.

    Raises:
        ValueError: observations that are not tokens, actions that are not all tokens, a model of
            another vocabulary, or no model; `lora_alpha` without `lora_rank`.
    """

    observation_space: spaces.Box
    action_space: spaces.Discrete
    _start_mark: Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Callable[[float], float],
        use_sde: bool = False,
        *,
        lm: LanguageModel | str | Path | None = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        entropy: bool = True,
        value_gradient: bool = True,
        prompt_length: int | None = None,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if use_sde:
            raise ValueError("a language model draws tokens, it adds no noise: leave use_sde out")
        if lora_alpha is not None and lora_rank is None:
            raise ValueError("lora_alpha scales an adapter: give its lora_rank too")
        check_spaces(observation_space, action_space)
        self.prompt_length = start_of_writing(prompt_length, observation_space)
        self._settings: dict[str, Any] = {
            "lm": lm,
            "lora_rank": lora_rank,
            "lora_alpha": lora_alpha,
            "entropy": entropy,
            "value_gradient": value_gradient,
            "prompt_length": prompt_length,
        }
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        """Copy the model, add adapter and value head, and make the optimizer of what is trained."""
        settings, space = self._settings, self.observation_space
        self._texts = space if isinstance(space, TextSpace) else None
        self.lm, lora = starting_model(settings["lm"], self._texts), settings["lora_rank"]
        check_model(self.lm, self._nothing, self._texts, frozen=lora is not None)
        self.register_buffer("_start_mark", mark(self.lm))  # saved: the reference is known by it
        if lora is not None:
            add_adapter(self.lm, rank=lora, alpha=settings["lora_alpha"])
        # The weights' type, and at least float32: values lose too much below.
        dtype = torch.promote_types(next(self.lm.parameters()).dtype, torch.float32)
        self.value_head = nn.utils.skip_init(nn.Linear, self.lm.hidden_size, 1, dtype=dtype)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        self._reference: tuple[LanguageModel, ...] = ()  # no module: not trained, not saved
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        make: Callable[..., torch.optim.Optimizer] = self.optimizer_class
        adam = make is torch.optim.Adam and not {"fused", "foreach"} & set(self.optimizer_kwargs)
        fused = {"fused": True} if adam else {}  # one pass over the weights, not a dozen
        self.optimizer = make(trained, lr=lr_schedule(1), **self.optimizer_kwargs, **fused)

    @property
    def reference(self) -> LanguageModel:
        """The model as training started from it, frozen; with an adapter, the model without it.

        Raises:
            ValueError: the model that was handed in, or its folder, has been changed since.
        """
        if self._settings["lora_rank"] is not None:
            return WithoutAdapter(self.lm)
        if not self._reference:
            model = starting_model(self._settings["lm"], self._texts)
            check_mark(model, self._start_mark)
            self._reference = (model.requires_grad_(False),)
        return self._reference[0].to(self.device)

    # While texts are written.

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Write one token of each text.

        Args:
            obs: int64 [B, P + T].
            deterministic: The likeliest token instead of a sample.

        Returns:
            Tokens, int64 [B]; V(s), [B, 1]; log π of the tokens, [B].
        """
        prefixes = self.prefixes(obs)
        answer = self.lm.next(prefixes)
        logits = self._allowed_logits(prefixes, answer.logits)
        tokens, log_probs = draw_tokens(logits, deterministic=deterministic)
        values = self._values(answer.hidden)
        # SB3 hands this very tensor to its buffer, which learns from it who wrote: see `writer_of`.
        log_probs = log_probs.float()
        log_probs.textenv_writer = weakref.ref(self)  # type: ignore[attr-defined]
        return tokens, values, log_probs

    def predict_values(self, obs: Any) -> Tensor:
        """Return V(s), [B, 1], without gradient in the model."""
        return self._values(self.lm.next(self.prefixes(obs)).hidden)

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        """Choose the next token of each text, int64 [B]."""
        prefixes = self.prefixes(observation)
        logits = self._allowed_logits(prefixes, self.lm.next(prefixes).logits)
        return draw_tokens(logits, deterministic=deterministic)[0]

    def get_distribution(self, obs: Any) -> CategoricalDistribution:
        """Return SB3's distribution over all tokens, without gradient.

        Raises:
            ValueError: it would take more memory than anybody means.
        """
        size = self.lm.vocabulary_size
        needed = 3 * 4 * len(obs) * size  # logits, probabilities, and what is computed of them
        if needed > MUCH:
            raise ValueError(
                f"the distributions of {len(obs)} texts over {size} tokens take "
                f"{needed / 1e9:.1f} GB: ask about fewer at once, or choose among few tokens, "
                'action="candidates:32" (with SB3\'s own policies)'
            )
        prefixes = self.prefixes(obs)
        logits = self._allowed_logits(prefixes, self.lm.next(prefixes).logits)
        return CategoricalDistribution(size).proba_distribution(logits)

    # While it learns.

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Say what the model thinks of tokens now, with gradient.

        Args:
            obs: Prefixes, [N, P + T], each read from its beginning; or whole texts, a dict of
                `tokens`, int64 [B, P + T], and `live`, bool [B, T], the N tokens that count.
            actions: [N]; the live ones row by row.

        Returns:
            V(s), [N, 1]; log π(a|s), [N]; the entropies, or −log π without them, [N].
        """
        if isinstance(obs, dict):
            tokens, live = obs["tokens"].cpu().numpy(), obs["live"].cpu().numpy()
            rows, steps = np.nonzero(live)
            prefixes = Prefixes.from_observations(tokens, self.prompt_length, self._nothing)
        else:
            prefixes, rows, steps = self._with_actions(obs, actions)
        said = self._chosen(self.lm, prefixes, rows, steps, entropy=self._settings["entropy"])
        hidden = said.hidden if self._settings["value_gradient"] else said.hidden.detach()
        log_probs = said.log_probs.float()
        entropy = _NoBonus.apply(log_probs) if said.entropy is None else said.entropy.float()
        return self._values(hidden), log_probs, entropy

    @torch.no_grad()
    def reference_log_probs(self, tokens: np.ndarray, live: np.ndarray) -> Tensor:
        """Return log ρ of the live tokens, [N], in one pass over whole texts.

        Args:
            tokens: int64 [B, P + T].
            live: bool [B, T].
        """
        prefixes = Prefixes.from_observations(tokens, self.prompt_length, self._nothing)
        return self._chosen(self.reference, prefixes, *np.nonzero(live)).log_probs

    def set_training_mode(self, mode: bool) -> None:
        """Switch between writing and learning; what was read while writing is dropped before that.

        Dropout is off in both.
        """
        super().set_training_mode(mode)
        if mode:
            self.lm.forget()

    def prefixes(self, obs: Any) -> Prefixes:
        """Read observations, [B, P + T], as prefixes.

        Raises:
            ValueError: they are whole texts, of which nothing can be written, or numbers that a
                wrapper made of tokens, or `prompt_length` is not the task's.
        """
        tokens = obs.cpu().numpy() if isinstance(obs, Tensor) else obs
        told = self._texts is None
        return read_prefixes(tokens, self.prompt_length, self._nothing, check_places=told)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
            **self._settings,
        }

    @property
    def _nothing(self) -> int:
        return int(self.action_space.n)

    def _values(self, hidden: Tensor) -> Tensor:
        return self.value_head(hidden.to(self.value_head.weight.dtype)).float()  # [B, 1]

    def _chosen(
        self, lm: LanguageModel, prefixes: Prefixes, rows: Any, steps: Any, **settings: Any
    ) -> Chosen:
        """What a model says of tokens, among those that a blocklist allows."""
        guard = None if self._texts is None else self._texts.guard
        allowed: Allowed | None = None
        if guard is not None:
            own = guard

            def allowed(part: np.ndarray) -> np.ndarray:
                before = Prefixes(
                    prefixes.tokens[rows[part]], prefixes.start, prefixes.nothing, steps[part]
                )
                return own.allowed_after(before)

        return chosen(lm, prefixes, rows, steps, allowed=allowed, **settings)

    def _allowed_logits(self, prefixes: Prefixes, logits: Tensor) -> Tensor:
        if self._texts is None or self._texts.guard is None:
            return logits
        allowed = torch.as_tensor(self._texts.guard.allowed_after(prefixes), device=logits.device)
        return logits.masked_fill(~allowed, -torch.inf)

    def _with_actions(self, obs: Any, actions: Tensor) -> tuple[Prefixes, np.ndarray, np.ndarray]:
        """Prefixes with the token that was written then: whole texts of which one token counts."""
        prefixes = self.prefixes(obs)
        rows, steps = np.arange(len(prefixes)), prefixes.written
        tokens = prefixes.tokens.copy()
        tokens[rows, self.prompt_length + steps] = actions.long().flatten().cpu().numpy()
        whole = Prefixes(tokens, prefixes.start, prefixes.nothing, steps + 1)
        return whole, rows, steps


def writer_of(log_probs: Tensor) -> LMPolicy | None:
    """Return the policy whose `forward` made these log-probabilities; None: another one did."""
    reference = getattr(log_probs, "textenv_writer", None)
    return None if reference is None else reference()


class _NoBonus(torch.autograd.Function):
    """−log π, which SB3 logs where there are no entropies; nothing is learned from it."""

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor) -> Tensor:
        return -log_probs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        if gradients[0].any():  # weighed by ent_coef
            raise ValueError(
                "policy_kwargs={'entropy': False} leaves the entropies out, and ent_coef is not 0: "
                "set ent_coef=0.0, or leave entropy= out"
            )
