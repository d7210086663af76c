"""Vocabularies: text to ids and back, Chinese included, and what they refuse."""

from __future__ import annotations

import json

import pytest

from textenv.errors import TextenvError
from textenv.vocabulary import (
    ByteVocabulary,
    CharacterVocabulary,
    TokenizerVocabulary,
    Vocabulary,
    WordVocabulary,
    load_vocabulary,
    same_vocabulary,
    save_vocabulary,
)


def bare_tokenizer():
    """A `tokenizers.Tokenizer` of five words that puts <s> before every text and </s> after it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    ids = {"<s>": 0, "</s>": 1, "<unk>": 2, "good": 3, ".": 4}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.decoder = decoders.WordPiece()  # joins with blanks
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>"])
    return tokenizer


def transformers_tokenizer():
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=bare_tokenizer(), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def test_words():
    vocabulary = WordVocabulary(["good", "bad"], end="$")
    assert isinstance(vocabulary, Vocabulary)
    assert (vocabulary.size, vocabulary.end_token) == (3, 2)
    assert vocabulary.encode(" good  bad ") == [0, 1]
    assert vocabulary.encode("") == []
    assert vocabulary.decode([1, 0, 0]) == "bad good good"
    assert vocabulary.token(2) == "$"
    assert vocabulary.suppressed_tokens == ()


def test_the_same_ids_mean_the_same():
    words = [f"w{number}" for number in range(2000)]
    one = WordVocabulary(words, end="$")
    assert same_vocabulary(one, one)
    assert same_vocabulary(one, WordVocabulary(words, end="$"))
    assert not same_vocabulary(one, WordVocabulary([*words[:-1], "v"], end="$"))
    assert not same_vocabulary(one, WordVocabulary([*words, "$"]))  # where $ ends nothing
    assert not same_vocabulary(one, WordVocabulary(words[1:], end="$"))


def test_an_end_word_may_stand_in_the_list():
    vocabulary = WordVocabulary(["$", "good"], end="$")
    assert (vocabulary.size, vocabulary.end_token) == (2, 0)
    assert WordVocabulary(["good"]).end_token is None


def test_chinese_words_without_blanks():
    vocabulary = WordVocabulary(["我", "爱", "你", "。", "我们"], separator="")
    assert vocabulary.encode("我爱你。") == [0, 1, 2, 3]
    assert vocabulary.encode("我们爱你") == [4, 1, 2]  # the longest word from the left, not 我 + 们
    assert vocabulary.decode([4, 1, 2, 3]) == "我们爱你。"
    with pytest.raises(ValueError, match="'们' is not in the vocabulary of 5: 我, 爱"):
        vocabulary.encode("爱们")


def test_characters():
    vocabulary = CharacterVocabulary("ab 好", end="\n")
    assert vocabulary.encode("b 好") == [1, 2, 3]
    assert vocabulary.decode([3, 2, 0]) == "好 a"
    assert (vocabulary.size, vocabulary.end_token) == (5, 4)


@pytest.mark.parametrize(
    ("words", "keywords", "message"),
    [
        (["good", "bad", "good"], {}, r"more than once: \['good'\]"),
        (["我", "爱", "我"], {"separator": ""}, r"more than once: \['我'\]"),
        ([], {}, "non-empty"),
        (["good", ""], {}, "non-empty"),
        (["good", 3], {}, "non-empty"),
        ("good bad", {}, "a list of words, got the text"),
        (["good day"], {}, "no word may hold the separator ' '"),
    ],
)
def test_what_is_no_vocabulary_is_refused(words, keywords, message):
    with pytest.raises(ValueError, match=message):
        WordVocabulary(words, **keywords)


def test_characters_that_stand_there_twice_are_refused():
    with pytest.raises(ValueError, match=r"more than once: \['a', '我'\]"):
        CharacterVocabulary("a我b我a")


def test_an_unknown_word_is_named_with_what_is_known():
    with pytest.raises(ValueError, match="'great' is not in the vocabulary of 2: good, bad"):
        WordVocabulary(["good", "bad"]).encode("good great")


def test_bytes():
    vocabulary = ByteVocabulary()
    assert isinstance(vocabulary, Vocabulary)
    # 你 is E4 BD A0 in UTF-8.
    assert vocabulary.encode("a你") == [0x61, 0xE4, 0xBD, 0xA0]
    assert vocabulary.decode([0x61, 0xE4, 0xBD, 0xA0, 256]) == "a你"
    assert vocabulary.decode([0x61, 0xE4, 0xBD]) == "a\ufffd"  # half a character is shown as �
    shown = [vocabulary.token(token) for token in (0x61, 0xE4, 0x0A, 256)]
    assert shown == ["a", "<0xE4>", "<0x0A>", "<end>"]
    assert (vocabulary.size, vocabulary.end_token, vocabulary.start_token) == (257, 256, 256)


def test_a_bare_tokenizer():
    tokenizer = bare_tokenizer()
    before = tokenizer.to_str()
    vocabulary = TokenizerVocabulary(tokenizer, end_token=1, start_token=0, suppressed_tokens=[2])
    assert (vocabulary.size, vocabulary.end_token, vocabulary.start_token) == (5, 1, 0)
    assert vocabulary.suppressed_tokens == (2,)
    assert vocabulary.encode("good .") == [3, 4]
    assert vocabulary.encode_prompt("good .") == [0, 3, 4]  # <s> before it; </s> would end it
    assert vocabulary.encode_prompt("") == [0]
    assert vocabulary.decode([0, 3, 3, 1]) == "good good"
    assert vocabulary.token(1) == "</s>"
    assert tokenizer.to_str() == before


def test_a_transformers_tokenizer():
    tokenizer = transformers_tokenizer()
    before = tokenizer.backend_tokenizer.to_str()
    vocabulary = TokenizerVocabulary(tokenizer)
    assert (vocabulary.size, vocabulary.end_token, vocabulary.start_token) == (5, 1, 0)
    assert vocabulary.encode("good .") == [3, 4]
    assert vocabulary.encode_prompt("good .") == [0, 3, 4]
    assert vocabulary.decode([0, 3, 1]) == "good"
    assert vocabulary.token(3) == "good"
    assert tokenizer.backend_tokenizer.to_str() == before
    assert tokenizer.pad_token is None


def test_a_model_that_has_no_start_token_starts_with_its_end_token():
    assert TokenizerVocabulary(bare_tokenizer(), end_token=1).start_token == 1  # as GPT-2 does


def test_from_folder(tmp_path):
    bare_tokenizer().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"bos_token_id": 0, "eos_token_id": 4}))
    generation = {"eos_token_id": [1, 4], "suppress_tokens": [2]}
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    vocabulary = load_vocabulary(tmp_path)
    # generation_config.json has the last word; of several end tokens the first is ours.
    assert (vocabulary.end_token, vocabulary.start_token) == (1, 0)
    assert vocabulary.suppressed_tokens == (2,)


def test_of_several_end_tokens_the_tokenizers_own(tmp_path):
    """Chat models end a file by one token and a turn by another; they name the second."""
    bare_tokenizer().save(str(tmp_path / "tokenizer.json"))
    generation = {"eos_token_id": [4, 1]}
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    for named in ("</s>", {"content": "</s>"}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": named}))
        assert load_vocabulary(tmp_path).end_token == 1
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "good"}))
    assert load_vocabulary(tmp_path).end_token == 4
    (tmp_path / "generation_config.json").unlink()
    assert load_vocabulary(tmp_path).end_token == 3  # no other is named


def test_an_older_folder_without_tokenizer_json(tmp_path):
    vocabulary = {"<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "eos_token_id": 0}')
    vocabulary = load_vocabulary(tmp_path)
    assert (vocabulary.size, vocabulary.end_token) == (4, 0)
    assert vocabulary.encode("abb") == [3, 2]


@pytest.mark.parametrize("make", [bare_tokenizer, transformers_tokenizer])
def test_a_tokenizer_that_cuts_and_pads_does_neither_here(make):
    tokenizer = make()
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    backend.enable_truncation(1)
    backend.enable_padding(length=6, pad_id=4)
    before = backend.to_str()
    vocabulary = TokenizerVocabulary(tokenizer, end_token=1)
    assert vocabulary.encode("good . good") == [3, 4, 3]
    assert vocabulary.encode_prompt("good . good") == [0, 3, 4, 3]
    assert backend.to_str() == before


def test_damaged_settings_are_named(tmp_path):
    bare_tokenizer().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(TextenvError, match=r"generation_config\.json' is no JSON"):
        load_vocabulary(tmp_path)


def test_suppressed_ids_beyond_the_vocabulary_are_left_out():
    assert TokenizerVocabulary(bare_tokenizer(), suppressed_tokens=[2, 9]).suppressed_tokens == (2,)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(TextenvError, match=r"expected a folder with a tokenizer\.json, got"):
        TokenizerVocabulary.from_folder(tmp_path)


@pytest.mark.parametrize(
    "vocabulary",
    [
        WordVocabulary(["good", "bad"], end="$"),
        WordVocabulary(["$", "我", "爱"], separator="", end="$"),
        CharacterVocabulary("ab"),
        ByteVocabulary(),
        TokenizerVocabulary(bare_tokenizer()),
        TokenizerVocabulary(transformers_tokenizer()),
    ],
    ids=lambda vocabulary: type(vocabulary).__name__,
)
def test_saved_with_a_model_and_loaded(vocabulary, tmp_path):
    save_vocabulary(vocabulary, tmp_path)
    again = load_vocabulary(tmp_path)
    ids = list(range(min(vocabulary.size, 200)))
    assert again.size == vocabulary.size
    assert again.decode(ids) == vocabulary.decode(ids)
    assert again.encode(again.decode(ids[1:2])) == vocabulary.encode(vocabulary.decode(ids[1:2]))
    if not isinstance(vocabulary, TokenizerVocabulary):  # theirs are in the model's config
        assert again.end_token == vocabulary.end_token


def test_what_cannot_be_saved_is_said(tmp_path):
    class Own:
        size = 1

    with pytest.raises(TextenvError, match="a Own cannot be saved"):
        save_vocabulary(Own(), tmp_path)
