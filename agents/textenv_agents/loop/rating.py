"""The raters of a loop: who they are, what they are asked, and when they are done."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

from textenv.errors import UnknownNameError
from textenv.preferences import Rater
from textenv.preferences.database import Database, NewPair, NewText
from textenv.preferences.scripted import ScriptedRater
from textenv_agents.loop.config import PEOPLE, LoopConfig
from textenv_agents.loop.outcome import Waiting
from textenv_agents.loop.sampling import Sample, pairs
from textenv_agents.loop.world import World

SCRIPTED = "scripted"
KINDS = (PEOPLE, SCRIPTED, "judge", "reward_model")


def find_rater(config: LoopConfig, world: World) -> Rater | None:
    """The rater that the settings name; None: people.

    Raises:
        UnknownNameError: nobody has that name.
        ValueError: what should be JSON is none.
    """
    kind, _, name = config.rater.partition(":")
    if config.rater == PEOPLE:
        return None
    if kind not in KINDS and not config.rater.startswith("{"):
        raise UnknownNameError("rater", config.rater, KINDS)
    if kind == SCRIPTED:
        try:
            reward = json.loads(name) if name.startswith("{") else name or world.task.reward
        except ValueError as error:
            raise ValueError(f"the rater {config.rater!r} is no JSON: {error}") from error
        own: dict[str, Any] = vars(config.scripted)
        return ScriptedRater(reward, seed=config.seed_of(0, "rater"), **own)
    from textenv.preferences.raters import rater

    return rater(config.rater)


def ask(database: Database, number: int, samples: Sequence[Sample], limit: int) -> None:
    """Put a round's pairs into the database; those that are there already stay as they are.

    Pairs with a flagged text come first, and each flagged text is to be reviewed by itself too.
    """
    database.add_round(number)
    for name in dict.fromkeys(sample.policy for sample in samples):
        database.add_policy(name)
    database.add_pairs(
        number,
        [
            NewPair(
                prompt=first.prompt,
                first=first.text,
                second=second.text,
                policy_first=first.policy,
                policy_second=second.policy,
                flagged=first.flagged or second.flagged,
                columns=first.columns,
            )
            for first, second in islice(pairs(samples), limit)
        ],
    )
    database.add_texts(
        number,
        [
            NewText(each.prompt, each.text, each.policy, each.flagged, each.columns)
            for each in samples
            if each.flagged is not None
        ],
    )


def people_left(config: LoopConfig, database: Database, number: int) -> Waiting | None:
    """What people still have to do in a round; None: enough is done.

    A pair is done when `raters_per_pair` people have given a verdict. A pair that somebody skips or
    flags is asked of others first, as far as more people rate this round: it is done when one more
    than `raters_per_pair` have answered it, or all who rate if they are no more than that. So a
    round ends, whatever nobody wants to judge.
    """
    asked = {pair.id for pair in database.pairs(number)}
    answers = [answer for answer in database.answers(number) if answer.question in asked]
    needed, people = config.raters_per_pair, len({answer.rater for answer in answers})
    seen = Counter(answer.question for answer in answers)
    verdicts = Counter(
        answer.question for answer in answers if answer.answer not in ("skip", "flag")
    )
    looks = min(needed + 1, max(needed, people))
    done = sum(verdicts[pair] >= needed or seen[pair] >= looks for pair in asked)
    wanted = max(1, round(config.enough * len(asked)))
    return None if done >= wanted else Waiting(number, done, wanted)
