"""From keywords to parts: what the single and the vector environment are both put together from.

An environment is a task × what the agent sees × what it may do × how it is rewarded.
"""

from __future__ import annotations

import dataclasses
import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from textenv import actions, mdp, observations
from textenv.catalogue import ModelHandle
from textenv.errors import NotSerialisableError, TextenvError, UnknownNameError
from textenv.plugins import Held, release, to_json_form
from textenv.rewards import Scorer, as_reward
from textenv.task import Task
from textenv.tasks import builder

MASKS = (None, "info", "observation", "method")


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
    """

    task: Task
    rules: mdp.Rules
    observation: observations.Observation
    action: actions.Action
    scorer: Scorer
    model: ModelHandle
    mask: str | None
    info_text: bool

    @property
    def observation_space(self) -> spaces.Space:
        """The space of one observation."""
        space = self.observation.space(self.rules)
        if self.mask != "observation":
            return space
        mask = spaces.Box(0, 1, (self.rules.vocabulary_size,), np.int8)
        return spaces.Dict({"observation": space, "action_mask": mask})

    def action_mask(self, batch: int | None) -> npt.NDArray[np.int8]:
        """Return the mask of one state, int8 [n], or of B states, [B, n]; fresh."""
        return self.action.mask(self.rules, self.task.vocabulary.suppressed_tokens, batch)


def set_up(
    task: str | Mapping[str, Any] | Task,
    *,
    lm: Any = None,
    observation: Any = "tokens",
    action: Any = "all_tokens",
    mask: str | None = None,
    info_text: bool = False,
    reward_fault: str = "raise",
    fault_reward: float | None = None,
    timeout: float | None = None,
    **task_keywords: Any,
) -> Setup:
    """Put the parts of an environment together.

    Args:
        task: A task's name, `{"name": …, keyword: …}`, or a `Task`.
        lm: A language model or its name or folder; its tokenizer becomes the vocabulary.
        observation: What the agent sees: "tokens".
        action: What it may do: "all_tokens".
        mask: Where a mask of sensible actions goes: None, "info" (`info["action_mask"]`),
            "observation" (a Dict of observation and action_mask) or "method" (`action_masks()`).
        info_text: Put "prompt" and "text" into the infos.
        reward_fault: "raise", "penalise" (pay `fault_reward`) or "skip" (pay 0 and set
            `info["reward_fault"] = 1`; the library that trains will see the 0).
        fault_reward: What "penalise" pays.
        timeout: Seconds for one call of the reward, which then runs in a worker process.
        **task_keywords: `reward`, `prompts`, `prompt_length`, `max_tokens`, `end`, and those of
            the task itself.

    Raises:
        ValueError: a keyword is unknown or its value is not one of those above.
    """
    if mask not in MASKS:
        raise ValueError(f"expected mask= to be one of {MASKS}, got {mask!r}")
    handle = ModelHandle(lm) if lm is not None else None
    made = make_task(task, handle.vocabulary() if handle else None, task_keywords)
    if handle is None:
        handle = ModelHandle(None, made.starting_policy)
    handle.check(made.rules.vocabulary_size)
    return Setup(
        task=made,
        rules=made.rules,
        observation=observations.parse(release(observation)),
        action=actions.parse(release(action)),
        scorer=made.scorer(fault=reward_fault, fault_reward=fault_reward, timeout=timeout),
        model=handle,
        mask=mask,
        info_text=info_text,
    )


def make_task(
    task: str | Mapping[str, Any] | Task, vocabulary: Any, keywords: Mapping[str, Any]
) -> Task:
    """Build a task; what its builder does not take is changed afterwards.

    A keyword that is None, or `end=True`, is as if it were not given.
    """
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
    common = {"vocabulary", "reward", "prompts", "prompt_length", "max_tokens", "end"}
    unknown = sorted(set(given) - common)
    if unknown:
        known = common | takes | set(inspect.signature(set_up).parameters)
        known -= {"task", "task_keywords", "vocabulary"}
        raise UnknownNameError(f"keyword of {made.name}", unknown[0], known)
    if "prompts" in given:
        given["columns"] = {}  # the task's columns belong to the task's prompts
    return made.with_changes(**given) if given else made


class TextSpec(EnvSpec):
    """Gymnasium's EnvSpec, whose JSON error says what to do about an object in memory."""

    def to_json(self) -> str:
        """Return the JSON form.

        Raises:
            NotSerialisableError: a keyword holds an object that only this process has.
        """
        for value in self.kwargs.values():
            if isinstance(value, Held):
                raise NotSerialisableError(value.reason())
        return super().to_json()


