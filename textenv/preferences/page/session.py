"""What the page asks and what it is answered: plain dicts, which know nothing of HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from textenv.errors import TextenvError
from textenv.preferences.database import AlreadyRatedError, Database
from textenv.preferences.records import PairToRate, Question, TextToRate
from textenv.preferences.results import results
from textenv.preferences.sides import first_is_left, meant


class RequestError(TextenvError, ValueError):
    """The page asked for something that there is not."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """The page's side of a database.

    Attributes:
        database: What is rated.
        raters_per_pair: How many verdicts each pair and text needs.
        scale: The least and the greatest whole number that a text can be given.
    """

    database: Database
    raters_per_pair: int = 1
    scale: tuple[int, int] = (-4, 4)

    def __post_init__(self) -> None:
        if self.raters_per_pair < 1:
            raise ValueError(f"expected raters_per_pair ≥ 1, got {self.raters_per_pair!r}")
        low, high = self.scale
        if not 1 <= high - low <= 20:  # each number is a button
            raise ValueError(f"expected a scale of 2 … 21 whole numbers, got {low} … {high}")

    def state(self, rater: str) -> dict[str, Any]:
        """Say what a rater sees now: the next question and how far they are."""
        asked = self.database.next_question(rater, self.raters_per_pair)
        progress = self.database.progress(rater, self.raters_per_pair)
        return {
            "rater": rater,
            "question": None if asked is None else self._shown(asked, rater),
            "done": progress.done,
            "total": progress.total,
            "elsewhere": progress.elsewhere,
            "scale": list(self.scale),
            "last": self.database.last_rating(rater),
        }

    def rate(self, rater: str, body: dict[str, Any]) -> dict[str, Any]:
        """Keep an answer; the same key again is kept once, and answered in the same way.

        Args:
            rater: Who answers.
            body: "question", its number; "kind", "pair" or "text"; "answer", "left", "right",
                "tie", "skip", "flag" or a number of the scale; "key", a text that names the answer.
        """
        question = _number(body.get("question"))
        answer, key = body.get("answer"), body.get("key")
        if not isinstance(key, str) or not 8 <= len(key) <= 80:
            raise RequestError(f'expected "key", a text of 8 … 80, got {key!r:.90}')
        try:
            if body.get("kind") == "pair":
                left = first_is_left(self.database.salt, question, rater)
                said = meant(str(answer), left)
                self.database.rate_pair(question, rater, said, key=key, first_left=left)
            else:
                self.database.rate_text(question, rater, self._rating(answer), key=key)
        except AlreadyRatedError:
            return {**self.state(rater), "note": "already rated"}
        except ValueError as error:
            raise RequestError(str(error)) from error
        return self.state(rater)

    def undo(self, rater: str, body: dict[str, Any]) -> dict[str, Any]:
        """Take back the answer with the number "rating", if it is the last one."""
        rating = body.get("rating")
        if type(rating) is not int:
            raise RequestError('expected "rating", a number')
        self.database.undo(rater, rating)
        return self.state(rater)

    def review(self, body: dict[str, Any]) -> dict[str, Any]:
        """Keep what is said of the question with the number "question", "review"; give results."""
        try:
            self.database.review(_number(body.get("question")), body.get("review"))
        except ValueError as error:
            raise RequestError(str(error)) from error
        return self.results()

    def results(self) -> dict[str, Any]:
        """Sum up all ratings."""
        return {**results(self.database).to_json(), "scale": list(self.scale)}

    def _shown(self, asked: Question, rater: str) -> dict[str, Any]:
        """What the page may know of a question: nothing of policies, nor which text is first."""
        shown = {"id": asked.id, "prompt": asked.prompt, "flagged": asked.flagged}
        if isinstance(asked, TextToRate):
            return {**shown, "kind": "text", "text": asked.text}
        assert isinstance(asked, PairToRate)
        texts = [asked.first, asked.second]
        if not first_is_left(self.database.salt, asked.id, rater):
            texts.reverse()
        return {**shown, "kind": "pair", "left": texts[0], "right": texts[1]}

    def _rating(self, answer: Any) -> float | str:
        low, high = self.scale
        if answer in ("skip", "flag"):
            return str(answer)
        if type(answer) is not int or not low <= answer <= high:
            raise RequestError(f"expected a whole number of {low} … {high}, got {answer!r}")
        return float(answer)


def _number(question: Any) -> int:
    if type(question) is not int or not 0 < question < 2**63:  # SQLite's integers
        raise RequestError(f'expected "question", a number of one, got {question!r:.40}')
    return question
