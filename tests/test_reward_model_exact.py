"""Reward models against hand-worked values, closed forms, finite differences and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from textenv.preferences import Comparison, RatedText
from textenv.preferences.reward_model import measures, train
from textenv.preferences.reward_model.counts import HASHES, HashedCounts, TfIdf, words
from textenv.preferences.reward_model.fitting import fit, objective_value
from textenv.preferences.reward_model.heads import Head
from textenv.preferences.reward_model.objectives import Pairs, Ratings, bradley_terry, number_texts
from textenv.preferences.reward_model.rows import dense, times
from textenv.preferences.reward_model.splitting import split

TEXTS = ["a good film", "a bad, bad film", "", "好电影", "don't go", "xyz good", "A GOOD film!"]


def comparison(label, first="good", second="bad", prompt="p"):
    return Comparison(prompt=prompt, first=first, second=second, label=label)


@pytest.mark.parametrize(
    ("labels", "odds"),
    [
        ([1, 1, 1, 0], 3),  # three of four: σ(d) = ¾, d = log 3
        ([1, 0.5], 3),  # a win and a tie: (1 + ½) / 2 = ¾
        ([0.5, 0.5], 1),
        ([1, 1, 0, 0, 0, 0, 0], 2 / 5),
        ([0.9], 9),
    ],
)
def test_maximum_likelihood_is_the_log_odds(labels, odds):
    model, _ = train([comparison(label) for label in labels], l2=0, validation=0)
    assert np.subtract(*model.ratings(["p"] * 2, ["good", "bad"])) == pytest.approx(
        math.log(odds), abs=1e-6
    )
    assert model.probabilities(["p"], ["good"], ["bad"]) == pytest.approx([odds / (1 + odds)])


def test_which_text_stands_first_plays_no_part():
    rows = [comparison(0.8), comparison(1, "good", "fair"), comparison(0.3, "fair", "bad")]
    turned = [comparison(1 - row.label, row.second, row.first) for row in rows]
    one, other = (train(each, validation=0).model for each in (rows, turned))
    texts = ["good", "bad", "fair", "good bad"]
    assert one([""] * 4, texts) == pytest.approx(other([""] * 4, texts), abs=1e-8)


def test_three_texts_by_hand():
    """A beats B 2:1 and B beats C 3:1: Bradley–Terry on a chain is the log odds of each link."""
    rows = [comparison(y, "a", "b") for y in (1, 1, 0)]
    rows += [comparison(y, "b", "c") for y in (1, 1, 1, 0)]
    model, _ = train(rows, l2=0, validation=0)
    a, b, c = model.ratings([""] * 3, ["a", "b", "c"])
    assert [a - b, b - c] == pytest.approx([math.log(2), math.log(3)], abs=1e-6)


def test_bradley_terry_by_hand():
    differences = torch.tensor([0.0, 2.0, -800.0, 800.0], dtype=torch.float64)
    labels = torch.tensor([0.5, 1.0, 1.0, 1.0], dtype=torch.float64)
    expected = [math.log(2), math.log(1 + math.exp(-2)), 800.0, 0.0]
    assert bradley_terry(differences, labels).tolist() == pytest.approx(expected)


def random_rows(sparse, seed=0, count=30):
    generator = torch.Generator().manual_seed(seed)
    if not sparse:
        return torch.randn(count, 6, generator=generator, dtype=torch.float64)
    texts = [" ".join("abcdef"[i % 6] for i in range(n, 2 * n + 1)) for n in range(count)]
    return TfIdf.fitted([""] * count, texts)([""] * count, texts)


def random_objective(kind, seed=1, count=30):
    generator = torch.Generator().manual_seed(seed)
    number = torch.randint(count, (2, 40), generator=generator)
    if kind == "pairs":
        return Pairs(*number, torch.rand(40, generator=generator, dtype=torch.float64))
    return Ratings(number[0], torch.randn(40, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["pairs", "ratings"])
@pytest.mark.parametrize(("sparse", "hidden"), [(True, 0), (False, 0), (False, 3)])
def test_gradients_by_finite_differences(kind, sparse, hidden):
    rows, objective = random_rows(sparse), random_objective(kind)
    width = rows.shape[1] if isinstance(rows, torch.Tensor) else rows.width
    head = Head(width, hidden, torch.Generator().manual_seed(2))
    with torch.no_grad():
        head.weight.normal_(generator=torch.Generator().manual_seed(3))
    weights = torch.arange(40, dtype=torch.float64) % 3

    def value():
        return objective_value(head, rows, objective, weights, 0.7)

    value().backward()
    with torch.no_grad():
        for parameter in head.parameters():
            flat, slope = parameter.view(-1), parameter.grad.view(-1)
            for i in range(len(flat)):
                flat[i] += 1e-5
                high = value()
                flat[i] -= 2e-5
                low = value()
                flat[i] += 1e-5
                assert ((high - low) / 2e-5).item() == pytest.approx(slope[i].item(), abs=1e-7)


@pytest.mark.parametrize("sparse", [True, False])
def test_ratings_give_ridge_regression(sparse):
    """(X̃ᵀX̃ + l2·I)⁻¹X̃ᵀỹ on centred columns, because the bias is free."""
    rows, objective = random_rows(sparse), random_objective("ratings")
    table = dense(rows, objective.text).numpy()
    values = objective.values.numpy()
    centred = table - table.mean(axis=0)
    matrix = centred.T @ centred + 0.7 * np.eye(table.shape[1])
    slope = np.linalg.solve(matrix, centred.T @ (values - values.mean()))
    head, epochs, _ = fit(
        Head(table.shape[1]), rows, objective, None, torch.ones(40, dtype=torch.float64),
        l2=0.7, epochs=200, patience=10,
    )  # fmt: skip
    assert epochs < 200  # it stopped because the minimum was found
    assert head.weight.detach().numpy()[:, 0] == pytest.approx(slope, abs=1e-6)
    expected = values.mean() - table.mean(axis=0) @ slope
    assert head.bias.item() == pytest.approx(expected, abs=1e-6)


def shortened(rows):
    """scikit-learn's rows, each over three times the square root of its length."""
    table = rows.toarray()
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    return table / (3 * np.sqrt(np.where(lengths > 0, lengths, 1)))