class Assembled:
    """What both environments say of their parts: `task`, `lm` and `spec`."""

    setup: Setup
    _spec: EnvSpec | None = None

    @property
    def task(self) -> Task:
        """What is written and what it is worth."""
        return self.setup.task

    @property
    def lm(self) -> Any:
        """The language model of `lm=`, else the task's starting policy; loaded when first asked.

        Raises:
            TextenvError: there is neither.
        """
        model = self.setup.model.load()
        if model is None:
            raise TextenvError(
                f'{self.task.name} has no language model: give one, as in lm="reviews"'
            )
        return model

    @property
    def spec(self) -> EnvSpec | None:
        """What `gym.make` makes this environment from again; objects in memory are held."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        if spec is None:
            self._spec = None
            return
        fields = {f.name: getattr(spec, f.name) for f in dataclasses.fields(EnvSpec) if f.init}
        keywords = dict(fields["kwargs"])
        if callable(keywords.get("reward")):
            keywords["reward"] = as_reward(keywords["reward"])  # its name, if it is importable
        fields["kwargs"] = {key: to_json_form(value) for key, value in keywords.items()}
        made = TextSpec(**fields)
        self._spec = made


def begin(
    task: Task,
    options: Mapping[str, Any],
    draw: Callable[[], int],
    row: int | None = None,
) -> mdp.State:
    """Make the first state of one episode, as `reset(options=…)` wants it.

    Args:
        task: The task.
        options: `prompt` or `prompt_index`, `prefix`, `columns`: one value each, or none.
        draw: Draws the index of a prompt, when none is given.
        row: The row of a vector environment, for messages.

    Raises:
        ValueError: too long, empty where it may not be, no text and no ids, out of range, or a
            prefix that is already finished.
    """
    where = "" if row is None else f" (row {row})"
    rules = task.rules
    if options.get("prompt") is not None:
        index = -1
        ids = task.encode_prompt(options["prompt"], f"the prompt{where}")
        if task.has_prompts and (not ids or not task.is_text(options["prompt"])):
            raise ValueError(f"the prompt{where} is empty, but {task.name} writes after prompts")
        prompt = mdp.align_prompts(rules, [ids], f"the prompt{where}")[0]
    else:
        given = options.get("prompt_index")
        try:
            index = draw() if given is None else operator.index(given)
        except TypeError:
            raise ValueError(f"prompt_index{where} must be an integer, got {given!r}") from None
        if not 0 <= index < len(task.prompts):
            raise ValueError(
                f"prompt_index{where} lies in 0 … {len(task.prompts) - 1}, got {index}"
            )
        prompt = task.prompt_table[index]
    columns = options.get("columns")
    if columns is not None and not isinstance(columns, Mapping):
        raise ValueError(f"columns{where} must be a dict of names and values, got {columns!r}")
    if options.get("prefix") is None:
        return mdp.initial(rules, prompt, None, index, columns)
    ids = task.encode(options["prefix"], f"the prefix{where}")
    for length in range(len(ids) + 1):
        written = mdp.align_written(rules, [ids[:length]], f"the prefix{where}")[0]
        state = mdp.initial(rules, prompt, written, index, columns)
        if mdp.terminal(rules, state):
            raise ValueError(
                f"the prefix{where} {options['prefix']!r} is already finished after {length} of "
                f"{len(ids)} tokens: nothing can be written after it"
            )
    return state


def check_options(
    options: Mapping[str, Any] | None, *, reset_mask: bool = True
) -> Mapping[str, Any]:
    """Refuse options that nothing reads.

    Args:
        options: Of `reset`.
        reset_mask: Whether that one is read: in vector environments.

    Raises:
        ValueError: an unknown option, or two that contradict each other.
    """
    known = {"prompt", "prompt_index", "prefix", "columns"}
    if reset_mask:
        known |= {"reset_mask"}
    unknown = sorted(set(options or {}) - known)
    if unknown:
        raise ValueError(f"expected options among {sorted(known)}, got {unknown}")
    given = options or {}
    if given.get("prompt") is not None and given.get("prompt_index") is not None:
        raise ValueError("expected either prompt or prompt_index in options, got both")
    return given
