"""The one place that says which tokens a blocklist allows: environments and agents ask it.

B = rows, P = the longest prompt, T = the longest completion, V = vocabulary, in tokens.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from textenv import mdp
from textenv.errors import InvalidActionError
from textenv.filters.blocklist import Blocklist
from textenv.filters.endings import Endings
from textenv.filters.folding import normal_form
from textenv.filters.masks import Mask, Masks
from textenv.filters.pieces import Pieces, Place
from textenv.prefixes import Prefixes
from textenv.task import Task

_KEPT = 20_000  # prefixes whose state is remembered; then they grow old, and are forgotten


class Guard:
    """A blocklist for a task: which tokens may be written next.

    It is a pure function of the tokens. What it has read it remembers, so that a prefix that has
    grown by a token costs that token.

    A token is allowed if it completes no pattern. The end token always is, so that it is what is
    left where nothing else is. Without an end token, nor any token without text, a text could come
    to a place where each token completes a pattern: then a token is allowed only if the text can
    be written on from there, to a stop token or to T. A stop condition is not foreseen, and
    tokens that the vocabulary suppresses do not count as a way on.

    Args:
        task: What is written.
        blocklist: What must not be.

    Raises:
        TextenvError: nothing can be promised for the task's vocabulary.
        ValueError: after some prompt of the task no text can be written.
    """

    def __init__(self, task: Task, blocklist: Blocklist) -> None:
        self.blocklist = blocklist
        self._task, self._rules = task, task.rules
        self._pieces = Pieces(task.vocabulary)
        self._masks = Masks(blocklist.automaton, self._pieces, task.rules.end_token)
        self._prompts: dict[bytes, set[str]] = {}
        for row, prompt in zip(task.prompt_table, task.prompts, strict=True):
            self._prompts.setdefault(row.tobytes(), set()).add(normal_form(prompt))
        self._young: dict[bytes, Place[int]] = {}
        self._old: dict[bytes, Place[int]] = {}
        self._limit = _KEPT
        self._endings = Endings(task, self._pieces, self._masks)
        if self._endings.threaten:
            for row in task.prompt_table:
                self._check_start(row, "")

    def allowed(self, state: mdp.State) -> Mask:
        """Return which tokens may be written next, bool [B, V], fresh.

        All of them after the end, and after a text that holds a pattern: no environment goes there.

        Args:
            state: B states.
        """
        allowed = np.ones((len(state.tokens), self._rules.vocabulary_size), dtype=np.bool_)
        over = mdp.terminal(self._rules, state)
        self._limit = max(_KEPT, 2 * len(over))
        rows: dict[tuple[Place[int], int], list[int]] = {}
        for row in np.flatnonzero(~over).tolist():
            length = int(state.length[row])
            left = self._rules.max_tokens - length if self._endings.threaten else 0
            place = self._place(state.tokens[row], length)
            if place is not None:
                rows.setdefault((place, left), []).append(row)
        for (place, left), alike in rows.items():
            allowed[alike] = self._mask(place, left)
        return allowed

    def allowed_after(self, prefixes: Prefixes) -> Mask:
        """Return which tokens may be written after prefixes, bool [B, V], fresh."""
        return self.allowed(prefixes.state())

    def check_tokens(self, state: mdp.State, tokens: Any, ignored: Any = None) -> None:
        """Refuse tokens that are not allowed.

        Args:
            state: B states that go on.
            tokens: int64 [B].
            ignored: bool [B], rows that do not write; None: all do.

        Raises:
            InvalidActionError: one of them is not.
        """
        for row, token in enumerate(np.asarray(tokens).tolist()):
            if ignored is not None and ignored[row]:
                continue
            length = int(state.length[row])
            place = self._place(state.tokens[row], length)
            if place is None or not self._mask(place, self._rules.max_tokens - length)[token]:
                raise InvalidActionError(
                    self._refusal(token, row if len(state.tokens) > 1 else None)
                )

    def check_start(self, state: mdp.State, where: str = "") -> None:
        """Refuse one state to start from.

        Args:
            state: Not batched.
            where: What to add to "the prompt" and "the prefix" in messages.

        Raises:
            ValueError: what is written holds a pattern, the prompt ends inside a character, or
                no text can be written from there, though it goes on.
        """
        if self._place(state.tokens, int(state.length), where) is None:
            raise ValueError(
                f"the prefix{where} already holds a pattern of the blocklist: nothing can be "
                "promised of what is written after it; start from another"
            )
        if not mdp.terminal(self._rules, state):
            self._check_start(state.tokens, where, int(state.length))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # what it remembers is a function of tokens: copies of an environment share it

    def __getstate__(self) -> dict[str, Any]:
        """What was remembered is left out."""
        return self.__dict__ | {"_young": {}, "_old": {}}

    def _mask(self, place: Place[int], left: int) -> Mask:
        """The allowed tokens of one state, `left` tokens before T."""
        if self._endings.threaten:
            return self._endings.mask(place, left)
        return self._masks.mask(place)

    def _place(
        self, tokens: npt.NDArray[np.int64], length: int, where: str = ""
    ) -> Place[int] | None:
        """The state after what one row [P + T] has written; None where it holds a pattern.

        Remembered, or read on by a token from what is.
        """
        begin = self._rules.prompt_length
        key = tokens[: begin + length].tobytes()
        place = self._young.get(key) or self._old.get(key)
        if place is None:
            place = self._read(key, tokens, length, where)
        if place is None:
            return None
        if len(self._young) >= self._limit:
            self._young, self._old = {}, self._young
        self._young[key] = place
        return place

    def _read(
        self, key: bytes, tokens: npt.NDArray[np.int64], length: int, where: str
    ) -> Place[int] | None:
        begin, width = self._rules.prompt_length, tokens.itemsize
        if not length:
            return self._start(tokens[:begin], where)
        shorter = key[:-width]
        place = self._young.get(shorter) or self._old.get(shorter)
        unread = (
            tokens[begin : begin + length] if place is None else tokens[begin + length - 1 :][:1]
        )
        place = place or self._start(tokens[:begin], where)
        for token in unread.tolist():
            if token == self._rules.end_token:
                continue
            following = self._masks.follow(place, token)
            if following is None:
                return None
            place = following
        return place

    def _start(self, prompt: npt.NDArray[np.int64], where: str) -> Place[int]:
        """The state after a prompt [P], read as its tokens and as the task's text of them."""
        read: Place[int] = Place(0)
        for token in prompt[prompt != self._rules.nothing].tolist():
            read = self._pieces.follow(read, token, self._read_on) or read
        if read.tail and not self._pieces.falls_back:
            raise ValueError(
                f"the prompt{where} ends inside a character: with blocklist= give one that is whole"
            )
        state = self._pieces.settled(read)
        for text in self._prompts.get(prompt.tobytes(), ()):
            state |= self._read_on(0, text)
        return Place(state)

    def _read_on(self, state: int, text: str) -> int:
        """Read a prompt, which may hold patterns."""
        return self.blocklist.automaton.read(state, text).state

    def _check_start(self, tokens: npt.NDArray[np.int64], where: str, length: int = 0) -> None:
        place = self._place(tokens, length, where) if self._endings.threaten else None
        left = self._rules.max_tokens - length
        if place is not None and self._endings.longest(place) < left:
            ids = mdp.prompt_ids(self._rules, tokens)
            can = f"{self._endings.longest(place):.0f} of {left}"
            raise ValueError(
                f"the blocklist is impossible for {self._task.name}: after the prompt{where} "
                f"{self._task.vocabulary.decode(ids)!r} at most {can} tokens can be written "
                "before every token completes a pattern, and there is no end token; take patterns "
                "out, or give the task an end token"
            )

    def _refusal(self, token: int, row: int | None) -> str:
        where = "" if row is None else f" in row {row}"
        end = self._rules.end_token
        out = "" if end is None else f"; the end token, {end}, always is"
        return (
            f"the token {token}{where} is not allowed here by the blocklist: choose one where the "
            f"action mask is 1 (mask= puts it into info or observation, action_masks() returns it)"
            f"{out}"
        )
