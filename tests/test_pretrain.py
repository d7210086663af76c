"""`textenv pretrain`: what it learns, what it writes, what it refuses."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from textenv.errors import TextenvError
from textenv.models import load
from textenv.prefixes import Prefixes
from textenv_agents.corpus import encode, read_lines, split
from textenv_agents.pretrain import PretrainConfig, perplexity, pretrain
from textenv_agents.tokenizer import train_tokenizer

ENGLISH = [
    "It's a dull, tedious film... isn't it?",
    "Don't (ever) see \"Jaws 2\": we'll regret it!",
    "The critics' choice - a naïve, 90 minute co-production.",
]
CHINESE = "我爱你。你爱我吗?"
SMALL = {"layers": 1, "width": 32, "heads": 2, "dropout": 0.0, "batch": 20, "progress": False}
GRAMMAR = [f"the {who} {does}." for who in ("cat", "dog") for does in ("runs", "sleeps")] * 50
# Five tokens (the, who, does, the full stop, the end), two of them a fair choice between two:
# the perplexity per token of the grammar itself is exp(2·log 2 / 5) = 4^(1/5).
GRAMMAR_PERPLEXITY = 4 ** (1 / 5)


def pretrained(folder, lines, **settings):
    text = folder / "text.txt"
    text.write_text("\n".join(lines), "utf-8")
    model = folder / settings.pop("name", "model")
    return pretrain(PretrainConfig(text=text, folder=model, **(SMALL | settings)))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Such small models only lose time to a second thread, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["gpt2", "lstm"])
def learned(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    settings = {"architecture": request.param, "epochs": 25, "learning_rate": 1e-2}
    return pretrained(folder, GRAMMAR, validation_share=0.2, averaging=0.9, **settings)


def test_a_grammar_is_learnt_to_its_entropy(learned):
    # 40 lines are set aside, not in exactly equal parts: 5 % of room on both sides
    assert learned.perplexity == pytest.approx(GRAMMAR_PERPLEXITY, rel=0.05)
    assert learned.known == 1.0
    assert learned.vocabulary_size == 9  # three special pieces, the, 2 + 2 words, the full stop


def test_the_perplexity_is_that_of_the_stored_model_under_the_protocol(learned):
    model = load(str(learned.folder))
    _, validation = split(GRAMMAR, 0.2, seed=0)
    texts = encode(model.vocabulary, validation, longest=64)
    assert perplexity(model, texts) == pytest.approx(learned.perplexity, rel=1e-6)
    # The same by the other way: P = 1 holds the start token, then five written ones.
    tokens = np.array(texts)
    prefixes = Prefixes(tokens, 1, model.vocabulary_size, np.full(len(tokens), 5))
    log_probs = model.score(prefixes).log_probs
    assert torch.exp(-log_probs.mean()).item() == pytest.approx(learned.perplexity, rel=1e-5)


def test_the_folder_holds_a_card_and_half_precision_safetensors(learned):
    files = {path.name for path in learned.folder.iterdir()}
    assert files >= {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    card = (learned.folder / "README.md").read_text("utf-8")
    assert f"{learned.perplexity:.2f} per token" in card
    assert "textenv pretrain --text text.txt --folder model" in card
    # Two bytes a number, and the header: nothing is stored twice.
    size = (learned.folder / "model.safetensors").stat().st_size
    assert 2 * learned.parameters < size < 2 * learned.parameters + 4096


def test_unknown_and_start_are_never_written(learned):
    model = load(str(learned.folder))
    assert model.vocabulary.suppressed_tokens == (0, 2)
    prompt = np.array([model.vocabulary.encode_prompt("the unicorn")])
    logits = model.next(Prefixes(prompt, 3, model.vocabulary_size, np.zeros(1, int))).logits
    assert torch.isinf(logits[0, [0, 2]]).all()
    assert torch.isfinite(logits[0, [1, 3, 4, 5, 6, 7, 8]]).all()


def test_the_auto_classes_of_transformers_open_it(tmp_path):
    result = pretrained(tmp_path, GRAMMAR, epochs=1)
    tokenizer = AutoTokenizer.from_pretrained(result.folder)
    model = AutoModelForCausalLM.from_pretrained(result.folder).eval()
    batch = tokenizer(["the cat", "the dog runs"], padding=True, return_tensors="pt")
    assert tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)[0] == "the cat"
    torch.manual_seed(0)
    written = model.generate(
        batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=20
    )
    assert not torch.isin(written[:, 4:], torch.tensor([0, 2])).any()
    ours = load(str(result.folder))
    ids = tokenizer("the cat runs", return_tensors="pt")["input_ids"]
    theirs = model(ids).logits[0, -1]
    prefixes = Prefixes(ids.numpy(), 4, ours.vocabulary_size, np.zeros(1, int))
    torch.testing.assert_close(ours.next(prefixes).logits[0, 3:], theirs[3:])


@pytest.mark.parametrize("text", ENGLISH)
def test_english_comes_back_as_it_was(text):
    tokenizer = train_tokenizer(ENGLISH, "word", 200)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.decode(tokenizer.encode(f"  {text}\t").ids) == text


def test_words_keep_their_negation_and_blanks_belong_to_the_next_piece():
    tokenizer = train_tokenizer(ENGLISH, "word", 200)
    tokens = tokenizer.encode("It isn't (ever) “the” critics’ film, we'll see...").tokens
    assert tokens[:8] == ["<s>", "▁It", "▁isn't", "▁(", "ever", ")", '▁"', "<unk>"]
    assert tokens[8:] == ['"', "▁critics", "'", "▁film", ",", "▁we", "'ll", "▁see", "..."]


def test_chinese_is_read_character_by_character(tmp_path):
    result = pretrained(tmp_path, [CHINESE] * 20, tokenizer="character", epochs=2)
    tokenizer = Tokenizer.from_file(str(result.folder / "tokenizer.json"))
    encoding = tokenizer.encode(CHINESE)
    assert encoding.tokens == ["<s>", *CHINESE]
    assert tokenizer.decode(encoding.ids) == CHINESE
    assert load(str(result.folder)).vocabulary.decode(encoding.ids) == CHINESE


@pytest.mark.parametrize("architecture", ["gpt2", "lstm"])
def test_the_same_seed_gives_the_same_bytes(tmp_path, architecture):
    settings = {"architecture": architecture, "epochs": 2, "dropout": 0.3, "word_dropout": 0.2}
    before = torch.get_rng_state()
    results = [
        pretrained(tmp_path, GRAMMAR, name=name, seed=seed, **settings)
        for name, seed in (("one", 3), ("two", 3), ("other", 4))
    ]
    assert torch.equal(torch.get_rng_state(), before)  # no global seed is set
    weights = [(result.folder / "model.safetensors").read_bytes() for result in results]
    assert weights[0] == weights[1] != weights[2]


def test_training_stops_when_it_no_longer_helps_and_keeps_the_best(tmp_path):
    lines = [f"{a} {b} {c}" for a, b, c in np.random.default_rng(0).integers(0, 9, (40, 3))]
    result = pretrained(tmp_path, lines, epochs=60, patience=2, learning_rate=2e-2, averaging=0.5)
    assert len(result.history) < 60
    assert len(result.history) == int(np.argmin(result.history)) + 1 + 2
    assert result.perplexity == pytest.approx(min(result.history), rel=1e-2)  # float16 in between


def test_a_student_comes_near_its_teacher(tmp_path):
    settings = {"epochs": 8, "learning_rate": 1e-2, "averaging": 0.9}
    teacher = pretrained(tmp_path, GRAMMAR, name="teacher", architecture="lstm", **settings)
    student = pretrained(
        tmp_path, GRAMMAR, name="student", teachers=(teacher.folder,), teacher_weight=1, **settings
    )
    assert student.perplexity == pytest.approx(teacher.perplexity, rel=0.03)
    with pytest.raises(TextenvError, match="another vocabulary"):
        pretrained(tmp_path, GRAMMAR, name="third", teachers=(teacher.folder,), vocabulary_size=6)


@pytest.mark.parametrize("architecture", ["gpt2", "lstm"])
def test_temperature_divides_the_saved_logits(tmp_path, architecture):
    settings = {"architecture": architecture, "epochs": 1}
    plain = load(str(pretrained(tmp_path, GRAMMAR, name="plain", **settings).folder))
    result = pretrained(tmp_path, GRAMMAR, name="sharp", temperature=0.5, **settings)
    prefixes = Prefixes(np.array([[0, 3]]), 2, 9, np.zeros(1, int))
    sharp = load(str(result.folder)).next(prefixes).logits[0, 3:]
    torch.testing.assert_close(sharp, 2 * plain.next(prefixes).logits[0, 3:], rtol=1e-2, atol=1e-2)
    assert "divided by the temperature 0.5" in (result.folder / "README.md").read_text("utf-8")


def test_long_lines_are_cut_into_pieces_and_nothing_is_lost(tmp_path):
    lines = ["one two three four five six seven"] * 20
    result = pretrained(tmp_path, lines, longest=3, epochs=1)
    vocabulary = load(str(result.folder)).vocabulary
    pieces = encode(vocabulary, lines[:1], longest=3)
    assert [" ".join(map(vocabulary.token, piece)) for piece in pieces] == [
        "<s> ▁one ▁two ▁three",
        "▁three ▁four ▁five ▁six",
        "▁six ▁seven </s>",
    ]


def test_rare_words_are_unknown_and_do_not_count(tmp_path):
    lines = ["a a"] * 20 + [f"a b{number}" for number in range(20)]
    result = pretrained(tmp_path, lines, vocabulary_size=4, epochs=1, validation_share=0.5)
    assert result.vocabulary_size == 4  # the special ones and "▁a"
    _, validation = split(lines, 0.5, seed=0)
    # A line has three tokens to predict, in "a b7" one more: b, 7.
    unknown = 2 * sum("b" in line for line in validation)
    total = sum(4 if "b" in line else 3 for line in validation)
    assert result.known == pytest.approx(1 - unknown / total)


def test_a_batch_without_a_known_word_changes_nothing(tmp_path):
    lines = ["a a a a"] * 20 + [f"b{number} " * 4 for number in range(20)]
    settings = {"vocabulary_size": 4, "longest": 2, "batch": 1, "epochs": 1}
    assert pretrained(tmp_path, lines, **settings).perplexity < 10


def test_there_is_always_something_to_learn_from_and_something_set_aside():
    for share in (0.001, 0.999):
        assert min(map(len, split(["line"] * 10, share, seed=0))) == 1


def test_a_bad_text_file_is_named_before_any_work(tmp_path):
    missing = tmp_path / "missing.txt"
    with pytest.raises(TextenvError, match=r"cannot read .*missing\.txt"):
        pretrain(PretrainConfig(text=missing, folder=tmp_path / "model"))
    with pytest.raises(TextenvError, match="cannot read"):
        pretrain(PretrainConfig(text=tmp_path, folder=tmp_path / "model"))
    latin = tmp_path / "latin.txt"
    latin.write_bytes("one\ncafé".encode("latin-1"))
    with pytest.raises(TextenvError, match=r"not UTF-8: byte 0xe9 at offset 7"):
        read_lines(latin)
    short = tmp_path / "short.txt"
    for content, count in (("", 0), ("\n \n", 0), ("word\n" * 9, 9)):
        short.write_text(content)
        with pytest.raises(TextenvError, match=f"at least 10 lines .* got {count}"):
            read_lines(short)
    assert not (tmp_path / "model").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("keep")
    with pytest.raises(TextenvError, match="not an empty folder"):
        pretrained(tmp_path, GRAMMAR)
    with pytest.raises(TextenvError, match="not an empty folder"):
        pretrained(tmp_path, GRAMMAR, name="model/mine.txt")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert pretrained(tmp_path, GRAMMAR, name="empty", epochs=1).folder.is_dir()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 30, "heads": 4}, "heads to divide width"),
        ({"layers": 0}, "layers > 0"),
        ({"learning_rate": float("nan")}, "learning_rate > 0"),
        ({"dropout": 1.0}, "0 ≤ dropout < 1"),
        ({"validation_share": 0.0}, "validation_share"),
        ({"teacher_weight": 1.5}, "teacher_weight"),
        ({"vocabulary_size": 3}, "vocabulary_size ≥ 4"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        PretrainConfig(text=tmp_path / "text", folder=tmp_path / "model", **settings)


def test_a_training_that_diverges_says_so_and_writes_nothing(tmp_path):
    with pytest.raises(TextenvError, match=r"diverged in epoch \d+ .* lower the learning rate"):
        pretrained(tmp_path, GRAMMAR, learning_rate=1e20, architecture="lstm", epochs=3)
    assert not (tmp_path / "model").exists()


def test_the_shipped_model_reads_and_writes_film_reviews():
    model = load("reviews")
    text = "It's a dull, tedious film, isn't it?"
    assert model.vocabulary.decode(model.vocabulary.encode_prompt(text)) == text
    assert model.vocabulary.size == 4096
