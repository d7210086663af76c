"""The space of "tokens" observations, which tells a policy what it needs to know of the task.

Stable-Baselines3 hands a policy its two spaces and nothing else. Where writing starts in an
observation, which model starts, and what a blocklist forbids, stands therefore in the space.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from textenv import TextEnv
from textenv.filters.guard import Guard
from textenv.prefixes import Prefixes
from textenv.setup import Setup
from textenv.vocabulary import same_vocabulary


class TextSpace(spaces.Box):
    """`Box(0, V, (P + T,), int64)`, and what it is of.

    Args:
        setup: The environment's parts.

    Attributes:
        prompt_length: P.
        vocabulary: The task's.
        guard: Says what a blocklist allows; None: there is none.
    """

    def __init__(self, setup: Setup) -> None:
        rules = setup.rules
        super().__init__(0, rules.nothing, (rules.width,), np.int64)
        self.prompt_length = rules.prompt_length
        self.vocabulary = setup.task.vocabulary
        self.guard: Guard | None = setup.guard
        self._model = setup.model

    def language_model(self) -> Any:
        """Return the environment's language model; None: it has none."""
        return self._model.load()

    def __eq__(self, other: object, /) -> bool:
        """Whether it is the same box; of two text spaces, also of the same texts."""
        alike = super().__eq__(other)
        if not alike or not isinstance(other, TextSpace):
            return alike
        same = same_vocabulary(self.vocabulary, other.vocabulary)
        return same and self.prompt_length == other.prompt_length

    __hash__ = None  # type: ignore[assignment]  # as that of all boxes

    def __repr__(self) -> str:
        """What tells two text spaces apart, in SB3's messages."""
        size = self.vocabulary.size
        first = ", ".join(repr(self.vocabulary.token(number)) for number in range(min(size, 4)))
        more = ", …" if size > 4 else ""
        return f"TextSpace({self.shape[0]} columns, P = {self.prompt_length}, tokens {first}{more})"


def with_texts(env: VectorEnv) -> spaces.Space:
    """Return a vector environment's observation space, a `TextSpace` where it shows tokens."""
    space, inner = env.single_observation_space, env.unwrapped
    setup = getattr(inner, "setup", None)
    singles = getattr(inner, "envs", None)
    if setup is None and singles and isinstance(singles[0].unwrapped, TextEnv):
        setup = singles[0].unwrapped.setup
    if isinstance(setup, Setup) and setup.shows_tokens and space == setup.observation_space:
        return TextSpace(setup)
    return space


def check_spaces(observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """Refuse spaces of anything but tokens.

    Raises:
        ValueError: they are.
    """
    if isinstance(observation_space, spaces.Dict):
        raise ValueError(
            f"LMPolicy reads token observations, got {observation_space}: leave mask= (or what "
            "makes them a dict) out; a blocklist is kept without it"
        )
    if not isinstance(action_space, spaces.Discrete):
        raise ValueError(
            f"LMPolicy writes one token at a time, got the actions {action_space}: make the "
            'environment with action="all_tokens"'
        )
    box = observation_space
    tokens = isinstance(box, spaces.Box) and box.dtype == np.int64 and len(box.shape) == 1
    if not tokens or int(box.low.min()) != 0:  # type: ignore[attr-defined]
        raise ValueError(
            f"LMPolicy reads token observations, Box(0, V, (P + T,), int64), got {box}: make the "
            'environment with observation="tokens" and without wrappers that change it'
        )
    size = int(box.high.max())  # type: ignore[attr-defined]
    if action_space.n != size or action_space.start != 0:
        raise ValueError(
            f"LMPolicy writes all of the {size} tokens, got the actions {action_space}: make the "
            'environment with action="all_tokens"; for "candidates:k" take SB3\'s own policies'
        )


def start_of_writing(given: int | None, space: spaces.Space) -> int:
    """Return P, which the space says, or somebody did.

    Args:
        given: What somebody said, or None.
        space: Of token observations.

    Raises:
        ValueError: nobody says it, or it cannot be what was said.
    """
    own = space.prompt_length if isinstance(space, TextSpace) else None
    if own is not None and given in (None, own):
        return own
    assert space.shape is not None
    if own is None and given is None:
        raise ValueError(
            "the observation space does not say where writing starts: make the environment by "
            "SB3VecEnv(id, 32), or give policy_kwargs={'prompt_length': P}"
        )
    if own is not None or given is None or given not in range(space.shape[0]):
        expected = f"0 … {space.shape[0] - 1}" if own is None else f"{own}, or to leave it out"
        raise ValueError(f"expected prompt_length={expected}, got {given!r}")
    return int(given)


def read_prefixes(tokens: Any, start: int, nothing: int, *, check_places: bool) -> Prefixes:
    """Read token observations as prefixes.

    Args:
        tokens: [B, P + T].
        start: P.
        nothing: V.
        check_places: Whether to see that P is right, which a space that says it need not.

    Raises:
        ValueError: they are whole texts, or what a wrapper made of tokens, or P is wrong.
    """
    if isinstance(tokens, dict):
        raise ValueError(
            "expected token observations, [B, P + T], got a dict: PPO and A2C learn from whole "
            "texts, other algorithms cannot"
        )
    observations = np.asarray(tokens)
    if observations.dtype.kind not in "iu":
        raise ValueError(
            f"expected token observations, [B, P + T], integers, got {observations.dtype}: leave "
            "out wrappers that change them, as in VecNormalize(env, norm_obs=False)"
        )
    prefixes = Prefixes.from_observations(observations, start, nothing)
    if check_places:
        there, columns = prefixes.tokens != nothing, np.arange(prefixes.tokens.shape[1])
        gaps = there != ((columns >= prefixes.begin[:, None]) & (columns < prefixes.end[:, None]))
        if gaps.any():
            row = prefixes.tokens[int(gaps.any(axis=1).argmax())]
            raise ValueError(
                f"no prompt can end, and no writing begin, at column {start} of the observation "
                f"{row.tolist()}: give policy_kwargs={{'prompt_length': P}} as it is, "
                "env.unwrapped.task.rules.prompt_length"
            )
    return prefixes
