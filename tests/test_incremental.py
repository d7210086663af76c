"""`next` reads only what is new, and answers as if it read everything."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch

from tests.tiny_models import CAUSAL, VOCABULARY, V, causal, library_model, lstm, make
from textenv.errors import TextenvError
from textenv.models import CausalLM, Prefixes
from textenv.models.adapters import adapter_off
from textenv.models.incremental import Incremental
from textenv.models.memory import ReadingKey

P, T = 6, 8
ALL = ["tabular", "lstm", *CAUSAL]
CLOSE = {"rtol": 0, "atol": 1e-10}
# Their softmax is computed in float32 whatever the weights are, in the library too.
SINGLE = {"bloom", "gemma2, window of 4"}


def close(kind):
    return {"rtol": 0, "atol": 1e-5 if kind in SINGLE else 1e-10}


class Rows:
    """B texts that grow and are replaced at random."""

    def __init__(self, seed, batch=5):
        self.generator = np.random.default_rng(seed)
        self.tokens = np.full((batch, P + T), V)
        self.written = np.zeros(batch, dtype=np.int64)
        self.resets = 0
        for row in range(batch):
            self.reset(row)

    def reset(self, row):
        prompt, prefix = self.generator.integers(P + 1), self.generator.integers(3)
        self.tokens[row] = V
        self.tokens[row, P - prompt : P + prefix] = self.generator.integers(V, size=prompt + prefix)
        self.written[row] = prefix
        self.resets += 1

    def go_on(self, chance=0.25, rows=None):
        for row in range(len(self.tokens)) if rows is None else rows:
            if self.written[row] >= T - 1 or self.generator.random() < chance:
                self.reset(row)
            else:
                self.tokens[row, P + self.written[row]] = self.generator.integers(V)
                self.written[row] += 1

    def prefixes(self, rows=None):
        rows = np.arange(len(self.tokens)) if rows is None else np.asarray(rows)
        return Prefixes(self.tokens[rows], P, V, self.written[rows])


def expected(model, prefixes):
    """One full pass by a model that has read nothing."""
    model.forget()
    return model.next(prefixes)


def assert_right(model, fresh, prefixes, kind=""):
    answer, full = model.next(prefixes), expected(fresh, prefixes)
    torch.testing.assert_close(answer.logits, full.logits, **close(kind))
    torch.testing.assert_close(answer.hidden, full.hidden, **close(kind))


class Count:
    """How many positions a model reads, padding included."""

    def __init__(self, model):
        self.positions = 0
        for name in ("read_on", "read_whole"):
            setattr(model, name, self._counting(getattr(model, name)))

    def _counting(self, read):
        def counted(ids, *arguments):
            self.positions += ids.size
            return read(ids, *arguments)

        return counted

    def of(self, call):
        before = self.positions
        call()
        return self.positions - before


@pytest.mark.parametrize("kind", ALL)
def test_ragged_resets_get_the_answers_of_a_full_pass(kind):
    model, fresh, rows = make(kind), make(kind), Rows(0)
    while rows.resets < 300:
        assert_right(model, fresh, rows.prefixes(), kind)
        rows.go_on()


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_row_alone_is_the_library_s_own_answer(kind):
    model, library, rows = causal(kind), library_model(kind).eval(), Rows(1, batch=3)
    for _ in range(20):
        answer = model.next(rows.prefixes())
        for row, tokens in enumerate(rows.tokens):
            ids = tokens[tokens != V].tolist()
            ids = [0, *ids] if (tokens[:P] == V).all() else ids
            with torch.no_grad():
                logits = library(torch.tensor([ids])).logits[0, -1, :V]
            torch.testing.assert_close(answer.logits[row], logits, **close(kind))
        rows.go_on()


@pytest.mark.parametrize("kind", ["lstm", "gpt2", "bloom"])
def test_score_agrees_with_what_was_sampled(kind):
    """log π of each token as it was drawn = the teacher-forced one; batched = alone = padded."""
    model, rows = make(kind), Rows(2)
    drawn = []
    for _ in range(T):
        log_probs = model.next(rows.prefixes()).logits.log_softmax(-1)
        before = rows.written.copy()
        rows.go_on(chance=0)
        grown = np.flatnonzero(rows.written == before + 1)
        drawn.append({row: log_probs[row, rows.tokens[row, P + before[row]]] for row in grown})
        if len(grown) < len(before):
            break
        for row in grown:
            prefixes = rows.prefixes([row])
            alone = model.score(prefixes).log_probs[0, before[row]]
            torch.testing.assert_close(alone, drawn[-1][row], **close(kind))
    prefixes = rows.prefixes()
    together = model.score(prefixes).log_probs
    wide = np.full((len(prefixes), P + T + 7), V)
    wide[:, 3 : 3 + P + T] = prefixes.tokens
    padded = model.score(Prefixes(wide, P + 3, V, prefixes.written)).log_probs
    torch.testing.assert_close(padded[:, :T], together, **close(kind))
    for row in range(len(prefixes)):
        alone = model.score(rows.prefixes([row])).log_probs
        torch.testing.assert_close(alone[0], together[row], **close(kind))


def test_only_what_is_new_is_read():
    model, rows = causal("llama"), Rows(3, batch=8)
    count = Count(model)
    assert count.of(lambda: model.next(rows.prefixes())) > 8
    for _ in range(3):
        rows.go_on(chance=0, rows=np.flatnonzero(rows.written < T - 1))
        assert count.of(lambda: model.next(rows.prefixes())) == 8
        assert count.of(lambda: model.next(rows.prefixes())) == 0  # several callers pay once
    # A subset of known rows costs nothing, in any order.
    assert count.of(lambda: model.next(rows.prefixes([5, 1]))) == 0
    assert count.of(lambda: model.next(rows.prefixes())) == 0
    # Two rows begin anew: their prompts without the last token, then one step of all.
    rows.tokens[[2, 4]] = V
    rows.tokens[2, 1:P], rows.tokens[4, 1:P] = np.arange(1, 6), np.arange(2, 7)
    rows.written[[2, 4]] = 0
    others = [0, 1, 3, 5, 6, 7]
    rows.go_on(chance=0, rows=[row for row in others if rows.written[row] < T - 1])
    assert count.of(lambda: model.next(rows.prefixes())) == 2 * 4 + 8


def test_a_shared_prompt_is_read_once():
    model, rows = causal("gpt2"), Rows(4, batch=8)
    rows.tokens[:] = V
    rows.tokens[:, P - 4 : P] = [1, 2, 3, 4]
    rows.written[:] = 0
    count = Count(model)
    assert count.of(lambda: model.next(rows.prefixes())) == 4
    rows.go_on(chance=0)
    model.next(rows.prefixes())
    # A row that begins the same prompt again copies it from another.
    rows.go_on(chance=0, rows=range(1, 8))
    rows.tokens[0, P:], rows.written[0] = V, 0
    assert count.of(lambda: model.next(rows.prefixes())) == 8
    assert_right(model, causal("gpt2"), rows.prefixes())


@pytest.mark.parametrize("kind", ["lstm", "llama"])
def test_two_environments_on_one_model_do_not_evict_each_other(kind):
    model, fresh = make(kind), make(kind)
    training, evaluation = Rows(5, batch=6), Rows(6, batch=4)
    count = Count(model) if kind == "llama" else None
    for step in range(T - 3):
        for rows in (training, evaluation):
            if count and step:
                assert count.of(lambda r=rows: model.next(r.prefixes())) == len(rows.tokens)
            assert_right(model, fresh, rows.prefixes())
            rows.go_on(chance=0)


@pytest.mark.parametrize("kind", ["lstm", "llama", "opt"])
def test_rows_swap_drop_out_return_and_repeat(kind):
    model, fresh, rows = make(kind), make(kind), Rows(7, batch=9)
    generator = np.random.default_rng(0)
    for _ in range(40):
        chosen = generator.choice(9, size=generator.integers(1, 12))  # with repeats
        assert_right(model, fresh, rows.prefixes(chosen))
        rows.go_on(chance=0.1, rows=np.unique(chosen))
        if generator.random() < 0.3:
            assert_right(model, fresh, rows.prefixes())


@pytest.mark.parametrize("kind", ["lstm", "gpt2", "mistral, window of 4"])
def test_rows_go_on_by_several_tokens_or_step_back(kind):
    model, fresh, rows = make(kind), make(kind), Rows(8)
    generator = np.random.default_rng(0)
    for _ in range(30):
        assert_right(model, fresh, rows.prefixes())
        for row in range(len(rows.tokens)):
            if generator.random() < 0.2 and rows.written[row]:  # as a search does
                rows.written[row] -= 1
                rows.tokens[row, P + rows.written[row]] = V
            else:
                for _ in range(generator.integers(1, 4)):
                    rows.go_on(chance=0.05, rows=[row])


def test_an_adapter_that_is_switched_off_is_noticed():
    peft = pytest.importorskip("peft")
    library, prefixes = library_model("llama"), Rows(9).prefixes()
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    peft.inject_adapter_in_model(config, library)
    model = CausalLM(library.double(), VOCABULARY)
    layers = [part for part in library.modules() if isinstance(part, peft.tuners.lora.LoraLayer)]
    on = model.next(prefixes).logits
    for layer in layers:
        layer.enable_adapters(False)
    off = model.next(prefixes).logits
    torch.testing.assert_close(off, causal("llama").next(prefixes).logits, **CLOSE)
    for layer in layers:
        layer.enable_adapters(True)
    assert not torch.allclose(on, off)
    torch.testing.assert_close(model.next(prefixes).logits, on, **CLOSE)


@pytest.mark.parametrize("kind", ["lstm", "gpt2"])
def test_training_mode_changes_no_answer(kind):
    model, rows = make(kind).eval(), Rows(10)
    first = model.next(rows.prefixes()).logits.clone()
    model.train()
    torch.testing.assert_close(model.next(rows.prefixes()).logits, first, **CLOSE)
    assert model.training


@pytest.mark.parametrize("kind", ["lstm", "gpt2"])
def test_weights_written_through_data_need_forget(kind):
    model, prefixes = make(kind), Rows(11).prefixes()
    before = model.next(prefixes).logits.clone()
    next(iter(model.parameters())).data *= 2.0
    assert torch.equal(model.next(prefixes).logits, before)  # it cannot know
    model.forget()
    after = model.next(prefixes).logits
    assert not torch.allclose(after, before)
    with torch.no_grad():
        next(iter(model.parameters())).div_(2.0)  # this it does
    torch.testing.assert_close(model.next(prefixes).logits, before, rtol=0, atol=1e-8)


def test_memory_is_capped_and_copies_begin_empty():
    model = causal("llama")
    memory = model._incremental.memory
    for seed in range(70):
        model.next(Rows(seed, batch=3).prefixes())
    assert len(memory.streams) == 64
    memory.limit = 1
    model.next(Rows(100).prefixes())
    assert len(memory.streams) == 1  # the newest stays
    assert copy.deepcopy(model)._incremental.memory.streams == []


def test_asking_changes_nothing_of_the_question():
    model, rows = causal("gpt2"), Rows(12)
    prefixes = rows.prefixes()
    tokens, written = prefixes.tokens.copy(), prefixes.written.copy()
    first = model.next(prefixes).logits.clone()
    rows.go_on(chance=0)
    model.next(rows.prefixes())
    np.testing.assert_array_equal(prefixes.tokens, tokens)
    np.testing.assert_array_equal(prefixes.written, written)
    torch.testing.assert_close(model.next(prefixes).logits, first, **CLOSE)


def test_the_own_pass_of_gpt2_is_the_library_s():
    ours, theirs, rows = causal("gpt2"), causal("gpt2"), Rows(16)
    assert ours._own_pass
    theirs._own_pass = False
    for _ in range(30):
        answer, expected_answer = ours.next(rows.prefixes()), theirs.next(rows.prefixes())
        torch.testing.assert_close(answer.logits, expected_answer.logits, **CLOSE)
        torch.testing.assert_close(answer.hidden, expected_answer.hidden, **CLOSE)
        rows.go_on()
    gradients = []
    for model in (ours, theirs):
        model.score(rows.prefixes()).log_probs.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], **CLOSE)
    other = library_model("gpt2")
    other.config.activation_function = "relu"
    assert not CausalLM(other, VOCABULARY)._own_pass


@pytest.mark.parametrize("kind", ["lstm", "llama", "tabular"])
def test_an_answer_that_is_written_into_is_not_given_again(kind):
    model, prefixes = make(kind), Rows(17).prefixes()
    first = model.next(prefixes)
    logits, hidden = first.logits.clone(), first.hidden.clone()
    first.logits.zero_()
    first.hidden.zero_()
    again = model.next(prefixes)
    torch.testing.assert_close(again.logits, logits, **CLOSE)
    torch.testing.assert_close(again.hidden, hidden, **CLOSE)


@pytest.mark.parametrize("kind", ["lstm", "llama", "gpt2"])
def test_a_caller_in_inference_mode_leaves_nothing_behind(kind):
    model, fresh, rows = make(kind), make(kind), Rows(18)
    with torch.inference_mode():
        model.next(rows.prefixes())
    for _ in range(3):
        rows.go_on(chance=0)
        assert_right(model, fresh, rows.prefixes())


def test_policy_and_reference_in_turns_pay_for_one_token_each():
    peft = pytest.importorskip("peft")
    library, rows = library_model("llama"), Rows(19)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    peft.inject_adapter_in_model(config, library)
    model = CausalLM(library.double(), VOCABULARY)
    count = Count(model)
    with adapter_off(model):
        model.next(rows.prefixes())
    model.next(rows.prefixes())
    for _ in range(3):
        rows.go_on(chance=0, rows=np.flatnonzero(rows.written < T - 1))
        assert count.of(lambda: model.next(rows.prefixes())) == 5
        with adapter_off(model):
            assert count.of(lambda: model.next(rows.prefixes())) == 5


def test_sixteen_single_environments_share_a_model():
    model = causal("llama")
    count, environments = Count(model), [Rows(seed, batch=1) for seed in range(16)]
    for step in range(4):
        for rows in environments:
            read = count.of(lambda r=rows: model.next(r.prefixes()))
            assert read == 1 or step == 0
            rows.go_on(chance=0, rows=np.flatnonzero(rows.written < T - 1))


def test_each_part_of_a_model_keeps_its_mode():
    model = causal("gpt2").train()
    model.model.transformer.h[0].eval()
    flags = [part.training for part in model.modules()]
    model.next(Rows(20).prefixes())
    assert [part.training for part in model.modules()] == flags
    model.eval()
    model.model.transformer.drop.train()  # dropout in a part of a model in evaluation mode
    first, second = (model.score(Rows(20).prefixes()).log_probs for _ in range(2))
    assert torch.equal(first, second)


def test_who_listens_to_a_part_of_gpt2_is_heard():
    model, heard = causal("gpt2"), []
    block = model.model.transformer.h[0]
    handle = block.register_forward_hook(lambda *_: heard.append(1))
    model.next(Rows(21).prefixes())
    model.score(Rows(21).prefixes())
    assert len(heard) == 2
    handle.remove()


@pytest.mark.parametrize("kind", ["tabular", "lstm", "gpt2"])
def test_a_question_without_rows(kind):
    model = make(kind)
    nothing = Prefixes(np.zeros((0, P + T), np.int64), P, V, np.zeros(0, np.int64))
    assert model.next(nothing).logits.shape == (0, V)
    score = model.score(nothing, hidden=True, distributions=True)
    assert score.log_probs.shape == (0, T)
    assert score.distributions.shape == (0, V)


def test_ids_that_are_none():
    rows = Rows(22)
    rows.tokens[1, P - 1] = V + 1
    with pytest.raises(ValueError, match=r"ids lie in 0 … 12, and are 13 where there is nothing"):
        causal("gpt2").next(rows.prefixes())


def test_too_little_memory_says_what_would_fit():
    model = causal("llama")

    def read_whole(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.read_whole = read_whole
    with pytest.raises(TextenvError, match=r"5 texts of up to \d+ tokens do not fit .*each takes"):
        model.next(Rows(23).prefixes())


def test_a_pickled_model_has_read_nothing():
    model = lstm()
    small = len(pickle.dumps(model))
    model.next(Rows(24, batch=50).prefixes())
    assert len(pickle.dumps(model)) == small


class OneClock(type(library_model("gpt2"))):
    """Computes positions from one clock for all rows, as BART's decoder does."""

    def forward(self, *args, **keywords):
        keywords.pop("position_ids", None)
        return super().forward(*args, **keywords)


