"""The rules of writing text token by token, as pure functions on a State of arrays.

Nothing here knows about seeds, spaces, rewards or language models: a planner can call
`transition` and `terminal` without an environment. The same functions serve one episode
(arrays without a batch axis) and B episodes at once (arrays that start with B).

P = the longest prompt, T = the longest completion, V = the size of the vocabulary, in tokens.
The id V, one past the vocabulary, means "nothing here".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Columns = Mapping[str, Any]


class State(NamedTuple):
    """Where writing stands: the prompt and the tokens written so far. Treat it as immutable.

    tokens: int64 [..., P + T]; the prompt right-aligned before column P, what is written
        left-aligned from column P, V elsewhere. After the end nothing is written any more.
    length: how many tokens are written, 0 … T; an int, or int64 [B].
    prompt_index: which of the task's prompts it is, −1 for one that the caller gave; int or [B].
    columns: the caller's own columns for the reward (`reset(options={"columns": …})`), else
        None; for B episodes a tuple of B such entries, or None when no row has any.
    """

    tokens: npt.NDArray[np.int64]
    length: Any
    prompt_index: Any
    columns: Any = None


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What `transition` and `terminal` need to know of a task.

    Attributes:
        vocabulary_size: V; actions are 0 … V − 1.
        prompt_length: P ≥ 0, the longest prompt in tokens.
        max_tokens: T ≥ 1; an episode terminates at T written tokens.
        end_token: id that ends the text and is not part of it, or None.
        stop_tokens: ids that end the text and are part of it.
        stop_condition: (rules, state) → bool, or bool [B]: a further reason to end, asked
            after every token. A pure function of the state.
    """

    vocabulary_size: int
    prompt_length: int
    max_tokens: int
    end_token: int | None = None
    stop_tokens: tuple[int, ...] = ()
    stop_condition: Callable[[Rules, State], Any] | None = None

    def __post_init__(self) -> None:
        for name in ("vocabulary_size", "prompt_length", "max_tokens"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int | np.integer):
                raise ValueError(f"expected {name} to be an integer, got {number!r}")
        if self.vocabulary_size < 1 or self.max_tokens < 1 or self.prompt_length < 0:
            raise ValueError(
                "expected vocabulary_size ≥ 1, max_tokens ≥ 1 and prompt_length ≥ 0, got "
                f"{self.vocabulary_size}, {self.max_tokens} and {self.prompt_length}"
            )
        for token in self.ending_tokens:
            if not 0 <= token < self.vocabulary_size:
                raise ValueError(
                    f"end and stop tokens must lie in 0 … {self.vocabulary_size - 1}, got {token}"
                )

    @property
    def nothing(self) -> int:
        """The id V that fills the places where there is no token."""
        return self.vocabulary_size

    @property
    def width(self) -> int:
        """P + T, the number of columns."""
        return self.prompt_length + self.max_tokens

    @property
    def ending_tokens(self) -> tuple[int, ...]:
        """The end token (if there is one) and the stop tokens."""
        end = () if self.end_token is None else (self.end_token,)
        return end + tuple(self.stop_tokens)


def align_prompts(
    rules: Rules, prompts: Sequence[Sequence[int]], name: str | None = None
) -> npt.NDArray[np.int64]:
    """Right-align prompts of token ids into an array int64 [N, P], V where there is nothing.

    Args:
        rules: The task's rules.
        prompts: N lists of ids.
        name: What to call a prompt in errors; None: "prompt" and its number.

    Raises:
        ValueError: a prompt is longer than P or holds an id outside 0 … V − 1.
    """
    return _align(rules, prompts, rules.prompt_length, name or "prompt {}", right=True)


def align_written(
    rules: Rules, written: Sequence[Sequence[int]], name: str | None = None
) -> npt.NDArray[np.int64]:
    """Left-align written token ids into an array int64 [N, T], V where there is nothing.

    Args:
        rules: The task's rules.
        written: N lists of ids.
        name: What to call a row in errors; None: "prefix" and its number.

    Raises:
        ValueError: a row is longer than T or holds an id outside 0 … V − 1.
    """
    return _align(rules, written, rules.max_tokens, name or "prefix {}", right=False)


def initial(
    rules: Rules,
    prompts: npt.NDArray[np.int64],
    written: npt.NDArray[np.int64] | None = None,
    prompt_index: Any = -1,
    columns: Any = None,
) -> State:
    """Start from aligned prompts [..., P] and, if given, aligned written tokens [..., T]."""
    batch = prompts.shape[:-1]
    tokens = np.full((*batch, rules.width), rules.nothing, dtype=np.int64)
    tokens[..., : rules.prompt_length] = prompts
    length: Any = np.zeros(batch, dtype=np.int64) if batch else 0
    if written is not None:
        tokens[..., rules.prompt_length :] = written
        counts = (written != rules.nothing).sum(axis=-1)
        length = counts if batch else int(counts)
    if batch:
        prompt_index = np.broadcast_to(np.asarray(prompt_index, dtype=np.int64), batch).copy()
    return State(tokens, length, prompt_index, columns)


