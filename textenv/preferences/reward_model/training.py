"""`train`: from comparisons or ratings to a reward model and a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from textenv.preferences.comparisons import Comparison, RatedText
from textenv.preferences.reward_model import measures, private
from textenv.preferences.reward_model.config import RewardModelConfig
from textenv.preferences.reward_model.features import Features, make_features
from textenv.preferences.reward_model.fitting import Fitted, fit
from textenv.preferences.reward_model.heads import Head
from textenv.preferences.reward_model.model import RewardModel, standardised
from textenv.preferences.reward_model.objectives import Objective, Table, number_texts
from textenv.preferences.reward_model.report import Report
from textenv.preferences.reward_model.rows import Rows
from textenv.preferences.reward_model.splitting import Split, split

Data = Sequence[Comparison] | Sequence[RatedText]
EPOCHS = 200


class Trained(NamedTuple):
    """What `train` returns.

    model: the reward model.
    report: how good it is; `model.report` too.
    """

    model: RewardModel
    report: Report


def train(
    data: Data,
    config: RewardModelConfig | None = None,
    *,
    public: Data | None = None,
    **settings: Any,
) -> Trained:
    """Train a reward model: Bradley–Terry on comparisons, least squares on ratings.

    Args:
        data: Comparisons, or ratings, not both.
        config: The settings. None: the default ones.
        public: With epsilon=, rows that need no protection: they standardise the scores and give
            the measures. Without them neither is done, and scores are raw.
        **settings: Single settings that replace those of `config`.

    Raises:
        ValueError: no rows, or rows of both kinds; `public` without epsilon=.
        UnknownNameError: no features of that name.
        MissingExtraError: a package that the settings need is not installed.

    >>> rows = [Comparison(prompt=str(i), first="good", second="bad", label=1) for i in range(9)]
    >>> model, report = train(rows)
    >>> model.compare(["10"], ["good"], ["bad"]), report.n_train, report.n_validation
    (['better'], 7, 2)
    """
    config = dataclasses.replace(config or RewardModelConfig(), **settings)
    check_rows(data)
    if config.epsilon is not None:
        return _train_privately(data, config, public)
    if public is not None:
        raise ValueError("public= belongs to epsilon=: without it all rows may be looked at")
    parts = split(data, config.validation, config.seed)
    learned = number_texts([data[row] for row in parts.train])
    features = make_features(config, learned.prompts, learned.texts)
    table = number_texts(data)
    rows = features(table.prompts, table.texts)
    heads = _fit(rows, table, parts, features, config)
    model = _model(features, [each.head for each in heads], config, _kind(data))
    _standardise(model, rows, _texts_of(table.objective.rows(torch.as_tensor(parts.train))))
    report = Report(
        kind=_kind(data),
        n_train=len(parts.train),
        n_validation=len(parts.validation),
        n_left_out=len(parts.left_out),
        epochs=tuple(each.epochs for each in heads),
        **measure(model, [data[row] for row in parts.validation], parts.groups[parts.validation]),
    )
    model.report = report
    return Trained(model, report)


def measure(model: RewardModel, data: Data, groups: Any = None) -> dict[str, Any]:
    """Measure a model on rows: accuracy, calibration, correlation, disagreement, as in `Report`.

    Args:
        model: The model.
        data: Rows that it has not learned from; without any nothing is measured.
        groups: The number of each row's prompt, because rows of one prompt belong together. None:
            as `train` groups them.
    """
    if not data:
        return {}
    check_rows(data)
    if groups is None:
        groups = split(data, 0, 0).groups
    table = number_texts(data)
    scores = np.array(model.ratings(table.prompts, table.texts))
    found: dict[str, Any] = {}
    if len(model.heads) > 1:
        found["disagreement"] = float(np.mean(model.disagreement(table.prompts, table.texts)))
    objective = table.objective
    if isinstance(data[0], RatedText):
        said, ratings = scores[objective[0].numpy()], objective[1].numpy()
        found["correlation"] = measures.correlation(said, ratings, groups)
        if model.report.kind == "ratings":
            found["calibration"] = measures.rating_calibration(said, ratings, groups)
        return found
    first, second, labels = (column.numpy() for column in objective)
    ahead = scores[first] - scores[second]
    probabilities = 1 / (1 + np.exp(-np.clip(ahead, -700, 700)))
    if (labels != 0.5).any():
        found["accuracy"] = measures.accuracy(probabilities, labels, groups)
    if model.report.kind == "comparisons":
        found["calibration"] = measures.calibration(probabilities, labels, groups)
    return found


def check_rows(data: Data) -> None:
    """Refuse data that is empty, or not all of one kind.

    Raises:
        ValueError: it is.
    """
    if not len(data):
        raise ValueError("expected comparisons or ratings to learn from, got none")
    kind = type(data[0])
    if kind not in (Comparison, RatedText) or any(type(row) is not kind for row in data):
        kinds = sorted({type(row).__name__ for row in data})
        raise ValueError(f"expected Comparison or RatedText, all of one kind, got {kinds}")


def _fit(
    rows: Rows, table: Table, parts: Split, features: Features, config: RewardModelConfig
) -> list[Fitted]:
    """Train all heads."""
    objective = table.objective
    train_rows = torch.as_tensor(parts.train)
    train_on = objective.rows(train_rows)
    watch = objective.rows(torch.as_tensor(parts.validation)) if len(parts.validation) else None
    centre, scale = _spread(rows, _texts_of(train_on), features)
    if isinstance(rows, Tensor):
        rows = (rows - centre) / scale
    fitted = []
    for number in range(config.ensemble):
        generator = torch.Generator().manual_seed(config.seed + number)
        weights = _resampled(parts.groups[parts.train], config, number)
        head = Head(features.width, config.hidden_units, generator)
        found = fit(
            head, rows, train_on, watch, weights,
            l2=config.l2, epochs=config.epochs or EPOCHS, patience=config.patience,
        )  # fmt: skip
        if isinstance(rows, Tensor):
            found.head.fold(centre, scale)
        fitted.append(found)
    return fitted


def _resampled(groups: Any, config: RewardModelConfig, number: int) -> Tensor:
    """How often each row counts: each prompt as often as it is drawn."""
    if config.ensemble == 1:
        return torch.ones(len(groups), dtype=torch.float64)
    generator = np.random.default_rng([config.seed, number])
    names, which = np.unique(groups, return_inverse=True)
    drawn = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names))
    return torch.as_tensor(drawn[which].astype(np.float64))


def _texts_of(objective: Objective) -> Tensor:
    """The numbers of the texts that rows speak of."""
    return torch.unique(
        torch.cat([column for column in objective if not column.is_floating_point()])
    )


def _spread(rows: Rows, texts: Tensor, features: Features) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each dense column over the training texts; 0 and 1 where they stay."""
    if not isinstance(rows, Tensor):
        return torch.zeros(features.width), torch.ones(features.width)
    chosen = rows[texts]
    scale = chosen.std(dim=0, correction=0)
    return chosen.mean(dim=0), torch.where(scale > 1e-8, scale, 1.0)