def test_a_model_with_one_clock_is_found_out_and_read_in_whole():
    library = library_model("gpt2")
    library.__class__ = OneClock
    with pytest.warns(UserWarning, match="OneClock is read in whole wherever.*differ by"):
        model = CausalLM(library, VOCABULARY)
    assert not model.refills
    fresh, rows = causal("gpt2"), Rows(13)
    for _ in range(10):
        assert_right(model, fresh, rows.prefixes())
        rows.go_on()
    # Rows in step are read incrementally all the same.
    rows.tokens[:], rows.written[:] = V, 0
    rows.tokens[:, P - 2 : P] = rows.generator.integers(V, size=(5, 2))
    count = Count(model)
    model.next(rows.prefixes())
    for _ in range(4):
        rows.go_on(chance=0)
        assert count.of(lambda: model.next(rows.prefixes())) == 5
        assert_right(model, fresh, rows.prefixes())


def test_a_model_without_a_key_value_cache_is_read_in_whole():
    import transformers as tf

    with torch.random.fork_rng():
        torch.manual_seed(0)
        library = tf.MambaForCausalLM(
            tf.MambaConfig(vocab_size=V, hidden_size=16, state_size=4, num_hidden_layers=2,
                           bos_token_id=0, eos_token_id=V - 1, pad_token_id=0)
        ).double()  # fmt: skip
    with pytest.warns(UserWarning, match="MambaForCausalLM is read in whole"):
        model = CausalLM(library, VOCABULARY)
    rows = Rows(14, batch=2)
    for _ in range(3):
        assert_right(model, model, rows.prefixes())
        rows.go_on()


