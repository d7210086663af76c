"""`load` and `lm=`: every kind of name there is, and what is refused before any work is lost."""

from __future__ import annotations

import copy
import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

import textenv
from textenv.catalogue import ModelHandle
from textenv.errors import TextenvError, UnknownNameError
from textenv.limits import check_length, check_room, max_positions
from textenv.mdp import Rules, align_prompts, align_written
from textenv.models import LSTMLM, CausalLM, Prefixes, load
from textenv.models.seq2seq import Seq2SeqLM
from textenv.task import Task
from textenv.vocabulary import WordVocabulary, load_vocabulary

WORDS = ["<s>", "</s>", "<unk>", "the", "film", "is", "good", "bad", "."]
V = len(WORDS)


def tokenizer():
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def llama(**settings):
    settings = {
        "vocab_size": V + 3, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "bos_token_id": 0, "eos_token_id": 1, "initializer_range": 0.3, "attention_dropout": 0.5,
        **settings,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(**settings))


def write(folder, model=None, tokens=None):
    (llama() if model is None else model).save_pretrained(folder)
    (tokenizer() if tokens is None else tokens).save_pretrained(folder)
    return folder


def reconfigured(folder, to, setting, value):
    """A copy of a folder with another setting in its config.json."""
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | {setting: value}))
    return to


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("models") / "llama")


def logits(model):
    rules = Rules(vocabulary_size=V, prompt_length=3, max_tokens=4)
    prompts = align_prompts(rules, [[0, 3, 4], [5], [0, 6]])
    written = align_written(rules, [[6, 7], [3, 8], [4, 4]])
    prefixes = Prefixes(np.concatenate([prompts, written], axis=1), 3, V, np.full(3, 2))
    return model.next(prefixes).logits


class TestKinds:
    def test_a_folder_and_its_parts_in_memory_say_the_same(self, folder):
        named, held = load(str(folder)), load(llama().eval(), tokenizer())
        assert isinstance(named, CausalLM)
        assert next(named.parameters()).dtype == torch.float32
        torch.testing.assert_close(logits(named), logits(held))
        assert logits(named).shape == (3, V)  # three padded rows of the embedding are cut
        for vocabulary in (named.vocabulary, held.vocabulary):
            assert (vocabulary.size, vocabulary.end_token, vocabulary.start_token) == (V, 1, 0)

    def test_a_bare_tokenizer_takes_its_end_from_the_model(self):
        vocabulary = load(llama(), tokenizer().backend_tokenizer).vocabulary
        assert (vocabulary.end_token, vocabulary.start_token) == (1, 0)

    def test_a_vocabulary_of_ours_beside_a_model_in_memory(self):
        words = WordVocabulary(WORDS, end="</s>")
        assert load(llama(), words).vocabulary is words

    def test_an_encoder_decoder_goes_to_its_own_class(self, tmp_path):
        config = T5Config(
            vocab_size=V, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
            decoder_start_token_id=2, eos_token_id=1, pad_token_id=2,
        )  # fmt: skip
        with torch.random.fork_rng():
            model = T5ForConditionalGeneration(config).eval()
        named = load(write(tmp_path / "t5", model))
        assert isinstance(named, Seq2SeqLM)
        held = load(model, tokenizer())
        assert isinstance(held, Seq2SeqLM)
        torch.testing.assert_close(logits(named), logits(held))

    def test_a_hub_id_from_the_local_cache(self, folder, tmp_path, monkeypatch):
        """No network: a cache as the Hub's own library keeps it."""
        repository = tmp_path / "models--somebody--tiny"
        shutil.copytree(folder, repository / "snapshots" / "abc")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("abc")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        torch.testing.assert_close(logits(load("somebody/tiny")), logits(load(folder)))
        env = gym.make("textenv/Sentiment-v0", lm="somebody/tiny", prompts=["the film"])
        assert env.unwrapped.task.rules.vocabulary_size == V
        assert env.spec.to_json()  # a name goes to JSON
        assert isinstance(env.unwrapped.lm, CausalLM)

    @pytest.mark.parametrize("dtype", ["float64", torch.bfloat16])
    def test_dtype_and_device(self, folder, dtype):
        model = load(folder, dtype=dtype, device="auto")
        assert next(model.parameters()).dtype in (torch.float64, torch.bfloat16)
        here = "cuda" if torch.cuda.is_available() else "cpu"
        assert model.device.type == here

    def test_several_environments_share_a_model_in_memory(self):
        model = load(llama(), tokenizer())
        env = gym.make("textenv/Sentiment-v0", lm=model, prompts=["the film is", "is"])
        envs = gym.make_vec("textenv/Sentiment-v0", num_envs=2, lm=model, prompts=["the film"])
        assert env.unwrapped.lm is model
        assert envs.unwrapped.lm is model


