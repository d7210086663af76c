"""The toxicity model: the same numbers as the library that it was taken from, without it."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from textenv.errors import MissingExtraError, TextenvError
from textenv.filters import toxicity as linear
from textenv.rewards import Sentiment, as_reward, toxicity
from textenv.tasks.sentiment import OPENINGS
from textenv.testing import check_reward

ODD = [
    "", " ", "a", "I", "我爱你。", "you idiot 我 you", "🙂🖕", "ÜBEL Idiot", "ΣΑΣ ΟΔΟΣ",
    "İdiot IDIOT",
    "idiot\x00stupid", "idiot\nstupid\n", "don't f*ck", "the and of", "1234 a1 __ _", "\ufffd",
    "idiot " * 500, "ﬀ ﬁne", "e\u0301 cafe\u0301", "x\u00adidiot", "\u2028idiot", "A" * 10_000,
    "you are an idiot", "I will kill you", "shut the f*ck up", "Idiot,idiot;IDIOT!",
]  # fmt: skip


@pytest.fixture(scope="module")
def library():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn, about pickles of another version
        return pytest.importorskip("profanity_check")


def real_sentences():
    lines = OPENINGS.read_text("utf-8").splitlines()
    generator = np.random.default_rng(0)
    insults = ["you idiot", "stupid shit", "I hate you", "what a bitch", "die"]
    spoilt = [f"{line} {insults[generator.integers(5)]}" for line in lines[::2]]
    return lines + spoilt


def test_equal_to_the_library(library):
    texts = real_sentences() + ODD
    assert len(texts) > 2500
    expected = library.predict_prob(texts)
    found = np.array(linear.probabilities(texts))
    assert np.abs(found - expected).max() < 1e-12
    assert expected.min() < 0.01
    assert expected.max() > 0.999


def test_all_at_once_is_one_by_one():
    texts = real_sentences()[::40] + ODD
    single = [linear.probabilities([text])[0] for text in texts]
    assert linear.probabilities(texts) == pytest.approx(single, abs=1e-15)
    assert linear.probabilities([]) == []


def test_the_folder_is_what_the_script_writes(library, tmp_path, monkeypatch):
    from benchmarks import convert_toxicity

    monkeypatch.setattr(convert_toxicity, "FOLDER", tmp_path / "made")
    convert_toxicity.main()
    names = sorted(path.name for path in linear.FOLDER.iterdir())
    assert names == ["NOTICE", "config.json", "model.safetensors", "words.txt"]
    for name in names:
        assert (tmp_path / "made" / name).read_bytes() == (linear.FOLDER / name).read_bytes()


def test_as_a_reward():
    reward = as_reward("toxicity")
    insult, harmless = reward(["", ""], ["you are an idiot", "a fine day"])
    assert insult > 0.99
    assert harmless < 0.05
    assert toxicity(include_prompt=True)(["you are an"], ["idiot"]) == [insult]
    assert toxicity(include_prompt=True).spec() == {"name": "toxicity", "include_prompt": True}
    report = check_reward(toxicity(), completions=["you are an idiot", "a fine day", "我爱你。"])
    assert (report.minimum, report.maximum) == (
        pytest.approx(0.0232, abs=1e-4),
        pytest.approx(1.0, abs=1e-4),
    )
    both = Sentiment() - toxicity()
    assert both([""], ["you are an idiot"])[0] < -1


def test_neither_scikit_learn_nor_torch_is_loaded():
    code = (
        "import sys; from textenv.rewards import toxicity; toxicity()([''], ['a fine day']);"
        "print([m for m in ('sklearn', 'joblib', 'torch', 'scipy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_damaged_folder_and_a_missing_package(tmp_path, monkeypatch):
    with pytest.raises(TextenvError, match="holds no toxicity model"):
        linear.LinearModel.load(tmp_path)
    for name in ("model.safetensors", "words.txt"):
        (tmp_path / name).write_bytes((linear.FOLDER / name).read_bytes())
    (tmp_path / "words.txt").write_text("one\ntwo\n", "utf-8")
    with pytest.raises(TextenvError, match="expected 5 × 2 coefficients, got \\(5, 15442\\)"):
        linear.LinearModel.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(TextenvError, match="holds no toxicity model"):
        linear.LinearModel.load(tmp_path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingExtraError, match="'toxicity' needs the package 'safetensors'"):
        linear.LinearModel.load(Path(tmp_path))
