"""`train` and `RewardModel`: from data to a reward, a rater and a folder."""

from __future__ import annotations

import copy
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import textenv  # noqa: F401
from tests.tiny_models import V, make
from textenv.errors import NotSerialisableError, TextenvError, UnknownNameError
from textenv.preferences import Comparison, RatedText, Rater
from textenv.preferences.human_ratings import as_ratings
from textenv.preferences.reward_model import (
    RewardModel,
    RewardModelConfig,
    measure,
    train,
)
from textenv.rewards import LearnedReward, as_reward
from textenv.testing import check_reward

WORDS = {"great": 2.0, "good": 1.0, "film": 0.0, "plot": 0.0, "dull": -1.0, "awful": -2.0}


def texts(count, seed=0):
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(list(WORDS), size=5)) for _ in range(count)]


def worth(text):
    return sum(WORDS[word] for word in text.split())


def comparisons(count=300, seed=0, prompts=60):
    """Bradley–Terry on the words' worth."""
    generator = np.random.default_rng(seed)
    rows = []
    for i, (a, b) in enumerate(zip(texts(count, seed), texts(count, seed + 1))):
        label = float(generator.random() < 1 / (1 + np.exp(worth(b) - worth(a))))
        prompt = f"p{i % prompts}" if prompts else ""
        rows.append(Comparison(prompt=prompt, first=a, second=b, label=label))
    return rows


def ratings(count=300, seed=0):
    return [RatedText(prompt="", text=text, rating=worth(text)) for text in texts(count, seed)]


