"""Reading a ratings database: what is asked in it, and what raters answered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from textenv.preferences import tables
from textenv.preferences.comparisons import LABELS, Comparison, RatedText
from textenv.preferences.connection import RatingsFile
from textenv.preferences.records import Answered, Flagged, PairToRate, Question, TextToRate

if TYPE_CHECKING:
    from textenv.preferences.agreement import Agreement

_ANSWERS = """SELECT r.id, r.question, r.verdict, r.number, r.first_left, w.pseudonym
    FROM ratings r JOIN raters w ON w.id = r.rater JOIN questions q ON q.id = r.question
    WHERE NOT r.undone AND ifnull(q.round = :round, 1) AND q.review IS NOT 'removed'
    ORDER BY r.question, r.id"""
_REVIEWED = """SELECT q.id, q.review, count(r.id) AS raters FROM questions q
    LEFT JOIN ratings r ON r.question = q.id AND r.verdict = 'flag' AND NOT r.undone
    GROUP BY q.id HAVING q.flagged IS NOT NULL OR raters"""


class Outcomes(RatingsFile):
    """The reading half of `Database`.

    What a reviewer removed, and what was answered to it, is in `flagged` alone.
    """

    def rounds(self) -> dict[int, dict[str, Any]]:
        """The rounds' `meta`, by number."""
        rows = self._read("SELECT number, meta FROM rounds ORDER BY number")
        return {row["number"]: json.loads(row["meta"]) for row in rows}

    def pairs(self, round: int | None = None) -> list[PairToRate]:
        """All pairs, of a round or of all."""
        return [each for each in self._asked(round) if isinstance(each, PairToRate)]

    def texts(self, round: int | None = None) -> list[TextToRate]:
        """All texts that are rated by themselves."""
        return [each for each in self._asked(round) if isinstance(each, TextToRate)]

    def has_rater(self, pseudonym: str) -> bool:
        """Say whether somebody has this pseudonym."""
        return bool(self._read("SELECT 1 FROM raters WHERE pseudonym = ?", (pseudonym,)))

    def last_rating(self, rater: str) -> int | None:
        """The number of a rater's last answer that is not undone."""
        rows = self._read(
            "SELECT max(r.id) AS id FROM ratings r JOIN raters w ON w.id = r.rater "
            "WHERE w.pseudonym = ? AND NOT r.undone",
            (rater,),
        )
        found: int | None = rows[0]["id"]
        return found

    def answers(self, round: int | None = None) -> list[Answered]:
        """All answers that are not undone, pair by pair."""
        return [
            Answered(
                row["id"],
                row["question"],
                row["pseudonym"],
                row["verdict"] if row["number"] is None else row["number"],
                None if row["first_left"] is None else bool(row["first_left"]),
            )
            for row in self._read(_ANSWERS, {"round": round})
        ]

    def comparisons(self, round: int | None = None) -> list[Comparison]:
        """All verdicts on pairs; skips and flags are none."""
        pairs = {pair.id: pair for pair in self.pairs(round)}
        return [
            Comparison(
                prompt=pairs[each.question].prompt,
                first=pairs[each.question].first,
                second=pairs[each.question].second,
                label=LABELS[each.answer],  # type: ignore[index]
                rater=each.rater,
                columns=pairs[each.question].columns,
            )
            for each in self.answers(round)
            if each.question in pairs and each.answer in LABELS
        ]

    def ratings(self, round: int | None = None) -> list[RatedText]:
        """All numbers that were given to texts by themselves."""
        texts = {text.id: text for text in self.texts(round)}
        return [
            RatedText(
                prompt=texts[each.question].prompt,
                text=texts[each.question].text,
                rating=each.answer,
                rater=each.rater,
            )
            for each in self.answers(round)
            if each.question in texts and isinstance(each.answer, float)
        ]

    def flagged(self, round: int | None = None) -> list[Flagged]:
        """The queue for review: what a filter or a rater flagged; what is reviewed comes last."""
        rows = {row["id"]: row for row in self._read(_REVIEWED)}
        found = [
            Flagged(each, each.flagged, rows[each.id]["raters"], rows[each.id]["review"])
            for each in self._questions(round)
            if each.id in rows
        ]
        return sorted(found, key=lambda each: each.review is not None)

    def agreement(self, round: int | None = None) -> Agreement:
        """How far raters agree on pairs: Cohen's κ of each two, Krippendorff's α of all."""
        from textenv.preferences.agreement import agreement

        return agreement(self.answers(round))

    def _asked(self, round: int | None) -> list[Question]:
        rows = self._read("SELECT id FROM questions WHERE review = 'removed'")
        removed = {row["id"] for row in rows}
        return [each for each in self._questions(round) if each.id not in removed]

    def _questions(self, round: int | None) -> list[Question]:
        with self._reading():
            return tables.questions(self._connection, round)
