"""Ratings out of a database into files, without anything about a person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from textenv.errors import TextenvError
from textenv.preferences.comparisons import LABELS
from textenv.preferences.records import Answered, Question
from textenv.preferences.row_files import write_lines

if TYPE_CHECKING:
    from textenv.preferences.database import Database

# The columns of our files: what `read_comparisons` and `read_ratings` need, and where it belongs.
_ABOUT = {"rater": "string", "round": "integer"}
PAIRS = {
    **{"prompt": "string", "first": "string", "second": "string", "label": "double"},
    **{**_ABOUT, "policy_first": "string", "policy_second": "string", "columns": "json"},
}
TEXTS = {
    **{"prompt": "string", "text": "string", "rating": "double"},
    **{**_ABOUT, "policy": "string"},
}


def export(database: Database, path: Path, round: int | None = None) -> list[Path]:
    """Write what was rated; raters are rater-1, rater-2, …, and no time is known. See `Database`.

    Raises:
        TextenvError: there is nothing to write.
    """
    asked: list[Question] = [*database.pairs(round), *database.texts(round)]
    questions = {each.id: each for each in asked}
    answers = [each for each in database.answers(round) if each.answer not in ("skip", "flag")]
    if not answers:
        raise TextenvError(f"nothing is rated in {str(database.path)!r} yet: nothing was written")
    raters = dict.fromkeys(each.rater for each in answers)
    names = {rater: f"rater-{number}" for number, rater in enumerate(raters, start=1)}
    rows = [_exported(questions[each.question], each, names[each.rater]) for each in answers]
    written = []
    beside = path.with_name(f"{path.stem}-ratings{path.suffix}")
    for file, columns in ((path, PAIRS), (beside, TEXTS)):
        if some := [row for row in rows if row.keys() == columns.keys()]:
            write_lines(file, columns, some)
            written.append(file)
    return written


def _exported(question: Question, answered: Answered, rater: str) -> dict[str, Any]:
    answer = answered.answer
    said = {"rating": answer} if isinstance(answer, float) else {"label": LABELS[answer]}  # type: ignore[index]
    names = TEXTS if isinstance(answer, float) else PAIRS
    row = {**vars(question), **said, "rater": rater}
    return {name: row[name] for name in names}
