"""Small tasks that several tests share."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from textenv import Task, TextEnv
from textenv.mdp import align_prompts, align_written
from textenv.prefixes import Prefixes
from textenv.rewards import length, word_preference
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


def ragged_task(max_tokens, **changes):
    """Texts of 1 to T words after one of three prompts; "!" stops and "$" ends them."""
    return Task(
        name="ragged",
        vocabulary=WordVocabulary(["a", "b", "c", "!"], end="$"),
        prompts=["a", "b a", "c"],
        stop=["!"],
        max_tokens=max_tokens,
        reward=word_preference({"a": 1.0, "b": -1.0}, pays="token"),
    ).with_changes(**changes)


def random_prefixes(rules, seed, rows=7, *, in_step=False, shortest=0, longest=None):
    """Random texts after random prompts; in step: all of one length."""
    size, generator = rules.vocabulary_size, np.random.default_rng(seed)
    longest = rules.prompt_length if longest is None else longest
    prompts = [
        generator.integers(size, size=generator.integers(shortest, longest + 1))
        for _ in range(rows)
    ]
    lengths = generator.integers(rules.max_tokens + 1, size=rows)
    if in_step:
        lengths[:] = lengths[0]
    written = [generator.integers(size, size=length) for length in lengths]
    tokens = np.concatenate([align_prompts(rules, prompts), align_written(rules, written)], axis=1)
    return Prefixes(tokens, rules.prompt_length, size, lengths)


def started(prompt="a", made=None, **keywords):
    env = TextEnv(made or task(), **keywords)
    env.reset(seed=0, options={"prompt": prompt})
    return env


def register_tasks(tasks):
    """Register tests/NAME-v0 for each name with the keywords of its environment."""
    for name, keywords in tasks.items():
        if f"tests/{name}-v0" not in gym.registry:
            gym.register(
                f"tests/{name}-v0",
                entry_point="textenv.env:TextEnv",
                vector_entry_point="textenv.vector_env:TextVectorEnv",
                kwargs=keywords,
            )
