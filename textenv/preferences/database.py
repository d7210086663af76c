"""The database of ratings: what raters are asked, and what they answered.

One SQLite file in WAL mode. An answer is acknowledged (`rate_pair` returns) when it is on the
disk; a kill or a full disk after that loses nothing, and one before that leaves nothing half
written. Any number of processes and threads may use it at once. Nobody's name is kept and no time
of day, only pseudonyms. The tables are in `schema.py`, who is asked what in `assignment.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from textenv.preferences import assignment, tables
from textenv.preferences.comparisons import Comparison
from textenv.preferences.outcomes import Outcomes
from textenv.preferences.pseudonyms import new_pseudonym
from textenv.preferences.raters import rate_all
from textenv.preferences.records import (
    ANSWERS,
    Answer,
    NewPair,
    NewText,
    PairToRate,
    Progress,
    Question,
    Review,
    TextToRate,
)
from textenv.preferences.schema import AlreadyRatedError, RatingsError

__all__ = [
    "AlreadyRatedError",
    "Database",
    "NewPair",
    "NewText",
    "PairToRate",
    "Progress",
    "RatingsError",
    "TextToRate",
    "rate_all",
]


class Database(Outcomes):
    """A file of ratings; a context manager.

    Args:
        path: The file; made if it is not there.
        clock: Tells the seconds, for leases; since this machine was started, so that no time of day
            is written.

    Raises:
        RatingsError: the file is none of ours, is of a newer version, or cannot be written.
    """

    # What is asked

    def add_round(self, number: int, **meta: Any) -> int:
        """Add a round of the loop; one that is there already stays, with the new `meta` on top."""
        with self.writing("the round was not added") as connection:
            tables.identified(connection, "rounds", number=number)
            row = connection.execute("SELECT meta FROM rounds WHERE number = ?", (number,))
            merged = json.dumps({**json.loads(row.fetchone()["meta"]), **meta})
            connection.execute("UPDATE rounds SET meta = ? WHERE number = ?", (merged, number))
        return number

    def add_policy(self, name: str) -> int:
        """Add whoever writes texts; one that is there already keeps its number."""
        with self.writing("the policy was not added") as connection:
            return tables.identified(connection, "policies", name=name)

    def add_pairs(self, round: int, pairs: Sequence[NewPair]) -> list[int]:
        """Add pairs to be compared: all of them or, at an error, none.

        The same two texts of the same policies after the same prompt are one pair in a round:
        adding it again gives its number again.

        Args:
            round: One that was added.
            pairs: n pairs.

        Returns:
            n numbers.

        Raises:
            ValueError: the round is not there, or what should be text is none.
        """
        return self._add(round, pairs)

    def add_texts(self, round: int, texts: Sequence[NewText]) -> list[int]:
        """Add texts to be rated by themselves; for the rest as `add_pairs`."""
        return self._add(round, texts)

    # Who is asked, and what they say

    def add_rater(self) -> str:
        """Make a rater, who has a random pseudonym and nothing else."""
        with self.writing("no rater was added") as connection:
            while True:
                pseudonym = new_pseudonym()
                if tables.known(connection, "raters", pseudonym=pseudonym) is None:
                    tables.identified(connection, "raters", pseudonym=pseudonym)
                    return pseudonym

    def next_pair(
        self, rater: str, raters_per_pair: int = 1, round: int | None = None
    ) -> PairToRate | None:
        """Give the pair that a rater shall compare next, or None.

        Flagged ones come first, then those with the fewest verdicts. Nobody gets a pair twice; a
        rater who asks again before answering gets the same one. It is theirs for a while
        (`assignment.LEASE_SECONDS`), so that no other gets its last free place.

        Args:
            rater: A pseudonym; a new one is added.
            raters_per_pair: How many verdicts each pair needs; skips and flags are none.
            round: Only of this round.
        """
        found = self._next(rater, raters_per_pair, round, single=False)
        return found if isinstance(found, PairToRate) else None

    def next_text(
        self, rater: str, raters_per_text: int = 1, round: int | None = None
    ) -> TextToRate | None:
        """Give the text that a rater shall rate next, or None; as `next_pair`."""
        found = self._next(rater, raters_per_text, round, single=True)
        return found if isinstance(found, TextToRate) else None

    def next_question(
        self, rater: str, raters_each: int = 1, round: int | None = None
    ) -> Question | None:
        """Give the pair or the text that comes next: what is flagged, then pairs, then texts."""
        return self._next(rater, raters_each, round, single=None)

    def rate_pair(
        self,
        pair: PairToRate | int,
        rater: str,
        answer: Answer,
        *,
        key: str | None = None,
        first_left: bool | None = None,
    ) -> int:
        """Keep what a rater says of a pair; it is on the disk when this returns.

        Args:
            pair: The pair or its number.
            rater: A pseudonym; a new one is added.
            answer: "better", "worse" or "tie", of the first text; "skip"; "flag".
            key: Names this answer: sent again with the same key it is not kept twice.
            first_left: Whether the first text was shown on the left.

        Returns:
            The rating's number.

        Raises:
            AlreadyRatedError: this rater has answered it.
            ValueError: no such pair, or another answer.
            RatingsError: it could not be written; then nothing was.
        """
        _check_answer(answer)
        return self._rate_one(pair, rater, answer, None, key=key, first_left=first_left)

    def rate_pairs(self, rater: str, answers: Sequence[tuple[PairToRate | int, Answer]]) -> None:
        """Keep what a rater says of many pairs: all of it or, at an error, nothing."""
        with self.writing("these ratings were not kept") as connection:
            for pair, answer in answers:
                _check_answer(answer)
                number = pair if isinstance(pair, int) else pair.id
                tables.add_rating(connection, number, rater, answer)

    def rate_text(
        self, text: TextToRate | int, rater: str, answer: float | str, *, key: str | None = None
    ) -> int:
        """Keep what a rater says of one text: a finite number, "skip" or "flag"; as `rate_pair`."""
        if isinstance(answer, str):
            if answer not in ("skip", "flag"):
                raise ValueError(f'expected a number, "skip" or "flag", got {answer!r}')
            return self._rate_one(text, rater, answer, None, key=key, single=True)
        number = float(answer)
        if not -float("inf") < number < float("inf"):
            raise ValueError(f"expected a finite number, got {answer!r}")
        return self._rate_one(text, rater, "number", number, key=key, single=True)

    def undo(self, rater: str, rating: int | None = None) -> Question | None:
        """Take back a rater's last answer; what it was about is theirs to answer again.

        Args:
            rater: The pseudonym.
            rating: The number of the answer that is meant: where another came after it, or it is
                undone already, nothing happens.

        Returns:
            What is to be answered again; None where nothing happened.
        """
        with self.writing("nothing was undone") as connection:
            return tables.undo(connection, rater, rating, self._clock())

    def let_go(self, rater: str) -> None:
        """Leave to others what a rater was asked last and will not answer."""
        with self.writing("nothing was left to others") as connection:
            number = tables.known(connection, "raters", pseudonym=rater)
            if number is not None:
                assignment.release(connection, number)

    def review(self, question: Question | int, said: Review | None) -> None:
        """Keep what a reviewer says of what was flagged.

        Args:
            question: A pair or a text, or its number.
            said: "fine": it is asked like any other. "removed": nobody is asked, and neither it nor
                its ratings are in any list, result or export but `flagged`. None: it is to be
                reviewed again.

        Raises:
            ValueError: no such question, or something else is said.
        """
        if said not in (None, *get_args(Review)):
            raise ValueError(f'expected "fine", "removed" or None, got {said!r}')
        number = question if isinstance(question, int) else question.id
        with self.writing("this review was not kept") as connection:
            tables.review(connection, number, said)

    def progress(self, rater: str, raters_per_pair: int = 1, round: int | None = None) -> Progress:
        """How far a rater is, with pairs and texts together."""
        with self._reading():
            number = tables.known(self._connection, "raters", pseudonym=rater) or 0
            return assignment.progress(
                self._connection, number, raters_per_pair, round, self._clock()
            )

    def export(self, path: str | Path, round: int | None = None) -> list[Path]:
        """Write what was rated to files without anything about a person.

        What they hold goes into another database by `textenv rate --import --new-prompts`.

        Args:
            path: For the comparisons: .jsonl, .csv or .parquet. Ratings of single texts, if there
                are any, go to a second file beside it, "NAME-ratings.SUFFIX".
            round: Only of this round.

        Returns:
            The files.
        """
        from textenv.preferences.exporting import export

        return export(self, Path(path), round)

    def import_comparisons(
        self, comparisons: Sequence[Comparison], *, round: int, new_prompts: bool = False
    ) -> int:
        """Take in comparisons that were made elsewhere: all of them or, at an error, none.

        Args:
            comparisons: Their raters' names are replaced by pseudonyms.
            round: Where they belong; added if it is not there.
            new_prompts: Take prompts that are not in the database, too.

        Returns:
            How many.

        Raises:
            BadRowsError: each row that is wrong, with its number and the reason.
        """
        from textenv.preferences.importing import import_comparisons

        return import_comparisons(self, comparisons, round, new_prompts=new_prompts)

    # Beneath

    def _add(self, round: int, new: Sequence[NewPair] | Sequence[NewText]) -> list[int]:
        with self.writing("nothing was added") as connection:
            if tables.known(connection, "rounds", number=round) is None:
                raise ValueError(f"there is no round {round!r} yet: add it with add_round({round})")
            return [tables.add_question(connection, round, each) for each in new]

    def _rate_one(self, question: Question | int, *rating: Any, **more: Any) -> int:
        number = question if isinstance(question, int) else question.id
        with self.writing("this rating was not kept") as connection:
            return tables.add_rating(connection, number, *rating, **more)

    def _next(
        self, rater: str, needed: int, round: int | None, *, single: bool | None
    ) -> Question | None:
        if needed < 1:
            raise ValueError(f"expected raters_per_pair ≥ 1, got {needed!r}")
        with self.writing("nothing was assigned") as connection:
            number = tables.identified(connection, "raters", pseudonym=rater)
            now = self._clock()
            found = assignment.take(connection, number, needed, round, single=single, now=now)
            return None if found is None else tables.questions(connection, number=found)[0]


def _check_answer(answer: object) -> None:
    if answer not in ANSWERS:
        raise ValueError(f"expected an answer among {', '.join(ANSWERS)}, got {answer!r}")
