"""How tokens are drawn: temperature, cuts, and what a cut left at each step.

A cut changes the distribution that a token comes from. What it left is therefore stored when the
token is drawn (`Kept`) and used unchanged wherever the text is scored later: by the policy after an
update and by the reference. So the ratio is 1 before the first update, KL(π‖π) = 0, and no KL is
infinite because one model would have kept what the other cut.

B = batch, T = the columns for writing, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings of sampling; the defaults change nothing: π itself is sampled.

    The temperature comes first, then what is forbidden or forced, then top-k, then top-p.

    Raises:
        ValueError: a number is out of range.
    """

    temperature: float = 1.0
    """Logits are divided by it; policy and reference alike."""
    top_k: int | None = None
    """Keep the k likeliest tokens (and those as likely as the last of them)."""
    top_p: float | None = None
    """Keep the likeliest tokens until their probabilities sum to p (Holtzman et al. 2020)."""
    min_tokens: int = 0
    """Nothing that ends the text is written before that many tokens are."""
    forbidden: tuple[int, ...] = ()
    """Ids that are never written."""
    forced: Mapping[int, int] = field(default_factory=dict)
    """Which id is written at which step, counted from 0."""

    def __post_init__(self) -> None:
        whole = [self.min_tokens, *self.forced, *self.forced.values(), *self.forbidden]
        whole += [] if self.top_k is None else [self.top_k]
        for number in whole:
            if isinstance(number, bool) or not isinstance(number, int | np.integer):
                raise ValueError(f"expected integers in top_k, min_tokens and ids, got {number!r}")
        if not 0 < self.temperature < np.inf:
            raise ValueError(
                f"expected a finite temperature > 0, got {self.temperature}; for the likeliest "
                "token take the argmax, or top_k=1"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"expected top_k ≥ 1 or None, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"expected 0 < top_p ≤ 1 or None, got {self.top_p}")
        if self.min_tokens < 0:
            raise ValueError(f"expected min_tokens ≥ 0, got {self.min_tokens}")
        if any(step < 0 for step in self.forced):
            raise ValueError(f"steps are counted from 0, got forced={dict(self.forced)}")
        both = sorted(set(self.forced.values()) & set(self.forbidden))
        if both:
            raise ValueError(f"the ids {both} are both forced and forbidden: drop one of the two")

    @property
    def cuts(self) -> bool:
        """Whether any token may be left out."""
        limits = (self.top_k is not None, self.top_p is not None, self.min_tokens > 0)
        return any(limits) or bool(self.forbidden) or bool(self.forced)

    def check(self, vocabulary_size: int) -> None:
        """Refuse settings that do not fit a vocabulary.

        Raises:
            ValueError: k > V, or an id outside 0 … V − 1.
        """
        if self.top_k is not None and self.top_k > vocabulary_size:
            raise ValueError(
                f"top_k={self.top_k} is larger than the vocabulary of {vocabulary_size} tokens"
            )
        for token in (*self.forbidden, *self.forced.values()):
            if not 0 <= token < vocabulary_size:
                raise ValueError(
                    f"forbidden and forced ids lie in 0 … {vocabulary_size - 1}, got {token}"
                )

    def keep(
        self,
        logits: Float[Tensor, "batch vocabulary"],
        written: Int[np.ndarray, " batch"],
        ending: Sequence[int] = (),
        allowed: Bool[np.ndarray, "batch vocabulary"] | None = None,
    ) -> Bool[Tensor, "batch vocabulary"] | None:
        """Return what these settings keep in each row; None: everything.

        Args:
            logits: Of the next token; −∞ is never kept.
            written: How many tokens each row has written.
            ending: The ids that end a text.
            allowed: What a blocklist allows; None: there is none. Where it leaves nothing but
                what ends the text, that is kept even before `min_tokens`.

        Raises:
            ValueError: a row is left without any token.
        """
        if not self.cuts and allowed is None:
            return None
        kept = logits > -torch.inf
        if allowed is not None:
            kept &= torch.as_tensor(allowed, device=logits.device)
        if self.forbidden:
            kept[:, list(self.forbidden)] = False
        early = np.flatnonzero(written < self.min_tokens)
        if len(early) and ending:
            rows = torch.as_tensor(early, device=logits.device)
            longer = kept[rows].index_fill(1, torch.tensor(list(ending), device=logits.device), 0)
            if allowed is not None:
                longer = torch.where(longer.any(dim=1, keepdim=True), longer, kept[rows])
            kept[rows] = longer
        for step, token in self.forced.items():
            rows = torch.as_tensor(np.flatnonzero(written == step), device=logits.device)
            possible = kept[rows, token]
            kept[rows] = False
            kept[rows, token] = possible
        scaled = _scaled(logits, self.temperature).masked_fill(~kept, -torch.inf)
        if self.top_k is not None and self.top_k < logits.shape[1]:
            kept &= scaled >= scaled.topk(self.top_k, dim=-1).values[:, -1:]
            scaled = scaled.masked_fill(~kept, -torch.inf)
        if self.top_p is not None and self.top_p < 1:
            kept &= _nucleus(scaled, self.top_p)
        empty = ~kept.any(dim=-1)
        if empty.any():
            row = int(empty.nonzero()[0])
            raise ValueError(
                f"sampling leaves nothing to write at step {written[row]} of row {row}: what is "
                "forced, forbidden, on the blocklist or too early there excludes every token that "
                "the model allows"
            )
        return kept


@dataclass(frozen=True, eq=False)
class Kept:
    """What sampling left of the distribution at each step of N texts.

    temperature: What the logits are divided by.
    bits: uint8 [N, T, ⌈V / 8⌉], the kept tokens as `numpy.packbits` writes them; None: all of them.
    """

    temperature: float = 1.0
    bits: UInt8[np.ndarray, "batch time packed"] | None = None

    def rows(self, chosen: npt.NDArray) -> Kept:
        """Take some texts, by index or by mask."""
        return self if self.bits is None else Kept(self.temperature, self.bits[chosen])

    def apply(
        self,
        logits: Float[Tensor, "n vocabulary"],
        rows: Int[np.ndarray, " n"],
        steps: Int[np.ndarray, " n"],
    ) -> Float[Tensor, "n vocabulary"]:
        """Return the logits that n tokens were drawn from, −∞ for what was cut; with gradient.

        Args:
            logits: Just before these tokens, from whatever model.
            rows: Which text, for each of the n tokens.
            steps: Which of its tokens.
        """
        logits = _scaled(logits, self.temperature)
        if self.bits is None:
            return logits
        bits, size = self.bits[rows, steps], logits.shape[1]
        if logits.device.type == "cpu":
            cut = torch.from_numpy(np.unpackbits(bits, axis=-1, count=size) == 0)
        else:
            cut = ~unpacked(torch.as_tensor(bits, device=logits.device), size)
        return logits.masked_fill(cut, -torch.inf)


def pack(kept: Bool[Tensor, "batch vocabulary"]) -> UInt8[np.ndarray, "batch packed"]:
    """Write a mask as bits, an eighth of its size, as `numpy.packbits` does."""
    if kept.device.type == "cpu":
        return np.packbits(kept.numpy(), axis=-1)
    return packed(kept).cpu().numpy()  # packed first: the way from a GPU is slow


def packed(kept: Bool[Tensor, "batch vocabulary"]) -> UInt8[Tensor, "batch packed"]:
    """Pack a mask where it is."""
    size = kept.shape[-1]
    eights = torch.nn.functional.pad(kept.byte(), (0, -size % 8)).unflatten(-1, (-1, 8))
    return (eights << _places(kept.device)).sum(dim=-1, dtype=torch.uint8)


def unpacked(bits: UInt8[Tensor, "n packed"], size: int) -> Bool[Tensor, "n vocabulary"]:
    """Undo `packed`, where the bits are."""
    return ((bits[..., None] >> _places(bits.device)) & 1).flatten(-2)[..., :size].bool()


def _places(device: torch.device) -> Tensor:
    return torch.arange(7, -1, -1, dtype=torch.uint8, device=device)  # the highest bit comes first


class Drawn(NamedTuple):
    """Tokens that were drawn, int64 [B], and log π of each, float64 [B]."""

    tokens: npt.NDArray[np.int64]
    log_probs: npt.NDArray[np.float64]


def draw(
    logits: Float[Tensor, "batch vocabulary"],
    uniforms: Float[np.ndarray, " batch"],
    *,
    temperature: float = 1.0,
    kept: Bool[Tensor, "batch vocabulary"] | None = None,
) -> Drawn:
    """Draw a token from softmax(logits / temperature), restricted to what is kept.

    The token is the first whose cumulative probability lies above the number u in [0, 1), so never
    one of probability 0. (A multinomial draw costs as much as a small model's forward pass.)

    Args:
        logits: Of the next token; they are left as they are.
        uniforms: u, one number for each row.
        temperature: > 0.
        kept: Which tokens may be drawn; None: all.

    Raises:
        ValueError: the logits of a row are no distribution: NaN, +∞ or nothing but −∞.
    """
    if logits.element_size() < 4:
        logits = logits.float()
    logits = _scaled(logits, temperature)
    if kept is not None:
        logits = logits.masked_fill(~kept, -torch.inf)
    probabilities = torch.softmax(logits, dim=-1)
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    check_drawable(total)
    threshold = below(torch.as_tensor(uniforms, device=logits.device)[:, None] * total, total)
    tokens = torch.searchsorted(cumulative, threshold, right=True)  # [B, 1]
    log_probs = probabilities.gather(-1, tokens).double().log()
    return Drawn(tokens[:, 0].cpu().numpy(), log_probs[:, 0].cpu().numpy())


def check_drawable(total: Float[Tensor, "batch 1"]) -> None:
    """Refuse rows of which nothing can be drawn.

    Args:
        total: Each row's sum of weights.

    Raises:
        ValueError: a row's is 0 or NaN, for its logits are no distribution.
    """
    if not bool((total > 0).all()):  # NaN is not
        row = int((~(total > 0)).nonzero()[0, 0])
        raise ValueError(
            f"nothing can be drawn in row {row}: its logits hold NaN, +∞ or nothing but −∞. If the "
            "model was just trained, its weights may have diverged: lower learning_rate"
        )


def below(number: Tensor, bound: Tensor) -> Tensor:
    """At most the largest number below a bound, so that something is always found."""
    return torch.minimum(number, torch.nextafter(bound, torch.zeros_like(bound)))


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    """Logits / temperature, up to a constant of each row, which keeps cold ones finite."""
    if temperature == 1.0:
        return logits
    return (logits - logits.detach().amax(dim=-1, keepdim=True)) / temperature


def _nucleus(
    scaled: Float[Tensor, "batch vocabulary"], top_p: float
) -> Bool[Tensor, "batch vocabulary"]:
    """The smallest set of likeliest tokens whose probabilities sum to p or more."""
    probabilities, size = torch.softmax(scaled, dim=-1), scaled.shape[-1]
    number = 256  # the likeliest are nearly always enough, and soon found
    if size <= number:
        ordered, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    else:
        ordered, ids = probabilities.topk(number, dim=-1)
    while number < size and bool((ordered.sum(dim=-1) < top_p).any()):
        number = min(8 * number, size)
        ordered, ids = probabilities.topk(number, dim=-1)
    before = ordered.cumsum(dim=-1) - ordered  # what the likelier ones sum to
    return torch.zeros_like(scaled, dtype=torch.bool).scatter(-1, ids, before < top_p)