def transition(rules: Rules, state: State, action: Any) -> State:
    """Append one token to a text, or one to each of B texts: deterministic.

    Args:
        rules: The task's rules.
        state: A state that is not terminal.
        action: An id 0 … V − 1, or int [B]. It is not checked here: environments do that.
    """
    tokens, length, prompt_index, columns = state
    tokens = tokens.copy()
    if tokens.ndim == 1:
        tokens[rules.prompt_length + length] = action
    else:
        tokens.reshape(-1)[_flat_column(rules, state)] = action
    return State(tokens, length + 1, prompt_index, columns)


def transition_in_place(
    rules: Rules, state: State, action: npt.NDArray[np.int64], rows: Any = None
) -> None:
    """Do what `transition` does inside the arrays of a batched state; only for their owner.

    Args:
        rules: The task's rules.
        state: B states; those in `rows` are not terminal.
        action: int64 [B].
        rows: bool [B], which rows write; None: all.
    """
    column = _flat_column(rules, state)
    if rows is None:
        state.tokens.reshape(-1)[column] = action
        state.length.__iadd__(1)
    else:
        state.tokens.reshape(-1)[column[rows]] = action[rows]
        state.length[rows] += 1


def terminal(rules: Rules, state: State) -> Any:
    """Say whether the text is finished: a bool, or bool [B].

    Finished means: T tokens are written, or the last one is the end token or a stop token, or
    the task's stop condition holds. At the start, where nothing is written, only a stop
    condition can hold.
    """
    tokens, length = state.tokens, state.length
    done = length >= rules.max_tokens
    ending = rules.ending_tokens
    if tokens.ndim == 1:
        if not done and length and ending:
            done = int(tokens[rules.prompt_length + length - 1]) in ending
    elif ending:
        last = last_token(rules, state)
        for token in ending:
            done |= last == token
    if rules.stop_condition is not None:
        done = done | rules.stop_condition(rules, state)
    return done


def last_token(rules: Rules, state: State) -> Any:
    """Return the token written last, or V where nothing is written: an int, or int64 [B]."""
    tokens, length = state.tokens, state.length
    if tokens.ndim == 1:
        return int(tokens[rules.prompt_length + length - 1]) if length else rules.nothing
    last = tokens.reshape(-1)[_flat_column(rules, state) - 1]
    # Where nothing is written the column before P was read: the prompt's, not the text's.
    return np.where(length > 0, last, rules.nothing)


def check_state(rules: Rules, state: State, batch: tuple[int, ...]) -> None:
    """Refuse a state that is not one of this task.

    Args:
        rules: The task's rules.
        state: The state, or a batch of states.
        batch: () for one state, (B,) for B.

    Raises:
        ValueError: the shape is another, an id is out of range, or `length` is not the number of
            written tokens.
    """
    tokens, shape = np.asarray(state.tokens), (*batch, rules.width)
    if tokens.shape != shape or np.shape(state.length) != batch:
        raise ValueError(
            f"expected a state with tokens of shape {shape} and length of shape {batch}, got "
            f"{tokens.shape} and {np.shape(state.length)}"
        )
    if tokens.size and not (tokens.min() >= 0 and tokens.max() <= rules.nothing):
        raise ValueError(f"the state holds ids outside 0 … {rules.nothing}: it is another task's")
    written = (tokens[..., rules.prompt_length :] != rules.nothing).sum(axis=-1)
    if (written != state.length).any():
        raise ValueError(f"the state has length {state.length}, but {written} tokens are written")


def prompt_ids(rules: Rules, tokens: npt.NDArray[np.int64]) -> list[int]:
    """Return the prompt of one row [P + T] without the fill."""
    prompt = tokens[: rules.prompt_length]
    return [int(token) for token in prompt[prompt != rules.nothing]]


def text_ids(rules: Rules, tokens: npt.NDArray[np.int64]) -> list[int]:
    """Return what one row [P + T] has written, without the fill and without the end token."""
    written = tokens[rules.prompt_length :].tolist()
    ids = [token for token in written if token != rules.nothing]
    if ids and ids[-1] == rules.end_token:
        ids.pop()
    return ids


def _flat_column(rules: Rules, state: State) -> npt.NDArray[np.int64]:
    """Where each row's next token goes in the flattened token array: int64 [B]."""
    batch, width = state.tokens.shape
    column = np.arange(rules.prompt_length, rules.prompt_length + batch * width, width)
    column += state.length
    return column


def _align(
    rules: Rules, rows: Sequence[Sequence[int]], width: int, what: str, *, right: bool
) -> npt.NDArray[np.int64]:
    aligned = np.full((len(rows), width), rules.nothing, dtype=np.int64)
    for number, row in enumerate(rows):
        if len(row) > width:
            limit = "prompt_length" if right else "max_tokens"
            raise ValueError(
                f"{what.format(number)} has {len(row)} tokens, the limit is {width}: shorten it or "
                f"raise {limit}="
            )
        for token in row:
            if not 0 <= token < rules.vocabulary_size:
                raise ValueError(
                    f"{what.format(number)} holds the id {token}; ids lie in "
                    f"0 … {rules.vocabulary_size - 1}"
                )
        if len(row):
            aligned[number, slice(width - len(row), None) if right else slice(len(row))] = row
    return aligned
