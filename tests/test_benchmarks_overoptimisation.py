"""The over-optimisation benchmark: its table by hand, and a run of a few seconds that goes on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.overoptimisation import run
from benchmarks.overoptimisation_figure import curve, draw, table
from benchmarks.overoptimisation_world import MOMENTS, OveroptimisationConfig


def a_run(true, proxy=(0.0, 1.0, 3.0), kl=(0.0, 2.0, 8.0)):
    rows = zip(kl, proxy, true)
    points = [{"kl": k, "proxy": p, "true": t, "sentiment": t} for k, p, t in rows]
    return {"points": points}


def test_the_peak_and_the_fall_by_hand(tmp_path):
    runs = [a_run([0.0, 1.0, 0.5]), a_run([0.0, 2.0, 0.5], kl=[0.0, 4.0, 10.0])]
    found = curve(runs)
    assert found.peak == 1  # means 0, 1.5, 0.5
    assert found.fall.mean == 1.0
    assert found.kl[found.peak].mean() == 3.0
    line = table({"learned": runs}).splitlines()[-1]
    assert line.startswith("a learned reward model")
    assert "9.000 [8.000, 10.000]" in line  # KL at the end
    assert "1.500 [1.000, 2.000]   3.00" in line  # the peak, and where
    rises = curve([a_run([0.0, 1.0, 2.0])])
    assert (rises.peak, rises.fall.mean) == (2, 0.0)
    draw({"learned": runs, "judge": runs}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_short_run_that_goes_on(tmp_path, capsys):
    config = OveroptimisationConfig(
        seeds=1, tokens=900, texts=10, preferences=200, folder=tmp_path,
        rewards=("true", "learned"),
    )  # fmt: skip
    results = run(config)
    assert list(results["runs"]) == ["true", "learned"]
    for name, runs in results["runs"].items():
        points = runs[0]["points"]
        assert len(points) == len(MOMENTS)
        start, end = points[0], points[-1]
        assert [start[name] for name in ("kl", "true", "proxy")] == pytest.approx(
            [0, 0, 0], abs=1e-9
        )
        assert end["kl"] > 0
        assert end["tokens"] >= 900
        assert (end["true"] == pytest.approx(end["proxy"])) == (name == "true")
    assert json.loads((tmp_path / "results.json").read_text("utf-8")) == results
    assert (tmp_path / "figure.png").exists()
    capsys.readouterr()
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*-0.json"))]
    assert run(replace(config, rewards=("true",)))["runs"]["true"] == results["runs"]["true"]
    assert "KL" in capsys.readouterr().out
    assert times == [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*-0.json"))]
    with pytest.raises(ValueError, match="other settings"):
        run(replace(config, beta=0.1))
