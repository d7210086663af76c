"""Reward models against people, on the film snippets: `python -m benchmarks reward_model`.

Held out: a fifth of the snippets, drawn anew for each seed; nothing was chosen by them. Each model
learns from the other four fifths, a tenth of which says when to stop. The language model `reviews`
was itself pretrained on 95 % of these snippets, held-out ones among them, though never on a rating;
of MiniLM's training text nothing is known here. Intervals: 95 %, bootstrap over seeds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro

from benchmarks.machine import describe
from textenv.metrics import mean_interval
from textenv.preferences import Comparison, RatedText
from textenv.preferences.human_ratings import HumanRating, as_comparisons, load
from textenv.preferences.reward_model import RewardModelConfig, Trained, measure, train
from textenv.preferences.reward_model.features import Features, make_features
from textenv.preferences.reward_model.measures import correlation
from textenv.preferences.reward_model.rows import SparseRows
from textenv.rewards import get

MODELS: dict[str, dict[str, Any]] = {
    "tfidf": {"features": "tfidf"},
    "tfidf, 5 heads": {"features": "tfidf", "ensemble": 5},
    "encoder (MiniLM)": {"features": "encoder"},
    "encoder, 16 hidden units": {"features": "encoder", "hidden_units": 16},
    "hidden:reviews": {"features": "hidden:reviews"},
}
PRIVATE = ("hashed", "encoder")
EPSILONS = (1.0, 4.0, 8.0)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The benchmark."""

    seeds: int = 5
    """How many times the snippets are divided."""
    threads: int = 1
    """Of torch."""


def main() -> None:
    """Print a table for ratings, one for comparisons, one for privacy and one for calibration."""
    config = tyro.cli(Config, prog="python -m benchmarks reward_model")
    torch.set_num_threads(config.threads)
    print(describe())
    rows = load()
    ratings = over_seeds(config, lambda seed: on_ratings(rows, seed))
    print("\ncorrelation of the score with the mean rating, held-out snippets")
    table(ratings)
    for title, verdicts in (
        ("two snippets of all; what most people's ratings say", as_comparisons(by="people")),
        ("two of 30 alike; what one person's ratings say", as_comparisons(ties=False)),
    ):
        found = over_seeds(config, lambda seed, data=verdicts: on_comparisons(rows, data, seed))
        print(f"\naccuracy on held-out pairs, {title}")
        table({name: v for name, v in found.items() if not name.startswith("error ")})
        print("\nexpected calibration error of the probabilities, the same pairs")
        table({name[6:]: v for name, v in found.items() if name.startswith("error ")})
    private = over_seeds(config, lambda seed: on_ratings_privately(rows, seed))
    print("\ncorrelation under (ε, δ)-differential privacy for one rating, δ = 1 / 2n")
    table(private)


def trained(data: Any, *, features: str, **settings: Any) -> Trained:
    """Train a model; what encoders and language models say of a text is computed once."""
    made: Any = features if features in ("tfidf", "hashed") else remembering(features)
    return train(data, features=made, validation=0.1, **settings)


def over_seeds(config: Config, run: Callable[[int], dict[str, float]]) -> dict[str, list[float]]:
    """Run once a seed and gather the figures by name."""
    found: dict[str, list[float]] = {}
    for seed in range(config.seeds):
        for name, value in run(seed).items():
            found.setdefault(name, []).append(value)
    return found


def table(found: dict[str, list[float]]) -> None:
    """Print means with their intervals."""
    for name, values in found.items():
        print(f"  {name:34}{mean_interval(values)}")


