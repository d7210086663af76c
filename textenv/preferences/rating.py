"""Scripts, judges and reward models as raters: they compare all that is in a database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from textenv.preferences.comparisons import Rater
from textenv.preferences.records import PairToRate

if TYPE_CHECKING:
    from textenv.preferences.database import Database


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


def _shared_columns(pairs: Sequence[PairToRate]) -> dict[str, list[Any]]:
    """The columns that all of some pairs have."""
    names = set(pairs[0].columns).intersection(*(pair.columns for pair in pairs))
    return {name: [pair.columns[name] for pair in pairs] for name in sorted(names)}
