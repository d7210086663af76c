"""`check_reward`: does a reward, yours or ours, keep what environments rely on?"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from textenv.errors import NotSerialisableError
from textenv.rewards import Combined, Reward, RewardLike, Texts, as_reward
from textenv.rewards.payments import FaultError, listed, raised, weighed
from textenv.testing.compare import (
    CheckError,
    expect,
    expect_same,
    global_generators_untouched,
)
from textenv.vocabulary import Vocabulary

COMPLETIONS = (
    "good",
    "a bad film, truly awful",
    "it was a wonderful day . and GOOD !",
    "goodness 12 3.4 -5",
    "two\nlines",
    "naïve café 🙂",
)
ALWAYS = ("", "我爱你。")  # every reward meets the empty text, and text without blanks or ASCII
ENOUGH = 0.1  # seconds of timing


class RewardReport(NamedTuple):
    """What a reward said of the texts that it was checked with.

    Attributes:
        texts: How many texts there were.
        left_out: For how many it said None.
        minimum: The least that a whole text earned.
        maximum: The most.
        mean: The mean of all texts that were not left out; NaN if all were.
        seconds_per_1000: What 1,000 texts cost, called with so many at once.
    """

    texts: int
    left_out: int
    minimum: float
    maximum: float
    mean: float
    seconds_per_1000: float


def check_reward(
    reward: RewardLike,
    prompts: Sequence[str] | None = None,
    completions: Sequence[str] | None = None,
    *,
    completion_ids: Sequence[Sequence[int]] | None = None,
    vocabulary: Vocabulary | None = None,
    tolerance: float = 0.0,
    **columns: Sequence[Any],
) -> RewardReport:
    """Check a reward: shapes, finite numbers within its range, the same in every company.

    One payment a text (or a token); the same for a text alone, in a batch, in a reversed batch
    and when asked again; inputs as they were; no global generator read or set; an empty batch,
    an empty text and Chinese; and its JSON form, if it has one, makes the same reward again.

    Args:
        reward: A reward in any form: object, function, name, dict, list.
        prompts: n texts. None: empty ones.
        completions: n texts. None: a few of our own.
        completion_ids: n lists of ids. None: by the vocabulary if there is one, else one id for
            each piece between blanks. With explicit ids the empty text and Chinese are not added.
        vocabulary: What the ids mean; then a token table is checked too. Rewards that decode
            ids, such as `per_token`, cannot be checked without.
        tolerance: By how much a payment may differ between a batch and a text alone; rewards
            that come out of a neural network need about 1e-5.
        **columns: The task's columns, n values each. Those that the reward cannot do without and
            that are not given are the completions themselves.

    Returns:
        What it paid and how long it took.

    Raises:
        CheckError: the reward breaks a promise.

    >>> check_reward("length").maximum
    9.0
    """
    reward = as_reward(reward)
    texts = _texts(reward, prompts, completions, completion_ids, vocabulary, columns)
    with global_generators_untouched(f"the reward {reward.name!r}"):
        for _, term in reward.terms if isinstance(reward, Combined) else ():
            _check(term, texts, tolerance, vocabulary)
        payments = _check(reward, texts, tolerance, vocabulary)
        reward = _bound(reward, vocabulary)
        _check_table(reward, vocabulary)
    totals = [np.sum(payment) for payment in payments if payment is not None]
    return RewardReport(
        texts=len(payments),
        left_out=len(payments) - len(totals),
        minimum=float(min(totals, default=np.nan)),
        maximum=float(max(totals, default=np.nan)),
        mean=float(np.mean(totals)) if totals else float("nan"),
        seconds_per_1000=_seconds(reward, texts),
    )


def _texts(
    reward: Reward,
    prompts: Sequence[str] | None,
    completions: Sequence[str] | None,
    completion_ids: Sequence[Sequence[int]] | None,
    vocabulary: Vocabulary | None,
    columns: Mapping[str, Sequence[Any]],
) -> Texts:
    if completions is None:
        if prompts is not None or completion_ids is not None or columns:
            raise ValueError("prompts, completion_ids and columns belong to completions: give both")
        completions = [text for text in COMPLETIONS if _can_say(vocabulary, text)]
    whole = list(completions)
    starts: list[Any] = [""] * len(whole) if prompts is None else list(prompts)
    given = {name: list(column) for name, column in columns.items()}
    for name, column in {"prompts": starts, **given}.items():
        if len(column) != len(whole):
            raise ValueError(f"{len(whole)} completions, but {len(column)} {name}")
    if completion_ids is None:
        added = [text for text in ALWAYS if _can_say(vocabulary, text)]
        whole += added
        for column in (starts, *given.values()):
            # They take the place of the first text: its prompt, its columns.
            column += (column[:1] or [""]) * len(added)
        completion_ids = [_ids(vocabulary, text) for text in whole]
    needed = {name: list(whole) for name in reward.columns}
    return Texts(starts, whole, [list(row) for row in completion_ids], {**needed, **given})


def _can_say(vocabulary: Vocabulary | None, text: str) -> bool:
    if vocabulary is None:
        return True
    try:
        vocabulary.encode(text)
    except ValueError:
        return False
    return True


def _ids(vocabulary: Vocabulary | None, text: str) -> list[int]:
    return list(range(len(text.split()))) if vocabulary is None else vocabulary.encode(text)


def _check(
    reward: Reward, texts: Texts, tolerance: float, vocabulary: Vocabulary | None
) -> list[Any]:
    """Check one reward, which may be a sum as a whole; return its payments."""
    what = f"the reward {reward.name!r}"
    again = _through_json(reward)
    reward = _bound(reward, vocabulary)
    count = len(texts.completions)
    kept = copy.deepcopy(texts)
    # Alone first: what fails is then blamed on one text.
    alone = [_payments(reward, _some(texts, [row]))[0] for row in range(count)]
    payments = _payments(reward, texts)
    expect_same(texts, kept, f"what was handed to {what}")
    expect_same(alone, payments, f"{what}, asked one by one", tolerance)
    expect_same(_payments(reward, texts), payments, f"{what}, asked the same again", tolerance)
    backwards = list(range(count))[::-1]
    reversed_batch = _payments(reward, _some(texts, backwards))[::-1]
    expect_same(reversed_batch, payments, f"{what}, asked in reversed order", tolerance)
    expect_same(_payments(reward, _some(texts, [])), [], f"{what}, asked about no texts")
    if again is not None:
        made = _payments(_bound(again, vocabulary), texts)
        expect_same(made, payments, f"{what} made from its JSON", tolerance)
    return payments


def _bound(reward: Reward, vocabulary: Vocabulary | None) -> Reward:
    return reward if vocabulary is None else reward.with_vocabulary(vocabulary)


def _payments(reward: Reward, texts: Texts) -> list[Any]:
    """Call the reward; return None, a float, or a list of floats for each text."""
    count = len(texts.completions)
    # A sum that pays tokens says one number a text when it is called: see `Combined`.
    at_end = reward.pays == "end" or isinstance(reward, Combined)
    columns = {**texts.columns, "completion_ids": texts.completion_ids}
    try:
        returned = listed(reward(texts.prompts, texts.completions, **columns), count)
        for payment, ids in zip(returned, texts.completion_ids, strict=True):
            if payment is not None:
                weighed(payment, 1.0, "end" if at_end else "token", len(ids))
    except Exception as error:
        fault = str(error) if isinstance(error, FaultError) else raised(error)
        where = repr(texts.completions[0]) if count == 1 else f"{count} texts"
        raise CheckError(f"the reward {reward.name!r} {fault}; this was for {where}") from error
    payments = [
        payment if payment is None else float(payment) if at_end else [float(p) for p in payment]
        for payment in returned
    ]
    # The range is that of what is paid at once, which such a sum does not say.
    if reward.pays == "end" or not at_end:
        low, high = reward.range
        for payment, text in zip(payments, texts.completions, strict=True):
            for number in np.ravel([] if payment is None else payment).tolist():
                expect(
                    low <= number <= high,
                    f"the reward {reward.name!r} states the range {low} … {high} and pays "
                    f"{number} for {text!r}",
                )
    return payments


def _check_table(reward: Reward, vocabulary: Vocabulary | None) -> None:
    table = None if vocabulary is None else reward.token_table(vocabulary)
    if vocabulary is None or table is None:
        return
    what = f"the token table of the reward {reward.name!r}"
    expect(np.shape(table) == (vocabulary.size,), f"{what} has the shape {np.shape(table)}")
    low, high = reward.range
    inside = np.isfinite(table) & (table >= low) & (table <= high)
    expect(inside.all(), f"{what} holds numbers outside {low} … {high}: {table!r}")


def _through_json(reward: Reward) -> Reward | None:
    try:
        spec = reward.spec()
    except NotSerialisableError:
        return None
    return as_reward(json.loads(json.dumps(spec)))


def _some(texts: Texts, rows: list[int]) -> Texts:
    return Texts(
        [texts.prompts[row] for row in rows],
        [texts.completions[row] for row in rows],
        [texts.completion_ids[row] for row in rows],
        {name: [values[row] for row in rows] for name, values in texts.columns.items()},
    )


def _seconds(reward: Reward, texts: Texts) -> float:
    count, calls = max(1, len(texts.completions)), 0
    columns = {**texts.columns, "completion_ids": texts.completion_ids}
    begin = time.perf_counter()
    while calls * count < 1000 and (calls == 0 or time.perf_counter() - begin < ENOUGH):
        reward(texts.prompts, texts.completions, **columns)
        calls += 1
    return (time.perf_counter() - begin) * 1000 / (calls * count)