def _train_privately(data: Data, config: RewardModelConfig, public: Data | None) -> Trained:
    """All rows are learned from; what is said of them is said by the heads alone."""
    table = number_texts(data)
    features = make_features(config)  # without the rows: nothing may be learned from them
    rows = features(table.prompts, table.texts)
    heads, privacy = private.fit_privately(rows, table.objective, config)
    model = _model(features, heads, config, _kind(data))
    model.report = report = Report(
        kind=_kind(data),
        n_train=len(data),
        n_validation=len(public or ()),
        n_left_out=0,
        epochs=(config.epochs or private.EPOCHS,) * len(heads),
        privacy=privacy,
    )
    if public:
        known = number_texts(public)
        every = torch.arange(len(known.texts))
        _standardise(model, features(known.prompts, known.texts), every)
        model.report = report = dataclasses.replace(report, **measure(model, public))
    return Trained(model, report)


def _kind(data: Data) -> Any:
    return "comparisons" if isinstance(data[0], Comparison) else "ratings"


def _model(
    features: Features, heads: list[Head], config: RewardModelConfig, kind: Any
) -> RewardModel:
    empty = Report(kind=kind, n_train=0, n_validation=0, n_left_out=0, epochs=())
    named = dataclasses.replace(config, features=features.name)
    return RewardModel(features, heads, empty, named.to_json())


@torch.no_grad()
def _standardise(model: RewardModel, rows: Rows, texts: Tensor) -> None:
    """Set mean and deviation by some texts; heads taught by comparisons are centred one by one."""
    scores = [head(rows)[texts] for head in model.heads]
    if model.report.kind == "comparisons":
        for head, said in zip(model.heads, scores, strict=True):
            head.bias.sub_(said.mean())
        scores = [said - said.mean() for said in scores]
    model.mean, model.deviation = standardised(torch.stack(scores).mean(dim=0).numpy())
