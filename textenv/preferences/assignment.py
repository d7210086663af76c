"""Who is asked what next, so that several raters at once do not do the same work.

A question that is shown to a rater is leased to them for a while: as long as the lease lasts it
counts as answered for all others. Where somebody goes away without answering it runs out, and the
question is asked of another.
"""

from __future__ import annotations

import sqlite3

from textenv.preferences.records import Progress

LEASE_SECONDS = 600.0

# Verdicts on q of others than :rater; whoever skips or flags gives none.
_VERDICTS = """(SELECT count(*) FROM ratings r WHERE r.question = q.id AND NOT r.undone
    AND r.verdict NOT IN ('skip', 'flag') AND r.rater <> :rater)"""
# A lease from before the machine was started again, or the clock turned back, is none.
_HELD = f"until BETWEEN :now AND :now + {LEASE_SECONDS}"
_LEASES = f"""(SELECT count(*) FROM leases WHERE question = q.id AND rater <> :rater
    AND {_HELD})"""
_OPEN = """FROM questions q WHERE ifnull(q.round = :round, 1) AND q.review IS NOT 'removed'
    AND NOT EXISTS (SELECT 1 FROM ratings m
        WHERE m.question = q.id AND m.rater = :rater AND NOT m.undone)"""
_FLAGGED = """(q.review IS NULL AND (q.flagged IS NOT NULL OR EXISTS (SELECT 1 FROM ratings f
    WHERE f.question = q.id AND f.verdict = 'flag' AND NOT f.undone)))"""
_OWN = f"EXISTS (SELECT 1 FROM leases WHERE question = q.id AND rater = :rater AND {_HELD})"
_NEXT = f"""SELECT q.id, {_VERDICTS} + {_LEASES} AS taken {_OPEN}
    AND ifnull((q.second IS NULL) = :single, 1) AND taken < :needed
    ORDER BY {_OWN} DESC, {_FLAGGED} DESC, q.second IS NULL, taken, q.id LIMIT 1"""
_LEFT = f"""SELECT count(*) AS open, ifnull(sum(verdicts + leases >= :needed), 0) AS elsewhere
    FROM (SELECT {_VERDICTS} AS verdicts, {_LEASES} AS leases {_OPEN}) WHERE verdicts < :needed"""
_DONE = """SELECT count(*) FROM ratings r JOIN questions q ON q.id = r.question
    WHERE r.rater = :rater AND NOT r.undone AND ifnull(q.round = :round, 1)"""


def take(
    connection: sqlite3.Connection,
    rater: int,
    needed: int,
    round: int | None,
    *,
    single: bool | None,
    now: float,
) -> int | None:
    """Lease the next question to a rater; None where there is none for them now.

    Args:
        connection: In a transaction.
        rater: The rater's number.
        needed: How many verdicts each question needs.
        round: Only of this round.
        single: Only texts by themselves, or only pairs; None: pairs before texts.
        now: In seconds.
    """
    values = {"rater": rater, "needed": needed, "round": round, "single": single, "now": now}
    row = connection.execute(_NEXT, values).fetchone()
    if row is None:
        return None
    lease(connection, row["id"], rater, now)
    return int(row["id"])


def lease(connection: sqlite3.Connection, question: int, rater: int, now: float) -> None:
    """Keep a question for a rater for a while; they let go of all others."""
    values = {"question": question, "rater": rater, "now": now}
    connection.execute(f"DELETE FROM leases WHERE rater = :rater OR NOT {_HELD}", values)
    until = f":now + {LEASE_SECONDS}"
    connection.execute(f"INSERT INTO leases VALUES (:question, :rater, {until})", values)


def release(connection: sqlite3.Connection, rater: int, question: int | None = None) -> None:
    """Let a rater go of a question; None: of all."""
    values = {"rater": rater, "question": question}
    connection.execute(
        "DELETE FROM leases WHERE rater = :rater AND question = ifnull(:question, question)", values
    )


def progress(
    connection: sqlite3.Connection, rater: int, needed: int, round: int | None, now: float
) -> Progress:
    """How far a rater is; 0 is the number of one who is not known."""
    values = {"rater": rater, "needed": needed, "round": round, "now": now}
    done = connection.execute(_DONE, values).fetchone()[0]
    left = connection.execute(_LEFT, values).fetchone()
    return Progress(done, left["open"], left["elsewhere"])
