"""A reward model's folder: config.json, model.safetensors, README.md, and no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from textenv.errors import TextenvError
from textenv.files import replaced_folder
from textenv.metrics import Interval
from textenv.preferences.reward_model.card import card
from textenv.preferences.reward_model.features import Features, load_features
from textenv.preferences.reward_model.heads import Head
from textenv.preferences.reward_model.measures import Bin, Calibration
from textenv.preferences.reward_model.model import RewardModel
from textenv.preferences.reward_model.private import Privacy
from textenv.preferences.reward_model.report import Report

TYPE = "textenv-reward-model"
FORMAT = 1  # of the folder; raised when an older textenv could not read it any more


def save(model: RewardModel, folder: str | Path) -> None:
    """Write a model, whole or not at all."""
    weights = {
        f"{number}.{name}": tensor.detach().contiguous()
        for number, head in enumerate(model.heads)
        for name, tensor in head.state_dict().items()
    }
    config = {
        "model_type": TYPE,
        "format": FORMAT,
        "features": model.features.name,
        "feature_settings": model.features.settings(),
        "base": model.features.base,
        "heads": len(model.heads),
        "hidden_units": model.heads[0].hidden_units,
        "mean": model.mean,
        "deviation": model.deviation,
        "training": model.config,
        "report": model.report.to_json(),
    }
    with replaced_folder(folder) as temporary:
        (temporary / "config.json").write_text(
            json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False), "utf-8"
        )
        save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
        model.features.save(temporary)
        (temporary / "README.md").write_text(card(model, Path(folder).name), "utf-8")


def load(folder: str | Path, base: Any = None) -> RewardModel:
    """Read a model.

    Raises:
        TextenvError: no reward model, a damaged one, or one made for another base.
    """
    folder = Path(folder)
    config = read_config(folder)
    try:
        features = load_features(config["features"], config["feature_settings"], folder, base)
        _check_base(features, config["base"], folder)
        heads = [Head(features.width, config["hidden_units"]) for _ in range(config["heads"])]
        weights = load_file(folder / "model.safetensors")
        for number, head in enumerate(heads):
            own = f"{number}."
            head.load_state_dict(
                {name[len(own) :]: w for name, w in weights.items() if name.startswith(own)}
            )
        model = RewardModel(
            features,
            heads,
            read_report(config["report"]),
            config["training"],
            mean=float(config["mean"]),
            deviation=float(config["deviation"]),
        )
    except (KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
        raise TextenvError(f"{str(folder)!r} holds no whole reward model: {error}") from error
    model.folder = str(folder)
    return model


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a reward model.

    Raises:
        TextenvError: there is none, or it is of something else, or of a newer textenv.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TextenvError(f"{str(folder)!r} is no reward model's folder: {error}") from error
    found = config.get("model_type") if isinstance(config, dict) else None
    if found != TYPE:
        raise TextenvError(
            f"expected the folder of a reward model that save_pretrained wrote, got "
            f"{str(folder)!r} with a {found!r}. A Hugging Face sequence classifier is the reward "
            '{"name": "classifier", "model": folder}'
        )
    if config.get("format", FORMAT) > FORMAT:
        raise TextenvError(
            f"{str(folder)!r} was written by a newer textenv (format {config['format']}, this one "
            f"reads {FORMAT}): upgrade textenv"
        )
    return dict(config)


def read_report(values: dict[str, Any]) -> Report:
    """Make the report again that `Report.to_json` wrote."""
    values = {name: value for name, value in values.items() if name != "epsilon"}
    for name in ("accuracy", "correlation"):
        values[name] = values[name] and Interval(**values[name])
    if values["calibration"]:
        bins = tuple(Bin(**each) for each in values["calibration"]["bins"])
        values["calibration"] = Calibration(Interval(**values["calibration"]["error"]), bins)
    values["privacy"] = values["privacy"] and Privacy(**values["privacy"])
    return Report(**{**values, "epochs": tuple(values["epochs"])})


def _check_base(features: Features, wanted: dict[str, str], folder: Path) -> None:
    """Refuse features that come from something else than those of the training."""
    found = features.base
    if found["digest"] != wanted["digest"]:
        raise TextenvError(
            f"the reward model in {str(folder)!r} was made for another base: {wanted['name']!r} "
            f"with the digest {wanted['digest'][:12]}…; {found['name']!r} has "
            f"{found['digest'][:12]}… here. Its weights or its vocabulary are others, so the "
            "scores would mean nothing: give the right one by base=, or train again on this one"
        )
