"""Differential privacy of reward models: the noise, the ε, and what must not come of the rows."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from opacus.accountants import PRVAccountant, RDPAccountant

from tests.test_reward_model import comparisons, ratings, texts, worth
from textenv.errors import MissingExtraError
from textenv.preferences import RatedText
from textenv.preferences.reward_model import RewardModel, RewardModelConfig, train
from textenv.preferences.reward_model.counts import HashedCounts, TfIdf
from textenv.preferences.reward_model.features import make_features
from textenv.preferences.reward_model.heads import Head
from textenv.preferences.reward_model.objectives import number_texts
from textenv.preferences.reward_model.private import fit_privately
from textenv.preferences.reward_model.rows import dense


def correlation(model):
    new = texts(200, seed=9)
    return np.corrcoef(model([""] * 200, new), [worth(text) for text in new])[0, 1]


@pytest.mark.filterwarnings("ignore:Optimal order", "ignore:divide by zero")  # the accountants'
@pytest.mark.parametrize(("epsilon", "ensemble"), [(1.0, 1), (8.0, 2)])
def test_the_noise_keeps_the_promise(epsilon, ensemble):
    """ε again, by Opacus' accountant, from the noise, the sampling and the steps alone."""
    report = train(comparisons(), epsilon=epsilon, ensemble=ensemble, batch_size=50).report
    promised = report.privacy
    assert report.epsilon == promised.epsilon
    assert 0.9 * epsilon < promised.epsilon <= epsilon
    assert promised.delta < 1 / 300
    assert promised.sample_rate == 50 / 300
    assert promised.steps == ensemble * 20 * 6
    rdp = RDPAccountant()
    rdp.history = [(promised.noise_multiplier, promised.sample_rate, promised.steps)]
    again = rdp.get_epsilon(promised.delta)
    assert again == pytest.approx(promised.epsilon)
    # A tighter accountant finds less: the promise is on the safe side.
    prv = PRVAccountant()
    prv.history = rdp.history
    assert prv.get_epsilon(promised.delta) < again


def test_accuracy_falls_gracefully():
    rows = comparisons(100)
    found = [
        np.mean([
            correlation(train(rows, epsilon=e, batch_size=20, noise_seed=seed).model)
            for seed in range(3)
        ])
        for e in (0.2, 1.5, 8.0)
    ]  # fmt: skip
    assert found[0] + 0.2 < found[1] < found[2] < 1
    assert found[1] > 0.8


def first_pull(monkeypatch, data, clip):
    """The sum of the rows' gradients as the first step sees it, without noise."""
    import opacus.accountants.utils

    monkeypatch.setattr(opacus.accountants.utils, "get_noise_multiplier", lambda **_: 0.0)
    monkeypatch.setattr(RDPAccountant, "get_epsilon", lambda *_: 0.0)
    steps = []

    def step(self, closure=None):
        steps.append([parameter.grad.clone() for parameter in self.param_groups[0]["params"]])

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    table = number_texts(data)
    rows = HashedCounts()(table.prompts, table.texts)
    config = RewardModelConfig(epsilon=1, epochs=1, clip=clip, batch_size=1000)
    fit_privately(rows, table.objective, config)
    # One step of all rows; Opacus divides the sum by their number.
    return torch.cat([part.flatten() for part in steps[0]]) * len(data), rows, table.objective


@pytest.mark.parametrize("data", [comparisons(30), ratings(30)])
def test_gradients_within_the_clip_are_left_alone(data, monkeypatch):
    found, rows, objective = first_pull(monkeypatch, data, clip=1e6)
    head = Head(rows.width)
    objective.losses(head(rows)).sum().backward()
    expected = head.weight.grad.flatten()
    if len(found) > len(expected):  # ratings have a bias
        expected = torch.cat([expected, head.bias.grad])
    assert torch.allclose(found.double(), expected, atol=1e-4)


