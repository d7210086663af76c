"""What a reward is: a small callable that says what texts are worth, and combines with + and *.

How plain functions, names and dicts become rewards is in `convert.py`; how a reward is called,
checked and paid out in `scoring.py`.
"""

from __future__ import annotations

import inspect
import json
import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from textenv.errors import NotSerialisableError
from textenv.rewards import registry

if TYPE_CHECKING:
    from textenv.rewards.combine import Combined
    from textenv.vocabulary import Vocabulary

Pays = Literal["end", "token"]
Payments = Sequence[float | None] | Sequence[Sequence[float] | None]


class Reward:
    """What texts are worth. Subclass it, or hand a plain function to whatever takes a reward.

    A reward is never changed after it is made, so copies share it. A subclass that keeps each
    argument of its `__init__` as an attribute of the same name has a `spec()` for free.

    Attributes:
        name: For messages, and for the parts of a sum. A subclass's own name if it gives none.
        pays: "end": one number a text. "token": one list a text, with one number for each id
            in `completion_ids`. What a token is paid should not depend on later tokens.
        range: The least and the greatest number that it pays at once.
        columns: The task's columns that it cannot do without.
    """

    name: str = "reward"
    pays: Pays = "end"
    range: tuple[float, float] = (-math.inf, math.inf)
    columns: tuple[str, ...] = ()
    made_from: str | dict[str, Any] | None = None  # the name or dict it was looked up by, if any

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> Payments:
        """Say what each text is worth; None leaves this reward out for that text.

        Args:
            prompts: n texts.
            completions: What was written after each of them.
            **columns: Lists of n: `completion_ids` and the task's other columns.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__")

    def total(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> list[float | None]:
        """Say what each whole text is worth: one that pays each token, by the sum."""
        payments: Sequence[Any] = self(prompts, completions, **columns)
        if self.pays == "end":
            return list(payments)
        return [None if row is None else float(sum(row)) for row in payments]

    def token_table(self, vocabulary: Vocabulary) -> npt.NDArray[np.float64] | None:
        """Give each token's pay, float64 [V], where it depends on that token alone; else None."""
        return None

    def with_vocabulary(self, vocabulary: Vocabulary) -> Reward:
        """Return the reward for ids of this vocabulary: itself, unless it must decode them.

        Whoever scores the texts of a task calls this once before; see `PerToken`.
        """
        return self

    def spec(self) -> str | dict[str, Any]:
        """Return the JSON form: the name, or {"name": …, keyword: value}.

        Raises:
            NotSerialisableError: it holds something that lives only in this process.
        """
        if self.made_from is not None:
            form: str | dict[str, Any] = to_json(self.made_from, self.name)
            return form
        name = registry.name_of(type(self)) or registry.importable_name(type(self))
        if name is None:
            raise NotSerialisableError(
                f"the reward {self.name!r} has no JSON form: its class {type(self).__qualname__} "
                'cannot be imported as "module:name"; define it at the top of a module'
            )
        keywords: dict[str, Any] = {}
        for parameter in inspect.signature(type(self)).parameters.values():
            if not hasattr(self, parameter.name):
                raise NotSerialisableError(
                    f"the reward {self.name!r} has no JSON form: it does not keep its argument "
                    f"{parameter.name!r} as an attribute of that name"
                )
            value = getattr(self, parameter.name)
            if value is not parameter.default:
                value = to_json(value, self.name)
                if value != parameter.default and value != _listed(parameter.default):
                    keywords[parameter.name] = value
        return {"name": name, **keywords} if keywords else name

    def __add__(self, other: object) -> Combined:
        """Add a reward or a plain function."""
        if not callable(other):
            return NotImplemented
        return _combine((1.0, self), (1.0, other))

    def __radd__(self, other: object) -> Reward:
        """Add to a plain function, or to the 0 that `sum` starts with."""
        if isinstance(other, numbers.Real) and other == 0:
            return self
        if not callable(other):
            return NotImplemented
        return _combine((1.0, other), (1.0, self))

    def __sub__(self, other: object) -> Combined:
        if not callable(other):
            return NotImplemented
        return _combine((1.0, self), (-1.0, other))

    def __rsub__(self, other: object) -> Combined:
        if not callable(other):
            return NotImplemented
        return _combine((1.0, other), (-1.0, self))

    def __mul__(self, weight: object) -> Combined:
        """Weigh the reward by a finite number."""
        if not isinstance(weight, numbers.Real):
            return NotImplemented
        return _combine((float(weight), self))

    __rmul__ = __mul__

    def __neg__(self) -> Combined:
        return _combine((-1.0, self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Reward:
        # Reading `env.spec` deep-copies its keywords; a model inside must not be copied with it.
        return self

    def __repr__(self) -> str:
        return f"<reward {self.name!r}>"


def to_json(value: Any, name: str) -> Any:
    """Return the JSON form of a value that the reward `name` was made with.

    Raises:
        NotSerialisableError: it has none.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise NotSerialisableError(
            f"the reward {name!r} has no JSON form: it was made with {value!r:.80}, which lives "
            "only in this process; hand over a name or a folder instead"
        ) from error


def _listed(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


def _combine(*terms: tuple[float, Any]) -> Combined:
    from textenv.rewards.combine import Combined  # which is a Reward itself

    return Combined(terms)
