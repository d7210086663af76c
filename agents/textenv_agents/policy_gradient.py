"""The policy-gradient agent, top to bottom: sample, compare, step.

    ∇J = E[Σ_t ∇log π(a_t|s_t)·A_t],   Δθ = α·∇J

(Williams 1992; Sutton et al. 2000; leave-one-out: Kool et al. 2019, Ahmadian et al. 2024.) One
gradient step per batch of fresh texts, so that every estimator is on-policy. The objective may hold
−β·KL(π‖ρ), ρ being the starting policy: its gradient is estimated without bias from the exact
divergence at each state that was visited, which has less variance than log π − log ρ of the
tokens that were drawn. Left out here: several epochs on one batch, clipping, adapters.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.logger import Logger
from torch import Tensor, nn

import textenv
from textenv.errors import RewardFaultError
from textenv.models import LanguageModel, Prefixes, Score, load
from textenv.models.base import divergences
from textenv_agents import advantages as adv
from textenv_agents import checkpoint, losses
from textenv_agents.config import PolicyGradientConfig
from textenv_agents.rollout import Episodes, collect, sample


class Batch(NamedTuple):
    """Episodes as the loss takes them, all [B, T] but `counts` [B].

    rewards: what was paid, the KL term included.
    returns: R(τ) or R_t of these.
    advantages: returns − baseline; 0 for texts that do not count.
    written: where a token was written.
    counts: 1, or 0 for texts whose reward failed and was skipped.
    """

    rewards: Tensor
    returns: Tensor
    advantages: Tensor
    written: Tensor
    counts: Tensor


class PolicyGradient:
    """REINFORCE and its descendants for a language model in a text environment.

    Args:
        policy: The language model to train, in place; or its name or folder. None: a copy of the
            environment's own starting policy.
        env: An id (a vector environment in SAME_STEP mode is made), or a `TextVectorEnv` in any
            autoreset mode.
        config: Settings; keywords replace some of them: `PolicyGradient(lm, id, seed=1)`.
        logger: SB3's logger; None: nothing is logged.

    Attributes:
        policy: The language model.
        reference: The policy as it was handed in, frozen; what the KL is measured against.
        tokens: How many tokens were written so far, `updates` how many steps were taken.

    Raises:
        ValueError: policy and environment have different vocabularies, or the number of rows is
            no multiple of the group.
    """

    def __init__(
        self,
        policy: LanguageModel | str | Path | None,
        env: str | VectorEnv,
        config: PolicyGradientConfig | None = None,
        *,
        logger: Logger | None = None,
        **settings: Any,
    ) -> None:
        if isinstance(env, VectorEnv):
            settings["episodes"] = env.num_envs
        self.config = replace(config or PolicyGradientConfig(), **settings)
        if isinstance(policy, str | Path):
            policy = load(str(policy))
        if policy is not None and not isinstance(policy, LanguageModel):
            raise ValueError(
                "expected a language model, its name or folder, or None, got "
                f"{type(policy).__name__}"
            )
        self.env = self._make_env(env, policy)
        self.policy = copy.deepcopy(self._texts.lm) if policy is None else policy
        self.reference = copy.deepcopy(self.policy).requires_grad_(False).eval()
        for model in (self.policy, self.reference):
            model.forget()
        if self.policy.vocabulary_size != self._texts.task.rules.vocabulary_size:
            raise ValueError(
                f"the policy has {self.policy.vocabulary_size} tokens, the environment "
                f"{self._texts.task.rules.vocabulary_size}: make the environment with lm=policy"
            )
        self.logger = logger or Logger(None, [])
        self.tokens = self.updates = self.skipped = 0
        self.generator = np.random.default_rng(self.config.seed)
        self.running_mean = adv.RunningMean(self.config.running_mean_decay)
        dtype = next(self.policy.parameters()).dtype
        # Made without torch's global generator, which is the caller's.
        self.value_head = nn.utils.skip_init(nn.Linear, self.policy.hidden_size, 1, dtype=dtype)
        nn.init.zeros_(self.value_head.weight)  # no baseline before there is something to learn
        nn.init.zeros_(self.value_head.bias)
        self.value_head.to(self.policy.device)
        self.optimizer = self._make_optimizer()
        self.value_optimizer = torch.optim.Adam(
            self.value_head.parameters(), lr=self.config.value_learning_rate
        )

    def learn(
        self,
        total_tokens: int,
        *,
        progress_bar: bool = False,
        callback: Callable[[PolicyGradient, dict[str, float]], Any] | None = None,
    ) -> Self:
        """Train until that many more tokens are written.

        Args:
            total_tokens: Tokens to write, at least.
            progress_bar: Show one, with the mean reward.
            callback: Called after each update with the agent and what was logged; training stops
                when it returns False.
        """
        from tqdm.auto import tqdm

        start, until = self.tokens, self.tokens + total_tokens
        with tqdm(total=total_tokens, disable=not progress_bar, unit="token") as bar:
            while self.tokens < until:
                before = self.tokens
                self._set_learning_rate((before - start) / total_tokens)
                metrics = self.update()
                bar.update(min(self.tokens, until) - before)
                bar.set_postfix(reward=f"{metrics['rollout/reward']:.2f}", refresh=False)
                if callback is not None and callback(self, metrics) is False:
                    break
        return self

    def update(self) -> dict[str, float]:
        """Write one batch of texts and take one step; return what was logged."""
        episodes = self.collect()
        self.tokens += int(episodes.prefixes.written.sum())
        self.skipped += int(episodes.faults.sum())
        self.updates += 1
        counting = ~episodes.faults
        if not counting.any():
            raise RewardFaultError(
                f"the reward failed for all {len(counting)} texts of this update: there is nothing "
                'to learn from; reward_fault="raise" says why'
            )
        metrics = self.step(episodes)
        written = episodes.prefixes.written
        metrics |= {
            "rollout/reward": float(episodes.rewards.sum(axis=1)[counting].mean()),
            "rollout/length": float(written.mean()),
            "rollout/skipped": float(self.skipped),
            "time/tokens": float(self.tokens),
            "time/updates": float(self.updates),
        }
        for name, value in metrics.items():
            self.logger.record(name, value)
        self.logger.dump(self.tokens)
        return metrics

    def collect(self) -> Episodes:
        """Let the policy write one text in each row, `group` of them after each prompt drawn."""
        rows, config = self.env.num_envs, self.config
        task = self._texts.task
        drawn = self.generator.integers(len(task.prompts), size=rows // config.group)
        uniforms = self.generator.random((rows, task.rules.max_tokens))
        return collect(self.env, self.policy, np.repeat(drawn, config.group), uniforms)

    def step(self, episodes: Episodes) -> dict[str, float]:
        """Take one gradient step on a batch of texts that the current policy wrote.

        Raises:
            FloatingPointError: the loss or the gradient is not finite; the weights are unchanged.
        """
        config = self.config
        use_value, use_kl = config.baseline == "value", config.kl_coefficient > 0
        score = self.policy.score(
            episodes.prefixes,
            entropy=config.entropy_coefficient > 0,
            hidden=use_value,
            distributions=use_kl,
        )
        kl = self.divergences(episodes.prefixes, score) if use_kl else None
        values = None
        if score.hidden is not None:
            values = self.value_head(score.hidden.detach())[..., 0]  # [B, T]
        batch = self.prepare(episodes, kl=kl, values=values)
        loss = self.loss(batch, score, kl)
        metrics = {"train/gradient_norm": self._descend(loss), "train/loss": float(loss.detach())}
        if kl is not None:
            metrics["rollout/kl"] = float(losses.kl_loss(kl.detach(), batch.written))
        if values is not None:
            error = losses.value_loss(values, batch.returns, batch.written)
            self.value_optimizer.zero_grad()
            error.backward()
            self.value_optimizer.step()
            metrics["train/value_loss"] = float(error.detach())
        if config.baseline == "running_mean":
            self.running_mean.update(float(batch.returns[:, 0][batch.counts > 0].mean()))
        return metrics

    def divergences(self, prefixes: Prefixes, score: Score) -> Tensor:
        """KL(π(·|s_t)‖ρ(·|s_t)) at every written token, [B, T], with gradient in π."""
        with torch.no_grad():
            reference = self.reference.score(prefixes, distributions=True)
        return divergences(score, reference)

    def prepare(
        self, episodes: Episodes, *, kl: Tensor | None = None, values: Tensor | None = None
    ) -> Batch:
        """Compute rewards with the KL term, returns and advantages.

        Args:
            episodes: N texts.
            kl: The divergence at each state, [N, T]; a token pays for that of the states after it.
            values: V(s_t), [N, T], for the learned baseline.
        """
        config = self.config
        place: dict[str, Any] = {"device": self.policy.device, "dtype": torch.float64}
        written = torch.as_tensor(episodes.written, device=self.policy.device)
        counts = torch.as_tensor(~episodes.faults, **place)
        rewards = torch.as_tensor(episodes.rewards, **place)
        if kl is not None:
            later = nn.functional.pad(kl.detach().to(rewards).masked_fill(~written, 0.0), (0, 1))
            rewards = rewards - config.kl_coefficient * later[:, 1:]
        to_go = config.returns == "to_go"
        returns = adv.reward_to_go(rewards) if to_go else adv.total_return(rewards)
        advantages = returns
        if config.baseline == "running_mean":
            advantages = returns - self.running_mean.value
        elif config.baseline == "value":
            assert values is not None
            advantages = returns - values.detach().to(returns)
        elif config.baseline == "leave_one_out":
            advantages = adv.leave_one_out(returns, config.group, counts)
        if config.normalise:
            advantages = adv.group_normalised(advantages, returns, config.group)
        # Texts that do not count drop out, and the others weigh as much as a full batch would.
        share = counts / counts.mean().clamp(min=1e-12)
        advantages = (advantages * share[:, None]).to(next(self.policy.parameters()).dtype)
        return Batch(rewards, returns.to(advantages), advantages, written, counts)

    def loss(self, batch: Batch, score: Score, kl: Tensor | None) -> Tensor:
        """−(the estimate of J − β·KL + c·H), whose gradient is the step's direction."""
        config = self.config
        loss = losses.policy_gradient_loss(
            score.log_probs, batch.advantages, batch.written, config.reduction
        )
        if kl is not None:
            near = losses.kl_loss(kl, batch.written, config.reduction)
            loss = loss + config.kl_coefficient * near
        if score.entropy is not None:
            bonus = losses.entropy_loss(score.entropy, batch.written, config.reduction)
            loss = loss + config.entropy_coefficient * bonus
        return loss

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
        rules = self._texts.task.rules
        prefixes = Prefixes.from_observations(tokens, rules.prompt_length, rules.nothing)
        logits = self.policy.next(prefixes).logits
        if deterministic:
            actions = logits.argmax(dim=-1).cpu().numpy()
        else:
            actions, _ = sample(logits, self.generator.random(len(logits)))
        return (actions if tokens.ndim > 1 else actions[0]), state

    def save(self, path: str | Path) -> None:
        """Write everything that training needs to go on into a folder, whole or not at all."""
        checkpoint.save(self, Path(path))

    @classmethod
    def load(
        cls, path: str | Path, env: str | VectorEnv | None = None, *, logger: Logger | None = None
    ) -> Self:
        """Read what `save` wrote.

        Args:
            path: The folder.
            env: As for the constructor; None: the environment that was trained in, if it has a
                spec that could be written down.
            logger: As for the constructor.

        Raises:
            CheckpointError: the folder is no checkpoint, is damaged, or of another version.
        """
        return checkpoint.load(cls, Path(path), env, logger)

    @property
    def _texts(self) -> Any:
        """The `TextVectorEnv` inside whatever wrappers."""
        return self.env.unwrapped

    def _make_env(self, env: str | VectorEnv, policy: LanguageModel | None) -> VectorEnv:
        if isinstance(env, str) and _is_ours(env):
            own = policy is not None and policy.vocabulary is not None
            keywords: dict[str, Any] = {"lm": policy} if own else {}
            return gym.make_vec(
                env,
                num_envs=self.config.episodes,
                autoreset_mode=AutoresetMode.SAME_STEP,
                **keywords,
            )
        if not isinstance(env, VectorEnv) or not isinstance(env.unwrapped, textenv.TextVectorEnv):
            raise ValueError(
                "expected an id such as 'textenv/GoodBad-v0' or a TextVectorEnv, as "
                f"gym.make_vec('textenv/GoodBad-v0', num_envs=64) makes it, got {env!r}"
            )
        if env.unwrapped.scoring != "step" or env.unwrapped.setup.observation != textenv.Tokens():
            raise ValueError('the agent needs scoring="step" and observation="tokens"')
        return env

    def _make_optimizer(self) -> torch.optim.Optimizer:
        parameters = [p for p in self.policy.parameters() if p.requires_grad]
        if self.config.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=self.config.learning_rate)
        return torch.optim.Adam(parameters, lr=self.config.learning_rate)

    def _set_learning_rate(self, done: float) -> None:
        """Follow the schedule, `done` being the share of the training that is behind."""
        left = 1 - done if self.config.schedule == "linear" else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * left

    def _descend(self, loss: Tensor) -> float:
        """Take one step of the policy's optimizer; return the gradient's norm before it."""
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {float(loss.detach())}: the step is not taken")
        self.optimizer.zero_grad()
        loss.backward()
        limit = self.config.max_gradient_norm
        parameters = [p for p in self.policy.parameters() if p.requires_grad]
        norm = nn.utils.clip_grad_norm_(parameters, float("inf") if limit is None else limit)
        if not torch.isfinite(norm):
            self.optimizer.zero_grad()
            raise FloatingPointError(f"the gradient's norm is {norm}: the step is not taken")
        self.optimizer.step()
        return float(norm)


def _is_ours(environment_id: str) -> bool:
    """Whether an id makes a `TextVectorEnv`, or may make one, being a function."""
    entry = gym.spec(environment_id).vector_entry_point
    if entry is None:
        return False
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    return not isinstance(creator, type) or issubclass(creator, textenv.TextVectorEnv)
