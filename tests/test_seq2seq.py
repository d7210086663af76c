"""Encoder–decoder models: each against the library's own forward, one row at a time."""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
)

from tests import small_tasks
from textenv.errors import TextenvError
from textenv.mdp import Rules, align_prompts, align_written
from textenv.models import Prefixes, Seq2SeqLM, load
from textenv.models.adapters import adapter_off, add_adapter
from textenv.models.base import entropies
from textenv.vocabulary import CharacterVocabulary, WordVocabulary

V, P, T = 11, 4, 6
END = V - 1
RULES = Rules(vocabulary_size=V, prompt_length=P, max_tokens=T)
VOCABULARY = WordVocabulary([f"w{i}" for i in range(V - 1)], end="$")
CLOSE = {"rtol": 0, "atol": 1e-10}

SHARED = {"vocab_size": V + 5, "d_model": 16, "eos_token_id": END, "forced_eos_token_id": None}
WIDE = SHARED | {  # dropout is high, so that a single pass with it would be seen
    "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 32,
    "dropout": 0.5, "attention_dropout": 0.5, "activation_dropout": 0.5, "init_std": 0.3,
    "pad_token_id": 1,
}  # fmt: skip
T5 = SHARED | {
    "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.5, "pad_token_id": 0,
    "decoder_start_token_id": 0, "initializer_factor": 3.0, "relative_attention_num_buckets": 4,
    "relative_attention_max_distance": 6,
}  # fmt: skip


