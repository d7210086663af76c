"""What a user of Stable-Baselines3 writes to train a language model: each prefix, read in whole.

The naive side of `python -m benchmarks sb3`, and of the tests that ask for the same numbers. It is
as good as that way gets: batches are as wide as their longest prefix, the head is computed at the
last position alone, and SB3's own buffer and distribution do the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from itertools import islice
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor, nn


class NaivePolicy(ActorCriticPolicy):
    """A causal model of transformers that reads the whole prefix at every token.

    Args:
        observation_space: Token observations of a task without prompts, [T].
        action_space: `Discrete(V)`.
        lr_schedule: SB3's.
        use_sde: False.
        model: The model; it is trained in place.
        start: The token before the first.
        optimizer_class: As SB3's.
        optimizer_kwargs: As SB3's.
    """

    action_space: spaces.Discrete

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Callable[[float], float],
        use_sde: bool = False,
        *,
        model: Any,
        start: int,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self._made = (model, start)
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            use_sde,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        self.model, self.start = self._made
        head = self.model.get_output_embeddings()
        self.value_head = nn.Linear(head.weight.shape[1], 1, dtype=head.weight.dtype)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        make: Any = self.optimizer_class
        self.optimizer = make(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _read(self, obs: Any) -> tuple[Tensor, Tensor]:
        """Logits [B, V] and value [B, 1] at the end of each prefix."""
        nothing = int(self.action_space.n)
        length = (obs != nothing).sum(dim=1)
        ids = nn.functional.pad(obs, (1, 0), value=self.start)[:, : int(length.max()) + 1]
        mask = torch.arange(ids.shape[1]) <= length[:, None]
        ids = ids.masked_fill(~mask, 0)
        output = self.model.base_model(input_ids=ids, attention_mask=mask.long(), use_cache=False)
        states = output.last_hidden_state[torch.arange(len(ids)), length]
        return self.model.get_output_embeddings()(states), self.value_head(states).float()

    def _distribution(self, logits: Tensor) -> CategoricalDistribution:
        return CategoricalDistribution(logits.shape[1]).proba_distribution(logits)

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """As SB3's."""
        logits, values = self._read(obs)
        distribution = self._distribution(logits)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, values, distribution.log_prob(actions).float()

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """As SB3's."""
        logits, values = self._read(obs)
        distribution = self._distribution(logits)
        return values, distribution.log_prob(actions).float(), distribution.entropy().float()

    def predict_values(self, obs: Any) -> Tensor:
        """As SB3's."""
        return self._read(obs)[1]

    def get_distribution(self, obs: Any) -> CategoricalDistribution:
        """As SB3's."""
        return self._distribution(self._read(obs)[0])


class PartBuffer(RolloutBuffer):
    """SB3's own buffer; an epoch may end after some minibatches, so that a slow one can be timed.

    Attributes:
        minibatches: How many an epoch has; None: all.
    """

    minibatches: int | None = None

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """As SB3's."""
        yield from islice(super().get(batch_size), self.minibatches)
