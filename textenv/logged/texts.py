"""Texts that some policy wrote, with what each token was paid: learned from without writing.

The tokens, rewards and ends of N texts of one task as arrays, whatever file they came from.

N = texts, P = the longest prompt, T = the columns for writing, V = vocabulary, M = all actions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textenv import mdp
from textenv.logged.checks import HIGHEST_LOG_PROB, check_texts, refuse
from textenv.prefixes import Prefixes
from textenv.task import Task
from textenv.vocabulary import Vocabulary, same_vocabulary

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


class Transitions(NamedTuple):
    """The M actions of some texts, text after text and in the order in which they were written.

    states: What was there before each action; M prefixes, tokens [M, P + T].
    actions: int64 [M], the tokens that were written.
    rewards: float64 [M], what each was paid.
    next_states: What was there after it; M prefixes.
    terminated: bool [M], whether the task's rules ended the text there: nothing is worth more.
        At the end of a text that was cut off from outside it is False.
    texts: int64 [M], the number of the text, 0 … N − 1.
    """

    states: Prefixes
    actions: Numbers
    rewards: Floats
    next_states: Prefixes
    terminated: Mask
    texts: Numbers


def check_logged(texts: Any) -> None:
    """Refuse what is not yet read.

    Raises:
        TypeError: these are no `LoggedTexts`.
    """
    if not isinstance(texts, LoggedTexts):
        raise TypeError(
            f"expected LoggedTexts, got {texts!r:.80}: textenv.logged.load_minari(…) makes them of "
            "a Minari dataset, read_csv(…) of a CSV file"
        )


@dataclass(frozen=True, eq=False)
class LoggedTexts:
    """N logged texts of one task. Treat it as immutable.

    Attributes:
        prefixes: The texts, tokens int64 [N, P + T]; every written token was an action.
        rewards: float64 [N, T], what each token was paid; 0 behind the end.
        terminated: bool [N], whether the task's rules ended the text; False: cut off from outside.
        log_probs: float64 [N, T], log of the probability with which the policy that wrote them
            chose each token, 0 behind the end; None: not known.
        vocabulary: What the ids mean, which `check` notes; None: not known.

    Raises:
        ValueError: these are no arrays, or of other shapes or types; a text has no token, or a
            reward is no finite number or stands behind the end, or a log-probability is above 0.
    """

    prefixes: Prefixes
    rewards: Floats
    terminated: Mask
    log_probs: Floats | None = None
    vocabulary: Vocabulary | None = None

    def __post_init__(self) -> None:
        prefixes = self.prefixes
        number, steps = len(prefixes), prefixes.tokens.shape[1] - prefixes.start
        expected = {"rewards": (number, steps), "terminated": (number,)}
        if self.log_probs is not None:
            expected["log_probs"] = (number, steps)
        for name, shape in expected.items():
            values = getattr(self, name)
            if np.shape(values) != shape:
                raise ValueError(
                    f"expected {name} of shape {shape}, as the tokens say, got {np.shape(values)}"
                )
            kind = np.bool_ if name == "terminated" else np.generic  # ~1 is −2, not False
            if not isinstance(values, np.ndarray) or not np.issubdtype(values.dtype, kind):
                said = "bool" if name == "terminated" else "numbers"
                raise ValueError(f"expected {name} to be an array of {said}, got {values!r:.80}")
        refuse(prefixes.written < 1, "has no written token, so that there is nothing to learn")
        for name in expected:
            if name != "terminated":
                values = getattr(self, name)
                refuse(~np.isfinite(values), f"{name} must be finite, got {{}}", values)
                refuse((values != 0) & ~self.written, f"{name} behind the end: {{}}", values)
        if self.log_probs is not None:
            refuse(self.log_probs > HIGHEST_LOG_PROB, "log_probs are ≤ 0, got {}", self.log_probs)

    @classmethod
    def from_episodes(cls, episodes: Any, task: Task) -> LoggedTexts:
        """Take what `textenv_agents.rollout.collect` returned, without texts whose reward failed.

        Args:
            episodes: Has `prefixes`, `rewards`, `log_probs`, and bool [N] `faults`.
            task: Its task.
        """
        good = np.flatnonzero(~np.asarray(episodes.faults))
        prefixes = episodes.prefixes.rows(good)
        ended = np.asarray(mdp.terminal(task.rules, prefixes.state()))
        return cls(prefixes, episodes.rewards[good], ended, episodes.log_probs[good]).check(task)

    @property
    def written(self) -> Mask:
        """Bool [N, T]: where a token was written."""
        return self.prefixes.written_mask

    @property
    def actions(self) -> int:
        """M, how many tokens were written in all."""
        return int(self.prefixes.written.sum())

    def __len__(self) -> int:
        return len(self.prefixes)

    def rows(self, indices: npt.ArrayLike) -> LoggedTexts:
        """Take some texts, by index or by mask."""
        chosen = np.asarray(indices)
        if not chosen.size:
            chosen = chosen.astype(np.int64)  # of an empty list NumPy makes floats
        log_probs = None if self.log_probs is None else self.log_probs[chosen]
        return LoggedTexts(
            self.prefixes.rows(chosen),
            self.rewards[chosen],
            self.terminated[chosen],
            log_probs,
            self.vocabulary,
        )

    def returns(self) -> Floats:
        """What each text was paid in all, float64 [N]."""
        return self.rewards.sum(axis=1)

    def transitions(self) -> Transitions:
        """Every action with what was there before and after it; 2·M·(P + T) ids are copied.

        For a part of a long log: `texts.rows(indices).transitions()`.
        """
        prefixes, (texts, steps) = self.prefixes, np.nonzero(self.written)
        after = self.before(texts, steps + 1)
        return Transitions(
            states=self.before(texts, steps),
            actions=prefixes.tokens[texts, prefixes.start + steps],
            rewards=self.rewards[texts, steps],
            next_states=after,
            terminated=self.terminated[texts] & (after.written == prefixes.written[texts]),
            texts=texts,
        )

    def before(self, texts: Numbers, steps: Numbers) -> Prefixes:
        """Return what was there when a text had so many tokens.

        Args:
            texts: int64 [K], which texts.
            steps: int64 [K], how many of their written tokens are there, 0 … written.
        """
        prefixes = self.prefixes
        tokens = prefixes.tokens[texts]
        tokens[np.arange(tokens.shape[1]) >= prefixes.start + steps[:, None]] = prefixes.nothing
        return Prefixes(tokens, prefixes.start, prefixes.nothing, steps)

    def check(self, task: Task) -> LoggedTexts:
        """Refuse texts that this task's rules do not allow; return these, with its vocabulary.

        Raises:
            ValueError: V, P or T is another, the ids mean other tokens, an id is none, a text goes
                on behind its end, or its end is not what `terminated` says. The error names the
                text and the token.
        """
        check_texts(task, self.prefixes, self.terminated)
        self.check_vocabulary(task.vocabulary, task.name)
        return replace(self, vocabulary=task.vocabulary)

    def check_vocabulary(self, vocabulary: Vocabulary | None, whose: str) -> None:
        """Refuse a vocabulary in which the same ids mean other tokens.

        Args:
            vocabulary: A task's, or a language model's; None: nobody knows it.
            whose: Names it.

        Raises:
            ValueError: it is such a one.
        """
        own = self.vocabulary
        if own is None or vocabulary is None or same_vocabulary(own, vocabulary):
            return
        both = range(min(own.size, vocabulary.size))
        shown = [(i, own.token(i), vocabulary.token(i)) for i in both]
        first = next((f"; {i} is {a!r} there and {b!r} here" for i, a, b in shown if a != b), "")
        raise ValueError(
            f"these texts were written in another vocabulary than that of {whose}, {own.size:,} "
            f"tokens and {vocabulary.size:,}{first}: take the task and the language model with "
            "which they were recorded (lm=), or record again"
        )
