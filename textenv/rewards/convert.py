"""From whatever users write to a Reward: objects, functions, names, dicts, lists."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from textenv.rewards import registry
from textenv.rewards.base import Reward
from textenv.rewards.function import FunctionReward

RewardLike = Reward | Callable[..., Any] | str | Mapping[str, Any] | Sequence[Any]


def as_reward(value: RewardLike) -> Reward:
    """Make a Reward of what a user wrote.

    Args:
        value: A Reward; a plain function with TRL's signature; a registered name; a name to
            import, "package.module:function"; {"name": …, keyword: value}; or a list of these,
            which is their sum.

    Raises:
        UnknownNameError: a name, or a keyword, that nobody knows.
        TypeError: something else.

    >>> as_reward({"name": "length", "unit": "words"})([""], ["two words"])
    [2.0]
    >>> as_reward(["length", "sentiment"]).name
    'length + sentiment'
    """
    if isinstance(value, Reward):
        return value
    if isinstance(value, str):
        return _named(value, {})
    if isinstance(value, Mapping):
        if not isinstance(value.get("name"), str):
            raise ValueError(f'a reward as a dict needs "name": …, got {dict(value)!r}')
        return _named(value["name"], {key: value[key] for key in value if key != "name"})
    if isinstance(value, (list, tuple)) and value:
        return sum((as_reward(term) for term in value[1:]), as_reward(value[0]))
    if isinstance(value, type):
        raise TypeError(
            f"a reward is needed, not the class {value.__name__}: "
            f"write {value.__name__}() instead of {value.__name__}"
        )
    if callable(value):
        return FunctionReward(value)
    raise TypeError(
        "a reward must be a Reward, a function, a name, a dict with a name, or a non-empty list "
        f"of these, got {value!r}"
    )


def get(name: str | Mapping[str, Any]) -> Reward:
    """Make the reward that a name, or a dict with a name and keywords, stands for.

    >>> get("exact_match").columns
    ('reference',)
    """
    return as_reward(name)


def _named(name: str, keywords: dict[str, Any]) -> Reward:
    found = registry.find(name)
    if registry.is_reward_itself(found):
        if keywords:
            raise TypeError(f"the reward {name!r} takes no keywords, got {', '.join(keywords)}")
        made = found
    else:
        made = registry.make(name, found, keywords)
        if not isinstance(made, Reward) and not callable(made):
            raise TypeError(f"{name!r} should make a reward, but made {made!r:.80}")
    # A copy, because what is registered may be one object that others hold too.
    reward = copy.copy(as_reward(made))
    reward.made_from = {"name": name, **keywords} if keywords else name
    if isinstance(reward, FunctionReward) and ":" not in name:
        reward.name = name
    return reward