def test_trained_ratings_are_scikit_learns_ridge():
    from sklearn.linear_model import Ridge

    texts = [f"{a} {b} {c}" for a in ("good", "bad") for b in ("film", "plot") for c in "xyz"]
    values = np.random.default_rng(0).normal(size=12)
    rows = [RatedText(prompt="", text=t, rating=v) for t, v in zip(texts, values)]
    model, _ = train(rows, validation=0, l2=0.5)
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, norm=None, token_pattern=r"\w+"
    )
    ridge = Ridge(alpha=0.5).fit(shortened(vectorizer.fit_transform(texts)), values)
    new = ["bad film", "good", "something else"]
    assert model.ratings([""] * 3, new) == pytest.approx(
        ridge.predict(shortened(vectorizer.transform(new))).tolist(), abs=1e-6
    )
    scores = np.array(model([""] * 12, texts))
    assert [scores.mean(), scores.std()] == pytest.approx([0, 1], abs=1e-9)


def test_tfidf_is_scikit_learns():
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, tokenizer=words, norm=None,
                                 token_pattern=None)  # fmt: skip
    features = TfIdf.fitted([""] * len(TEXTS), TEXTS)
    expected = shortened(vectorizer.fit_transform(TEXTS))
    names = vectorizer.get_feature_names_out()
    found = dense(features([""] * len(TEXTS), TEXTS), torch.arange(len(TEXTS))).numpy()
    columns = [list(features.idf).index(name) for name in names]
    assert features.width == len(names)
    assert found[:, columns] == pytest.approx(expected, abs=1e-12)


def test_tfidf_by_hand():
    """2 texts; "bad" twice in one: (1 + ln 2)·(1 + ln 1.5), "film" in both: 1."""
    features = TfIdf.fitted(["", ""], ["bad film bad", "film"])
    row = dense(features([""], ["bad film bad"]), torch.tensor([0]))[0]
    rare = 1 + math.log(3 / 2)
    raw = {"bad": (1 + math.log(2)) * rare, "film": 1.0, "bad film": rare, "film bad": rare}
    length = math.sqrt(sum(value**2 for value in raw.values()))
    by_name = dict(zip(features.idf, row.tolist()))
    expected = {name: value / (3 * math.sqrt(length)) for name, value in raw.items()}
    assert by_name == pytest.approx(expected)