def held_out(rows: Sequence[HumanRating], seed: int) -> set[str]:
    """A fifth of the texts."""
    different = sorted({row.text for row in rows})
    order = np.random.default_rng([5, seed]).permutation(len(different))
    return {different[i] for i in order[: len(different) // 5]}


def divided(rows: Sequence[HumanRating], seed: int) -> tuple[list[RatedText], list[RatedText]]:
    """Ratings to learn from, and those held out."""
    aside = held_out(rows, seed)
    rated = [RatedText(prompt="", text=row.text, rating=row.mean) for row in rows]
    return [r for r in rated if r.text not in aside], [r for r in rated if r.text in aside]


def on_ratings(rows: Sequence[HumanRating], seed: int) -> dict[str, float]:
    """Correlations of each model with the mean ratings."""
    known, unknown = divided(rows, seed)
    truth = np.array([row.rating for row in unknown])
    scores = get("sentiment")([""] * len(unknown), [row.text for row in unknown])
    lexical = np.array(scores, dtype=np.float64)
    found = {"the lexicon (VADER)": correlation(lexical, truth).mean}
    for name, settings in MODELS.items():
        model, _ = trained(known, seed=seed, **settings)
        found[name] = measure(model, unknown)["correlation"].mean
    by_text = {row.text: row for row in rows}
    found["one person with the others' mean"] = one_person([by_text[r.text] for r in unknown], seed)
    return found


def one_person(rows: Sequence[HumanRating], seed: int) -> float:
    """How one rating, drawn for each text, goes with the mean of the others: people's own level."""
    generator = np.random.default_rng([6, seed])
    drawn = [int(generator.integers(len(row.ratings))) for row in rows]
    one = np.array([row.ratings[i] for row, i in zip(rows, drawn, strict=True)], dtype=np.float64)
    others = [
        (sum(row.ratings) - mine) / (len(row.ratings) - 1)
        for row, mine in zip(rows, one, strict=True)
    ]
    return correlation(one, np.array(others)).mean


def on_comparisons(
    rows: Sequence[HumanRating], verdicts: Sequence[Comparison], seed: int
) -> dict[str, float]:
    """Accuracies and calibration errors of each model on comparisons that are held out."""
    pairs = sorted({(v.first, v.second) for v in verdicts})
    order = np.random.default_rng([7, seed]).permutation(len(pairs))
    aside = {pairs[i] for i in order[: len(pairs) // 5]}
    known = [v for v in verdicts if (v.first, v.second) not in aside]
    unknown = [v for v in verdicts if (v.first, v.second) in aside]
    found = {"the lexicon (VADER)": by_scores(unknown, lexicon)}
    for name, settings in MODELS.items():
        model, _ = trained(known, seed=seed, **settings)
        figures = measure(model, unknown)
        found[name] = figures["accuracy"].mean
        found[f"error {name}"] = figures["calibration"].error.mean
    texts = {text for pair in aside for text in pair}
    rated = [RatedText(prompt="", text=r.text, rating=r.mean) for r in rows if r.text not in texts]
    model, _ = trained(rated, features="tfidf", seed=seed)
    found["tfidf, taught by the ratings"] = measure(model, unknown)["accuracy"].mean
    means = {row.text: row.mean for row in rows}
    # People's own level. The mean contains the person's own rating, one of 15 to 29.
    found["the mean of all people's ratings"] = by_scores(unknown, means.__getitem__)
    return found


def lexicon(text: str) -> float:
    """VADER's compound score."""
    return float(get("sentiment")([""], [text])[0])  # type: ignore[arg-type]


def by_scores(verdicts: Sequence[Comparison], score: Callable[[str], float]) -> float:
    """How often the higher score is the preferred text; equal ones count ½; each pair once."""
    scores = {text: score(text) for v in verdicts for text in (v.first, v.second)}
    right: dict[tuple[str, str], list[float]] = {}
    for verdict in verdicts:
        ahead = scores[verdict.first] - scores[verdict.second]
        if verdict.label == 0.5:
            continue
        answer = 0.5 if ahead == 0 else float((ahead > 0) == (verdict.label > 0.5))
        right.setdefault((verdict.first, verdict.second), []).append(answer)
    return float(np.mean([np.mean(answers) for answers in right.values()]))


def on_ratings_privately(rows: Sequence[HumanRating], seed: int) -> dict[str, float]:
    """Correlations under differential privacy, and of the same features without."""
    known, unknown = divided(rows, seed)
    found = {}
    for features in PRIVATE:
        for epsilon in EPSILONS:
            model, report = trained(known, features=features, epsilon=epsilon)
            assert report.epsilon is not None
            assert report.epsilon <= epsilon
            found[f"{features}, ε = {epsilon:g}"] = measure(model, unknown)["correlation"].mean
        model, _ = trained(known, features=features, seed=seed)
        found[f"{features}, no privacy"] = measure(model, unknown)["correlation"].mean
    return found


class Remembering(Features):
    """Frozen features that remember the rows of texts, so that they are computed once."""

    def __init__(self, name: str) -> None:
        self._features = features = make_features(RewardModelConfig(features=name))
        self._known: dict[tuple[str, str], torch.Tensor] = {}
        self.name, self.width = features.name, features.width
        self.include_prompt = features.include_prompt

    @property
    def base(self) -> dict[str, str]:
        """As of the features."""
        return self._features.base

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> torch.Tensor:
        """Compute what is new."""
        pairs = list(zip(prompts, texts, strict=True))
        new = sorted({pair for pair in pairs if pair not in self._known})
        if new:
            rows = self._features([prompt for prompt, _ in new], [text for _, text in new])
            assert not isinstance(rows, SparseRows)
            self._known.update(zip(new, rows, strict=True))
        return torch.stack([self._known[pair] for pair in pairs])


@functools.cache
def remembering(name: str) -> Remembering:
    """The features of a name, made once."""
    return Remembering(name)


if __name__ == "__main__":
    main()