def written(count=40, seed=0):
    """Texts in the tiny models' vocabulary, and comparisons by how often w1 occurs."""
    generator = np.random.default_rng(seed)
    names = [
        " ".join(f"w{i}" for i in generator.integers(1, V - 1, size=generator.integers(1, 6)))
        for _ in range(2 * count)
    ]
    return [
        Comparison(prompt=f"w{i % 10 + 1}", first=a, second=b,
                   label=float(a.count("w1") > b.count("w1")))
        for i, (a, b) in enumerate(zip(names[::2], names[1::2]))
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    return train(comparisons(), ensemble=3)


def test_it_learns_what_is_preferred(trained):
    model, report = trained
    new = texts(200, seed=9)
    scores = model([""] * 200, new)
    assert np.corrcoef(scores, [worth(text) for text in new])[0, 1] > 0.9
    assert report.accuracy.mean > 0.75
    assert report.accuracy.low < report.accuracy.mean < report.accuracy.high
    assert report.calibration.error.mean < 0.2
    assert [report.n_train, report.n_validation, report.n_left_out] == [240, 60, 0]
    assert len(report.epochs) == 3
    assert 0 < report.disagreement < 1
    assert report.epsilon is None
    assert json.loads(json.dumps(report.to_json()))["accuracy"]["mean"] == report.accuracy.mean


def test_it_learns_ratings():
    model, report = train(ratings())
    assert report.correlation.mean > 0.95
    assert report.accuracy is None
    new = texts(50, seed=9)
    errors = np.subtract(model.ratings([""] * 50, new), [worth(text) for text in new])
    assert np.abs(errors).mean() < 1  # in the ratings' own units, which go from −10 to 10
    with pytest.raises(ValueError, match="train on comparisons for probabilities"):
        model.probabilities([""], ["a"], ["b"])
    assert measure(model, comparisons(seed=5))["accuracy"].mean > 0.75


def test_early_stopping_keeps_the_best_epoch():
    """Random verdicts: there is nothing to learn, so the first epochs are the best."""
    generator = np.random.default_rng(0)
    rows = [
        Comparison(prompt=str(i), first=f"a{i} {a}", second=f"b{i} {b}",
                   label=float(generator.integers(2)))
        for i, (a, b) in enumerate(zip(texts(100), texts(100, 1)))
    ]  # fmt: skip
    early = train(rows, l2=0.01).report
    assert early.epochs[0] < 8
    late = train(rows, l2=0.01, patience=200, epochs=60).report
    assert late.epochs == early.epochs  # however long it goes on, the best one is returned


def test_scores_are_standardised_over_the_training_texts():
    rows = comparisons(prompts=0)
    for settings in ({}, {"ensemble": 3}):
        model, _ = train(rows, validation=0, **settings)
        seen = {text for row in rows for text in (row.first, row.second)}
        scores = np.array(model([""] * len(seen), sorted(seen)))
        assert [scores.mean(), scores.std()] == pytest.approx([0, 1], abs=1e-9)


def test_it_is_a_rater(trained):
    model = trained.model
    assert isinstance(model, Rater)
    pair = [""] * 3, ["great", "awful", "film"], ["awful", "great", "film"]
    assert model.compare(*pair) == ["better", "worse", "tie"]
    probabilities = model.probabilities(*pair)
    assert probabilities[0] + probabilities[1] == pytest.approx(1)
    assert probabilities[0] > 0.8
    assert probabilities[2] == 0.5


def test_disagreement_is_larger_where_nothing_was_compared(trained):
    model = trained.model
    known, unknown = model.disagreement([""] * 2, ["good film", "never seen before"])
    assert known > 0
    single = train(comparisons()).model
    assert single.disagreement([""], ["good film"]) == [0.0]
    # Rare words are where resampled heads differ.
    rows = [*comparisons(), *(Comparison(prompt=f"r{i}", first="odd", second="film", label=i % 2)
                              for i in range(6))]  # fmt: skip
    model, _ = train(rows, ensemble=8)
    rare, common = model.disagreement([""] * 2, ["odd", "film"])
    assert rare > common
    assert unknown >= 0


def test_the_same_seed_gives_the_same_model():
    one, other = (train(comparisons(), ensemble=2, seed=3) for _ in range(2))
    assert one.report == other.report
    new = texts(20, seed=4)
    assert one.model([""] * 20, new) == other.model([""] * 20, new)
    assert train(comparisons(), ensemble=2, seed=4).model([""] * 20, new) != one.model(
        [""] * 20, new
    )


def test_no_global_generator_is_read_or_set(trained, tmp_path):
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    train(written(), features=make("gpt2"), hidden_units=3, ensemble=2)
    train(comparisons(), epsilon=2.0)
    trained.model.save_pretrained(tmp_path / "model")
    RewardModel.from_pretrained(tmp_path / "model")
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_saving_keeps_every_bit(trained, tmp_path):
    model = trained.model
    model.save_pretrained(tmp_path / "model")
    again = RewardModel.from_pretrained(tmp_path / "model")
    new = texts(50, seed=3)
    assert again([""] * 50, new) == model([""] * 50, new)
    assert again.disagreement([""] * 50, new) == model.disagreement([""] * 50, new)
    assert again.report == model.report
    assert again.config == model.config
    RewardModelConfig(**again.config)  # what is stored makes the same settings again
    again.save_pretrained(tmp_path / "twice")
    for name in ("model.safetensors", "vocabulary.json", "config.json"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()
    assert {path.suffix for path in (tmp_path / "model").iterdir()} == {
        ".json", ".md", ".safetensors"
    }  # fmt: skip


def test_the_card_has_the_figures(trained, tmp_path):
    trained.model.save_pretrained(tmp_path / "mine")
    card = (tmp_path / "mine" / "README.md").read_text("utf-8")
    for part in (
        "# mine",
        "the mean of 3 heads on the features `tfidf`",
        str(trained.report.accuracy),
        str(trained.report.calibration.error),
        f"{trained.report.disagreement:.3f}",
        "240 comparisons",
        "60 that share no prompt",
    ):
        assert part in card
    assert "Differential privacy" not in card


def test_as_a_reward_by_its_folder(trained, tmp_path):
    trained.model.save_pretrained(tmp_path)
    spec = {"name": "reward_model", "folder": str(tmp_path)}
    reward = as_reward(spec)
    assert isinstance(reward, LearnedReward)
    assert reward.spec() == spec
    new = texts(20)
    assert reward([""] * 20, new) == trained.model([""] * 20, new)
    check_reward(reward)
    check_reward(trained.model)
    check_reward({**spec, "clip": 0.5})
    assert max(as_reward({**spec, "clip": 0.5})([""], ["great great great"])) == 0.5
    assert pickle.loads(pickle.dumps(reward))([""], ["good"]) == reward([""], ["good"])
    assert reward.compare([""], ["great"], ["awful"]) == ["better"]
    assert RewardModel.from_pretrained(tmp_path).spec() == spec
    with pytest.raises(NotSerialisableError, match="save_pretrained"):
        trained.model.spec()
    with pytest.raises(ValueError, match="clip must be a positive number"):
        LearnedReward(folder=tmp_path, clip=0)


def test_a_folder_that_is_replaced_is_read_again(trained, tmp_path):
    trained.model.save_pretrained(tmp_path / "model")
    reward = LearnedReward(folder=tmp_path / "model")
    before = reward([""], ["good"])
    train(comparisons(seed=7), l2=10).model.save_pretrained(tmp_path / "model")
    assert reward([""], ["good"]) != before


def test_in_an_environment(trained, tmp_path):
    trained.model.save_pretrained(tmp_path)
    spec = {"name": "reward_model", "folder": str(tmp_path)}
    env = gym.make("textenv/Sentiment-v0", reward=spec)
    assert env.spec.kwargs["reward"] == spec
    env.reset(seed=0, options={"prefix": "a good film"})
    end = env.unwrapped.task.vocabulary.end_token
    _, reward, terminated, _, _ = env.step(end)
    assert terminated
    assert reward == trained.model(["x"], ["a good film"])[0]


@pytest.mark.slow
def test_in_a_worker(trained, tmp_path):
    trained.model.save_pretrained(tmp_path)
    spec = {"name": "reward_model", "folder": str(tmp_path)}
    env = gym.make("textenv/Sentiment-v0", reward=spec, timeout=60)
    env.reset(seed=0, options={"prefix": "a good film"})
    _, reward, _, _, _ = env.step(env.unwrapped.task.vocabulary.end_token)
    assert reward == trained.model(["x"], ["a good film"])[0]
    env.close()


@pytest.mark.parametrize("kind", ["gpt2", "llama", "lstm", "tabular"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_hidden_states_are_those_of_the_language_model(kind, pooling):
    from textenv.preferences.reward_model.hidden import HiddenFeatures
    from textenv.prefixes import Prefixes

    lm = make(kind)
    features = HiddenFeatures(lm, pooling=pooling)
    prompts, whole = ["w1", "", "w2 w3", "w1"], ["w4 w5 w6", "w7", "", "w4 w5"]
    found = features(prompts, whole).numpy()
    for row, (prompt, text) in enumerate(zip(prompts, whole)):
        before, ids = lm.vocabulary.encode_prompt(prompt), lm.vocabulary.encode(text)
        states = []
        for written_so_far in range(min(1, len(ids)), len(ids) + 1):
            tokens = np.array([[*before, *ids[:written_so_far]]], dtype=np.int64)
            prefix = Prefixes(tokens, len(before), V, np.array([written_so_far]))
            lm.forget()
            states.append(lm.next(prefix).hidden[0].double().numpy())
        expected = states[-1] if pooling == "last" else np.mean(states, axis=0)
        expected = expected / np.linalg.norm(expected)
        assert found[row] == pytest.approx(expected, abs=1e-6)
        alone = features([prompt], [text]).numpy()[0]
        assert alone == pytest.approx(found[row], abs=1e-6)


def test_what_the_head_learns_leaves_the_language_model_alone():
    lm = make("gpt2")
    before = copy.deepcopy(lm.state_dict())
    model, report = train(written(), features=lm)
    assert all(torch.equal(tensor, before[name]) for name, tensor in lm.state_dict().items())
    assert report.accuracy is not None
    scores = model(["w1"], ["w2 w3"])
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.zero_()
    assert model(["w1"], ["w2 w3"]) == scores  # it keeps a copy of the model it was made with
    check_reward(model, ["w1"] * 3, ["w1", "w2 w3", ""], completion_ids=[[1], [2, 3], []],
                 tolerance=1e-5)  # fmt: skip


def test_a_hidden_layer_on_top():
    model, _ = train(written(), features=make("gpt2"), hidden_units=4, ensemble=2)
    assert {tuple(head.first.shape) for head in model.heads} == {(16, 4)}
    assert not torch.equal(model.heads[0].first, model.heads[1].first)
    with pytest.raises(ValueError, match="hidden_units= needs an encoder or a language model"):
        train(comparisons(), hidden_units=4)


def test_a_language_model_in_memory_must_be_handed_over_again(tmp_path):
    lm = make("gpt2")
    model, _ = train(written(), features=lm)
    model.save_pretrained(tmp_path)
    with pytest.raises(TextenvError, match=r"from_pretrained\(folder, base=that_model\)"):
        RewardModel.from_pretrained(tmp_path)
    again = RewardModel.from_pretrained(tmp_path, base=make("gpt2"))
    assert again(["w1"], ["w2"]) == model(["w1"], ["w2"])


def test_another_base_is_refused(tmp_path):
    train(written(), features=make("gpt2")).model.save_pretrained(tmp_path)
    other = make("gpt2")
    with torch.no_grad():
        next(other.parameters())[0] += 0.5
    for base in (other, make("llama")):
        with pytest.raises(TextenvError, match=r"was made for another base.*train again on this"):
            RewardModel.from_pretrained(tmp_path, base=base)


def test_a_language_model_by_its_folder(tmp_path):
    make("lstm").save_pretrained(tmp_path / "lm")
    model, _ = train(written(), features=f"hidden:{tmp_path / 'lm'}")
    model.save_pretrained(tmp_path / "model")
    again = RewardModel.from_pretrained(tmp_path / "model")
    assert again(["w1"], ["w2"]) == model(["w1"], ["w2"])
    changed = make("lstm")
    with torch.no_grad():
        changed.head.bias += 1
    changed.save_pretrained(tmp_path / "lm")
    with pytest.raises(TextenvError, match="was made for another base"):
        RewardModel.from_pretrained(tmp_path / "model")


def test_another_vocabulary_is_refused(trained, tmp_path):
    trained.model.save_pretrained(tmp_path)
    path = tmp_path / "vocabulary.json"
    idf = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({word + "s": value for word, value in idf.items()}), "utf-8")
    with pytest.raises(TextenvError, match="was made for another base: 'tfidf'"):
        RewardModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="stand on no base"):
        RewardModel.from_pretrained(tmp_path, base=make("gpt2"))


def damage_weights(folder):
    weights = load_file(folder / "model.safetensors")
    weights["0.weight"] = weights["0.weight"][:-1].contiguous()
    save_file(weights, folder / "model.safetensors")


DAMAGE = {
    "is no reward model's folder": lambda folder: (folder / "config.json").unlink(),
    "got .* with a 'gpt2'": lambda folder: change(folder, model_type="gpt2"),
    "newer textenv": lambda folder: change(folder, format=2),
    "no whole reward model": damage_weights,
    "holds no whole reward model": lambda folder: (folder / "model.safetensors").unlink(),
    "vocabulary.json": lambda folder: (folder / "vocabulary.json").unlink(),
    "no kind of features": lambda folder: change(folder, features="bm25"),
}


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **values}), "utf-8")