def library(kind):
    """A model of the library with random weights; Marian's logits have a bias that is not 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "bart":
            config = BartConfig(**WIDE, bos_token_id=0, decoder_start_token_id=END)
            return BartForConditionalGeneration(config).double()
        if kind == "marian":
            model = MarianMTModel(MarianConfig(**WIDE, decoder_start_token_id=1)).double()
            model.final_logits_bias.normal_()
            return model
        more = {"t5": {}, "t5-untied": {"tie_word_embeddings": False}}
        more["t5-gated"] = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
        return T5ForConditionalGeneration(T5Config(**T5, **more[kind])).double()


KINDS = ["t5", "t5-untied", "t5-gated", "bart", "marian"]
THREE = ["t5", "bart", "marian"]


def make(kind, **keywords):
    """The model behind the protocol; that BART and Marian do not refill is said with a warning."""
    with warns(kind):
        return Seq2SeqLM(library(kind), VOCABULARY, **{"suppressed_tokens": (3,), **keywords})


def warns(kind):
    if kind.startswith("t5"):
        return nullcontext()
    return pytest.warns(UserWarning, match="is read in whole wherever")


def random_prefixes(seed, rows=7, **keywords):
    return small_tasks.random_prefixes(RULES, seed, rows, **keywords)


def until(prefixes, row, step):
    """One row alone, `step` of its tokens written, in no more columns than it has."""
    begin = int(prefixes.begin[row])
    tokens = prefixes.tokens[row : row + 1, begin:].copy()
    tokens[:, P - begin + step :] = V
    return Prefixes(tokens, P - begin, V, np.array([step]))


def slow(model, prefixes, row):
    """The library's own forward of one row alone: logits and the decoder's last state."""
    prompt = prefixes.tokens[row, prefixes.begin[row] : P].tolist()
    source = prompt if END in prompt else [*prompt, END]
    written = prefixes.tokens[row, P : P + prefixes.written[row]].tolist()
    target = [model.model.config.decoder_start_token_id, *written]
    model.model.eval()
    with torch.no_grad():
        output = model.model(
            input_ids=torch.tensor([source]),
            decoder_input_ids=torch.tensor([target]),
            output_hidden_states=True,
            use_cache=False,
        )
    logits = output.logits[0, -1, :V]
    logits[3] = -torch.inf
    return logits, output.decoder_hidden_states[-1][0, -1]


@pytest.mark.parametrize(("prompt", "written"), [(32, 1), (2, 33)])
def test_more_tokens_than_positions(prompt, written):
    """A prompt and its end token, or what is written: 33 of one text."""
    model = make("bart")
    tokens = np.full((1, prompt + written), 4)
    for ask in (model.next, model.score):
        with pytest.raises(ValueError, match=r"has 32 positions, and .* to read 3[34] tokens"):
            ask(Prefixes(tokens, prompt, V, np.array([written])))


@pytest.mark.parametrize("in_step", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_next_is_the_librarys_own_forward_of_each_row_alone(kind, in_step):
    model = make(kind)
    for seed in range(10):
        prefixes = random_prefixes(seed, in_step=in_step)
        answer = model.next(prefixes)
        for row in range(len(prefixes)):
            logits, hidden = slow(model, prefixes, row)
            torch.testing.assert_close(answer.logits[row], logits, **CLOSE)
            torch.testing.assert_close(answer.hidden[row], hidden, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_score_is_next_at_every_position(kind):
    model = make(kind)
    prefixes = random_prefixes(3, rows=9)
    score = model.score(prefixes, entropy=True, hidden=True, distributions=True)
    for row in range(len(prefixes)):
        length = int(prefixes.written[row])
        for step in range(length):
            answer = model.next(until(prefixes, row, step))
            log_probs = torch.log_softmax(answer.logits[0], dim=-1)
            token = prefixes.tokens[row, P + step]
            torch.testing.assert_close(score.log_probs[row, step], log_probs[token], **CLOSE)
            torch.testing.assert_close(score.entropy[row, step], entropies(log_probs), **CLOSE)
            torch.testing.assert_close(score.hidden[row, step], answer.hidden[0], **CLOSE)
            place = int(score.counts.flatten()[: row * T + step].sum())
            torch.testing.assert_close(score.distributions[place], log_probs, **CLOSE)
        assert (score.log_probs[row, length:] == 0).all()


@pytest.mark.parametrize("kind", THREE)
def test_in_a_batch_is_alone_is_padded(kind):
    """Other rows, columns in front of the prompt and columns behind the text change nothing."""
    model = make(kind)
    prefixes = random_prefixes(5, rows=9)
    front, behind = np.full((9, 3), V), np.full((9, 2), V)
    wide = np.concatenate([front, prefixes.tokens, behind], axis=1)
    padded = Prefixes(wide, P + 3, V, prefixes.written)
    together = model.next(prefixes).logits
    torch.testing.assert_close(model.next(padded).logits, together, **CLOSE)
    scored = model.score(prefixes).log_probs
    torch.testing.assert_close(model.score(padded).log_probs[:, :T], scored, **CLOSE)
    for row in range(9):
        alone = until(prefixes, row, int(prefixes.written[row]))
        torch.testing.assert_close(model.next(alone).logits[0], together[row], **CLOSE)
        ours = model.score(alone).log_probs[0]
        torch.testing.assert_close(ours, scored[row, : len(ours)], **CLOSE)


@pytest.mark.parametrize("kind", THREE)
def test_going_on_token_by_token_is_reading_afresh(kind):
    """Rows begin anew while others go on; the batch loses and swaps rows; it is asked twice."""
    model, fresh = make(kind), make(kind)
    generator = np.random.default_rng(0)
    prompts = random_prefixes(0, rows=40).tokens[:, :P]
    tokens, written = np.full((8, P + T), V), np.zeros(8, dtype=np.int64)
    tokens[:, :P] = prompts[:8]
    resets = 0
    for step in range(300):
        if step % 100 == 99:  # the batch ends: all begin again, in step for a while
            tokens[:, P:], written[:] = V, 0
        rows = np.arange(8) if step % 3 else generator.permutation(8)[:5]
        prefixes = Prefixes(tokens[rows], P, V, written[rows])
        fresh.forget()
        expected = fresh.next(prefixes)
        for answer in (model.next(prefixes), model.next(prefixes)):
            torch.testing.assert_close(answer.logits, expected.logits, **CLOSE)
            torch.testing.assert_close(answer.hidden, expected.hidden, **CLOSE)
        tokens[rows, P + written[rows]] = generator.integers(V, size=len(rows))
        written[rows] += 1
        ended = (written == T) | ((generator.random(8) < 0.15) & (step % 100 > 5))
        resets += ended.sum()
        tokens[ended, P:], written[ended] = V, 0
        tokens[ended, :P] = prompts[generator.integers(40, size=ended.sum())]
    assert resets > 300


def watched(module):
    """A list to which each call of a module adds the shape of its ids."""
    shapes = []

    def note(_module, _arguments, keywords):
        shapes.append(tuple(keywords["input_ids"].shape))

    module.register_forward_pre_hook(note, with_kwargs=True)
    return shapes


def beginnings(prompts, lengths):
    prefixes = random_prefixes(0, rows=len(prompts))
    prefixes.tokens[:, :P] = V
    prefixes.tokens[:, P - 1] = prompts
    prefixes.tokens[:, P:] = np.where(np.arange(T) < np.array(lengths)[:, None], 5, V)
    return Prefixes(prefixes.tokens, P, V, np.array(lengths))


@pytest.mark.parametrize("kind", THREE)
def test_only_what_is_new_is_read(kind):
    model = make(kind)
    encoder, decoder = watched(model.model.get_encoder()), watched(model.model.get_decoder())
    model.next(beginnings([1, 1, 2, 2], [0, 0, 0, 0]))
    assert (encoder, decoder) == ([(2, 2)], [(2, 1)])  # two different prompts
    for step in (1, 2):
        model.next(beginnings([1, 1, 2, 2], [step] * 4))
        assert (len(encoder), decoder[1:]) == (1, [(4, 1)] * step)
    model.next(beginnings([1, 1, 2, 2], [2] * 4))  # the same once more
    assert len(decoder) == 3
    model.next(beginnings([1, 4, 2, 4], [3, 0, 3, 0]))  # two rows begin anew, with one prompt
    assert encoder[1:] == [(1, 2)]
    # T5 makes the new prompt's keys and values and reads one token a row; others read all again.
    assert decoder[3:] == ([(1, 1), (4, 1)] if kind == "t5" else [(4, 4)])
    assert model.refills == (kind == "t5")


@pytest.mark.parametrize("kind", THREE)
def test_a_model_with_an_unknown_head_says_the_same(kind):
    """Where the head cannot be taken apart, the model is asked for all of its logits."""
    model, whole = make(kind), make(kind)
    assert model._head is not None
    whole._head = None
    prefixes = random_prefixes(1)
    torch.testing.assert_close(whole.next(prefixes), model.next(prefixes), **CLOSE)
    ours, theirs = (m.score(prefixes, hidden=True) for m in (model, whole))
    torch.testing.assert_close(ours.log_probs, theirs.log_probs, **CLOSE)
    torch.testing.assert_close(ours.hidden, theirs.hidden, **CLOSE)


@pytest.mark.parametrize("kind", THREE)
def test_the_gradient_is_that_of_the_rows_alone(kind):
    """Several texts share a prompt, which is encoded once: its gradient is the sum of theirs."""
    model = make(kind)
    prefixes = random_prefixes(2, rows=6)
    prefixes.tokens[1:4, :P] = prefixes.tokens[0, :P]
    known = torch.as_tensor(prefixes.tokens[:, P:] != 3)  # a suppressed token has log 0
    model.score(prefixes).log_probs.where(known, 0.0).sum().backward()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    together = [parameter.grad.clone() for parameter in learned]
    model.zero_grad()
    for row in range(6):
        alone = prefixes.rows(np.array([row]))
        model.score(alone).log_probs.where(known[row], 0.0).sum().backward()
    for ours, parameter in zip(together, learned):
        # T5 takes the mean of squares in float32, whatever its weights are.
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", THREE)
def test_dropout_is_off_and_the_mode_stays(kind):
    model = make(kind).train()
    prefixes = random_prefixes(0)
    assert torch.equal(model.score(prefixes).log_probs, model.score(prefixes).log_probs)
    model.next(prefixes)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("kind", THREE)
def test_changed_weights_are_read_again(kind):
    model = make(kind)
    prefixes = random_prefixes(0, in_step=True)
    before = model.next(prefixes).logits.clone()
    name = "fc1" if kind != "t5" else "DenseReluDense.wi"
    weight = next(p for n, p in model.model.get_encoder().named_parameters() if name in n)
    with torch.no_grad():
        weight *= 2  # in the encoder alone
    after = model.next(prefixes).logits
    assert not torch.allclose(before[before.isfinite()], after[after.isfinite()])
    weight.data *= 2  # changes no version: then forget() is the caller's
    model.forget()
    fresh = make(kind)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.next(prefixes).logits, fresh.next(prefixes).logits)


@pytest.mark.parametrize("kind", THREE)
def test_a_copy_has_read_nothing_and_goes_its_own_way(kind):
    model = make(kind)
    prefixes = random_prefixes(0, in_step=True)
    before = model.next(prefixes).logits.clone()
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    fresh = make(kind)
    fresh.load_state_dict(other.state_dict())
    torch.testing.assert_close(other.next(prefixes).logits, fresh.next(prefixes).logits, **CLOSE)
    assert torch.equal(model.next(prefixes).logits, before)


def test_an_adapter_that_is_switched_off_is_gone():
    """No weight changes when it is; what was read with it must not be used without it."""
    model = make("t5")
    prefixes = random_prefixes(0)
    without = model.next(prefixes).logits.clone()
    add_adapter(model, rank=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    known = without.isfinite()
    assert (model.next(prefixes).logits - without)[known].abs().max() > 0.01
    with adapter_off(model):
        torch.testing.assert_close(model.next(prefixes).logits, without, **CLOSE)


@pytest.mark.parametrize("kind", THREE)
def test_generate_of_transformers_writes_the_same(kind):
    """Greedy decoding by `next` is the library's own greedy `generate`."""
    model = make(kind).eval()
    prompt, written = [1, 2, 5], []
    while len(written) < T and (not written or written[-1] != END):
        tokens = np.concatenate(
            [align_prompts(RULES, [prompt]), align_written(RULES, [written])], axis=1
        )
        logits = model.next(Prefixes(tokens, P, V, np.array([len(written)]))).logits
        written.append(int(logits.argmax()))
    output = model.model.generate(
        torch.tensor([[*prompt, END]]), max_new_tokens=T, do_sample=False, num_beams=1,
        suppress_tokens=[3, *range(V, V + 5)],
    )  # fmt: skip
    assert output[0, 1:].tolist() == written