def test_float32_differs_from_a_full_pass_no_more_than_the_library_s_own_cache():
    """3 × what the library's cache differs from its own full pass, measured here."""
    library = library_model("llama").float().eval()
    ids = torch.as_tensor(np.random.default_rng(0).integers(V, size=(4, P + T)))
    with torch.no_grad():
        full = library(ids).logits.log_softmax(-1)
        past, own = None, 0.0
        for step in range(ids.shape[1]):
            output = library(ids[:, step : step + 1], past_key_values=past, use_cache=True)
            past = output.past_key_values
            own = max(own, float((output.logits[:, 0].log_softmax(-1) - full[:, step]).abs().max()))
    model, fresh, rows = CausalLM(library, VOCABULARY), CausalLM(library, VOCABULARY), Rows(15)
    ours = 0.0
    for _ in range(60):
        answer = model.next(rows.prefixes()).logits.log_softmax(-1)
        alone = expected(fresh, rows.prefixes()).logits.log_softmax(-1)
        ours = max(ours, float((answer - alone).abs().max()))
        rows.go_on()
    assert 0 < own < 1e-4
    assert ours <= 3 * own


def test_the_incremental_reader_can_be_asked_directly():
    """The key decides what is valid: another key, and everything is read again."""
    model = causal("gpt2")
    incremental, count = Incremental(model), Count(model)
    one, other = ReadingKey(("a",), ()), ReadingKey(("b",), ())
    ids, length = np.array([[1, 2, 3], [4, 5, -1]]), np.array([3, 2])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        model.eval()
        first = incremental.next(one, ids, length).logits
        assert count.of(lambda: incremental.next(one, ids, length)) == 0
        assert count.of(lambda: incremental.next(other, ids, length)) == 6
        torch.testing.assert_close(incremental.next(other, ids, length).logits, first, **CLOSE)