def test_one_row_moves_a_step_by_no_more_than_the_clip(monkeypatch):
    """Nine rows that are right already, and one that is monstrous."""
    right = [RatedText(prompt="", text="good film", rating=0.0)] * 9
    assert first_pull(monkeypatch, right, clip=0.5)[0].norm().item() == 0
    monster = RatedText(prompt="", text="bad plot", rating=1e9)
    found, _, _ = first_pull(monkeypatch, [*right, monster], clip=0.5)
    assert found.norm().item() == pytest.approx(0.5, abs=1e-5)


def test_what_is_not_covered_is_not_done():
    rows = comparisons()
    model, report = train(rows, epsilon=4.0, noise_seed=0)
    assert model.features.name == "hashed"  # no vocabulary of private texts
    assert [report.n_train, report.n_validation] == [300, 0]
    measured = (report.accuracy, report.calibration, report.correlation, report.disagreement)
    assert measured == (None,) * 4
    assert [model.mean, model.deviation] == [0.0, 1.0]
    assert all(head.bias.item() == 0 for head in model.heads)


def test_a_vocabulary_of_public_texts():
    public = TfIdf.fitted([""] * 50, texts(50, seed=30))
    model, report = train(comparisons(), features=public, epsilon=8.0, noise_seed=0)
    assert model.features is public
    assert report.epsilon <= 8
    assert correlation(model) > 0.8


def test_public_rows_measure_and_standardise():
    public = comparisons(100, seed=20)
    model, report = train(comparisons(), epsilon=8.0, public=public)
    assert report.n_validation == 100
    assert report.accuracy.mean > 0.6
    table = number_texts(public)
    scores = np.array(model(table.prompts, table.texts))
    assert [scores.mean(), scores.std()] == pytest.approx([0, 1], abs=1e-6)


def test_ratings_too():
    """The bias begins at 0: even the mean of the ratings is a secret."""
    model, report = train(ratings(1500), epsilon=8.0, noise_seed=0)
    assert report.kind == "ratings"
    assert correlation(model) > 0.8


def test_the_card_and_the_folder_say_what_was_promised(tmp_path):
    model, report = train(comparisons(), epsilon=2.0, noise_seed=5)
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text("utf-8")
    assert f"ε = {report.epsilon:.3f}" in card
    assert "one comparison or one" in card
    assert "chose the epoch" not in card  # what is said of other models is not so of this one
    assert "Measured on" not in card
    assert "vocabulary.json" not in {path.name for path in tmp_path.iterdir()}
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["report"]["epsilon"] == report.epsilon
    assert "noise_seed" not in config["training"]  # whoever knew it could take the noise off
    assert RewardModel.from_pretrained(tmp_path).report == report


def test_noise_is_not_repeatable_unless_a_test_asks_for_it():
    def scores(noise_seed):
        model, _ = train(comparisons(100), epsilon=1.0, epochs=2, noise_seed=noise_seed)
        return model(["", ""], ["great", "awful"])

    assert scores(1) == scores(1)
    assert scores(1) != scores(2)
    assert scores(1) != scores(1 + 2**32)  # no 32 bits, which can all be tried
    assert scores(None) != scores(None)


def test_steps_without_any_row_add_noise_too():
    """Poisson sampling: with one row in 20 expected, a step of none comes often."""
    model, report = train(comparisons(40), epsilon=5.0, batch_size=1, epochs=3)
    assert report.privacy.steps == 120
    assert np.isfinite(model([""], ["great"])).all()


def test_an_epsilon_out_of_reach():
    with pytest.raises(ValueError, match="larger epsilon or a larger delta"):
        train(comparisons(300), epsilon=0.01)


def test_without_opacus(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    with pytest.raises(MissingExtraError, match=r"textenv\[feedback\]"):
        train(comparisons(20), epsilon=1.0)


def test_features_of_one_text_do_not_depend_on_the_others():
    features = make_features(RewardModelConfig(epsilon=1.0))
    few, many = features([""], ["a b"]), features([""] * 2, ["c d e", "a b"])
    assert torch.equal(dense(few, torch.tensor([0])), dense(many, torch.tensor([1])))