@pytest.mark.parametrize("dtype", [None, torch.float16])
@pytest.mark.parametrize("kind", THREE)
def test_save_and_load(kind, dtype, tmp_path):
    model = make(kind).float()
    model.save_pretrained(tmp_path / "model", dtype=dtype)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["model_type"] == kind  # the library's own folder, a word vocabulary beside it
    with warns(kind):
        loaded = load(str(tmp_path / "model"))
    assert isinstance(loaded, Seq2SeqLM)
    assert loaded.vocabulary.words == VOCABULARY.words
    prefixes = random_prefixes(5)
    known = [i for i in range(V) if i != 3]
    theirs, ours = (m.next(prefixes).logits[:, known] for m in (loaded, model))
    assert theirs.dtype == torch.float32
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6 if dtype is None else 0.5)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]
    weights = sum(p.numel() for p in model.parameters()) * (4 if dtype is None else 2)
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 1.5 * weights + 20_000


def test_an_empty_prompt_is_the_end_token_alone():
    prefixes = Prefixes(np.full((2, P + T), V), P, V, np.zeros(2, np.int64))
    prefixes.tokens[1, P - 1] = END
    for kind in THREE:
        logits = make(kind).next(prefixes).logits
        torch.testing.assert_close(logits[0], logits[1], **CLOSE)
    no_end = WordVocabulary([f"w{i}" for i in range(V)])
    with pytest.raises(TextenvError, match=r"no end token .* give prompts="):
        Seq2SeqLM(library("t5"), no_end).next(prefixes)


