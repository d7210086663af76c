"""Small tasks that several tests share."""

from __future__ import annotations

from textenv import Task, TextEnv
from textenv.rewards import length
from textenv.vocabulary import WordVocabulary


def task(**changes):
    """V = 5: a b c ! $ (! stops and belongs to the text, $ ends it and does not), P = 2, T = 3."""
    made = Task(
        name="small",
        vocabulary=WordVocabulary(["a", "b", "c", "!"], end="$"),
        max_tokens=3,
        reward=length(),
        prompts=["a", "b c"],
        stop=["!"],
    )
    return made.with_changes(**changes)


def small_task(**changes):
    """The same with four prompts."""
    return task(**{"prompts": ["a", "b c", "c b", "b"], **changes})


def started(prompt="a", made=None, **keywords):
    env = TextEnv(made or task(), **keywords)
    env.reset(seed=0, options={"prompt": prompt})
    return env
