"""A Hugging Face sequence classifier as a reward: `{"name": "classifier", "model": …}`."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any, Literal, get_args

from textenv.errors import MissingExtraError, TextenvError, UnknownNameError
from textenv.limits import max_positions
from textenv.preferences.joining import joined, tokenised
from textenv.rewards.base import Reward
from textenv.rewards.registry import register
from textenv.sources import is_hub_id, snapshot

Output = Literal["probability", "logit"]
Prompt = Literal["leave out", "join", "pair"]


@register("classifier")
class Classifier(Reward):
    """What a classifier says of one label, by its probability or its logit.

    A model with a single output, as reward models on the Hub are, needs no label. With several, the
    probability is the softmax's, or the sigmoid's where the model says that labels do not exclude
    each other; with one it is the sigmoid's. Range: 0 … 1; for a logit any number.

    Args:
        model: A folder that `save_pretrained` wrote, or `owner/name` on the Hub; weights in
            safetensors only.
        label: A label's name or number. None: the only output.
        output: "probability" or "logit".
        prompt: "leave out", "join" with the text, or "pair": as the first of two sequences.
        batch_size: Texts read at once; longer ones than the model reads lose their end.
        device: "cpu", "cuda", …; "auto": the GPU if there is one.

    Raises:
        TextenvError: there is no such model, or it is none with the head of a classifier.
        UnknownNameError: it has no such label.
        ValueError: a label is missing, or a setting is none of the above.
    """

    name = "classifier"

    def __init__(
        self,
        *,
        model: str | Path,
        label: str | int | None = None,
        output: Output = "probability",
        prompt: Prompt = "leave out",
        batch_size: int = 32,
        device: str = "cpu",
    ) -> None:
        for what, value, known in (("output", output, Output), ("prompt", prompt, Prompt)):
            if value not in get_args(known):
                raise ValueError(f"{what} must be one of {list(get_args(known))}, got {value!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.model = str(model)
        self.label, self.output, self.prompt = label, output, prompt
        self.batch_size, self.device = batch_size, device
        self.range = (0.0, 1.0) if output == "probability" else (-math.inf, math.inf)
        self._column = _column(_loaded(self.model, device)[0].config, label, self.model)

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        """Score each text; texts of like length are read together."""
        scores = [0.0] * len(completions)
        order = sorted(range(len(scores)), key=lambda i: len(prompts[i]) + len(completions[i]))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            found = self._scores([prompts[i] for i in rows], [completions[i] for i in rows])
            for row, score in zip(rows, found, strict=True):
                scores[row] = score
        return scores

    def _scores(self, prompts: list[str], texts: list[str]) -> list[float]:
        import torch

        model, tokenizer = _loaded(self.model, self.device)
        pair: tuple[list[str], ...] = (prompts, texts) if self.prompt == "pair" else (texts,)
        if self.prompt == "join":
            pair = ([joined(p, t) for p, t in zip(prompts, texts, strict=True)],)
        longest = min(tokenizer.model_max_length, max_positions(model.config) or 10**6)
        inputs = tokenised(tokenizer, pair, longest).to(model.device)
        with torch.inference_mode():
            logits = model(**inputs).logits.double()  # [n, labels]
        if self.output == "probability":
            several = logits.shape[1] > 1 and model.config.problem_type != (
                "multi_label_classification"
            )
            logits = logits.softmax(dim=1) if several else logits.sigmoid()
        return logits[:, self._column].tolist()


@functools.lru_cache(maxsize=8)
def _loaded(name: str, device: str) -> tuple[Any, Any]:
    """Read model and tokenizer once a process."""
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from textenv.models.loading import find_device
        from textenv.models.transformers_folder import read_folder
    except ImportError as error:
        raise MissingExtraError("transformers", "the reward 'classifier'") from error
    folder = Path(name)
    if not folder.is_dir():
        if not is_hub_id(name):
            raise TextenvError(
                f"expected model= to be a folder or `owner/name` on the Hub, got {name!r}"
            )
        folder = snapshot(name, weights=True)
    model = read_folder(AutoModelForSequenceClassification, folder, "sequence classifier")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise TextenvError(f"the tokenizer in {name!r} cannot be read: {error}") from error
    if tokenizer.pad_token is None:
        raise TextenvError(
            f"the tokenizer of {name!r} has no padding token, so its texts cannot be read together"
        )
    return model.to(find_device(device)), tokenizer


def _column(config: Any, label: str | int | None, name: str) -> int:
    """Which of the model's outputs is meant."""
    labels = {int(number): str(text) for number, text in config.id2label.items()}
    if label is None:
        if len(labels) > 1:
            raise ValueError(
                f"{name!r} has {len(labels)} outputs: say by label= which one is paid, of "
                f"{sorted(labels.values())}"
            )
        return 0
    if isinstance(label, int) and not isinstance(label, bool) and label in labels:
        return label
    found = [number for number, text in labels.items() if text == label]
    if not found:
        known = [*labels.values(), *map(str, labels)]
        raise UnknownNameError(f"label of {name!r}", str(label), known)
    return found[0]
