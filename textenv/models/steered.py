"""A language model that learned values steer: its own probabilities × exp(β·Q(s, a)).

A folder of one is the folder of the language model itself, as transformers opens it too, with the
values beside it: steering.json and steering.safetensors.

N = states, H = hidden width, U = hidden units of a value head, V = vocabulary.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from textenv.errors import TextenvError
from textenv.files import replaced_folder
from textenv.models.base import LanguageModel
from textenv.models.memory import Next
from textenv.models.modules import without_gradient
from textenv.prefixes import Prefixes

SETTINGS, WEIGHTS = "steering.json", "steering.safetensors"


class ActionValues(nn.Module):
    """Q(s, ·) from the language model's hidden state: one or several heads.

    Each is a linear map of h, or of ReLU(W·h + b) with U hidden units. The last map begins with
    zeros: before anything is learned every token is worth 0.

    Args:
        width: H.
        vocabulary_size: V.
        hidden_units: U; None: no hidden layer. On a one-hot state that is a table.
        heads: How many.
        generator: Draws the first weights. None: torch's global one.
    """

    def __init__(
        self,
        width: int,
        vocabulary_size: int,
        *,
        hidden_units: int | None = None,
        heads: int = 2,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(body(width, hidden_units, generator) for _ in range(heads))
        inner = hidden_units or width
        self.ends = nn.ModuleList(zero_linear(inner, vocabulary_size) for _ in range(heads))

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type, which may be another than the language model's."""
        return next(self.parameters()).dtype

    def forward(self, hidden: Float[Tensor, "n width"]) -> Float[Tensor, "heads n vocabulary"]:
        """Return Q(s, ·) of each head."""
        pairs = zip(self.bodies, self.ends, strict=True)
        return torch.stack([end(inner(hidden)) for inner, end in pairs])

    def at(
        self, hidden: Float[Tensor, "n width"], actions: Int[Tensor, " n"]
    ) -> Float[Tensor, "heads n"]:
        """Return Q(s, a) of each head, without computing the other tokens'."""
        found = []
        for inner, end in zip(self.bodies, self.ends, strict=True):
            weight, bias = end.get_parameter("weight"), end.get_parameter("bias")
            rows = nn.functional.embedding(actions, weight)  # [N, U]
            found.append((inner(hidden) * rows).sum(dim=-1) + bias[actions])
        return torch.stack(found)

    def lowest(self, hidden: Float[Tensor, "n width"]) -> Float[Tensor, "n vocabulary"]:
        """Return the least that any head says of each token."""
        return self(hidden).amin(dim=0)