def test_the_most_frequent_grams_are_kept():
    features = TfIdf.fitted([""] * 3, ["a b", "a c", "a"], max_features=2)
    assert list(features.idf) == ["a", "a b"]  # among equals the first by their letters


def test_prompts_count_where_they_should():
    texts = ["p", "q"], ["x", "x"]
    assert list(TfIdf.fitted(*texts).idf) == ["x"]
    with_prompt = TfIdf.fitted(*texts, include_prompt=True)
    assert list(with_prompt.idf) == ["p", "q", "x"]  # and none across the boundary
    one, other = dense(with_prompt(*texts), torch.arange(2))
    assert not torch.equal(one, other)


def test_hashed_counts_depend_on_each_text_alone():
    features = HashedCounts()
    together = dense(features([""] * len(TEXTS), TEXTS), torch.arange(len(TEXTS)))
    for row, text in enumerate(TEXTS):
        alone = dense(features([""], [text]), torch.tensor([0]))[0]
        assert torch.equal(alone, together[row])
        assert alone.norm().item() == pytest.approx(1.0 if text else 0.0)
    assert together.shape[1] == HASHES
    assert (together < 0).any()
    assert (together > 0).any()


def test_sparse_and_dense_agree():
    rows = TfIdf.fitted([""] * len(TEXTS), TEXTS)([""] * len(TEXTS), [*TEXTS[1:], "unknown"])
    weight = torch.randn(rows.width, 2, generator=torch.Generator().manual_seed(0)).double()
    everything = torch.arange(len(rows))
    assert torch.allclose(times(rows, weight), dense(rows, everything) @ weight, atol=1e-12)
    assert not times(rows, weight)[-1].any()
    some = torch.tensor([3, 0, 3])
    assert torch.equal(dense(rows, some), dense(rows, everything)[some])
    assert dense(rows, some[:0]).shape == (0, rows.width)


@pytest.mark.parametrize("hidden", [0, 4])
def test_folding_moves_the_standardising_into_the_head(hidden):
    rows = random_rows(sparse=False)
    centre, scale = rows.mean(dim=0), rows.std(dim=0)
    head = Head(6, hidden, torch.Generator().manual_seed(0))
    with torch.no_grad():
        head.weight.fill_(0.3)
    before = head((rows - centre) / scale)
    head.fold(centre, scale)
    assert torch.allclose(head(rows), before, atol=1e-12)


def test_accuracy_by_hand():
    """Prompt 0: right, wrong → ½. Prompt 1: right → 1. Prompt 2: equal scores → ½; the tie not."""
    probabilities = np.array([0.9, 0.8, 0.1, 0.5, 0.9])
    labels = np.array([1, 0, 0, 1, 0.5])
    found = measures.accuracy(probabilities, labels, np.array([0, 0, 1, 2, 2]))
    assert found.mean == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert found.low <= found.mean <= found.high
    with pytest.raises(ValueError, match="no ties"):
        measures.accuracy(probabilities[:1], np.array([0.5]), np.array([0]))


def test_calibration_by_hand():
    """Confidences 0.92, 0.92 (from 0.08), 0.92, 0.6: seen 1, 1, 0, ½ (a tie)."""
    probabilities = np.array([0.92, 0.08, 0.92, 0.6])
    labels = np.array([1, 0, 0, 0.5])
    found = measures.calibration(probabilities, labels, np.arange(4))
    assert found.bins == (
        pytest.approx((1, 0.6, 0.5)),
        pytest.approx((3, 0.92, 2 / 3)),
    )
    assert found.error.mean == pytest.approx((0.1 + 3 * (0.92 - 2 / 3)) / 4)
    turned = measures.calibration(1 - probabilities, 1 - labels, np.arange(4))
    assert turned.error.mean == pytest.approx(found.error.mean)


def test_a_model_that_knows_nothing_is_calibrated_whichever_text_stands_first():
    """As in TRL's form, where the first text is always the chosen one."""
    nothing = np.full(20, 0.5)
    for labels in (np.ones(20), np.zeros(20)):
        found = measures.calibration(nothing, labels, np.arange(20))
        assert found == ((0.0, 0.0, 0.0), ((20, 0.5, 0.5),))