def test_without_prompts_and_with_nothing_written():
    model = make("t5")
    prefixes = Prefixes(np.full((2, T), V), 0, V, np.zeros(2, np.int64))
    first = torch.log_softmax(model.next(prefixes).logits[0], dim=-1)
    assert not model.score(prefixes).log_probs.any()
    prefixes.tokens[:, 0] = [1, 2]
    score = model.score(Prefixes(prefixes.tokens, 0, V, np.ones(2, np.int64)))
    torch.testing.assert_close(score.log_probs[:, 0], first[[1, 2]], **CLOSE)
    assert model.next(prefixes.rows(np.arange(0))).logits.shape == (0, V)


def test_padding_that_marian_never_writes():
    model = library("marian")
    model.generation_config.bad_words_ids = [[1], [4, 5]]
    with warns("marian"):
        assert Seq2SeqLM(model, VOCABULARY).suppressed_tokens == (1,)
    with warns("marian"):
        assert Seq2SeqLM(model, VOCABULARY, suppressed_tokens=()).suppressed_tokens == ()


def test_bad_models_and_folders(tmp_path):
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_embd=8, n_layer=1, n_head=1))
    with pytest.raises(ValueError, match="expected an encoder–decoder model, got GPT2LMHead"):
        Seq2SeqLM(gpt2, VOCABULARY)
    no_start = library("t5")
    no_start.config.decoder_start_token_id = None
    no_start.generation_config.decoder_start_token_id = None
    with pytest.raises(ValueError, match=r"set model\.config\.decoder_start_token_id"):
        Seq2SeqLM(no_start, VOCABULARY)
    with pytest.raises(ValueError, match="tokenizer has 30 ids, the model only 16"):
        Seq2SeqLM(library("t5"), CharacterVocabulary("abcdefghijklmnopqrstuvwxyz0123"))
    with pytest.raises(ValueError, match="vocabulary of 4 tokens, this Seq2SeqLM has 11"):
        make("t5").next(Prefixes(np.full((1, 2), 4), 1, 4, np.array([0])))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(TextenvError, match="holds no encoder–decoder model"):
        Seq2SeqLM.from_pretrained(tmp_path)