class SteeredLM(LanguageModel):
    """π′(a|s) ∝ π(a|s)·exp(β·(Q(s, a) − V(s))), π a language model (Snell et al. 2022).

    V(s) is the same for all tokens and cancels, so that only Q is kept: the lowest of the heads.
    With β = 0 the answers are the language model's own, to the last bit; what it never writes
    (logit −∞) is not written here either. The hidden states are its own, too.

    Args:
        lm: π; it is used, not copied.
        values: Q.
        beta: β ≥ 0.

    Raises:
        ValueError: β is negative or not finite, the values do not fit, or π is steered already.
    """

    model_type: ClassVar[str] = "textenv_steered"

    def __init__(self, lm: LanguageModel, values: ActionValues, beta: float) -> None:
        super().__init__(lm.vocabulary, lm.vocabulary_size)
        if isinstance(lm, SteeredLM):
            raise ValueError(
                "expected a language model that nothing steers yet, got a SteeredLM: steer its .lm"
            )
        if not (beta >= 0 and math.isfinite(beta)):
            raise ValueError(f"expected a finite beta ≥ 0, got {beta}")
        width, size = _shape(values)
        if (width, size) != (lm.hidden_size, lm.vocabulary_size):
            raise ValueError(
                f"the values read {width} numbers and know {size} tokens, the language model has "
                f"{lm.hidden_size} and {lm.vocabulary_size}: they were learned on another model"
            )
        self.lm, self.values, self.beta = lm, values, float(beta)

    @property
    def hidden_size(self) -> int:
        """H, the language model's."""
        return self.lm.hidden_size

    @property
    def refills(self) -> bool:
        """As `LanguageModel.refills`."""
        return self.lm.refills

    def read(
        self, prefixes: Prefixes, rows: Int[np.ndarray, " n"], steps: Int[np.ndarray, " n"]
    ) -> tuple[Float[Tensor, "n vocabulary"], Float[Tensor, "n width"]]:
        """As `LanguageModel.read`."""
        logits, hidden = self.lm.read(prefixes, rows, steps)
        return self._steered(logits, hidden), hidden

    @without_gradient()
    def next(self, prefixes: Prefixes) -> Next:
        """As `LanguageModel.next`; the language model inside reads only what is new."""
        answer = self.lm.next(prefixes)
        return Next(self._steered(answer.logits, answer.hidden), answer.hidden)

    def forget(self) -> None:
        """As `LanguageModel.forget`."""
        self.lm.forget()

    def _steered(self, logits: Tensor, hidden: Tensor) -> Tensor:
        if not self.beta or not len(logits):
            return logits
        values = self.values.lowest(hidden.to(self.values.dtype))
        return logits.log_softmax(dim=-1) + (self.beta * values).to(logits.dtype)

    def settings(self) -> dict[str, Any]:
        """Return what steering.json says; trainable: whether training changes the values too."""
        inner = self.values.bodies[0]
        units = inner[0].out_features if isinstance(inner, nn.Sequential) else None
        return {
            "beta": self.beta,
            "heads": len(self.values.ends),
            "hidden_units": units,
            "trainable": any(each.requires_grad for each in self.values.parameters()),
        }

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write the language model's folder, and the values beside it; whole or not at all."""
        with replaced_folder(folder) as temporary:
            self.lm.save_pretrained(temporary, dtype=dtype)
            about = {"model_type": self.model_type, **self.settings()}
            (temporary / SETTINGS).write_text(json.dumps(about, indent=2), "utf-8")
            weights = {
                name: (tensor.to(dtype) if dtype else tensor).contiguous()
                for name, tensor in self.values.state_dict().items()
            }
            save_file(weights, temporary / WEIGHTS, metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> SteeredLM:
        """Read what `save_pretrained` wrote; safetensors only.

        Raises:
            TextenvError: the folder holds no steered model, or a damaged one.
        """
        from textenv.models.loading import load_unsteered

        folder = Path(folder)
        if not is_steered(folder):
            raise TextenvError(f"{str(folder)!r} holds no SteeredLM: use textenv.models.load")
        lm = load_unsteered(folder)
        try:
            about = json.loads((folder / SETTINGS).read_text("utf-8"))
            if about.pop("model_type", None) != cls.model_type:
                raise ValueError(f"{SETTINGS} does not say model_type={cls.model_type!r}")
            beta, trainable = about.pop("beta"), about.pop("trainable")
            weights = load_file(folder / WEIGHTS)
            with torch.random.fork_rng(devices=[]):  # first weights are drawn, then overwritten
                values = ActionValues(lm.hidden_size, lm.vocabulary_size, **about)
            values.to(next(iter(weights.values())).dtype).load_state_dict(weights)
            values.requires_grad_(trainable)
            return cls(lm, values, beta)
        except (
            OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError,
            AttributeError, StopIteration,
        ) as error:  # fmt: skip
            raise TextenvError(f"{str(folder)!r} holds no whole SteeredLM: {error}") from error


def is_steered(folder: Path) -> bool:
    """Whether values, or a part of them, stand beside the language model in a folder."""
    return any((folder / name).is_file() for name in (SETTINGS, WEIGHTS))


def body(width: int, hidden_units: int | None, generator: torch.Generator | None) -> nn.Module:
    """What a value head reads the state by: ReLU(W·h + b) with U units, or h itself."""
    if hidden_units is None:
        return nn.Identity()
    layer = nn.utils.skip_init(nn.Linear, width, hidden_units)
    bound = width**-0.5  # as nn.Linear begins, but not from torch's global generator
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return nn.Sequential(layer, nn.ReLU())


def zero_linear(width: int, outputs: int) -> nn.Linear:
    """A linear map that is 0 before anything is learned."""
    layer = nn.utils.skip_init(nn.Linear, width, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _shape(values: ActionValues) -> tuple[int, int]:
    """H and V of the values."""
    inner, end = values.bodies[0], values.ends[0].get_parameter("weight")
    first = inner.get_parameter("0.weight") if isinstance(inner, nn.Sequential) else end
    return first.shape[1], end.shape[0]
