"""The policy-gradient agent, top to bottom: sample, compare, step.

    ∇J = E[Σ_t ∇log π(a_t|s_t)·A_t],   Δθ = α·∇J

(Williams 1992; Sutton et al. 2000; leave-one-out: Kool et al. 2019, Ahmadian et al. 2024.) By
default one gradient step per batch of fresh texts, so that every estimator is on-policy; PPO takes
several. The objective may hold −β·KL(π‖ρ), ρ being the starting policy: its gradient is estimated
without bias from the exact divergence at each state that was visited, which has less variance than
log π − log ρ of the tokens that were drawn. Elsewhere: the agent around it (`agent`), formulas
(`advantages`, `losses`), texts (`rollout`), and the machine (`batching`, `memory`, `hardware`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from textenv.errors import RewardFaultError
from textenv.models.base import divergences
from textenv_agents import losses
from textenv_agents.advantages import compared
from textenv_agents.agent import Agent
from textenv_agents.batching import Rows, minibatches
from textenv_agents.rollout import Episodes, collect
from textenv_agents.update import Batch, Known, Reading, Totals, finite_gradient_norm, spread


class PolicyGradient(Agent):
    """REINFORCE and its descendants for a language model in a text environment.

    `Agent` documents arguments and attributes, `PolicyGradientConfig` the settings.
    """

    # 1. Sample.

    def update(self) -> dict[str, float]:
        """Write one batch of texts and learn from it; return what was logged."""
        episodes = self.collect()
        self._forget()  # what was read while writing takes no room in the update
        self.tokens += int(episodes.prefixes.written.sum())
        self.skipped += int(episodes.faults.sum())
        self.penalised += episodes.penalised
        self.updates += 1
        counting = ~episodes.faults
        if not counting.any():
            raise RewardFaultError(
                f"the reward failed for all {len(counting)} texts of this update: there is nothing "
                'to learn from; reward_fault="raise" says why'
            )
        metrics = self.step(episodes)
        self._forget()  # so that the next update begins as it would after an interruption
        metrics |= {
            "rollout/reward": float(episodes.rewards.sum(axis=1)[counting].mean()),
            "rollout/length": float(episodes.prefixes.written.mean()),
            "rollout/skipped": float(self.skipped),
            "rollout/penalised": float(self.penalised),
            "time/tokens": float(self.tokens),
            "time/updates": float(self.updates),
        }
        for name, value in metrics.items():
            self.logger.record(name, value)
        self.logger.dump(self.tokens)
        return metrics

    def collect(self) -> Episodes:
        """Let the policy write `episodes` texts, `group` of them after each prompt drawn."""
        config, task = self.config, self._texts.task
        drawn = self.generator.integers(len(task.prompts), size=config.texts // config.group)
        uniforms = self.generator.random((config.texts, task.rules.max_tokens))
        prompts = np.repeat(drawn, config.group)
        with self.hardware.computing():
            return collect(self.env, self.policy, prompts, uniforms, sampling=config.sampling)

    # 2. Compare.

    def read(
        self, episodes: Episodes, texts: Rows | None = None, known: Known | None = None
    ) -> Reading:
        """Ask the policy about texts, with gradient, and the reference where a KL is paid for.

        Args:
            episodes: Texts.
            texts: Which of them; None: all.
            known: What the reference says of all of them, if that was kept; else it is asked.
        """
        prefixes, kept = episodes.prefixes, episodes.kept
        if texts is not None:
            prefixes, kept = prefixes.rows(texts), kept.rows(texts)
        kl = values = None
        with self.hardware.updating():
            score = self.policy.score(
                prefixes,
                sampling=kept,
                entropy=self.config.entropy_coefficient > 0,
                hidden=self.config.baseline == "value",
                distributions=self.kl.coefficient > 0,
            )
            if self.kl.coefficient > 0:
                if known is None:
                    known = Known.of(self.reference, prefixes, kept)
                elif texts is not None:
                    known = known.rows(texts)
                kl = divergences(score, score._replace(distributions=known.distributions))
        if score.hidden is not None:
            values = self._value(score.hidden)  # [B, T]
        return Reading(score.log_probs, score.entropy, kl, values)

    def prepare(
        self,
        episodes: Episodes,
        *,
        kl: Tensor | None = None,
        values: Tensor | None = None,
        bootstrap: Tensor | None = None,
    ) -> Batch:
        """Compute rewards with the KL term, returns and advantages.

        Args:
            episodes: N texts.
            kl: The divergence at each state, [N, T]; a token pays for that of the states after it.
            values: V(s_t), [N, T], for the learned baseline.
            bootstrap: V after the last token, [N], 0 for finished texts; None: all are finished.
        """
        config = self.config
        place: dict[str, Any] = {"device": self.policy.device, "dtype": torch.float64}
        counts = torch.as_tensor(~episodes.faults, **place)
        written = torch.as_tensor(episodes.written, device=self.policy.device)
        written = written & (counts > 0)[:, None]
        rewards = torch.as_tensor(episodes.rewards, **place)
        if kl is not None:
            later = nn.functional.pad(kl.detach().to(rewards).masked_fill(~written, 0.0), (0, 1))
            rewards = rewards - self.kl.coefficient * later[:, 1:]
        mean = self.running_mean.value
        returns, advantages = compared(
            config, rewards, written, counts, values=values, bootstrap=bootstrap, mean=mean
        )
        own = self.value_head.weight.dtype
        return Batch(
            rewards,
            returns.to(own),
            advantages.masked_fill((counts == 0)[:, None], 0.0).to(own),
            written,
            counts,
            torch.as_tensor(episodes.log_probs, **place),
            None if values is None else values.detach().to(own),
        )

    def loss(self, batch: Batch, reading: Reading, total: float | None = None) -> Tensor:
        """−(the estimate of J − β·KL + c·H), whose gradient is the step's direction.

        Args:
            batch: Texts.
            reading: What was read of them.
            total: What is divided by, of the minibatch that they are a part of; None: of these.
        """
        config, written, reduction = self.config, batch.written, self.config.reduction
        total = batch.totals(reduction).policy if total is None else total
        log_probs, advantages = reading.log_probs, batch.advantages
        if config.loss == "ppo":
            ppo: dict[str, Any] = {"clip": config.clip, "ratio": config.ratio}
            old = batch.log_probs.to(log_probs)
            loss = losses.ppo_loss(log_probs, old, advantages, written, reduction, total, **ppo)
        else:
            loss = losses.policy_gradient_loss(log_probs, advantages, written, reduction, total)
        if reading.kl is not None:
            near = losses.kl_loss(reading.kl, written, reduction, total)
            loss = loss + self.kl.coefficient * near
        if reading.entropy is not None:
            bonus = losses.entropy_loss(reading.entropy, written, reduction, total)
            loss = loss + config.entropy_coefficient * bonus
        return loss

    # 3. Step.

    def step(self, episodes: Episodes) -> dict[str, float]:
        """Learn from texts that the current policy wrote: `epochs` × `minibatches` gradient steps.

        A step whose loss or gradient is not finite is left out and counted.

        Raises:
            FloatingPointError: too many in a row were; the weights are those of the last good one.
        """
        config, number = self.config, len(episodes.prefixes)
        parts = self.memory.parts(np.arange(number), episodes.prefixes)
        known = self._known(episodes)
        # Where one part of one minibatch holds all texts, what is read once serves twice.
        once = self.read(episodes, known=known) if len(parts) == config.minibatches == 1 else None
        batch, kl = self._survey(episodes, parts, once, known)
        steps = []
        for _ in range(config.epochs):
            for texts in minibatches(self.generator, number, config.minibatches):
                taken = self._descend(episodes, batch, texts, once, known)
                once = None
                if taken is not None:
                    steps.append(taken)
        metrics = {"train/bad_steps": float(self.bad_steps.total)}
        if not steps:
            return metrics
        metrics |= {name: float(np.mean([step[name] for step in steps])) for name in steps[0]}
        if kl is not None:
            mean = losses.kl_loss(kl, batch.written, total=batch.totals("episodes").policy)
            metrics["rollout/kl"] = float(mean)
            metrics["train/kl_coefficient"] = self.kl.coefficient
            self.kl.update(metrics["rollout/kl"])
        if config.baseline == "running_mean":
            self.running_mean.update(float(batch.returns[:, 0][batch.counts > 0].mean()))
        return metrics

    def _known(self, episodes: Episodes) -> Known | None:
        """Ask the reference once for all steps of this update; None: each reading asks."""
        several = self.config.epochs * self.config.minibatches > 1
        if not (several and self.kl.coefficient > 0 and self.memory.keeps(episodes.prefixes)):
            return None
        with self.hardware.updating():
            return Known.of(self.reference, episodes.prefixes, episodes.kept)

    def _survey(
        self, episodes: Episodes, parts: list[Rows], once: Reading | None, known: Known | None
    ) -> tuple[Batch, Tensor | None]:
        """Compute what every step of this update learns from, and the KL at each state [N, T]."""
        if self.config.baseline != "value" and not self.kl.coefficient > 0:
            return self.prepare(episodes), None
        with torch.no_grad():
            readings = [once] if once else [self.read(episodes, part, known) for part in parts]
            kl = spread(parts, [reading.kl for reading in readings])
            values = spread(parts, [reading.values for reading in readings])
            bootstrap = None if values is None else self._bootstrap(episodes)
        return self.prepare(episodes, kl=kl, values=values, bootstrap=bootstrap), kl

    def _descend(
        self,
        episodes: Episodes,
        batch: Batch,
        texts: Rows,
        once: Reading | None,
        known: Known | None,
    ) -> dict[str, float] | None:
        """Take one gradient step on some texts, read in parts that fit; None: it was left out."""
        config, taken = self.config, batch.rows(texts)
        if not taken.counts.any():
            return None
        totals = taken.totals(config.reduction)
        sums: dict[str, float] = {}
        for optimizer in (self.optimizer, self.value_optimizer):
            optimizer.zero_grad()
        for part in self.memory.parts(texts, episodes.prefixes):
            reading = once if once is not None else self.read(episodes, part, known)
            for name, value in self._backward(batch.rows(part), reading, totals).items():
                sums[name] = sums.get(name, 0.0) + value
        norm = finite_gradient_norm(self._trained, config.max_gradient_norm)
        wrong = [name for name, value in sums.items() if not np.isfinite(value)]
        if wrong or norm is None:
            for optimizer in (self.optimizer, self.value_optimizer):
                optimizer.zero_grad()
            what = f"{wrong[0]} is {sums[wrong[0]]}" if wrong else "the gradient is not finite"
            self.bad_steps.bad(what, episodes, texts, self.updates)
            return None
        self.optimizer.step()
        if config.baseline == "value":
            self.value_optimizer.step()
        self.bad_steps.good()
        return {"train/gradient_norm": norm, **sums}

    def _backward(self, batch: Batch, reading: Reading, totals: Totals) -> dict[str, float]:
        """Add a part's gradients; return what it adds to the losses and shares of its minibatch."""
        config = self.config
        loss = self.loss(batch, reading, totals.policy)
        loss.backward()
        sums = {"train/loss": float(loss.detach())}
        if config.loss == "ppo":
            old, written = batch.log_probs, batch.written
            clipped = losses.clipped(reading.log_probs, old, written, config.clip, config.ratio)
            sums["train/clipped"] = float(clipped.sum()) / totals.tokens
        if reading.values is not None:
            value: dict[str, Any] = {"old_values": batch.values, "clip": config.value_clip}
            read = reading.values, batch.returns, batch.written
            error = losses.value_loss(*read, totals.tokens, **value)
            error.backward()
            sums["train/value_loss"] = float(error.detach())
        return sums

    def _value(self, hidden: Tensor) -> Tensor:
        """V(s), with gradient in the value head alone: hidden [..., H] → [...]."""
        return self.value_head(hidden.detach().to(self.value_head.weight.dtype))[..., 0]

    def _bootstrap(self, episodes: Episodes) -> Tensor | None:
        """V after the last token of texts that were cut off from outside, [N]; None: none was."""
        prefixes, cut = episodes.prefixes, episodes.cut_off(self._texts.task.rules)
        if not len(cut):
            return None
        values = self.value_head.weight.new_zeros(len(prefixes))
        for part in self.memory.parts(cut, prefixes):
            with self.hardware.computing():
                hidden = self.policy.next(prefixes.rows(part)).hidden
            values[torch.as_tensor(part, device=values.device)] = self._value(hidden)
            self.policy.forget()
        return values
