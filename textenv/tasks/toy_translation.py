"""A toy language pair: English sentences of a small grammar, to be translated into Chinese."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from textenv.rewards import edit_similarity
from textenv.task import Task, join_columns
from textenv.vocabulary import load_vocabulary

SENTENCES = Path(__file__).parent.parent / "data" / "toy_translation"
SPLITS = ("train", "test")


def toy_translation(
    *,
    vocabulary: Any = None,
    split: Literal["train", "test"] = "train",
    prompts: Sequence[str] | None = None,
    references: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    reward: Any = None,
    max_tokens: int = 20,
) -> Task:
    """Translate an English sentence into Chinese; the similarity to the right translation, 0 … 1.

    The reward is `edit_similarity` in characters: 1 for exactly the right text. Not word for word:
    "i did not buy a book yesterday ." is 我昨天没买一本书。

    Args:
        vocabulary: The language model's. None: that of the shipped model "translator".
        split: "train" (2,000 sentences) or "test" (500 others).
        prompts: English sentences in place of these.
        references: Their translations, the column "reference"; without, give another reward.
        columns: Further columns for the reward.
        reward: See `textenv.rewards`. None: `edit_similarity`.
        max_tokens: T.

    Raises:
        ValueError: no such split, or references without prompts.
    """
    if split not in SPLITS:
        raise ValueError(f"expected split= to be one of {SPLITS}, got {split!r}")
    if references is not None and prompts is None:
        raise ValueError("references= are the translations of prompts=: give both")
    if vocabulary is None:
        from textenv.catalogue import folder_of

        vocabulary = load_vocabulary(folder_of("translator"))
    if prompts is None:
        lines = (SENTENCES / f"{split}.tsv").read_text("utf-8").splitlines()
        prompts, references = zip(*(line.split("\t") for line in lines), strict=True)
    return Task(
        name="ToyTranslation",
        vocabulary=vocabulary,
        max_tokens=max_tokens,
        reward=edit_similarity() if reward is None else reward,
        prompts=prompts,
        columns=join_columns(
            {} if references is None else {"reference": references}, columns or {}
        ),
        starting_policy=_starting_policy,
    )


def _starting_policy() -> Any:
    from textenv.models import load

    return load("translator")