def test_model_and_tokenizer_are_never_altered():
    model, tokens = llama().train(), tokenizer()
    tokens.backend_tokenizer.enable_truncation(2)  # would cut every prompt
    tokens.backend_tokenizer.enable_padding(length=12)

    def state():
        return (
            {name: tensor.clone() for name, tensor in model.state_dict().items()},
            model.training, model.config.to_dict(), model.generation_config.to_dict(),
            [name for name, _ in model.named_modules()], tokens.backend_tokenizer.to_str(),
            copy.deepcopy(tokens.special_tokens_map), tokens.padding_side, tokens.pad_token,
        )  # fmt: skip

    before = state()
    lm = load(model, tokens)
    env = gym.make("textenv/Sentiment-v0", lm=lm, prompts=["the film is good"], max_tokens=3)
    observation, _ = env.reset(seed=0)
    assert observation[:4].tolist() == [3, 4, 5, 6]
    logits(lm)
    rules = env.unwrapped.task.rules
    lm.score(Prefixes(np.array([[3, 4, 5, 6, 7, 8, 1]]), 4, rules.vocabulary_size, np.array([3])))
    after = state()
    for name, tensor in before[0].items():
        assert torch.equal(tensor, after[0][name])
    assert before[1:] == after[1:]


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "keywords", "message"),
        [
            ((llama(),), {}, r"needs its tokenizer: textenv.models.load\(model, tokenizer\)"),
            ((llama(), tokenizer()), {"device": "cpu"}, "leaves the model as it is"),
            ((llama(), "gpt2"), {}, "expected tokenizer= to be .* got str"),
            ((3, tokenizer()), {}, "got int"),
            ((llama().model, tokenizer()), {}, "head, got LlamaModel: .* AutoModelForC"),
            (("",), {}, "called ''. Known: reviews, smollm2"),
            (("reviews", tokenizer()), {}, "brings its own tokenizer"),
            (("reviews",), {"device": "gpu"}, "expected device= to be 'cpu', .* got 'gpu'"),
            (("reviews",), {"dtype": "int8"}, "expected dtype= to be one of .* got 'int8'"),
            ((llama(vocab_size=5), tokenizer()), {}, "tokenizer has 9 ids, the model only 5"),
        ],
    )
    def test_arguments(self, arguments, keywords, message):
        with pytest.raises(ValueError, match=message):
            load(*arguments, **keywords)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
    def test_a_device_that_is_not_there(self):
        for device in ("cuda", "meta"):
            with pytest.raises(TextenvError, match=rf"\['cpu'.* got '{device}'.* device='auto'"):
                load("reviews", device=device)

    def test_a_hugging_face_model_without_its_tokenizer_as_lm(self):
        for lm in (llama(), (llama(), tokenizer())):
            with pytest.raises(ValueError, match=r"textenv\.models\.load\(model, tokenizer\)"):
                gym.make("textenv/Sentiment-v0", lm=lm)

    @pytest.mark.parametrize("make", [load, ModelHandle])
    def test_a_hub_id_without_a_network(self, make, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(TextenvError, match=r"'nobody/nothing' is no folder here.*network"):
            make("nobody/nothing")

    @pytest.mark.parametrize("name", ["smollm", "no/such/folder", "./nothing"])
    def test_unknown_names(self, name):
        with pytest.raises(UnknownNameError, match="reviews, smollm2"):
            load(name)

    def test_pickled_weights_are_never_opened(self, folder, tmp_path):
        shutil.copytree(folder, tmp_path / "old")
        (tmp_path / "old" / "model.safetensors").unlink()

        class Bomb:
            def __reduce__(self):
                return (pytest.fail, ("a pickle was opened",))

        torch.save({"weight": Bomb()}, tmp_path / "old" / "pytorch_model.bin")
        for make in (load, ModelHandle):
            with pytest.raises(TextenvError, match=r"pickle files, pytorch_model\.bin.*save_pre"):
                make(str(tmp_path / "old"))

    def test_damaged_weights(self, folder, tmp_path):
        shutil.copytree(folder, tmp_path / "half")
        weights = tmp_path / "half" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(TextenvError, match="holds no causal language model"):
            load(tmp_path / "half")

    @pytest.mark.parametrize(
        ("setting", "value", "message"),
        [
            ("num_hidden_layers", 3, r"model\.layers\.2\.input_.* is missing; .* and 6 more"),
            ("vocab_size", V + 4, r"lm_head\.weight is \(12, 32\), not \(13, 32\)"),
        ],
    )
    def test_weights_that_config_json_does_not_describe(
        self, folder, tmp_path, setting, value, message
    ):
        """The library would draw them at random."""
        changed = reconfigured(folder, tmp_path / "changed", setting, value)
        with pytest.raises(TextenvError, match=message):
            load(changed)

    @pytest.mark.parametrize(
        ("setting", "value", "message"),
        [
            ("width", 9, r"size mismatch for embedding\.weight"),
            ("layers", 1, r"Unexpected key.*lstm\.bias_hh_l1"),
            ("layers", 3, r"Missing key.*lstm\.weight_ih_l2"),
            ("colour", 3, "unexpected keyword argument 'colour'"),
        ],
    )
    def test_weights_of_ours_that_config_json_does_not_describe(
        self, tmp_path, setting, value, message
    ):
        LSTMLM(5, 8, 2).save_pretrained(tmp_path / "lstm")
        changed = reconfigured(tmp_path / "lstm", tmp_path / "changed", setting, value)
        with pytest.raises(TextenvError, match=f"(?s)holds no whole LSTMLM: .*{message}"):
            load(changed)

    def test_a_tied_head_is_not_missed(self, tmp_path):
        """Stored once, under the embedding's name."""
        tied = write(tmp_path / "tied", llama(tie_word_embeddings=True))
        assert "lm_head.weight" not in load_file(tied / "model.safetensors")
        loaded = load(tied).model
        assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


class TestWhereTaskAndModelMeet:
    def test_without_an_end_token(self, tmp_path):
        tokens = tokenizer()
        tokens.eos_token = None
        write(tmp_path / "endless", llama(eos_token_id=None), tokens)
        lm = str(tmp_path / "endless")
        assert load_vocabulary(tmp_path / "endless").end_token is None
        with pytest.raises(ValueError, match=r"no end token.*before 24 tokens.*end=False"):
            gym.make("textenv/Sentiment-v0", lm=lm, prompts=["the film"])
        env = gym.make("textenv/Sentiment-v0", lm=lm, prompts=["the film"], end=False)
        assert env.unwrapped.task.rules.end_token is None
        # Where something else ends the text, none is needed.
        made = Task(
            name="stop", vocabulary=load(lm).vocabulary, max_tokens=4,
            reward=textenv.rewards.get("zero"), stop=["."],
        )  # fmt: skip
        ModelHandle(lm).check_task(made)

    def test_ids_that_the_model_lacks(self, tmp_path):
        lm = str(write(tmp_path / "others", llama(vocab_size=5)))
        with pytest.raises(ValueError, match=r"tokenizer of .* has 9 ids, the model only 5"):
            gym.make("textenv/Sentiment-v0", lm=lm, prompts=["the film"])

    def test_more_tokens_than_positions(self, tmp_path):
        """Two tokens are read before what is written, and the last of it never: 2 + T − 1 ≤ 8."""
        lm = str(write(tmp_path / "short", llama(max_position_embeddings=8)))
        make = {"id": "textenv/Sentiment-v0", "prompts": ["the film"]}
        gym.make(**make, lm=lm, max_tokens=7)
        for model in (lm, load(lm)):
            with pytest.raises(ValueError, match=r"8 positions.*up to 2 tokens.*max_tokens=7 or l"):
                gym.make(**make, lm=model, max_tokens=8)

    @pytest.mark.parametrize(
        ("config", "positions"),
        [
            ({"model_type": "gpt2", "n_positions": 10}, 10),
            ({"model_type": "llama", "max_position_embeddings": 10}, 10),
            ({"model_type": "gemma3", "text_config": {"max_position_embeddings": 10}}, 10),
            ({"model_type": "t5", "n_positions": 10}, None),
            ({"model_type": "tabular"}, None),
            ({"model_type": "xlnet", "max_position_embeddings": -1}, None),
            (llama(max_position_embeddings=10).config, 10),
        ],
    )
    def test_positions(self, config, positions):
        assert max_positions(config) == positions
        check_room(config, prompt_length=4, max_tokens=7, model="it")  # 4 + 7 − 1 = 10
        check_room(config, prompt_length=0, max_tokens=10, model="it")  # the start token
        check_length(positions, 10)
        if positions:
            with pytest.raises(ValueError, match="at most 3 tokens or max_tokens=6 or less"):
                check_room(config, prompt_length=5, max_tokens=8, model="it")
            with pytest.raises(ValueError, match="has 10 positions, and is asked to read 11"):
                check_length(positions, 11)

    def test_encoder_and_decoder_have_their_own_positions(self):
        config = {"is_encoder_decoder": True, "max_position_embeddings": 10}
        check_room(config, prompt_length=9, max_tokens=10, model="it")  # 9 and the end token
        for prompt_length, max_tokens in [(10, 10), (9, 11)]:
            with pytest.raises(ValueError, match="at most 9 tokens or max_tokens=10 or less"):
                check_room(config, prompt_length, max_tokens, model="it")
