"""What people said of 23,703 sentences, shipped: the single ratings behind VADER (MIT).

Each sentence was rated from −4 (most negative) to 4 (most positive) by 15–29 people, some tweets by
92–99. What is odd in the files: for 199 tweets the published mean is not that of the published
ratings (it is smaller in size), so means are always those of the ratings. 84 texts occur more than
once, each time with ratings of its own. Amazon's lines stand in another order in the two files.

Only in "movies" can a person be followed, and only through one block: there the k-th ratings of 30
snippets in a row come from one person (their deviations from the means correlate by 0.20–0.35, and
by −0.05–0.00 over the edge of a block); elsewhere the ratings of each sentence stand in an order
of its own. So only "movies" gives comparisons by one and the same person.

Hutto & Gilbert (2014), https://ojs.aaai.org/index.php/ICWSM/article/view/14550.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from textenv.errors import UnknownNameError
from textenv.preferences.comparisons import Comparison, RatedText

FOLDER = Path(__file__).parent.parent / "data" / "human_ratings"
FILES = {name: f"{name}.tsv.gz" for name in ("movies", "amazon", "news", "tweets")}
By = Literal["person", "people"]
BLOCK = 30  # snippets in a row that the same people rated, in "movies"


class HumanRating(NamedTuple):
    """A sentence and what each of some people said of it.

    text: the sentence.
    mean: of the ratings.
    ratings: whole numbers from −4 to 4.
    """

    text: str
    mean: float
    ratings: tuple[int, ...]


def load(source: str = "movies") -> list[HumanRating]:
    """Read the sentences of one source, in the published order.

    Args:
        source: "movies" (10,605 film snippets), "amazon" (3,708 sentences of product reviews),
            "news" (5,190 of New York Times editorials) or "tweets" (4,200).

    Raises:
        UnknownNameError: another source.

    >>> load("tweets")[1].text, round(load("tweets")[1].mean, 3), len(load("tweets")[1].ratings)
    ('Yay. Another good phone interview.', 2.263, 99)
    """
    if source not in FILES:
        raise UnknownNameError("source of human ratings", source, FILES)
    lines = gzip.decompress((FOLDER / FILES[source]).read_bytes()).decode("utf-8").split("\n")
    return [_rating(line) for line in lines[:-1]]


def as_ratings(source: str = "movies") -> list[RatedText]:
    """Give each sentence with the mean of its ratings, without a prompt."""
    return [RatedText(prompt="", text=row.text, rating=row.mean) for row in load(source)]


def as_comparisons(
    source: str = "movies", *, by: By = "person", ties: bool = True, seed: int = 0
) -> list[Comparison]:
    """Pair sentences at random, no sentence in two pairs, and say which one people preferred.

    by="person": what each single person of a block says of its 15 pairs, by that person's own two
    ratings; "tie" where both are the same. These pairs are hard: a block's snippets are alike (the
    means' variance is 0.63 inside the blocks and 3.69 over all).

    by="people": pairs of the whole source. The label is how often, of all two ratings that two
    people gave, the first text's is the higher one, ties counted ½: a soft label, seldom 0, ½ or 1.

    Args:
        source: As in `load`; for by="person" it is "movies": nowhere else can one be followed.
        by: "person" or "people".
        ties: Keep the comparisons labelled ½; of single persons' about a third.
        seed: Of the pairing.

    Raises:
        ValueError: another `by`, or a source that has no persons.

    >>> verdict = as_comparisons()[0]
    >>> verdict.label, verdict.rater
    (0.0, 'movies-0-0')
    >>> round(as_comparisons("news", by="people")[0].label, 2)
    0.37
    """
    if by not in get_args(By):
        raise ValueError(f"by must be one of {list(get_args(By))}, got {by!r}")
    rows, generator = load(source), np.random.default_rng(seed)
    if by == "people":
        pairs = _pairs(rows, generator)
        found = [_comparison(*pair, _share_above(*pair), source) for pair in pairs]
        return [row for row in found if ties or row.label != 0.5]
    if source != "movies":
        raise ValueError(
            f"by='person' needs source='movies', got {source!r}: elsewhere nobody knows which "
            "ratings come from one person; use by='people'"
        )
    found = []
    for block, start in enumerate(range(0, len(rows), BLOCK)):
        for pair in _pairs(rows[start : start + BLOCK], generator):
            for person, (one, other) in enumerate(zip(*(r.ratings for r in pair), strict=True)):
                label = 0.5 if one == other else float(one > other)
                if ties or label != 0.5:
                    found.append(_comparison(*pair, label, f"{source}-{block}-{person}"))
    return found


def _pairs(
    rows: list[HumanRating], generator: np.random.Generator
) -> list[tuple[HumanRating, HumanRating]]:
    """Disjoint pairs; one row is left over where their number is odd."""
    order = generator.permutation(len(rows))
    return [(rows[i], rows[j]) for i, j in zip(order[0::2], order[1::2], strict=False)]


def _share_above(first: HumanRating, second: HumanRating) -> float:
    ahead = np.sign(np.subtract.outer(first.ratings, second.ratings))
    return float((ahead.mean() + 1) / 2)


def _comparison(first: HumanRating, second: HumanRating, label: float, rater: str) -> Comparison:
    return Comparison(prompt="", first=first.text, second=second.text, label=label, rater=rater)


def _rating(line: str) -> HumanRating:
    _, given, text = line.split("\t")
    ratings = tuple(int(rating) for rating in given.split(" "))
    return HumanRating(text, sum(ratings) / len(ratings), ratings)
