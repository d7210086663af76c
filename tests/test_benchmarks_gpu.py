"""The logic of `python -m benchmarks gpu`, on a CPU."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmarks import gpu
from tests.test_graphs import Recorder
from textenv.models.graphs import Graphs

CPU = torch.device("cpu")


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--small", *arguments])
    gpu.main()


def numbers(line, width):
    return [
        float(part.rstrip("%s").replace(",", "")) for part in line[width:].split() if part != "s"
    ]


def test_the_table(monkeypatch, capsys):
    run(monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("20")  # a date
    assert lines[1].startswith("toy Llama, 0.0M weights, on cpu")
    parity = {line[:34].strip(): numbers(line, 34) for line in lines if line.endswith("        0")}
    following, scored, alike, replayed = parity["float32"]
    assert (following, scored, alike, replayed) == (0, 0, 100, 0)  # the same device
    following, scored, alike, _ = parity["bfloat16 weights"]
    assert 0 < following < 0.2
    assert 0 < scored < 0.2
    assert alike == 100  # from the same logits
    writing = [numbers(line, 44) for line in lines if "usual steps" in line]
    assert len(writing) == 4
    for ours, reference, ratio, share in writing:
        assert ours > 0
        assert ratio == pytest.approx(ours / reference, rel=0.1, abs=0.01)
        assert 0 <= share < 100
    assert not any("CUDA graphs" in line for line in lines)
    training = [numbers(line, 44) for line in lines[-3:]]
    for tokens, seconds in training:
        assert tokens * seconds == pytest.approx(8 * 48, rel=0.3)
    assert [line[:44].strip() for line in lines[-3:]] == [
        "float32", "bfloat16 autocast", "bfloat16 autocast, LoRA of rank 8",
    ]  # fmt: skip


def test_answers_that_differ_are_a_failure(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "PARITY", -1.0)
    with pytest.raises(SystemExit, match="differ by more than they may"):
        run(monkeypatch)
    assert "training" in capsys.readouterr().out  # the table is whole all the same


def test_parity_is_that_of_replayed_steps_too(capsys):
    _, lm = gpu.language_model(small=True)
    lm.graphs = Graphs(Recorder.capture)
    assert gpu.parity(lm, CPU, steps=8)
    replayed = [int(line.split()[-1]) for line in capsys.readouterr().out.splitlines()[1:3]]
    assert min(replayed) > 2


def test_a_difference_is_measured():
    logits = torch.zeros(2, 2)
    other = torch.tensor([[0.0, 0.0], [0.0, 3.0]]).log_softmax(-1)
    # log ½ + log(1 + e³) for the first token of the second row, 0 for the first row.
    expected = torch.tensor([1 + 20.0855]).log().item() - torch.tensor([2.0]).log().item()
    assert gpu.largest_difference(other, logits) == pytest.approx(expected, rel=1e-4)
    never = torch.tensor([[0.0, -torch.inf, 1.0]])
    assert gpu.largest_difference(never, never.clone()) == 0  # never written on either device
    for wrong in (torch.nan, torch.inf):
        assert not gpu.largest_difference(never, torch.tensor([[0.0, wrong, 1.0]])) <= 1e9


def test_bytes_of_a_step_by_hand():
    """2 layers × 1 head × width 8 × keys and values: 32 numbers a token; 16 + 24 tokens a row."""
    _, lm = gpu.language_model(small=True)
    layer = 2 * 24 + 2 * 24 * 24 + 2 * 24 * 8 + 3 * 24 * 48  # norms, q and o, k and v, MLP
    weights = 96 * 24 + 2 * layer + 24
    assert gpu.step_bytes(lm, 8) == 4 * weights + 8 * 40 * 32 * 4
    assert gpu.step_bytes(lm.to(torch.bfloat16), 8) == 2 * weights + 8 * 40 * 32 * 2


def test_a_copy_counts_what_is_read_and_written():
    assert gpu.copy_bandwidth(CPU, 1 << 20) > 1e7
