"""The logs of a run, progress.csv and TensorBoard's events, and cutting them back to a step.

A step is the number of tokens written so far. SB3's own CSV writer empties the file when it opens
it, rewrites it in place when a new column comes, and orders the columns by chance.
"""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat

from textenv.files import replace_file

CSV = "progress.csv"
EVENTS = "events.out.tfevents.*"
FIRST = "events.out.tfevents.0000000000.resumed"  # what came before the last interruption
STEP = "time/tokens"  # the column that holds the step


def open_logger(folder: Path) -> Logger:
    """Make SB3's logger for a run; what is in the folder already goes on."""
    writers = [CsvWriter(folder / CSV), TensorBoardOutputFormat(str(folder))]
    return Logger(str(folder), writers)


class CsvWriter(KVWriter):
    """One row a step, columns in the order of the alphabet; goes on with a file that is there.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        if path.exists():
            self.columns = next(csv.reader(io.StringIO(path.read_text("utf-8"))), [])
        self.file = path.open("a", encoding="utf-8", newline="")

    def write(
        self, key_values: dict[str, Any], key_excluded: Mapping[str, Any], step: int = 0
    ) -> None:
        """Append a row; where a column is new, the whole file is replaced first."""
        row = {
            key: value
            for key, value in key_values.items()
            if "csv" not in _names(key_excluded.get(key))
        }
        if not row.keys() <= set(self.columns):
            self.columns = sorted(row.keys() | set(self.columns))
            rows = read_csv(self.path)
            self.file.close()
            replace_file(self.path, _as_csv(self.columns, rows))
            self.file = self.path.open("a", encoding="utf-8", newline="")
        self.file.write(_as_csv(self.columns, [row], header=False))  # one write: a row or none
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read the rows of a log; a last one that was not written to its end is left out."""
    text = path.read_text("utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    return list(csv.DictReader(io.StringIO(whole)))


def cut_csv(path: Path, step: int) -> None:
    """Drop the rows that were written after a step."""
    if not path.exists():
        return
    rows = read_csv(path)
    kept = [row for row in rows if float(row[STEP]) <= step]
    columns = sorted(kept[0]) if kept else []
    replace_file(path, _as_csv(columns, kept) if kept else "")


def cut_events(folder: Path, step: int) -> None:
    """Drop TensorBoard's events of later steps; what is left goes into one file, read first.

    Each process of a run writes a file of its own, and TensorBoard reads them by name, which need
    not be their order: events that seem to go back are dropped.
    """
    paths = sorted(folder.glob(EVENTS), key=lambda path: path.name != FIRST)
    files = sorted((_events(path) for path in paths), key=lambda file: file[1:2])
    kept, behind = [], -1
    for file in files:
        new = [event for event in file if behind < event[0] <= step]
        kept += [record for _, record in new]
        behind = max([behind, *(at for at, _ in new)])
    if len(kept) > 1:  # the first says only which version of the format it is
        replace_file(folder / FIRST, b"".join(kept))
    for path in paths:
        if path.name != FIRST or len(kept) <= 1:
            path.unlink()


def _events(path: Path) -> list[tuple[int, bytes]]:
    """The steps and the records of an event file: TFRecord, as far as it is whole.

    A record is its length (8 bytes), a checksum (4), the event, a checksum (4).
    """
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]

    data, events, at = path.read_bytes(), [], 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        end = at + 16 + length
        if end > len(data):
            break
        events.append((Event.FromString(data[at + 12 : end - 4]).step, data[at:end]))
        at = end
    return events


def _as_csv(columns: list[str], rows: list[dict[str, Any]], *, header: bool = True) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _names(excluded: Any) -> tuple[str, ...]:
    """The formats that a value is kept out of, in any of the forms that SB3 gives."""
    if excluded is None:
        return ()
    return (excluded,) if isinstance(excluded, str) else tuple(excluded)
