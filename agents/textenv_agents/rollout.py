"""Collecting episodes: a queue of prompts, written by the rows of a vector environment.

A row whose text has ended takes the next prompt of the queue at once, so that no row waits for the
longest text. Every prompt of the queue is finished, whatever the length of its text: taking the
first texts to end instead would prefer short ones, and the estimate of the gradient would no longer
be that of the task.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from textenv import TextVectorEnv, mdp
from textenv.models import LanguageModel, Prefixes
from textenv.models.sampling import Kept, Sampling, draw, pack

PLAIN = Sampling()  # π itself


class Episodes(NamedTuple):
    """N finished texts, in the order of the queue.

    prefixes: The texts, tokens [N, P + T].
    rewards: float64 [N, T], what each token was paid.
    log_probs: float64 [N, T], log of the probability with which a_t was drawn, temperature and
        cuts included; 0 behind the end.
    faults: bool [N], texts whose reward failed and was skipped: they do not count.
    kept: What sampling left at each step, for every later score of these texts.
    penalised: How many texts' reward failed and was replaced by `fault_reward`: they count.
    parts: float64 [N] by term of a sum of rewards: what it paid over the whole text, weighted.
        {} for other rewards, and where the environment does not score at the end.
    """

    prefixes: Prefixes
    rewards: npt.NDArray[np.float64]
    log_probs: npt.NDArray[np.float64]
    faults: npt.NDArray[np.bool_]
    kept: Kept = Kept()
    penalised: int = 0
    parts: Mapping[str, npt.NDArray[np.float64]] = MappingProxyType({})

    @property
    def written(self) -> npt.NDArray[np.bool_]:
        """Bool [N, T]: where a token was written."""
        return self.prefixes.written_mask

    def cut_off(self, rules: mdp.Rules) -> npt.NDArray[np.int64]:
        """Indices of the texts that were cut off from outside, not finished by the rules."""
        return np.flatnonzero(~mdp.terminal(rules, self.prefixes.state()))


def collect(
    envs: VectorEnv,
    policy: LanguageModel,
    prompt_index: npt.NDArray[np.int64],
    uniforms: npt.NDArray[np.float64],
    *,
    sampling: Sampling = PLAIN,
) -> Episodes:
    """Let the policy write one text for each prompt of a queue.

    The texts do not depend on the number of rows, the autoreset mode or the moment at which a row
    is refilled. Once the queue is empty, rows that are done drop out of the question to the
    model. With a policy that cannot refill single rows, all rows begin together. With
    `scoring="deferred"` the texts are scored at the end, in one call of the reward.

    Args:
        envs: A `TextVectorEnv` whose actions are tokens, or wrappers around one. Its B rows may be
            more or fewer than N. What it was writing is given up.
        policy: Writes the texts.
        prompt_index: int64 [N], the queue: which of the task's prompts each text continues.
        uniforms: float64 [N, T] in [0, 1): u[i, t] chooses the t-th token of text i.
        sampling: Temperature and cuts; the default is π itself.

    Raises:
        ValueError: the queue is empty, holds a prompt that the task lacks, or does not fit the
            uniforms; or the environment's actions are not tokens, or it is no `TextVectorEnv`.
    """
    writing = _Writing(envs, policy, np.asarray(prompt_index), np.asarray(uniforms), sampling)
    writing.start()
    while len(writing.live):
        writing.step()
    return writing.episodes()


class _Writing:
    """The loop's state: N texts as far as they are written, and which row writes which.

    text: int64 [B], the text that each row writes; behind its end, the row is idle.
    live: int64 [L], the rows that write, in increasing order.
    """

    def __init__(
        self,
        envs: VectorEnv,
        policy: LanguageModel,
        prompt_index: npt.NDArray[np.int64],
        uniforms: npt.NDArray[np.float64],
        sampling: Sampling,
    ) -> None:
        texts: Any = texts_of(envs)
        self.texts = texts
        self.envs, self.policy, self.sampling = envs, policy, sampling
        self.rules: mdp.Rules = texts.task.rules
        _check(texts, prompt_index, uniforms)
        sampling.check(self.rules.vocabulary_size)
        self.prompt_index, self.uniforms = prompt_index, uniforms
        number, rules = len(prompt_index), self.rules
        self.tokens = mdp.initial(rules, texts.task.prompt_table[prompt_index]).tokens
        self.written = np.zeros(number, dtype=np.int64)
        self.rewards, self.log_probs = np.zeros((2, number, rules.max_tokens))
        self.faults = np.zeros(number, dtype=np.bool_)
        self.bits: npt.NDArray[np.uint8] | None = None
        self.guard = texts.setup.guard  # says what the blocklist allows; None: there is none
        if sampling.cuts or self.guard is not None:
            packed = (rules.vocabulary_size + 7) // 8
            self.bits = np.zeros((number, rules.max_tokens, packed), dtype=np.uint8)
        self.parts: dict[str, npt.NDArray[np.float64]] = {}
        self.ids: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        self.queued = 0  # the first text of the queue that no row has taken
        self.prepared = 0  # the first whose prompt the model has not been asked about in advance
        rows = envs.num_envs
        self.text = np.zeros(rows, dtype=np.int64)
        self.idle_for = np.zeros(rows, dtype=np.int64)  # tokens that an idle row has written
        self.live = np.zeros(0, dtype=np.int64)
        # Rows without a text write this token; nobody reads it.
        self.idle = next((i for i in range(self._size) if i not in rules.ending_tokens), 0)

    @property
    def _size(self) -> int:
        return self.rules.vocabulary_size

    def start(self) -> None:
        """Put the first texts of the queue into the rows."""
        rows = np.arange(self.envs.num_envs)
        self._take(rows)
        self.envs.reset(options={"prompt_index": self.prompt_index[self.text].tolist()})

    def step(self) -> None:
        """Write one token of each live text."""
        # 1. Draw.
        live, text = self.live, self.text[self.live]
        place = self.written[text]
        rules, sampling = self.rules, self.sampling
        prefixes = Prefixes(self.tokens[text], rules.prompt_length, rules.nothing, place)
        logits = self.policy.next(prefixes).logits
        allowed = None if self.guard is None else self.guard.allowed_after(prefixes)
        kept = sampling.keep(logits, place, rules.ending_tokens, allowed)
        drawn = draw(
            logits, self.uniforms[text, place], temperature=sampling.temperature, kept=kept
        )

        # 2. Write.
        actions = self._idle_actions()
        actions[live] = drawn.tokens
        _, paid, terminated, truncated, infos = self.envs.step(actions)
        self.tokens[text, rules.prompt_length + place] = drawn.tokens
        self.log_probs[text, place] = drawn.log_probs
        self.rewards[text, place] = paid[live]
        self.written[text] += 1
        if kept is not None and self.bits is not None:
            self.bits[text, place] = pack(kept)
        if infos:
            self._note(infos, live, text)

        # 3. Refill.
        self._refill(terminated | truncated)

    def _idle_actions(self) -> npt.NDArray[np.int64]:
        """What the rows write that have no text: one token, or another where it is not allowed."""
        actions = np.full(len(self.text), self.idle)
        if self.guard is None or len(self.live) == len(actions):
            return actions
        allowed = self.guard.allowed(self.texts.state)
        longer = allowed.copy()
        longer[:, list(self.rules.ending_tokens)] = False
        other = np.where(longer.any(axis=1), longer.argmax(axis=1), allowed.argmax(axis=1))
        return np.where(allowed[:, self.idle], actions, other)

    def episodes(self) -> Episodes:
        """Return the texts, all of them finished."""
        if self.texts.scoring == "deferred":
            scores = self.texts.score()
            self._settle(scores, self.texts.faulty_episodes, self.texts.episode_parts)
        rules = self.rules
        whole = Prefixes(self.tokens, rules.prompt_length, rules.nothing, self.written)
        kept = Kept(self.sampling.temperature, self.bits)
        skipped = self.faults & (self.texts.setup.scorer.fault == "skip")
        penalised = int((self.faults & ~skipped).sum())
        return Episodes(whole, self.rewards, self.log_probs, skipped, kept, penalised, self.parts)

    def _take(self, rows: npt.NDArray[np.int64]) -> None:
        """Give the next texts of the queue to the first of these rows; the others become idle."""
        taking = rows[: len(self.prompt_index) - self.queued]
        beyond = self.queued + len(taking) > self.prepared  # of what was asked about in advance
        if self.queued and len(taking) and beyond and self.policy.refills:
            self._prepare()
        self.text[taking] = np.arange(self.queued, self.queued + len(taking))
        self.queued += len(taking)
        self.idle_for[rows] = 0
        self.live = np.union1d(self.live, taking)

    def _prepare(self) -> None:
        """Ask the model about as many prompts as there are rows, before rows take them.

        It remembers them: many prompts in one pass cost less than a few at a time.
        """
        first = max(self.queued, self.prepared)
        texts = np.arange(first, min(first + len(self.text), len(self.prompt_index)))
        rules = self.rules
        nothing = np.zeros(len(texts), dtype=np.int64)
        self.policy.next(Prefixes(self.tokens[texts], rules.prompt_length, rules.nothing, nothing))
        self.prepared = int(texts[-1]) + 1

    def _refill(self, ended: npt.NDArray[np.bool_]) -> None:
        """Start the rows that need it: with the next texts, or idle ones from the beginning."""
        if len(self.live) < len(ended):
            idle = np.ones(len(ended), dtype=np.bool_)
            idle[self.live] = False
            self.idle_for[idle] += 1
            # Before the limit ends it, so that no reward is asked about the text of an idle row.
            # (Where T = 1, or a stop condition holds, it is asked, and the answer dropped.)
            ended |= idle & (self.idle_for >= self.rules.max_tokens - 1)
        if not ended.any():
            return
        self.live = self.live[~ended[self.live]]
        if not len(self.live) and self.queued == len(self.prompt_index):
            return
        rows = np.flatnonzero(ended)
        if self.policy.refills:
            self._take(rows)
        elif not len(self.live):
            ended[:] = True
            self._take(np.arange(len(ended)))
        else:
            self.idle_for[rows] = 0
        self.envs.reset(
            options={"prompt_index": self.prompt_index[self.text].tolist(), "reset_mask": ended}
        )

    def _note(
        self, infos: dict[str, Any], live: npt.NDArray[np.int64], text: npt.NDArray[np.int64]
    ) -> None:
        """Remember whose reward failed and, where it comes later, by which number."""
        # SAME_STEP says of the texts that have just ended in final_info, and of the others beside.
        for part in (infos, infos.get("final_info", {})):
            if "_reward_fault" in part:
                self.faults[text] |= part["_reward_fault"][live]
            if "_episode_id" in part:
                known = part["_episode_id"][live]
                self.ids.append((part["episode_id"][live[known]], text[known]))

    def _settle(
        self,
        scores: dict[int, float],
        faulty: frozenset[int],
        parts: dict[str, dict[int, float]],
    ) -> None:
        """Put the rewards that came later where the last token of each text was paid."""
        self.parts = {name: np.zeros(len(self.written)) for name in parts}
        for numbers, texts in self.ids:
            for number, text in zip(numbers.tolist(), texts.tolist(), strict=True):
                self.rewards[text, self.written[text] - 1] = scores[number]
                self.faults[text] |= number in faulty
                for name, part in parts.items():
                    self.parts[name][text] = part[number]


def texts_of(envs: VectorEnv) -> TextVectorEnv:
    """Return the `TextVectorEnv` inside whatever wrappers.

    Raises:
        ValueError: there is none, but a single environment, say.
    """
    texts = getattr(envs, "unwrapped", None)
    if not isinstance(texts, TextVectorEnv):
        raise ValueError(
            "expected a vector environment of textenv: gym.make_vec(…) in the place of gym.make, "
            f"got {envs!r:.80}"
        )
    return texts


def _check(
    texts: Any, prompt_index: npt.NDArray[np.int64], uniforms: npt.NDArray[np.float64]
) -> None:
    rules, prompts = texts.task.rules, len(texts.task.prompts)
    if texts.single_action_space != spaces.Discrete(rules.vocabulary_size):
        raise ValueError(
            f"episodes are collected token by token, but the actions are {texts.setup.action}: "
            'make the environment with action="all_tokens"'
        )
    if prompt_index.ndim != 1 or not len(prompt_index):
        raise ValueError(f"expected a queue of N ≥ 1 prompts, got shape {prompt_index.shape}")
    if prompt_index.min() < 0 or prompt_index.max() >= prompts:
        raise ValueError(
            f"prompt_index lies in 0 … {prompts - 1}, got {prompt_index.min()} … "
            f"{prompt_index.max()}"
        )
    expected = (len(prompt_index), rules.max_tokens)
    if uniforms.shape != expected:
        raise ValueError(f"expected uniforms of shape {expected}, got {uniforms.shape}")
