"""What the agent sees of a state. One class for each kind; `parse` finds it by name.

B = states that are seen at once, V = vocabulary, H = the language model's hidden width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from textenv import mdp
from textenv.asking import Answer, check_size, likeliest
from textenv.errors import TextenvError
from textenv.plugins import Plugin, check_count
from textenv.spaces import UnicodeText
from textenv.task import Task

LARGEST = float(np.finfo(np.float32).max)


class Observation(Plugin):
    """A view of the state.

    Attributes:
        asks_model: Whether it needs what the language model says.
    """

    asks_model: ClassVar[bool] = False

    def check(self, task: Task) -> None:
        """Refuse a task that it does not fit; ValueError."""

    @abstractmethod
    def space(self, task: Task, load: Callable[[], Any]) -> spaces.Space:
        """Return the space of one observation.

        Args:
            task: The task.
            load: Returns the language model.
        """

    @abstractmethod
    def observe(self, task: Task, state: mdp.State, answer: Answer | None) -> Any:
        """Return fresh observations of B states, batched as Gymnasium batches the space.

        Args:
            task: The task.
            state: B states.
            answer: What the language model says of them, if `asks_model`.
        """


class Tokens(Observation):
    """The state itself: `Box(0, V, (P + T,), int64)`.

    The prompt is right-aligned before column P, what is written left-aligned from column P; the
    id V, one past the vocabulary, means "nothing here".
    """

    name: ClassVar[str] = "tokens"

    def space(self, task: Task, load: Callable[[], Any]) -> spaces.Box:
        """Return `Box(0, V, (P + T,), int64)`."""
        return spaces.Box(0, task.rules.nothing, (task.rules.width,), np.int64)

    def observe(self, task: Task, state: mdp.State, answer: Answer | None) -> npt.NDArray[np.int64]:
        """Return a copy of the tokens, int64 [B, P + T]."""
        return state.tokens.copy()


class Hidden(Observation):
    """The language model's last hidden state, at the end of the text: `Box(…, (H,), float32)`.

    It is what the model predicts the next token from. At a terminated state, where no model is
    asked, zeros.
    """

    name: ClassVar[str] = "hidden"
    asks_model: ClassVar[bool] = True

    def space(self, task: Task, load: Callable[[], Any]) -> spaces.Box:
        """Return a float32 box of shape (H,), bounded by the largest finite numbers."""
        return spaces.Box(-LARGEST, LARGEST, (load().hidden_size,), np.float32)

    def observe(
        self, task: Task, state: mdp.State, answer: Answer | None
    ) -> npt.NDArray[np.float32]:
        """Return float32 [B, H].

        Raises:
            TextenvError: the hidden state is not finite.
        """
        assert answer is not None
        seen = np.zeros((answer.batch, answer.width), dtype=np.float32)
        if answer.hidden is not None:
            seen[answer.rows] = answer.hidden.detach().float().cpu().numpy()
            if not np.isfinite(seen).all():
                raise TextenvError("the language model's hidden state holds NaN or ∞")
        return seen


class Probabilities(Observation):
    """The k likeliest next tokens and their probabilities under the language model.

    A Dict of `ids`, int64 [k], for an embedding, and `probabilities`, float32 [k], largest first:
    two boxes, which SB3's MultiInputPolicy, `FlattenObservation` and TorchRL take as they are. The
    order is that of `Candidates`, so that with both the i-th number is that of the i-th action
    (but for an end token that `Candidates` put last). Where fewer than k tokens can be written the
    rest has id V and probability 0; at a terminated state, where no model is asked, all of it.

    Args:
        k: 1 … V.
    """

    name: ClassVar[str] = "probabilities"
    asks_model: ClassVar[bool] = True

    def __init__(self, k: int) -> None:
        self.k = check_count("Probabilities(k)", k)

    def check(self, task: Task) -> None:
        """Refuse a vocabulary of fewer than k tokens; ValueError."""
        check_size(f"Probabilities({self.k})", self.k, task)

    def space(self, task: Task, load: Callable[[], Any]) -> spaces.Dict:
        """Return `Dict(ids=Box(0, V, (k,), int64), probabilities=Box(0, 1, (k,), float32))`."""
        ids = spaces.Box(0, task.rules.nothing, (self.k,), np.int64)
        return spaces.Dict(
            {"ids": ids, "probabilities": spaces.Box(0.0, 1.0, (self.k,), np.float32)}
        )

    def observe(
        self, task: Task, state: mdp.State, answer: Answer | None
    ) -> dict[str, npt.NDArray]:
        """Return ids, int64 [B, k], and probabilities, float32 [B, k]."""
        assert answer is not None
        found = likeliest(answer, task.rules.vocabulary_size, self.k)
        probabilities = np.where(found.ids == task.rules.nothing, 0.0, np.exp(found.log_probs))
        return {"ids": found.ids, "probabilities": probabilities.astype(np.float32)}


class Text(Observation):
    """The prompt and what is written, as one text; the end token is no part of it."""

    name: ClassVar[str] = "text"

    def space(self, task: Task, load: Callable[[], Any]) -> UnicodeText:
        """Return the space of all texts."""
        return UnicodeText()

    def observe(self, task: Task, state: mdp.State, answer: Answer | None) -> tuple[str, ...]:
        """Return B texts."""
        rules, decode = task.rules, task.vocabulary.decode
        return tuple(
            decode(mdp.prompt_ids(rules, row) + mdp.text_ids(rules, row)) for row in state.tokens
        )


OBSERVATIONS: dict[str, type[Observation]] = {
    kind.name: kind for kind in (Tokens, Hidden, Probabilities, Text)
}


def parse(value: Any) -> Observation:
    """Make an observation from `"probabilities:8"`, `{"name": …, "k": 8}` or an object."""
    return Observation.parse("observation", value, OBSERVATIONS)


def row_of(observation: Any, row: int) -> Any:
    """Take one observation out of a batch, in memory of its own."""
    if isinstance(observation, dict):
        return {key: row_of(value, row) for key, value in observation.items()}
    return observation[row].copy() if isinstance(observation, np.ndarray) else observation[row]
