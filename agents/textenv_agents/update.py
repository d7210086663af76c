"""One update's pieces: what is learned from, what the models say of it, and steps that go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from textenv.models import LanguageModel, Prefixes
from textenv.models.sampling import Kept
from textenv_agents import losses
from textenv_agents.batching import Rows
from textenv_agents.rollout import Episodes


class Batch(NamedTuple):
    """Episodes as the loss takes them, all [B, T] but `counts` [B].

    rewards: what was paid, the KL term included.
    returns: what V(s_t) should be: R(τ), R_t, or A_t + V(s_t) with λ < 1.
    advantages: what multiplies ∇log π; 0 for texts that do not count.
    written: where a token was written, in texts that count.
    counts: 1, or 0 for texts whose reward failed and was skipped.
    log_probs: log π_old of what is written.
    values: V(s_t) before the update; None without the learned baseline.
    """

    rewards: Tensor
    returns: Tensor
    advantages: Tensor
    written: Tensor
    counts: Tensor
    log_probs: Tensor
    values: Tensor | None = None

    def rows(self, chosen: Rows) -> Batch:
        """Take some texts, by index."""
        index = torch.as_tensor(chosen, device=self.written.device)
        taken: list[Any] = [None if field is None else field[index] for field in self]
        return Batch(*taken)

    def totals(self, reduction: str) -> Totals:
        """What losses over these texts divide by: those that count alone."""
        written = self.written[self.counts > 0]
        return Totals(losses.number(written, reduction), losses.number(written, "tokens"))


class Reading(NamedTuple):
    """What is computed of texts in one pass, [B, T] each, with gradient.

    log_probs: log π(a_t|s_t), under the sampling's temperature and cuts.
    entropy: of π(·|s_t); None unless it is paid for.
    kl: KL(π(·|s_t)‖ρ(·|s_t)); None unless it is paid for.
    values: V(s_t); None without the learned baseline.
    """

    log_probs: Tensor
    entropy: Tensor | None = None
    kl: Tensor | None = None
    values: Tensor | None = None


class Known(NamedTuple):
    """What the reference says of N texts, for several readings of them.

    distributions: [M, V], log ρ(·|s_t) at the M tokens that are written, text by text.
    first: int64 [N + 1], which of them is the first of each text; at the end, M.
    """

    distributions: Tensor
    first: Rows

    @classmethod
    def of(cls, reference: LanguageModel, prefixes: Prefixes, kept: Kept) -> Known:
        """Ask the reference about texts, in one pass."""
        with torch.no_grad():
            score = reference.score(prefixes, sampling=kept, distributions=True)
        assert score.distributions is not None
        return cls(score.distributions, np.concatenate([[0], prefixes.written.cumsum()]))

    def rows(self, chosen: Rows) -> Known:
        """Take some texts, by index."""
        spans = [np.arange(self.first[row], self.first[row + 1]) for row in chosen]
        first = np.concatenate([[0], np.cumsum([len(span) for span in spans])])
        return Known(self.distributions[torch.as_tensor(np.concatenate(spans))], first)


class Totals(NamedTuple):
    """What the losses of a minibatch divide by, whatever parts it is read in."""

    policy: float
    tokens: float


class BadSteps:
    """Counts the steps whose loss or gradient is not finite, and ends the run after too many.

    Args:
        limit: So many in a row end it.

    Attributes:
        total: How many there were.
        in_a_row: How many since the last good one.
        folder: Where their texts are written for inspection; None: nowhere.
    """

    def __init__(self, limit: int, folder: str | Path | None = None) -> None:
        self.limit = limit
        self.total = self.in_a_row = 0
        self.folder = None if folder is None else Path(folder)

    def good(self) -> None:
        """Note a step that was taken."""
        self.in_a_row = 0

    def bad(self, what: str, episodes: Episodes, texts: Rows, updates: int) -> None:
        """Note a step that was left out.

        Args:
            what: What was not finite.
            episodes: The update's texts.
            texts: Those of the step.
            updates: Which update it is.

        Raises:
            FloatingPointError: it was one too many in a row.
        """
        self.total += 1
        self.in_a_row += 1
        where = " inspect_folder=… would have kept its texts;"
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = _free(self.folder / f"bad-step-{self.total}.pt")
            torch.save(_inspection(what, episodes, texts, updates), path)
            where = f" its texts are in {str(path)!r} (torch.load);"
        if self.in_a_row >= self.limit:
            raise FloatingPointError(
                f"{what}: the step of update {updates} is left out, as {self.in_a_row} in a row "
                f"were (max_bad_steps={self.limit});{where} the weights are those of the last good "
                "step. Look at the rewards, or lower the learning_rate"
            )


def finite_gradient_norm(parameters: list[nn.Parameter], limit: float | None) -> float | None:
    """Shorten the gradient to `limit` and return its norm before that; None: not finite."""
    norm = nn.utils.clip_grad_norm_(parameters, float("inf") if limit is None else limit)
    return float(norm) if torch.isfinite(norm) else None


def spread(parts: list[Rows], values: Sequence[Tensor | None]) -> Tensor | None:
    """Put all parts' values, [n, T] each, where they belong in [N, T]; None: there are none."""
    known = [part.detach() for part in values if part is not None]
    if not known:
        return None
    order = torch.as_tensor(np.concatenate(parts).argsort(), device=known[0].device)
    return torch.cat(known)[order]


def _free(path: Path) -> Path:
    """That path, or with a number behind its name: another agent may have written there."""
    others = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return next(other for other in chain([path], others) if not other.exists())


def _inspection(what: str, episodes: Episodes, texts: Rows, updates: int) -> dict[str, Any]:
    """What `torch.load(weights_only=True)` gives back."""
    prefixes = episodes.prefixes
    arrays = {
        "tokens": prefixes.tokens,
        "written": prefixes.written,
        "rewards": episodes.rewards,
        "log_probs": episodes.log_probs,
        "faults": episodes.faults,
    }
    found: dict[str, Any] = {name: torch.as_tensor(array[texts]) for name, array in arrays.items()}
    return found | {"what": what, "updates": updates, "start": prefixes.start}
