"""From keywords to parts: what the single and the vector environment are both put together from.

An environment is a task × what the agent sees × what it may do × how it is rewarded.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from textenv import actions, mdp, observations
from textenv.asking import Answer, Choices, ask
from textenv.catalogue import ModelHandle
from textenv.errors import TextenvError, UnknownKeywordError
from textenv.filters import Blocklist
from textenv.filters.guard import Guard
from textenv.plugins import release
from textenv.rewards import Scorer
from textenv.task import Task, join_columns
from textenv.tasks import builder

MASKS = (None, "info", "observation", "method")


class Look(NamedTuple):
    """What B states show.

    observation: The observations, batched.
    choices: The tokens that they offer, or None where all are.
    """

    observation: Any
    choices: Choices | None


@dataclass(frozen=True)
class Setup:
    """The parts of an environment, all of them shared by its copies.

    Attributes:
        task: What is written and what it is worth.
        rules: The task's rules, as the pure functions take them.
        observation: What the agent sees.
        action: What it may do.
        scorer: How it is paid, faults included.
        model: The language model's handle.
        mask: Where the action mask goes: None, "info", "observation" or "method".
        info_text: Whether infos hold the texts.
        guard: Says which tokens the blocklist allows; None: there is no blocklist.
    """

    task: Task
    rules: mdp.Rules
    observation: observations.Observation
    action: actions.Action
    scorer: Scorer
    model: ModelHandle
    mask: str | None
    info_text: bool
    guard: Guard | None = None

    @property
    def asks_model(self) -> bool:
        """Whether the language model is asked at every state."""
        return self.observation.asks_model or self.action.asks_model

    @property
    def shows_tokens(self) -> bool:
        """Whether observations are the tokens and nothing else."""
        return type(self.observation) is observations.Tokens and self.mask != "observation"

    @property
    def plain(self) -> bool:
        """Whether infos are empty but for what the reward says."""
        masked = self.mask in (None, "method")
        return masked and not self.info_text and not self.action.asks_model

    @property
    def observation_space(self) -> spaces.Space:
        """The space of one observation."""
        space = self.observation.space(self.task, self.model.load)
        if self.mask != "observation":
            return space
        size = self.action.mask(self.task, self._no_choices, None).shape
        return spaces.Dict(_beside(space, spaces.Box(0, 1, size, np.int8)))

    @property
    def action_space(self) -> spaces.Space:
        """The space of one action."""
        return self.action.space(self.task)

    def look(self, state: mdp.State, over: npt.NDArray[np.bool_]) -> Look:
        """See what B states show: one question to the language model, none at terminated states.

        Args:
            state: B states.
            over: bool [B], the terminated ones.
        """
        answer = ask(self.model.load(), self.rules, state, over) if self.asks_model else None
        guarded = self.guard is not None and self.action.asks_model
        if answer is not None and self.guard is not None and guarded:
            answer = answer._replace(allowed=self.guard.allowed(state)[answer.rows])
        choices = None if answer is None else self.action.choices(self.task, answer)
        if choices is not None and guarded:
            self._check_choice(choices, state, over)
        observation = self.observation.observe(self.task, state, answer)
        if self.mask == "observation":
            observation = _beside(observation, self.action_mask(len(over), choices, state))
        return Look(observation, choices)

    def action_mask(
        self,
        batch: int | None,
        choices: Choices | None = None,
        state: mdp.State | None = None,
    ) -> npt.NDArray[np.int8]:
        """Return the mask of one state, int8 [size], or of B states, [B, size]; fresh.

        Args:
            batch: B; None: one state.
            choices: What the states offer.
            state: The states, as a batch in either case; only read where there is a blocklist.

        Raises:
            TextenvError: a mask forbids everything: libraries then choose as if it allowed all.
        """
        mask = self.action.mask(self.task, choices, batch)
        if self.guard is not None and state is not None and not self.action.asks_model:
            mask &= self.guard.allowed(state).reshape(mask.shape)
        rows = np.flatnonzero(~np.atleast_2d(mask).any(axis=1))
        if len(rows):
            self._refuse_all(state, int(rows[0]))
        return mask

    def is_skipped(self, info: Mapping[str, Any]) -> bool:
        """Whether the reward of a step failed and says nothing (`reward_fault="skip"`)."""
        return bool(info.get("reward_fault")) and self.scorer.fault == "skip"

    def _refuse_all(self, state: mdp.State | None, row: int) -> None:
        """Say that nothing may be written, where, and why."""
        if not isinstance(self.action, actions.AllTokens | actions.Fragments):
            raise TextenvError(
                f"the mask of {self.action!r} forbids every action in row {row}: it must allow one "
                "wherever a text goes on, and at its end"
            )
        if self.guard is None or state is None:
            raise TextenvError(
                f"the action mask of {self.task.name} forbids every token, after whatever text: "
                "the vocabulary suppresses all of them; leave some out of its suppressed_tokens"
            )
        raise TextenvError(
            f"in row {row} the action mask forbids every token {self._after(state, row)}: what the "
            "blocklist allows there, the vocabulary suppresses; take patterns out of the "
            "blocklist, or tokens out of the vocabulary's suppressed_tokens"
        )

    def _check_choice(
        self, choices: Choices, state: mdp.State, over: npt.NDArray[np.bool_]
    ) -> None:
        """Refuse states that go on and offer nothing."""
        stuck = np.flatnonzero(~over & (choices.ids == self.rules.nothing).all(axis=1))
        if len(stuck):
            raise TextenvError(
                f"in row {stuck[0]} nothing is left to choose: the language model gives no "
                "probability to any token that the blocklist allows "
                f"{self._after(state, stuck[0])}; take patterns out, or use another model"
            )

    def _after(self, state: mdp.State, row: int) -> str:
        """One of B texts, for a message."""
        texts = self.task.texts(state, [row])
        prompt = f" and the prompt {texts.prompts[0]!r}" if texts.prompts[0] else ""
        return f"after the text {texts.completions[0]!r}{prompt}"

    def check(self) -> None:
        """Refuse parts that do not fit each other.

        Raises:
            ValueError: k is larger than the vocabulary, or a mask of actions that have none.
            TextenvError: there is no language model where one is asked.
        """
        self.observation.check(self.task)
        self.action.check(self.task)
        if self.guard is not None and not isinstance(
            self.action, actions.AllTokens | actions.Candidates
        ):
            raise ValueError(
                f"blocklist= goes with actions of one token, which a mask can forbid, not with "
                f'{self.action!r}: use action="all_tokens" or "candidates:k"'
            )
        if self.mask is not None and isinstance(self.action, actions.Strings):
            raise ValueError(f"actions that are texts have no mask: leave out mask={self.mask!r}")
        if self.asks_model and self.model.load() is None:
            plugin = self.action if self.action.asks_model else self.observation
            raise TextenvError(
                f"{plugin!r} asks a language model, and {self.task.name} has none: give one, as in "
                'lm="reviews"'
            )

    @property
    def _no_choices(self) -> Choices | None:
        """What the action would offer at a terminated state."""
        nothing = Answer(1, 0, np.zeros(0, dtype=np.int64), None, None)
        return self.action.choices(self.task, nothing)


def _beside(observation: Any, mask: Any) -> dict[str, Any]:
    """An observation (or its space) and a mask; a Dict gets the mask as a further entry.

    Libraries take dicts of arrays, but no dicts of dicts.
    """
    parts = observation.spaces if isinstance(observation, spaces.Dict) else observation
    own = dict(parts) if isinstance(parts, dict) else {"observation": parts}
    return {**own, "action_mask": mask}


def set_up(
    task: str | Mapping[str, Any] | Task,
    *,
    lm: Any = None,
    observation: Any = "tokens",
    action: Any = "all_tokens",
    mask: str | None = None,
    info_text: bool = False,
    blocklist: Any = None,
    reward_fault: str = "raise",
    fault_reward: float | None = None,
    timeout: float | None = None,
    **task_keywords: Any,
) -> Setup:
    """Put the parts of an environment together.

    Args:
        task: A task's name, `{"name": …, keyword: …}`, or a `Task`.
        lm: A language model or its name or folder; its tokenizer becomes the vocabulary.
        observation: What the agent sees: "tokens" (the state itself), "hidden" (the language
            model's last hidden state), "probabilities:8" (its 8 likeliest next tokens with their
            probabilities) or "text" (a string). Each as a string, a dict such as
            `{"name": "probabilities", "k": 8}` or an object, `textenv.Probabilities(8)`.
        action: What it may do: "all_tokens" (write any token), "candidates:32" (one of the 32
            that the language model finds likeliest), "fragments:4" (4 tokens at once) or
            "strings" (a text). In the same three forms.
        mask: Where a mask of sensible actions goes: None, "info" (`info["action_mask"]`),
            "observation" (a Dict of observation, or of its parts, and action_mask) or "method"
            (`action_masks()`, which is there with every choice). Not for "strings".
        info_text: Put "prompt" and "text" into the infos.
        blocklist: Patterns that no text may contain: a list, a file with one a line, a dict
            `{"name": "blocklist", "patterns": […]}` or a `textenv.Blocklist`, which says what is
            promised. A token that completes one is 0 in the action mask and an error in `step`,
            and no candidate. Not for "fragments" and "strings".
        reward_fault: "raise", "penalise" (pay `fault_reward`) or "skip" (pay 0 and set
            `info["reward_fault"] = 1`; the library that trains will see the 0).
        fault_reward: What "penalise" pays.
        timeout: Seconds for one call of the reward, which then runs in a worker process.
        **task_keywords: `reward`, `prompts`, `columns`, `prompt_length`, `max_tokens`, `end`, and
            those of the task itself. `columns` is what the reward reads beside the text, one value
            for each prompt: `prompts=["a fine"], columns={"reference": ["film"]}, reward="bleu"`.
            Without `prompts` they are added to the task's own.

    Raises:
        TypeError: `task` is none of these.
        UnknownKeywordError: a keyword is unknown; it is a ValueError and a TypeError.
        ValueError: a keyword's value is not one of those above, or k is larger than the vocabulary.
        TextenvError: a language model is to be asked, and there is none.
    """
    if mask not in MASKS:
        raise ValueError(f"expected mask= to be one of {MASKS}, got {mask!r}")
    handle = ModelHandle(lm) if lm is not None else None
    made = make_task(task, handle.vocabulary() if handle else None, task_keywords)
    if handle is None:
        handle = ModelHandle(None, made.starting_policy)
    handle.check_task(made)
    setup = Setup(
        task=made,
        rules=made.rules,
        observation=observations.parse(release(observation)),
        action=actions.parse(release(action)),
        scorer=made.scorer(fault=reward_fault, fault_reward=fault_reward, timeout=timeout),
        model=handle,
        mask=mask,
        info_text=info_text,
        guard=None if blocklist is None else Guard(made, Blocklist.parse(blocklist)),
    )
    setup.check()
    return setup


def make_task(
    task: str | Mapping[str, Any] | Task, vocabulary: Any, keywords: Mapping[str, Any]
) -> Task:
    """Build a task; what its builder does not take is changed afterwards.

    A keyword that is None, or `end=True`, is as if it were not given.

    Raises:
        TypeError: `task` is none of these.
        UnknownKeywordError: a keyword is unknown.
    """
    if not isinstance(task, Task | str | Mapping):
        raise TypeError(
            "expected a Task, an id such as textenv/Sentiment-v0 for gym.make, or a task's name or "
            f"dict, got {task!r:.80}; of an environment take env.unwrapped.task"
        )
    given = {key: release(value) for key, value in keywords.items() if value is not None}
    if vocabulary is not None:
        given["vocabulary"] = vocabulary
    takes: set[str] = set()
    if isinstance(task, Task):
        made = task
    else:
        named = {"name": task} if isinstance(task, str) else dict(task)
        build = builder(named.pop("name"))
        takes = set(inspect.signature(build).parameters)
        given = {**named, **given}
        made = build(**{key: given.pop(key) for key in list(given) if key in takes})
    common = {"vocabulary", "reward", "prompts", "columns", "prompt_length", "max_tokens", "end"}
    unknown = sorted(set(given) - common)
    if unknown:
        known = common | takes | set(inspect.signature(set_up).parameters)
        known -= {"task", "task_keywords", "vocabulary"}
        raise UnknownKeywordError.of(f"keyword of {made.name}", unknown[0], known)
    if "prompts" in given or "columns" in given:
        own = {} if "prompts" in given else made.columns  # which belong to the task's prompts
        given["columns"] = join_columns(own, given.get("columns", {}))
    return made.with_changes(**given) if given else made
