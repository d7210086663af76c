"""What a dataset remembers of the task it was recorded on, so that it is not read for another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from textenv.task import Task
from textenv.vocabulary import Vocabulary


def fingerprint(task: Task) -> dict[str, Any]:
    """Say in JSON's types what token ids mean in a task and where its texts end.

    Rewards and prompts are no part of it: the rewards are recorded, and the prompts are in the
    texts.
    """
    rules = task.rules
    condition = rules.stop_condition
    return {
        "vocabulary": vocabulary_fingerprint(task.vocabulary),
        "vocabulary_size": rules.vocabulary_size,
        "prompt_length": rules.prompt_length,
        "max_tokens": rules.max_tokens,
        "end_token": rules.end_token,
        "stop_tokens": list(rules.stop_tokens),
        "stop_condition": None if condition is None else _name(condition),
    }


def vocabulary_fingerprint(vocabulary: Vocabulary) -> str:
    """SHA-256 of what each id means, and of the end token."""
    tokens = [vocabulary.token(token_id) for token_id in range(vocabulary.size)]
    said = json.dumps([tokens, vocabulary.end_token])
    return hashlib.sha256(said.encode("ascii")).hexdigest()


def check_fingerprint(found: Mapping[str, Any], task: Task, where: str) -> None:
    """Refuse data that were recorded where ids mean something else, or texts end elsewhere.

    Args:
        found: What the data remember.
        task: What they are read for.
        where: Names the data.

    Raises:
        ValueError: a part differs, or is not there.
    """
    wanted = fingerprint(task)
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        said = "; ".join(f"{name} {found.get(name)!r} ≠ {wanted[name]!r}" for name in different)
        raise ValueError(
            f"{where} was recorded with another vocabulary or other limits than those of "
            f"{task.name}: {said}. Make the environment with the keywords (lm=, max_tokens=, "
            "prompt_length=, …) of the one that it was recorded in, or record again"
        )


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
