"""Language models: each against the slow and obvious way to ask it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from tests import small_tasks
from textenv.errors import TextenvError, UnknownNameError
from textenv.mdp import Rules, align_prompts, align_written
from textenv.models import LSTMLM, CausalLM, LanguageModel, Prefixes, TabularLM, load
from textenv.models.base import entropies, kl_divergences
from textenv.vocabulary import CharacterVocabulary, WordVocabulary

V, P, T = 11, 4, 6
RULES = Rules(vocabulary_size=V, prompt_length=P, max_tokens=T)
VOCABULARY = WordVocabulary([f"w{i}" for i in range(V - 1)], end="$")
VOCABULARY.start_token = 0


def gpt2():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=V + 5, n_positions=32, n_embd=16, n_layer=2, n_head=2,
            bos_token_id=0, eos_token_id=V - 1, resid_pdrop=0.5, initializer_range=0.3,
        )  # fmt: skip
        return GPT2LMHeadModel(config).double()


def llama():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=V, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, bos_token_id=0, eos_token_id=V - 1,
            initializer_range=0.3,
        )  # fmt: skip
        return LlamaForCausalLM(config).double()


def make(kind) -> LanguageModel:
    if kind == "tabular":
        model = TabularLM(V, order=2, vocabulary=VOCABULARY)
        with torch.no_grad():
            model.logits.normal_(generator=torch.Generator().manual_seed(0))
        return model
    if kind == "lstm":
        generator = torch.Generator().manual_seed(0)
        return LSTMLM(V, 8, 2, dropout=0.5, vocabulary=VOCABULARY, generator=generator).double()
    return CausalLM({"gpt2": gpt2, "llama": llama}[kind](), VOCABULARY, suppressed_tokens=(3,))


def random_prefixes(seed, rows=7, *, in_step=False, empty=True):
    return small_tasks.random_prefixes(
        RULES, seed, rows, in_step=in_step, shortest=0 if empty else 1
    )


def slow_logits(model, prefixes, row):
    """One row, alone, read from its first token: the library's own way."""
    ids = prefixes.tokens[row]
    ids = ids[ids != V].tolist() or [0]
    if prefixes.begin[row] == P:
        ids = [0, *ids] if prefixes.written[row] else [0]
    with torch.no_grad():
        if isinstance(model, CausalLM):
            model.model.eval()
            logits = model.model(torch.tensor([ids])).logits[0, -1, :V]
            logits[3] = -torch.inf
            return logits
        model.eval()
        return model(torch.tensor([ids]))[0][0, -1]


KINDS = ["lstm", "gpt2", "llama"]


