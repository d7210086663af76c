"""A Hugging Face sequence classifier as a reward, on tiny random models."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import textenv  # noqa: F401
from textenv.errors import TextenvError, UnknownNameError
from textenv.rewards import Classifier, as_reward
from textenv.testing import check_reward

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a"]


def save_classifier(folder, labels=("negative", "neutral", "positive"), *, safe=True, **settings):
    config = tf.BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=12, initializer_range=1.0,
        id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)},
        **settings,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = tf.BertForSequenceClassification(config).eval()
    if safe:
        model.save_pretrained(folder)
    else:
        folder.mkdir(exist_ok=True)
        config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]",
    )  # fmt: skip
    fast.save_pretrained(folder)
    return model


def logits(model, *texts):
    ids = [WORDS.index(word) for text in texts for word in text.split()]
    kinds = [kind for kind, text in enumerate(texts) for _ in text.split()]
    with torch.inference_mode():
        return model(torch.tensor([ids]), token_type_ids=torch.tensor([kinds])).logits[0].double()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "classifier"


def test_probability_and_logit_of_a_label(folder):
    model = save_classifier(folder)
    expected = logits(model, "a good film")
    for label in ("positive", 2):
        spec = {"name": "classifier", "model": str(folder), "label": label}
        found = as_reward(spec)([""], ["a good film"])
        assert found == pytest.approx([expected.softmax(0)[2].item()], abs=1e-6)
        found = as_reward({**spec, "output": "logit"})([""], ["a good film"])
        assert found == pytest.approx([expected[2].item()], abs=1e-5)


def test_one_output_needs_no_label(folder):
    """The shape of reward models on the Hub."""
    model = save_classifier(folder, ["score"])
    reward = Classifier(model=folder, output="logit")
    raw = logits(model, "bad film")[0]
    assert reward([""], ["bad film"]) == pytest.approx([raw.item()], abs=1e-5)
    found = Classifier(model=folder)([""], ["bad film"])
    assert found == pytest.approx([raw.sigmoid().item()], abs=1e-6)


def test_labels_that_do_not_exclude_each_other(folder):
    model = save_classifier(folder, problem_type="multi_label_classification")
    found = Classifier(model=folder, label=0)([""], ["bad film"])
    assert found == pytest.approx([logits(model, "bad film")[0].sigmoid().item()], abs=1e-6)


@pytest.mark.parametrize(("prompt", "expected"), [("leave out", "film"), ("join", "a good film")])
def test_where_the_prompt_goes(prompt, expected, folder):
    model = save_classifier(folder)
    found = Classifier(model=folder, label=0, prompt=prompt)(["a good"], ["film"])
    assert found == pytest.approx([logits(model, expected).softmax(0)[0].item()], abs=1e-6)


def test_prompt_and_text_as_a_pair(folder):
    model = save_classifier(folder)
    tokenizer = tf.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        expected = model(**tokenizer(["a good"], ["film"], return_tensors="pt")).logits[0]
    found = Classifier(model=folder, label=0, prompt="pair")(["a good"], ["film"])
    assert found == pytest.approx([expected.softmax(0)[0].item()], abs=1e-6)


def test_it_keeps_what_rewards_promise(folder):
    save_classifier(folder)
    spec = {"name": "classifier", "model": str(folder), "label": "positive", "batch_size": 3}
    report = check_reward(spec, tolerance=1e-5)
    assert 0 <= report.minimum < report.maximum <= 1
    assert as_reward(spec).spec() == spec
    long = "good " * 50  # longer than it reads
    assert Classifier(model=folder, label=0)([""], [long]) == pytest.approx(
        Classifier(model=folder, label=0)([""], ["good " * 12]), abs=1e-6
    )


def test_in_an_environment(folder):
    save_classifier(folder)
    spec = {"name": "classifier", "model": str(folder), "label": "positive"}
    env = gym.make("textenv/Sentiment-v0", reward=spec)
    env.reset(seed=0, options={"prefix": "a good film"})
    _, reward, _, _, _ = env.step(env.unwrapped.task.vocabulary.end_token)
    assert reward == pytest.approx(as_reward(spec)([""], ["a good film"])[0], abs=1e-6)


def test_what_it_refuses(folder, tmp_path):
    save_classifier(folder)
    with pytest.raises(ValueError, match=r"3 outputs: say by label=.*negative.*positive"):
        Classifier(model=folder)
    for wrong in ("happy", 3, True):
        with pytest.raises(UnknownNameError, match="negative, neutral, positive"):
            Classifier(model=folder, label=wrong)
    with pytest.raises(ValueError, match="output must be one of"):
        Classifier(model=folder, label=0, output="score")
    with pytest.raises(ValueError, match="prompt must be one of"):
        Classifier(model=folder, label=0, prompt="both")
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        Classifier(model=folder, label=0, batch_size=0)
    with pytest.raises(TextenvError, match="folder or `owner/name` on the Hub"):
        Classifier(model=tmp_path / "nowhere")


def test_pickled_weights_are_refused(folder):
    save_classifier(folder, safe=False)
    with pytest.raises(TextenvError, match="holds no sequence classifier"):
        Classifier(model=folder, label=0)


def test_a_model_without_the_head_is_refused(folder):
    model = save_classifier(folder)
    model.bert.save_pretrained(folder)
    with pytest.raises(TextenvError, match=r"classifier.bias is missing"):
        Classifier(model=folder, label=0)
