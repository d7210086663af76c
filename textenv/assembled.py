"""What both environments say of themselves: their task, their language model, and their spec."""

from __future__ import annotations

import dataclasses
from typing import Any

from gymnasium.envs.registration import EnvSpec

from textenv.errors import NotSerialisableError, TextenvError
from textenv.plugins import Held, to_json_form
from textenv.rewards import as_reward
from textenv.setup import Setup
from textenv.task import Task


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
        self._spec = TextSpec(**fields)