@pytest.mark.parametrize("in_step", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_next_is_a_full_pass_of_each_row_alone(kind, in_step):
    model = make(kind)
    for seed in range(10):
        prefixes = random_prefixes(seed, in_step=in_step)
        answer = model.next(prefixes)
        for row in range(len(prefixes)):
            torch.testing.assert_close(
                answer.logits[row], slow_logits(model, prefixes, row), rtol=0, atol=1e-10
            )


@pytest.mark.parametrize("kind", ["tabular", *KINDS])
def test_going_on_token_by_token_is_reading_afresh(kind):
    """A batch grows, loses rows, swaps rows and is asked twice; a fresh model says the same."""
    model, fresh = make(kind), make(kind)
    generator = np.random.default_rng(0)
    for _ in range(10):
        start = random_prefixes(int(generator.integers(1000)))
        tokens = start.tokens.copy()
        tokens[:, P:] = V
        rows = np.arange(len(start))
        for step in range(T):
            prefixes = Prefixes(tokens[rows], P, V, np.full(len(rows), step))
            fresh.forget()
            expected, answer = fresh.next(prefixes), model.next(prefixes)
            again = model.next(prefixes)
            for part in (answer, again):
                torch.testing.assert_close(part.logits, expected.logits, rtol=0, atol=1e-10)
                torch.testing.assert_close(part.hidden, expected.hidden, rtol=0, atol=1e-10)
            tokens[rows, P + step] = generator.integers(V, size=len(rows))
            rows = generator.permutation(rows)[: max(2, len(rows) - 1)]


@pytest.mark.parametrize("kind", ["tabular", *KINDS])
def test_score_is_next_at_every_position(kind):
    model = make(kind)
    prefixes = random_prefixes(3, rows=9)
    score = model.score(prefixes, entropy=True, hidden=True, distributions=True)
    for row in range(len(prefixes)):
        length = int(prefixes.written[row])
        for step in range(length):
            tokens = prefixes.tokens[row : row + 1].copy()
            tokens[:, P + step :] = V
            answer = model.next(Prefixes(tokens, P, V, np.array([step])))
            log_probs = torch.log_softmax(answer.logits[0], dim=-1)
            token = prefixes.tokens[row, P + step]
            close = {"rtol": 0, "atol": 1e-10}
            torch.testing.assert_close(score.log_probs[row, step], log_probs[token], **close)
            torch.testing.assert_close(score.entropy[row, step], entropies(log_probs), **close)
            torch.testing.assert_close(score.hidden[row, step], answer.hidden[0], **close)
            place = int(score.counts.flatten()[: row * T + step].sum())
            torch.testing.assert_close(score.distributions[place], log_probs, **close)
        assert (score.log_probs[row, length:] == 0).all()


def test_only_the_positions_asked_for_count():
    model, prefixes = make("tabular"), random_prefixes(3)
    everything = model.score(prefixes).log_probs
    chosen = np.random.default_rng(0).random((len(prefixes), T)) < 0.5
    part = model.score(prefixes, written=chosen).log_probs
    torch.testing.assert_close(part, everything * torch.as_tensor(chosen))


def test_nothing_written_scores_nothing():
    model = make("gpt2")
    prefixes = random_prefixes(0)
    tokens = prefixes.tokens.copy()
    tokens[:, P:] = V
    score = model.score(Prefixes(tokens, P, V, np.zeros(len(prefixes), np.int64)))
    assert score.log_probs.shape == (len(prefixes), T)
    assert not score.log_probs.any()


@pytest.mark.parametrize("kind", ["lstm", "gpt2"])
def test_changed_weights_are_not_forgotten_to_be_forgotten(kind):
    model = make(kind)
    prefixes = random_prefixes(0, in_step=True)
    before = model.next(prefixes).logits.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model.score(random_prefixes(1)).log_probs.sum().backward()
    optimizer.step()
    after = model.next(prefixes).logits
    assert not torch.allclose(before[before.isfinite()], after[after.isfinite()])
    # Writing through .data changes no version: then forget() is the caller's.
    next(iter(model.parameters())).data += 1
    model.forget()
    fresh = make(kind)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.next(prefixes).logits, fresh.next(prefixes).logits)


@pytest.mark.parametrize("kind", ["lstm", "gpt2"])
def test_dropout_is_off_and_the_mode_stays(kind):
    model = make(kind).train()
    prefixes = random_prefixes(0)
    assert torch.equal(model.score(prefixes).log_probs, model.score(prefixes).log_probs)
    model.next(prefixes)
    assert model.training
    assert all(module.training for module in model.modules())


def test_generate_of_transformers_writes_the_same():
    """Greedy decoding by `next` is the library's own greedy `generate`."""
    library = gpt2().eval()
    model = CausalLM(library, VOCABULARY)
    prompt = [1, 2, 3]
    written: list[int] = []
    while len(written) < T and (not written or written[-1] != V - 1):
        tokens = np.concatenate(
            [align_prompts(RULES, [prompt]), align_written(RULES, [written])], axis=1
        )
        logits = model.next(Prefixes(tokens, P, V, np.array([len(written)]))).logits
        written.append(int(logits.argmax()))
    output = library.generate(
        torch.tensor([prompt]),
        max_new_tokens=T,
        do_sample=False,
        suppress_tokens=list(range(V, V + 5)),
        pad_token_id=V - 1,
    )
    assert output[0, len(prompt) :].tolist() == written


@pytest.mark.parametrize("kind", ["tabular", "lstm", "gpt2"])
def test_save_and_load(kind, tmp_path):
    model = make(kind)
    if kind != "tabular":
        model = model.float()
    model.save_pretrained(tmp_path / "model")
    if kind == "gpt2":  # a word vocabulary beside a library's model
        assert json.loads((tmp_path / "model/config.json").read_text())["model_type"] == "gpt2"
    loaded = load(str(tmp_path / "model"))
    assert type(loaded) is type(model)
    assert loaded.vocabulary.words == VOCABULARY.words
    prefixes = random_prefixes(5, empty=False)
    theirs, ours = loaded.next(prefixes).logits, model.next(prefixes).logits
    known = [i for i in range(V) if i != 3]
    torch.testing.assert_close(theirs[:, known], ours[:, known])
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_a_tabular_model_by_hand():
    # V = 2, order 1: rows are (after 0, after 1, at the start)
    model = TabularLM.from_probabilities([[0.9, 0.1], [0.0, 1.0], [0.5, 0.5]], order=1)
    rules = Rules(vocabulary_size=2, prompt_length=0, max_tokens=3)
    prefixes = Prefixes(
        align_written(rules, [[0, 1, 1], [0, 0, 0], [1, 0, 1]]), 0, 2, np.full(3, 3)
    )
    score = model.score(prefixes)
    expected = np.log([[0.5, 0.1, 1.0], [0.5, 0.9, 0.9]])
    np.testing.assert_allclose(score.log_probs[:2].detach(), expected)
    assert score.log_probs[2, 1] == -torch.inf  # P(0 | 1) = 0
    assert model.contexts(prefixes).tolist() == [1, 0, 1]
    score.log_probs[:2].sum().backward()
    assert model.logits.grad.isfinite().all()


