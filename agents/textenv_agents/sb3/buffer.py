"""A rollout buffer of whole texts: a token is stored once, and read once in each epoch.

SB3's own stores the whole observation at each step and hands out shuffled prefixes, T of them for a
text of T tokens. Here a text is one row of a minibatch, and `LMPolicy.evaluate_actions` reads it in
one pass. PPO and A2C run unchanged: all that they average over is flat, the tokens that count and
no others, in the order in which the policy evaluates them.

B = texts, N = tokens, E = environments, S = steps of a rollout, P + T = columns, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples

from textenv_agents.sb3.policy import LMPolicy, writer_of
from textenv_agents.sb3.text_space import check_spaces

_READ_AT_ONCE = 16_384  # tokens that the reference is asked about together


class Texts(NamedTuple):
    """What was written in one rollout: B pieces of texts, each by one row without an end within.

    tokens: int64 [B, P + T]; whole prefixes, up to the piece's last token.
    live: bool [B, T]; the tokens of this rollout. Those before them, and prompts, are context.
    env: int64 [B], who wrote it.
    first: int64 [B], at which step of the rollout it begins.
    length: int64 [B], how many tokens are live.
    """

    tokens: npt.NDArray[np.int64]
    live: npt.NDArray[np.bool_]
    env: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]


class SequenceRolloutBuffer(RolloutBuffer):
    """Store texts for `LMPolicy`: `PPO(LMPolicy, env, rollout_buffer_class=SequenceRolloutBuffer)`.

    A text that goes on from the rollout before keeps its earlier tokens as context; one that the
    rollout cuts off is bootstrapped with V, as SB3 does. Minibatches hold whole texts, about
    `batch_size` tokens of them: their number is that of tokens by `batch_size`, rounded.

    With `kl_coefficient` β each token pays β·(log π(a|s) − log ρ(a|s)), ρ being the policy's
    `reference`: the sampled estimate of the divergence, whose sum over a text is KL(π‖ρ) on
    average, and whose policy gradient is that of J − β·KL without bias. (The exact divergence of a
    visited state, charged to the token written there, would lack the gradient through that state's
    own distribution.) The reference is asked once a rollout, in one pass over whole texts, before
    advantages are computed; `rewards` then hold what was paid less the penalty.

    Args:
        buffer_size: S.
        observation_space: Token observations, as `SB3VecEnv` shows them.
        action_space: `Discrete(V)`.
        device: Where minibatches go.
        gae_lambda: As SB3's.
        gamma: As SB3's.
        n_envs: E.
        kl_coefficient: β ≥ 0: `rollout_buffer_kwargs={"kl_coefficient": 0.05}`.

    Attributes:
        kl: Mean of log π − log ρ over the tokens of the last rollout; None without β.

    Raises:
        ValueError: the spaces are not those of tokens, or β is negative.
    """

    observation_space: spaces.Box
    action_space: spaces.Discrete

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        gae_lambda: float = 1,
        gamma: float = 0.99,
        n_envs: int = 1,
        *,
        kl_coefficient: float = 0.0,
    ) -> None:
        check_spaces(observation_space, action_space)
        if not 0 <= kl_coefficient < np.inf:
            raise ValueError(f"expected kl_coefficient ≥ 0, got {kl_coefficient}")
        self.kl_coefficient = kl_coefficient
        self.kl: float | None = None
        self._policy: LMPolicy | None = None
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            device,
            gae_lambda=gae_lambda,
            gamma=gamma,
            n_envs=n_envs,
        )

    def reset(self) -> None:
        """Begin a rollout."""
        shape = (self.buffer_size, self.n_envs)
        self.actions = np.zeros(shape, dtype=np.int64)
        self.rewards, self.returns, self.episode_starts, self.values = np.zeros(
            (4, *shape), dtype=np.float32
        )
        self.log_probs, self.advantages = np.zeros((2, *shape), dtype=np.float32)
        self._starts: list[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        self._written = np.zeros(self.n_envs, dtype=np.int64)
        self._texts: Texts | None = None
        self.pos, self.full, self.generator_ready = 0, False, False

    def add(
        self,
        obs: Any,
        action: np.ndarray,
        reward: np.ndarray,
        episode_start: np.ndarray,
        value: torch.Tensor,
        log_prob: torch.Tensor,
    ) -> None:
        """Store one step of all rows: the token of each, and the observation of those that begin.

        Raises:
            ValueError: another policy than `LMPolicy` wrote, or an observation does not show what
                was written.
        """
        self._policy = writer_of(log_prob)
        if self._policy is None:
            raise ValueError(
                "SequenceRolloutBuffer stores texts for LMPolicy, and another policy wrote: use "
                "PPO(LMPolicy, env, rollout_buffer_class=SequenceRolloutBuffer)"
            )
        tokens = np.asarray(obs, dtype=np.int64)
        begins = np.asarray(episode_start, dtype=bool)
        begins = np.ones_like(begins) if self.pos == 0 else begins
        self._follow(tokens, begins)
        self.actions[self.pos] = action.reshape(self.n_envs)
        self.rewards[self.pos] = reward
        self.episode_starts[self.pos] = episode_start
        self.values[self.pos] = value.detach().cpu().numpy().reshape(-1)
        self.log_probs[self.pos] = log_prob.detach().cpu().numpy()
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: np.ndarray) -> None:
        """Charge the divergence, then compute advantages and returns as SB3 does.

        Args:
            last_values: V after the last step, [E].
            dones: Whether that step ended the text, bool [E].
        """
        if self.kl_coefficient:
            ratio = self.log_probs - self._reference_log_probs()
            self.kl = float(ratio.mean())
            self.rewards = self.rewards - self.kl_coefficient * ratio
        super().compute_returns_and_advantage(last_values, dones)

    def get(  # type: ignore[override]
        self, batch_size: int | None = None
    ) -> Generator[DictRolloutBufferSamples, None, None]:
        """Yield minibatches of whole texts, in random order (NumPy's, which SB3 seeds).

        Args:
            batch_size: About how many tokens; None: all.
        """
        if not self.full:
            raise ValueError(
                f"the rollout has {self.pos} of {self.buffer_size} steps: collect it before get()"
            )
        texts = self.texts()
        order = np.random.permutation(len(texts.env))  # noqa: NPY002  (SB3's seeded state)
        length = texts.length[order]
        total = int(length.sum())
        number = 1 if batch_size is None else max(round(total / batch_size), 1)
        # A text belongs to the minibatch in which its middle token falls.
        middle = np.cumsum(length) - (length + 1) // 2
        batch = middle * number // total
        for index in range(number):
            rows = order[batch == index]
            if len(rows):
                yield self._samples(texts, rows)

    def texts(self) -> Texts:
        """Return the texts of the rollout so far, put together from starts and tokens."""
        if self._texts is None or not self.full:
            self._texts = self._put_together()
        return self._texts

    def _follow(self, tokens: npt.NDArray[np.int64], begins: npt.NDArray[np.bool_]) -> None:
        """Note the rows that begin, and see that the others show what was written."""
        assert self._policy is not None
        start, nothing = self._policy.prompt_length, self.action_space.n
        shown = (tokens[:, start:] != nothing).sum(axis=1)
        rows = np.flatnonzero(begins)
        if len(rows):
            self._starts.append((self.pos, rows, tokens[rows]))
        written = np.where(begins, shown, self._written + 1)
        last = tokens[np.arange(self.n_envs), start + np.maximum(shown, 1) - 1]
        wrong = (shown != written) | (~begins & (last != self.actions[self.pos - 1]))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"row {row} wrote the token {self.actions[self.pos - 1, row]} as its "
                f"{written[row]}., but its next observation shows {shown[row]} tokens that end in "
                f"{last[row]}: SequenceRolloutBuffer puts texts together from their tokens. If "
                "learn() was interrupted before, or the environment written in since, begin new "
                "texts: agent.set_env(agent.get_env()). Otherwise leave out wrappers that change "
                f"observations or actions. P is {start} here"
            )
        self._written = written

    def _put_together(self) -> Texts:
        assert self._policy is not None
        start, nothing = self._policy.prompt_length, self.action_space.n
        env = np.concatenate([rows for _, rows, _ in self._starts])
        first = np.concatenate([np.full(len(rows), step) for step, rows, _ in self._starts])
        tokens = np.concatenate([shown for _, _, shown in self._starts])
        # A piece lasts until the row's next one begins, or the rollout ends.
        order = np.lexsort((first, env))
        env, first, tokens = env[order], first[order], tokens[order]
        following = np.append(first[1:], self.pos)
        ends = np.append(env[1:] != env[:-1], True)
        length = np.where(ends, self.pos, following) - first
        columns = np.arange(tokens.shape[1] - start)
        written = (tokens[:, start:] != nothing).sum(axis=1)
        live = (columns >= written[:, None]) & (columns < (written + length)[:, None])
        rows, steps = np.nonzero(live)
        tokens[rows, start + steps] = self.actions[first[rows] + steps - written[rows], env[rows]]
        return Texts(tokens, live, env, first, length)

    def _places(
        self, texts: Texts, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Step and environment of the live tokens of some texts, text by text: int64 [N] each."""
        length = texts.length[rows]
        behind = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        return np.repeat(texts.first[rows], length) + behind, np.repeat(texts.env[rows], length)

    def _samples(self, texts: Texts, rows: npt.NDArray[np.int64]) -> DictRolloutBufferSamples:
        places = self._places(texts, rows)
        flat = [array[places] for array in (self.actions, self.values, self.log_probs,
                                            self.advantages, self.returns)]  # fmt: skip
        # Read as prefixes, which are arrays of the machine: they go to no GPU and back.
        shown: dict[str, torch.Tensor] = {
            "tokens": torch.from_numpy(texts.tokens[rows]),
            "live": torch.from_numpy(texts.live[rows]),
        }
        return DictRolloutBufferSamples(shown, *map(self.to_torch, flat))

    def _reference_log_probs(self) -> npt.NDArray[np.float32]:
        """Log ρ of each token, [S, E]."""
        assert self._policy is not None
        texts, found = self.texts(), np.zeros_like(self.log_probs)
        at_once = max(_READ_AT_ONCE // texts.tokens.shape[1], 1)
        for first in range(0, len(texts.env), at_once):
            rows = np.arange(first, min(first + at_once, len(texts.env)))
            said = self._policy.reference_log_probs(texts.tokens[rows], texts.live[rows])
            found[self._places(texts, rows)] = said.float().cpu().numpy()
        return found
