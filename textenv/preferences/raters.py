"""Raters that are no people: by name, from what a command or a spec says, and at work."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textenv.errors import UnknownNameError
from textenv.preferences.comparisons import Rater
from textenv.preferences.records import PairToRate

if TYPE_CHECKING:
    from textenv.preferences.database import Database

FORMS = (
    '"scripted:REWARD" (a reward compares, such as "scripted:sentiment")',
    '"judge:MODEL" (a local language model judges, such as "judge:smollm2" or a folder)',
    '"judge:MODEL@ADDRESS" (an endpoint, such as "judge:qwen@http://localhost:8000/v1")',
    '"reward_model:FOLDER" (a learned reward model)',
    'or a dict, or its JSON, with "name" and keywords: {"name": "scripted", "reward": "sentiment"}',
)


def rater(value: str | Mapping[str, Any] | Rater) -> Rater:
    """Make whoever compares two texts.

    Args:
        value: A rater; or one of the forms in `FORMS`.

    Raises:
        UnknownNameError: no kind of rater is called so, or the reward or model it names is none.
        ValueError: something else.

    >>> rater("scripted:length").name
    'scripted:length'
    """
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, Mapping):
        return _from_keywords(dict(value))
    if isinstance(value, Rater) and not isinstance(value, type):
        return value
    raise ValueError(f"expected a rater: {'; '.join(FORMS)}; or a Rater; got {value!r:.80}")


def rate_all(
    database: Database,
    rater: Rater,
    round: int | None = None,
    pseudonym: str | None = None,
    *,
    batch: int = 256,
) -> int:
    """Have a script or a judge compare all pairs that it has not compared before.

    What it said is kept after each batch, so that an interrupted call goes on where it was.

    Args:
        database: Where the pairs are.
        rater: Whoever compares.
        round: Only of this round.
        pseudonym: What it is called there; its own name where none is given.
        batch: How many pairs it is asked at once.

    Returns:
        How many it compared.
    """
    name = rater.name if pseudonym is None else pseudonym
    known = {each.question for each in database.answers(round) if each.rater == name}
    pairs = [pair for pair in database.pairs(round) if pair.id not in known]
    for start in range(0, len(pairs), batch):
        some = pairs[start : start + batch]
        verdicts = rater.compare(
            [pair.prompt for pair in some],
            [pair.first for pair in some],
            [pair.second for pair in some],
            **_shared_columns(some),
        )
        database.rate_pairs(name, list(zip(some, verdicts, strict=True)))
    return len(pairs)


def _from_text(text: str) -> Rater:
    if text.lstrip().startswith("{"):
        try:
            keywords = json.loads(text)
        except ValueError as error:
            raise ValueError(f"the rater {text!r} is no JSON: {error}") from error
        return _from_keywords(keywords)
    kind, _, rest = text.partition(":")
    if kind not in _KINDS:
        raise UnknownNameError("kind of rater", kind, _KINDS)
    if not rest:
        raise ValueError(f"the rater {text!r} does not say which: expected {'; '.join(FORMS)}")
    if kind == "scripted":
        return _scripted(reward=rest)
    if kind == "reward_model":
        return _reward_model(folder=rest)
    model, found, address = rest.partition("@")
    if found and address.startswith(("http://", "https://")):
        return _judge(address=address, model=model)
    return _judge(lm=rest)


def _from_keywords(keywords: dict[str, Any]) -> Rater:
    kind = keywords.pop("name", None)
    if not isinstance(kind, str):
        raise ValueError(f'a rater as a dict needs "name": …, got {keywords!r}')
    if kind not in _KINDS:
        raise UnknownNameError("kind of rater", kind, _KINDS)
    try:
        return _KINDS[kind](**keywords)
    except TypeError as error:
        raise ValueError(f"the rater {kind!r} cannot be made of {keywords!r}: {error}") from error


def _scripted(reward: Any, **keywords: Any) -> Rater:
    from textenv.preferences.scripted import ScriptedRater
    from textenv.rewards import as_reward

    if isinstance(reward, str):
        keywords.setdefault("name", f"scripted:{reward}")
    return ScriptedRater(as_reward(reward), **keywords)


def _judge(*, mode: Any = None, **keywords: Any) -> Rater:
    """A judge that compares: behind an endpoint in both orders, a local one by its scores.

    Small models cannot compare (they take what stands first), but they can grade.
    """
    from textenv.judges import make_judge

    if mode is None and keywords.get("template") is None and keywords.get("lm") is None:
        mode = "comparison"
    return make_judge(mode=mode, **keywords)


def _reward_model(folder: str | Path) -> Rater:
    from textenv.preferences.reward_model import RewardModel

    return RewardModel.from_pretrained(folder)


def _shared_columns(pairs: Sequence[PairToRate]) -> dict[str, list[Any]]:
    """The columns that all of some pairs have."""
    names = set(pairs[0].columns).intersection(*(pair.columns for pair in pairs))
    return {name: [pair.columns[name] for pair in pairs] for name in sorted(names)}


_KINDS: dict[str, Callable[..., Rater]] = {
    "judge": _judge,
    "reward_model": _reward_model,
    "scripted": _scripted,
}