def test_perfect_probabilities_are_calibrated():
    generator = np.random.default_rng(0)
    said = generator.random(10_000)
    labels = (generator.random(10_000) < said).astype(float)
    assert measures.calibration(said, labels, np.arange(10_000)).error.mean < 0.02
    sure = np.clip(said * 2 - 0.5, 0.01, 0.99)
    assert measures.calibration(sure, labels, np.arange(10_000)).error.mean > 0.1


def test_rating_calibration_by_hand():
    predicted = np.repeat(np.arange(10.0), 2)
    found = measures.rating_calibration(predicted, predicted + 0.5, np.arange(20))
    assert [each.rows for each in found.bins] == [2] * 10
    assert found.error == pytest.approx((0.5, 0.5, 0.5))


def test_correlation_is_pearsons():
    generator = np.random.default_rng(0)
    one = generator.normal(size=200) + 1e6
    other = one + generator.normal(size=200)
    found = measures.correlation(one, other)
    assert found.mean == pytest.approx(np.corrcoef(one, other)[0, 1])
    assert found.low < found.mean < found.high
    assert measures.correlation(one, np.ones(200)).mean == 0
    # Rows that are repeated tell nothing new: the interval over groups is as wide as before.
    numbers = np.repeat(np.arange(200), 5)
    grouped = measures.correlation(one[numbers], other[numbers], numbers)
    assert grouped == pytest.approx(found)


def test_split_by_prompt():
    data = [comparison(1, f"a{i}", f"b{i}", prompt=f"p{i % 20}") for i in range(100)]
    parts = split(data, 0.2, seed=0)
    prompts = [{data[row].prompt for row in side} for side in parts[:2]]
    assert not prompts[0] & prompts[1]
    assert [len(side) for side in parts[:3]] == [80, 20, 0]
    assert set(split(data, 0.2, seed=1).validation) != set(parts.validation)


def test_split_by_text_where_there_are_no_prompts():
    data = [comparison(1, f"a{i}", f"a{i + i % 2}", prompt="") for i in range(100)]
    parts = split(data, 0.2, seed=0)
    texts = [{text for row in side for text in (data[row].first, data[row].second)}
             for side in parts[:2]]  # fmt: skip
    assert not texts[0] & texts[1]
    assert len(parts.left_out) == 0
    assert 15 <= len(parts.validation) <= 25


def test_comparisons_that_all_hang_together_are_taken_apart_and_counted():
    data = [comparison(1, f"t{i}", f"t{j}", prompt="") for i in range(12) for j in range(i)]
    for prompt in ("", "the same"):
        rows = [Comparison(prompt=prompt, first=r.first, second=r.second, label=1) for r in data]
        parts = split(rows, 0.25, seed=0)
        assert [len(side) for side in parts[:3]] == [36, 3, 27]  # of 9, of 3, and 9·3 between
        texts = [{text for row in side for text in (data[row].first, data[row].second)}
                 for side in parts[:2]]  # fmt: skip
        assert not texts[0] & texts[1]


def test_what_several_people_said_of_one_pair_is_one_group():
    """All pairs of eight texts, in both orders, hang together: the texts are divided."""
    data = [
        Comparison(prompt="", first=a, second=b, label=1, rater=rater)
        for a in "abcdefgh" for b in "abcdefgh" for rater in ("one", "two") if a != b
    ]  # fmt: skip
    found = split(data, 0.4, seed=0)
    assert len(np.unique(found.groups)) == 8 * 7 / 2
    assert set(np.bincount(found.groups)) == {4}


def test_what_cannot_be_split():
    with pytest.raises(ValueError, match="give more rows, or validation=0"):
        split([comparison(1), comparison(0)], 0.2, seed=0)
    with pytest.raises(ValueError, match="give more rows, or validation=0"):
        split([RatedText(prompt="", text="a", rating=1)] * 3, 0.2, seed=0)
    assert split([comparison(1)], 0, seed=0).train.tolist() == [0]


def test_texts_are_numbered_once():
    table = number_texts([comparison(1), comparison(0, "bad", "fair"), comparison(1, prompt="q")])
    assert table.texts == ["good", "bad", "fair", "good", "bad"]
    assert table.prompts == ["p", "p", "p", "q", "q"]
    assert table.objective.first.tolist() == [0, 1, 3]
    assert table.objective.second.tolist() == [1, 2, 4]