def test_higher_orders_look_further_back():
    model = make("tabular")
    rules = Rules(vocabulary_size=V, prompt_length=0, max_tokens=3)
    prefixes = Prefixes(align_written(rules, [[], [4], [4, 7], [1, 4, 7]]), 0, V, np.arange(4))
    # row = x·(V + 1) + y with V for "nothing": (V, V), (V, 4), (4, 7), (4, 7)
    assert model.contexts(prefixes).tolist() == [11 * 12 + 11, 11 * 12 + 4, 4 * 12 + 7, 4 * 12 + 7]


def test_entropy_and_kl_with_zero_probabilities():
    log_p = torch.tensor([0.5, 0.5, 0.0]).log().requires_grad_()
    log_q = torch.tensor([0.25, 0.25, 0.5]).log()
    assert entropies(log_p).item() == pytest.approx(np.log(2))
    assert kl_divergences(log_p, log_p).item() == 0.0
    assert kl_divergences(log_p, log_q).item() == pytest.approx(np.log(2))
    assert kl_divergences(log_q, log_p).item() == np.inf
    (entropies(log_p) + kl_divergences(log_p, log_q)).backward()
    assert log_p.grad.isfinite().all()


def test_bad_models_and_folders(tmp_path):
    with pytest.raises(UnknownNameError, match=r"Did you mean 'reviews'"):
        load("revews")
    with pytest.raises(TextenvError, match=r"no config\.json and no model\.safetensors"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(TextenvError, match="no model folder"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(TextenvError, match="no causal language model"):
        load(str(tmp_path))
    with pytest.raises(ValueError, match="tokenizer has 30 ids, the model only 16"):
        CausalLM(gpt2(), CharacterVocabulary("abcdefghijklmnopqrstuvwxyz0123"))
    with pytest.raises(ValueError, match=r"50,000,000|50 million"):
        TabularLM(4000, order=2)
    with pytest.raises(ValueError, match="sum to 1"):
        TabularLM.from_probabilities([[0.5, 0.4]], order=0)
    with pytest.raises(ValueError, match="expected probabilities of shape"):
        TabularLM.from_probabilities([[0.5, 0.5]], order=1)
    with pytest.raises(ValueError, match="vocabulary of 11 tokens, this TabularLM has 4"):
        TabularLM(4).next(random_prefixes(0))
    no_start = CausalLM(gpt2(), WordVocabulary([f"w{i}" for i in range(V)]))
    with pytest.raises(TextenvError, match="no start token"):
        no_start.next(random_prefixes(0))


def test_a_saved_policy_opens_in_transformers(tmp_path):
    """What an agent saves is a Hugging Face folder, the tokenizer included."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reviews = load("reviews")
    reviews.save_pretrained(tmp_path / "policy")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "policy")
    ids = tokenizer("This film isn't dull.").input_ids
    assert ids == reviews.vocabulary.encode_prompt("This film isn't dull.")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "This film isn't dull."
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "policy", dtype=torch.float32)
    with torch.no_grad():
        logits = theirs(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).logits[0, -1]
    tokens = np.full((1, len(ids) + 1), reviews.vocabulary_size)
    tokens[0, :-1] = ids
    prefixes = Prefixes(tokens, len(ids), reviews.vocabulary_size, np.array([0]))
    ours = reviews.next(prefixes).logits[0]
    known = ours.isfinite()
    torch.testing.assert_close(ours[known], logits[known], rtol=0, atol=1e-5)
    # <s> and <unk> are read, never written.
    never = [i for i in range(reviews.vocabulary_size) if not known[i]]
    assert never == sorted(reviews.vocabulary.suppressed_tokens) == [0, 2]
    assert load(str(tmp_path / "policy")).suppressed_tokens == (0, 2)
