"""Questions with answers that can be checked: any generator of the package reasoning-gym."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

from textenv.rewards.reasoning import ReasoningGym, WellFormed
from textenv.sources.reasoning import questions
from textenv.task import Task, uniform_policy
from textenv.vocabulary import ByteVocabulary

PLACE = "{question}"
LEAST_TOKENS = 16  # of a text, so that there is room for a wrong answer to a short question
UNKNOWN_TOKENS = 1024  # where no answer is stored: a plan, or the turns of a cube


def reasoning_gym(
    *,
    vocabulary: Any = None,
    task: str = "basic_arithmetic",
    config: Mapping[str, Any] | None = None,
    size: int = 100,
    dataset_seed: int = 0,
    template: str = PLACE,
    tag: str | None = None,
    format_reward: float = 0.0,
    reward: Any = None,
    max_tokens: int | None = None,
) -> Task:
    """Answer a question of reasoning-gym; what its own scorer gives, 0 … 1.

    The columns are "item", the question's number, and "reference", the stored answer (None for
    generators that have only a scorer), so that `reward="exact_match"` works too. What becomes of
    answers that a scorer cannot read, and of scorers that fail: `textenv.rewards.reasoning.judge`.

    Args:
        vocabulary: The language model's; a warning says so where it cannot read all of a question.
            None: bytes, so that every question can be written.
        task: One of reasoning-gym's generators: "leg_counting", "sudoku", …
        config: Its settings, in their JSON form, as in {"min_digits": 1}. For "composite"
            {"datasets": [{"name": "gcd", "weight": 2.0}, {"name": "lcm"}]}.
        size: How many questions there are.
        dataset_seed: Which they are: the same seed, the same questions in every process.
        template: The prompt, with {question} where the question goes.
        tag: "answer" takes what stands in the last <answer>…</answer> of a text for the answer;
            say so in the template. None: the whole text is the answer.
        format_reward: Paid for an answer that the scorer can read, right or wrong. Infos then
            report both parts, `reasoning_gym` and `well_formed`, at each end.
        reward: Another reward. None: the scorer's.
        max_tokens: T. None: what the longest stored answer takes, at least 16; at least 1024 where
            a question has no stored answer.

    Raises:
        MissingExtraError: reasoning-gym is not installed.
        UnknownNameError: no generator, or none of its settings, is called that.
        ValueError: a setting that reasoning-gym refuses, a template without {question}, a
            format_reward that is no finite number.
    """
    if not isinstance(template, str) or PLACE not in template:
        raise ValueError(f"expected template= to be a text with {PLACE} in it, got {template!r}")
    if isinstance(format_reward, bool) or not isinstance(format_reward, int | float):
        raise ValueError(f"expected format_reward= to be a number, got {format_reward!r}")
    known = questions(task, config, size, dataset_seed)
    items = range(len(known))
    if vocabulary is None:
        vocabulary = ByteVocabulary()
    else:
        _warn_of_losses(vocabulary, [known.question(item) for item in items])
    answers = [known.answer(item) for item in items]
    if reward is None:
        setting: dict[str, Any] = {
            "config": config,
            "size": size,
            "dataset_seed": dataset_seed,
            "tag": tag,
        }
        reward = ReasoningGym(task, **setting)
        if format_reward:
            reward = reward + format_reward * WellFormed(task, **setting)
    if max_tokens is None:
        written = ["" if tag is None else f"<{tag}></{tag}>"]
        written += [written[0] + answer for answer in answers if answer]
        least = UNKNOWN_TOKENS if None in answers else LEAST_TOKENS
        max_tokens = max(least, *(len(vocabulary.encode(text)) + 1 for text in written))
    return Task(
        name="ReasoningGym",
        vocabulary=vocabulary,
        max_tokens=max_tokens,
        reward=reward,
        prompts=[template.replace(PLACE, known.question(item)) for item in items],
        columns={"item": list(items), "reference": answers},
        starting_policy=partial(uniform_policy, vocabulary),
    )


def _warn_of_losses(vocabulary: Any, asked: list[str]) -> None:
    """Say so where a language model reads parts of the questions as its unknown token."""
    unknown = {*vocabulary.suppressed_tokens} - {vocabulary.start_token, vocabulary.end_token}
    for item, question in enumerate(asked):
        ids = vocabulary.encode(question)
        if unknown.intersection(ids):
            warnings.warn(
                f"the vocabulary of this language model has no tokens for parts of the question "
                f"{item}, {question!r:.80}, which it reads as {vocabulary.decode(ids)!r:.80}: such "
                'questions cannot be answered; take a model that writes every byte (lm="smollm2")',
                stacklevel=4,
            )
            return
