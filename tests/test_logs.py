"""The logs of a run: what is written, and what is left when they are cut back to a step."""

from __future__ import annotations

import shutil

from stable_baselines3.common.logger import TensorBoardOutputFormat
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from textenv_agents import logs
from textenv_agents.curve import plot_curve


def written(path, number, **columns):
    writer = logs.CsvWriter(path)
    for step in range(1, number + 1):
        writer.write({logs.STEP: step, "b": step / 3, **columns}, {}, step)
    writer.close()


def test_the_csv_is_cut_back_and_goes_on(tmp_path):
    path = tmp_path / "progress.csv"
    written(path, 5)
    whole = path.read_bytes()
    path.write_bytes(whole + b"0.3,6")  # killed in the middle of a row
    logs.cut_csv(path, 3)
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:4])
    writer = logs.CsvWriter(path)
    for step in (4, 5):
        writer.write({"b": step / 3, logs.STEP: step}, {}, step)
    writer.close()
    assert path.read_bytes() == whole
    logs.cut_csv(path, 0)
    assert path.read_bytes() == b""
    written(path, 5)
    assert path.read_bytes() == whole
    logs.cut_csv(tmp_path / "none.csv", 3)  # nothing to cut


def test_new_columns_come_in_the_order_of_the_alphabet(tmp_path):
    path = tmp_path / "progress.csv"
    writer = logs.CsvWriter(path)
    writer.write({"b": 1, "secret": 5}, {"b": None, "secret": ("csv",)}, 1)
    writer.write({"b": 2, "c": 3, "a": "x,y"}, {}, 2)
    writer.write({"b": 4}, {}, 3)
    writer.close()
    assert path.read_text() == 'a,b,c\n,1,\n"x,y",2,3\n,4,\n'


def test_the_curve_of_a_log_with_gaps(tmp_path):
    """An update whose steps were all left out has no KL."""
    path = tmp_path / "progress.csv"
    path.write_text("rollout/kl,rollout/reward,time/tokens\n0.5,1.0,10\n,0.5,20\n")
    plot_curve(path, tmp_path / "curve.png", "title")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def events_of(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("value")]


def write_events(folder, steps):
    writer = TensorBoardOutputFormat(str(folder))
    for step in steps:
        writer.write({"value": step / 2, "other": 1.0}, {"value": None, "other": None}, step)
    writer.close()


def test_events_are_cut_back_and_go_on(tmp_path):
    write_events(tmp_path, [1, 3, 5, 7])
    (path,) = tmp_path.glob(logs.EVENTS)
    path.write_bytes(path.read_bytes()[:-10])  # killed in the middle of an event
    for step in (5, 3):  # twice interrupted
        logs.cut_events(tmp_path, step)
        assert events_of(tmp_path) == [(at, at / 2) for at in (1, 3, 5) if at <= step]
    write_events(tmp_path, [5, 7])
    # Killed after the files were put into one, before the old one was removed.
    shutil.copy(tmp_path / logs.FIRST, tmp_path / "events.out.tfevents.0000000001.left")
    logs.cut_events(tmp_path, 7)
    assert [path.name for path in tmp_path.iterdir()] == [logs.FIRST]
    assert events_of(tmp_path) == [(at, at / 2) for at in (1, 3, 5, 7)]
    logs.cut_events(tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_the_order_of_event_files_is_not_that_of_their_names(tmp_path):
    """Two processes in one second: …999.0 is written first, and named behind …1000.0."""
    for number, steps in [(999, [1, 2]), (1000, [3, 4])]:
        write_events(tmp_path / "one", steps)
        (path,) = (tmp_path / "one").glob(logs.EVENTS)
        path.rename(tmp_path / f"events.out.tfevents.1700000000.host.{number}.0")
    (tmp_path / "one").rmdir()
    logs.cut_events(tmp_path, 4)
    assert events_of(tmp_path) == [(at, at / 2) for at in (1, 2, 3, 4)]
