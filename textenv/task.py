"""A task: vocabulary × prompts × reward × limits. What to write, and what it is worth.

A task knows nothing of what the agent sees or may do. The tasks that have an id are in
`textenv/tasks/`; a task of your own is one call of `Task(…)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from textenv import mdp
from textenv.rewards import Reward, Scorer, Texts, as_reward
from textenv.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Task:
    """One text task. Immutable; `with_changes` gives a changed copy.

    Attributes:
        name: For messages.
        vocabulary: Tokens and their text.
        max_tokens: T ≥ 1; the episode terminates there.
        reward: What the text is worth: see `textenv.rewards`.
        prompts: Texts that may stand at the start, drawn uniformly; [""] for none.
        columns: Further columns for the reward: lists as long as `prompts`, by name.
        prompt_length: P. None: the longest prompt.
        stop: Tokens, as text or ids, that end the text and belong to it.
        stop_condition: A further reason to end: see `mdp.Rules`.
        end: Whether the vocabulary's end token ends the text.
        starting_policy: Makes the language model that the task starts from (`env.unwrapped.lm`).

    Raises:
        ValueError: no prompts, a prompt that is no text, too long, or has no tokens where the
            others have some; columns that are no lists or of another length, or lack one that the
            reward needs; `end` is no bool.
    """

    name: str
    vocabulary: Vocabulary
    max_tokens: int
    reward: Reward
    prompts: Sequence[str] = ("",)
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    prompt_length: int | None = None
    stop: Sequence[str | int] = ()
    stop_condition: Callable[[mdp.Rules, mdp.State], Any] | None = None
    end: bool = True
    starting_policy: Callable[[], Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "reward", as_reward(self.reward))
        if isinstance(self.prompts, str | Set | Mapping) or not len(self.prompts):
            raise ValueError(
                f"prompts must be a list with at least one text, got {self.prompts!r}; "
                'a task without prompts has prompts=[""]'
            )
        if not isinstance(self.end, bool | np.bool_):
            raise ValueError(f"expected end= to be True or False, got {self.end!r}")
        object.__setattr__(self, "prompts", tuple(self.prompts))  # the caller's list may change
        for number, prompt in enumerate(self.prompts):
            if not isinstance(prompt, str):
                raise ValueError(f"prompt {number} is no text but {prompt!r}")
        for number, ids in enumerate(self.prompt_ids):
            if self.has_prompts and not self.is_text(ids):
                raise ValueError(
                    f"prompt {number} is empty while the task has {len(self.prompts)} prompts: "
                    'take it out, or use prompts=[""] alone for a task without prompts'
                )
        object.__setattr__(self, "columns", join_columns({}, self.columns))
        for name, values in self.columns.items():
            if len(values) != len(self.prompts):
                raise ValueError(
                    f"column {name!r} has {len(values)} values for {len(self.prompts)} prompts: "
                    "give one for each, None for a prompt that has none"
                )
        taken = sorted({"prompts", "completions", "completion_ids"} & set(self.columns))
        if taken:
            raise ValueError(f"rewards get {taken} from the environment: rename these columns")
        missing = [name for name in self.reward.columns if name not in self.columns]
        if missing:
            raise ValueError(
                f"the reward {self.reward.name!r} needs the columns {missing}, the task has "
                f"{sorted(self.columns)}: give the values with the prompts, as in "
                f'prompts=[…], columns={{"{missing[0]}": […]}}, one for each prompt (None for a '
                "prompt that has none), or choose a reward that needs no such column"
            )
        _ = self.prompt_table  # so that a prompt that does not fit is reported here

    def __deepcopy__(self, memo: dict[int, Any]) -> Task:
        return self  # immutable: copies of an environment share their task

    def with_changes(self, **changes: Any) -> Task:
        """Return a copy with some attributes changed; a change to None is a change too."""
        return replace(self, **changes)

    @cached_property
    def prompt_ids(self) -> list[list[int]]:
        """The prompts in tokens."""
        return [self.vocabulary.encode_prompt(prompt) for prompt in self.prompts]

    @cached_property
    def rules(self) -> mdp.Rules:
        """What the transition needs to know of this task."""
        length = self.prompt_length
        if length is None:
            length = max(len(ids) for ids in self.prompt_ids)
        return mdp.Rules(
            vocabulary_size=self.vocabulary.size,
            prompt_length=length,
            max_tokens=self.max_tokens,
            end_token=self.vocabulary.end_token if self.end else None,
            stop_tokens=tuple(_one_token(self.vocabulary, word) for word in self.stop),
            stop_condition=self.stop_condition,
        )

    @cached_property
    def prompt_table(self) -> npt.NDArray[np.int64]:
        """All prompts, int64 [N, P], right-aligned."""
        return mdp.align_prompts(self.rules, self.prompt_ids)

    @property
    def has_prompts(self) -> bool:
        """Whether the task writes after prompts; a lone empty one is none."""
        return len(self.prompts) > 1 or self.is_text(self.prompt_ids[0])

    def is_text(self, ids: Sequence[int]) -> bool:
        """Whether an encoded prompt has tokens of its own, not only what stands before all."""
        return list(ids) not in ([], self._empty_prompt)

    @cached_property
    def _empty_prompt(self) -> list[int]:
        return self.vocabulary.encode_prompt("")

    def encode_prompt(self, text: str | Sequence[int], what: str) -> list[int]:
        """Turn a prompt that a caller gave, text or ids, into ids; errors as in `encode`."""
        if isinstance(text, str):
            try:
                return self.vocabulary.encode_prompt(text)
            except ValueError as error:
                raise ValueError(f"{what}: {error}") from error
        return self.encode(text, what)

    def encode(self, text: str | Sequence[int], what: str) -> list[int]:
        """Turn what a caller gave, text or ids, into ids.

        Raises:
            ValueError: it is neither.
        """
        if isinstance(text, str):
            try:
                return self.vocabulary.encode(text)
            except ValueError as error:
                raise ValueError(f"{what}: {error}") from error
        ids = np.asarray(text)
        if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
            raise ValueError(f"{what} must be a text or a list of token ids, got {text!r}")
        return [int(token) for token in ids]

    def texts(self, state: mdp.State, rows: Sequence[int] | npt.NDArray[np.int64]) -> Texts:
        """Decode some rows of a batched state, with their columns: what rewards read."""
        ids = [mdp.text_ids(self.rules, state.tokens[row]) for row in rows]
        prompts = [self.prompt_text(state, row) for row in rows]
        columns = {
            name: [self._column(name, state, row) for row in rows] for name in self._names(state)
        }
        return Texts(prompts, [self.vocabulary.decode(row) for row in ids], ids, columns)

    def prompt_text(self, state: mdp.State, row: int) -> str:
        """The prompt of one row of a batched state, as text."""
        index = int(state.prompt_index[row])
        if index >= 0:
            return self.prompts[index]
        return self.vocabulary.decode(mdp.prompt_ids(self.rules, state.tokens[row]))

    def scorer(self, **fault_handling: Any) -> Scorer:
        """What environments and `exact` pay by: see `textenv.rewards.Scorer`."""
        end = self.rules.end_token
        return Scorer(self.reward, self.vocabulary, end_token=end, **fault_handling)

    def _names(self, state: mdp.State) -> set[str]:
        names = set(self.columns)
        for own in state.columns or ():
            names |= set(own or ())
        return names

    def _column(self, name: str, state: mdp.State, row: int) -> Any:
        own = state.columns[row] if state.columns else None
        if own and name in own:
            return own[name]
        index = int(state.prompt_index[row])
        return self.columns[name][index] if index >= 0 and name in self.columns else None


def join_columns(
    own: Mapping[str, Sequence[Any]], given: Mapping[str, Sequence[Any]]
) -> dict[str, list[Any]]:
    """Return a task's columns with a caller's, which replace those of the same name; fresh lists.

    Raises:
        ValueError: those given are no dict of lists.
    """
    if not isinstance(given, Mapping):
        raise ValueError(
            'expected columns= to be a dict of lists, as in {"reference": […]}, got '
            f"{given!r:.80}"
        )
    for name, values in given.items():
        if isinstance(values, str | bytes | Set | Mapping) or not hasattr(values, "__len__"):
            raise ValueError(
                f"expected the column {name!r} to be a list with one value for each prompt, got "
                f"{values!r:.80}"
            )
    return {name: list(values) for name, values in {**own, **given}.items()}


def check_task(task: Any) -> None:
    """Refuse what is no task.

    Raises:
        TypeError: it is none, but an environment, say.
    """
    if not isinstance(task, Task):
        raise TypeError(
            f"expected a task, got {task!r:.80}: that of an environment is env.unwrapped.task"
        )


def uniform_policy(vocabulary: Vocabulary) -> Any:
    """Make a table that gives every token the same probability: a starting policy."""
    from textenv.models import TabularLM

    return TabularLM(vocabulary.size, order=0, vocabulary=vocabulary)


def _one_token(vocabulary: Vocabulary, word: str | int) -> int:
    if isinstance(word, int):
        return word
    ids = vocabulary.encode(word)
    if len(ids) != 1:
        raise ValueError(f"a stop word must be one token, {word!r} is {len(ids)}")
    return ids[0]