@pytest.mark.parametrize("message", DAMAGE)
def test_damaged_folders(message, trained, tmp_path):
    trained.model.save_pretrained(tmp_path)
    DAMAGE[message](tmp_path)
    with pytest.raises(TextenvError, match=message):
        RewardModel.from_pretrained(tmp_path)


def test_the_reward_looks_at_the_folder_at_once(tmp_path):
    with pytest.raises(TextenvError, match=r"has no config\.json"):
        LearnedReward(folder=tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', "utf-8")
    with pytest.raises(TextenvError, match='"name": "classifier", "model": folder'):
        LearnedReward(folder=tmp_path)


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ([], {}, "got none"),
        ([comparisons(1)[0], ratings(1)[0]], {}, "all of one kind"),
        (["a text"], {}, "all of one kind, got \\['str'\\]"),
        (comparisons(), {"features": "bm25"}, "no kind of features is called 'bm25'"),
        (comparisons(), {"features": "hidden"}, "no kind of features is called 'hidden'"),
        (comparisons(), {"ensemble": 0}, "ensemble must be at least 1"),
        (comparisons(), {"validation": 1}, "validation must be a share"),
        (comparisons(), {"l2": -1}, "l2 must be at least 0"),
        (comparisons(), {"pooling": "max"}, "pooling must be"),
        (comparisons(), {"delta": 0.1}, "belong to epsilon="),
        (comparisons(), {"public": comparisons()}, "public= belongs to epsilon="),
        (comparisons(), {"epsilon": 0}, "epsilon must be a positive number"),
        (comparisons(), {"epsilon": 1, "hidden_units": 2}, "the head is linear"),
    ],
)
def test_what_train_refuses(data, settings, message):
    with pytest.raises((ValueError, UnknownNameError), match=message):
        train(data, **settings)


def test_people_are_predicted():
    """The issue's bar, on rows that nothing was chosen by."""
    rows = as_ratings()
    order = np.random.default_rng(0).permutation(len(rows))
    held_out = [rows[i] for i in order[:2000]]
    known = {row.text for row in held_out}
    model, _ = train([rows[i] for i in order[2000:] if rows[i].text not in known])
    assert measure(model, held_out)["correlation"].mean > 0.65
