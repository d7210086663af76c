"""Decoding steps that are recorded and replayed, on a recorder that stands for a CUDA graph."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.test_incremental import CLOSE, P, Rows, T, assert_right
from tests.tiny_models import CAUSAL, V, causal
from textenv.models import Prefixes
from textenv.models.adapters import WithoutAdapter, add_adapter
from textenv.models.graphs import Graphs, rounded_up


class Recorder(TorchDispatchMode):
    """Notes operations and the tensors they read and write; a replay does the same to the same.

    So whatever Python decided or counted while recording stays as it was then, as in a CUDA graph,
    and reading a number or making a tensor from one is refused.
    """

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        name = str(operation)
        if any(word in name for word in ("_local_scalar_dense", "lift_fresh", "nonzero", "equal.")):
            raise RuntimeError(f"{name} is not permitted when recording")
        output = operation(*arguments, **(keywords or {}))
        self.operations.append((operation, arguments, keywords or {}, output))
        return output

    def replay(self):
        for operation, arguments, keywords, before in self.operations:
            now = operation(*arguments, **keywords)
            for old, new in zip(tensors(before), tensors(now), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    @classmethod
    def capture(cls, run):
        recorder = cls()
        with recorder:
            answer = run()
        return recorder.replay, answer


def tensors(output):
    return [part for part in (output if isinstance(output, tuple | list) else [output])
            if isinstance(part, torch.Tensor)]  # fmt: skip


def recorded(kind, patience=0, **keywords):
    model = causal(kind, **keywords)
    model.graphs = Graphs(Recorder.capture, patience)
    return model


@pytest.mark.parametrize("kind", CAUSAL)
def test_replayed_steps_are_the_usual_ones_over_ragged_resets(kind):
    model, usual, rows = recorded(kind), causal(kind), Rows(0)
    in_float32 = kind in ("bloom", "gemma2, window of 4")  # their softmax, which is wider here
    close = {"rtol": 0, "atol": 1e-5} if in_float32 else CLOSE
    while rows.resets < 300:
        ours, theirs = model.next(rows.prefixes()), usual.next(rows.prefixes())
        torch.testing.assert_close(ours.logits, theirs.logits, **close)
        torch.testing.assert_close(ours.hidden, theirs.hidden, **close)
        rows.go_on()
    assert model.graphs.enabled
    assert model.graphs.replayed > 80  # nearly all of them, though resets move the columns
    assert len(model.graphs._arenas) <= 2


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_rows_swap_drop_out_return_and_repeat(kind):
    model, fresh, rows = recorded(kind), causal(kind), Rows(7, batch=9)
    generator = np.random.default_rng(0)
    for _ in range(40):
        chosen = generator.choice(9, size=generator.integers(1, 12))
        assert_right(model, fresh, rows.prefixes(chosen))
        rows.go_on(chance=0.1, rows=np.unique(chosen))
        assert_right(model, fresh, rows.prefixes())
        rows.go_on(chance=0.1)
        assert_right(model, fresh, rows.prefixes())
    assert model.graphs.replayed > 5
    assert model.graphs.enabled


def test_an_answer_is_not_overwritten_by_the_next_step():
    model, rows = recorded("llama"), Rows(1)
    kept = []
    for _ in range(T - 3):
        answer = model.next(rows.prefixes())
        kept.append((answer, answer.logits.clone(), answer.hidden.clone()))
        rows.go_on(chance=0)
    assert model.graphs.replayed
    for answer, logits, hidden in kept:
        assert torch.equal(answer.logits, logits)
        assert torch.equal(answer.hidden, hidden)


def test_new_weights_need_no_new_graph_and_other_tensors_do():
    model, fresh, rows = recorded("llama"), causal("llama"), Rows(2)
    for _ in range(6):
        model.next(rows.prefixes())
        rows.go_on(chance=0.1)
    arenas = list(model.graphs._arenas)
    for lm in (model, fresh):
        with torch.no_grad():
            for parameter in lm.parameters():
                parameter.mul_(0.9)
    before = model.graphs.replayed
    for _ in range(6):
        assert_right(model, fresh, rows.prefixes())
        rows.go_on(chance=0.1)
    assert model.graphs._arenas == arenas
    assert model.graphs.replayed > before
    for lm in (model, fresh):
        for parameter in lm.parameters():
            parameter.data = parameter.data * 1.1  # elsewhere now
    for _ in range(6):
        assert_right(model, fresh, rows.prefixes())
        rows.go_on(chance=0.1)
    assert model.graphs._arenas
    assert not set(model.graphs._arenas) & set(arenas)  # those would be of no more use


def test_an_adapter_and_the_model_without_it_have_graphs_of_their_own():
    pytest.importorskip("peft")
    model, fresh, rows = recorded("llama"), causal("llama"), Rows(3)
    for lm in (model, fresh):
        add_adapter(lm, rank=2)
        with torch.no_grad():
            for name, parameter in lm.named_parameters():
                if "lora_B" in name:
                    parameter.fill_(0.1)
    for without in (False, True) * 2:
        ours, theirs = (WithoutAdapter(lm) if without else lm for lm in (model, fresh))
        for _ in range(8):
            assert_right(ours, theirs, rows.prefixes())
            rows.go_on(chance=0.1)
    assert model.graphs.replayed > 8
    layouts = {arena.kind[0] for arena in model.graphs._arenas}
    assert len(layouts) == 2


def test_two_environments_on_one_model_do_not_share_buffers():
    model, fresh = recorded("gpt2"), causal("gpt2")
    one, other = Rows(5, batch=6), Rows(6, batch=6)
    for _ in range(10):
        for rows in (one, other):
            assert_right(model, fresh, rows.prefixes())
            rows.go_on(chance=0.2)
    assert model.graphs.replayed > 5


def test_shapes_that_are_seldom_are_not_recorded():
    model, rows = recorded("llama", patience=5), Rows(8)
    for step in range(8):
        model.next(rows.prefixes())
        rows.go_on(chance=0)
        assert bool(model.graphs._arenas) == (step > 6)


def test_arenas_are_few_and_go_with_clear():
    model = recorded("llama")
    for batch in (2, 9, 13, 17, 25, 33, 49, 65):
        rows = Rows(batch, batch=batch)
        for _ in range(3):
            model.next(rows.prefixes())
            rows.go_on(chance=0)
    assert len(model.graphs._arenas) == 6
    assert [arena.rows for arena in model.graphs._arenas] == [96, 64, 48, 32, 24, 16]
    model.graphs.clear()
    assert_right(model, causal("llama"), rows.prefixes())
    twin = copy.deepcopy(model)
    assert twin.graphs is not model.graphs
    assert twin.graphs._arenas == []


def test_on_a_cpu_nothing_is_recorded():
    model, rows = causal("llama"), Rows(9)
    for _ in range(12):
        model.next(rows.prefixes())
        rows.go_on(chance=0)
    assert model.graphs._arenas == []
    assert not model.graphs.replayed


def assert_four_steps_are_right(model, fresh, rows):
    for _ in range(4):
        assert_right(model, fresh, rows.prefixes())
        rows.go_on(chance=0)


def test_the_recorder_refuses_what_a_cuda_graph_does():
    for forbidden in (
        lambda: torch.zeros(1).item(),
        lambda: torch.tensor([1.0]),
        lambda: torch.zeros(3).nonzero(),
    ):
        with pytest.raises(RuntimeError, match="not permitted"):
            Recorder.capture(forbidden)
    buffer = torch.zeros(2)
    replay, (doubled,) = Recorder.capture(lambda: (buffer * 2,))
    buffer += 5
    assert doubled.tolist() == [0, 0]
    replay()
    assert doubled.tolist() == [10, 10]


def test_a_clock_that_was_baked_in_is_found_out():
    """The second answer is checked too: the first is right even where the clock is a constant."""
    model, fresh, rows = recorded("gpt2"), causal("gpt2"), Rows(10)
    step = model._forward

    def forgetful(ids, seen, positions, cache):
        if hasattr(cache, "layers") and hasattr(cache.layers[0], "clock"):
            positions = positions * 0 + torch.full_like(positions, 3)
        return step(ids, seen, positions, cache)

    model._forward = forgetful
    with pytest.warns(UserWarning, match="without CUDA graphs: its answer then differs by a share"):
        assert_four_steps_are_right(model, fresh, rows)
    assert not model.graphs.enabled


def test_a_model_that_reads_numbers_goes_the_usual_way():
    model, fresh, rows = recorded("llama"), causal("llama"), Rows(11)
    step = model._forward

    def curious(ids, seen, positions, cache):
        return step(ids, seen, positions + int(positions.max()) * 0, cache)

    model._forward = curious
    with pytest.warns(UserWarning, match="recording it raised RuntimeError: .*local_scalar_dense"):
        assert_four_steps_are_right(model, fresh, rows)
    assert not model.graphs.enabled


def test_numbers_that_are_not_finite_do_not_stay_behind_the_mask():
    """0 · NaN is NaN: buffers that others used before are emptied."""
    model, fresh, rows = recorded("llama"), causal("llama"), Rows(12)
    for _ in range(3):
        model.next(rows.prefixes())
        rows.go_on(chance=0)
    for layer in model.graphs._arenas[0]._cache.layers:
        layer.keys.fill_(torch.nan)
        layer.values.fill_(torch.nan)
    model.forget()
    rows = Rows(13)
    for _ in range(5):
        assert_right(model, fresh, rows.prefixes())
        rows.go_on(chance=0)
    assert model.graphs.enabled


def test_bfloat16_weights_and_autocast_are_replayed_too():
    prefixes = []
    rows = Rows(14)
    for _ in range(20):
        prefixes.append(rows.prefixes())
        rows.go_on(chance=0.2)
    low, autocast = recorded("llama").to(torch.bfloat16), recorded("llama").float()
    for model in (low, autocast):
        usual = copy.deepcopy(model)
        usual.graphs.enabled = False
        with torch.autocast("cpu", torch.bfloat16, enabled=model is autocast):
            for question in prefixes:
                ours, theirs = model.next(question).logits, usual.next(question).logits
                assert ours.dtype == torch.float32
                assert (ours.log_softmax(-1) - theirs.log_softmax(-1)).abs().max() < 0.15
        assert model.graphs.enabled
        assert model.graphs.replayed > 8


def test_shapes_are_rounded_up():
    assert [rounded_up(n) for n in (1, 8, 9, 13, 17, 25, 33, 256, 257)] == [
        8, 8, 12, 16, 24, 32, 48, 256, 384,
    ]  # fmt: skip


def test_an_empty_question_is_answered():
    model = recorded("gpt2")
    answer = model.next(Prefixes(np.zeros((0, P + T), np.int64), P, V, np.zeros(0, np.int64)))
    assert answer.logits.shape == (0, V)
