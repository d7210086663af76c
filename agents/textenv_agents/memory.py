"""How much memory an update takes, and in which parts texts are read so that it stays in a budget.

The formula is `peak_memory`'s; `python -m benchmarks memory` measures how near it is.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textenv.errors import TextenvError
from textenv.models import LanguageModel, Prefixes
from textenv_agents.batching import Rows, parts_that_fit
from textenv_agents.config import PolicyGradientConfig
from textenv_agents.hardware import checkpointable, library_pass, number_of_layers

KEPT = 1e9  # bytes of the reference's distributions that are kept where no budget is given
PROBE = (4, 6, 8)  # tokens of the texts that tell what a token and a pair of tokens cost


class BudgetError(TextenvError, MemoryError):
    """An update does not fit in the memory budget; the message says what would."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a model's update takes, in bytes; `peak_memory` puts it together.

    weights: All weights, those of the reference's copy included.
    trained: The weights that are trained.
    largest: The largest of them.
    moments: How many numbers the optimizer keeps for each trained one.
    token: What the layers keep of each token that is read, for the backward pass.
    pair: What they keep of each pair of tokens of a text: 0 where attention keeps no scores.
    width: One hidden state.
    layers: How many layers.
    logits: One distribution, V numbers.
    cache: Keys and values of one token in all layers.
    """

    weights: int
    trained: int
    largest: int
    moments: int
    token: float
    pair: float
    width: int
    layers: int
    logits: int
    cache: int


def peak_memory(
    footprint: Footprint,
    texts: int,
    columns: int,
    tokens: int,
    *,
    distributions: float,
    checkpointing: bool = False,
) -> float:
    """Bytes at the peak of an update that reads n texts of L columns at once, N tokens counting.

        peak = W + G + O + A + max(d·N·V·b, R + 8·n·L·D·b)
        W = b·(weights of policy and reference; of one of them with an adapter)
        G = b·(trained weights) + b·(the largest of them, while it is added up)
        O = b·(trained weights)·(2 with Adam, 0 with SGD)
        A = n·(L·a + L²·s), R = 0
        A = n·L·layers·D·b, R = n·(L·a + L²·s) / layers    with gradient checkpointing
        a = layers·b·(9·D + 2·F) for GPT-2, (9·D + 5·F) by the library's own pass

    b is the size of a number, D the width, F the inner width of a layer, V the vocabulary. The
    layers keep a bytes of each token for the backward pass and s of each pair of tokens (0 with
    PyTorch's fused attention, which keeps no scores); a and s are counted on three short texts,
    because activations of one name keep 2 to 5 numbers. d counts the distributions that are alive
    at once at each token that counts: see `distributions`. 8·D is what a layer's way back takes
    beside what was kept; by then the distributions are gone. Left out: what Python and the
    libraries take.

    Args:
        footprint: The model's.
        texts: n.
        columns: L, of the longest of them.
        tokens: N, at most n·T.
        distributions: d.
        checkpointing: Whether layers are computed again.
    """
    f = footprint
    kept = texts * (columns * f.token + columns**2 * f.pair)
    again = 0.0
    if checkpointing:
        again = kept / f.layers
        kept = texts * columns * f.layers * f.width
    fixed = f.weights + f.trained + f.largest + f.moments * f.trained
    layer = again + 8 * texts * columns * f.width
    return fixed + kept + max(distributions * tokens * f.logits, layer)


def rollout_memory(footprint: Footprint, rows: int, columns: int) -> float:
    """Bytes at the peak of writing texts in B rows of L columns.

        peak = W + O + 1.25·B·L·c + 6·B·V·b

    with W and O as in `peak_memory`, and c the keys and values of a token in all layers; a quarter
    more, because their buffers grow in steps. Logits, softmax and its sum in float64 are worth 6
    distributions. An update's parts do not change it: fewer `rows` do.
    """
    f = footprint
    return f.weights + f.moments * f.trained + rows * (1.25 * columns * f.cache + 6 * f.logits)


def distributions(*, kl: bool, entropy: bool, cut: bool) -> float:
    """How many distributions of V numbers are alive at once at each token that counts.

    Plain: log π, and on the way back its gradient and that of the logits: 3. For a KL log ρ, π and
    log π − log ρ are kept besides, when the way back has not begun: 2.5 more. An entropy keeps π
    and log π with its zeros: 2.5 more. A cut keeps its mask and what is unpacked: 0.5.
    """
    return 3 + 2.5 * kl + 2.5 * entropy + 0.5 * cut


class Memory:
    """Parts texts so that an update stays within the budget.

    Args:
        policy: The model, with its adapter.
        config: The agent's settings.
    """

    def __init__(self, policy: LanguageModel, config: PolicyGradientConfig) -> None:
        self.policy, self.config = policy, config
        given = config.memory_budget
        self.budget = machine_memory(policy.device) if given is None else given * 1e9
        self._footprint: Footprint | None = None

    @property
    def footprint(self) -> Footprint:
        """The model's, counted when it is first asked for."""
        if self._footprint is None:
            self._footprint = footprint(self.policy, self.config)
        return self._footprint

    def peak(self, texts: int, columns: int, tokens: int) -> float:
        """`peak_memory` with the agent's settings."""
        config = self.config
        return peak_memory(
            self.footprint,
            texts,
            columns,
            tokens,
            distributions=distributions(
                kl=config.kl_coefficient > 0,
                entropy=config.entropy_coefficient > 0,
                cut=config.sampling.cuts,
            ),
            checkpointing=config.gradient_checkpointing,
        )

    def check(self, prompt_length: int, max_tokens: int) -> None:
        """Refuse a budget that the task would break, before anything is done.

        Raises:
            BudgetError: the longest text alone does, or writing in all rows at once.
        """
        columns = prompt_length + max_tokens
        self._fits_alone(columns, max_tokens)
        rows = self.config.rows or self.config.texts
        writing = [rollout_memory(self.footprint, number, columns) for number in (0, rows)]
        if writing[1] > self.budget:
            fit = int(rows * (self.budget - writing[0]) / (writing[1] - writing[0]))
            raise BudgetError(
                f"writing {rows} texts of {columns} tokens at once takes {writing[1] / 1e9:.3f} "
                f"GB, the memory budget is {self.budget / 1e9:.3f} GB. What would fit: "
                f"rows={fit} or a larger memory_budget"
            )

    def parts(self, texts: Rows, prefixes: Prefixes) -> list[Rows]:
        """Part texts so that what is read at once fits; one part, in their order, where all do.

        Raises:
            BudgetError: one text alone does not.
        """
        read = np.maximum(prefixes.end - prefixes.begin, 1)
        written = prefixes.written
        whole = (len(texts), int(read[texts].max()), int(written[texts].sum()))
        if self.peak(*whole) <= self.budget:
            return [texts]
        longest = texts[np.argmax(read[texts])]
        self._fits_alone(int(read[longest]), int(written[longest]))
        return parts_that_fit(texts, read, written, self.peak, self.budget)

    def keeps(self, prefixes: Prefixes) -> bool:
        """Whether each token's distribution fits beside an update that reads all texts at once."""
        columns, tokens = int((prefixes.end - prefixes.begin).max()), int(prefixes.written.sum())
        extra = tokens * self.footprint.logits
        fits = self.peak(len(prefixes), columns, tokens) + extra <= self.budget
        return fits and (extra <= KEPT or self.config.memory_budget is not None)

    def _fits_alone(self, columns: int, tokens: int) -> None:
        alone = self.peak(1, columns, tokens)
        if alone <= self.budget:
            return
        further = [
            name
            for name, helps in (
                ("lora_rank=8", self.config.lora_rank is None and checkpointable(self.policy)),
                ("gradient_checkpointing=True", not self.config.gradient_checkpointing),
                ('optimizer="sgd"', self.config.optimizer == "adam"),
            )
            if helps
        ]
        raise BudgetError(
            f"one text of {columns} tokens alone takes {alone / 1e9:.3f} GB (of them "
            f"{self.peak(0, 0, 0) / 1e9:.3f} GB weights, gradients and optimizer), the memory "
            f"budget is {self.budget / 1e9:.3f} GB. What would fit: "
            f"memory_budget={alone * 1.01 / 1e9:.3g} or more"
            + (", or less with " + " or ".join(further) if further else "")
        )


def footprint(policy: LanguageModel, config: PolicyGradientConfig) -> Footprint:
    """Count what a model takes; it reads three short texts."""
    parameters = list(policy.parameters())
    trained = [p for p in parameters if p.requires_grad]
    copies = 2 if config.lora_rank is None else 1
    first = parameters[0]
    # A parabola through three points: pair·L² + token·L + the rest.
    theirs = config.gradient_checkpointing or config.compile
    with library_pass(policy) if theirs else nullcontext():
        pair, token, _ = np.polyfit(PROBE, [_kept(policy, length) for length in PROBE], 2)
    return Footprint(
        weights=copies * sum(_bytes(p) for p in parameters),
        trained=sum(_bytes(p) for p in trained),
        largest=max((_bytes(p) for p in trained), default=0),
        moments=2 if config.optimizer == "adam" else 0,
        token=max(float(token), 0.0),
        pair=max(float(pair), 0.0),
        width=policy.hidden_size * first.element_size(),
        layers=number_of_layers(policy),
        logits=policy.vocabulary_size * max(first.element_size(), 4),
        cache=_cache(policy) * first.element_size(),
    )


def machine_memory(device: torch.device) -> float:
    """Bytes that the machine, or the GPU, has in all."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _cache(policy: LanguageModel) -> int:
    """How many numbers a decoder remembers of each token."""
    settings: Any = getattr(getattr(policy, "model", None), "config", None)
    if settings is None:
        return 0
    settings = settings.get_text_config(decoder=True)
    heads = getattr(settings, "num_attention_heads", None)
    if not isinstance(heads, int):
        return 0  # no attention, or another number in each layer
    width = getattr(settings, "head_dim", None) or settings.hidden_size // heads
    keys = getattr(settings, "num_key_value_heads", None) or heads
    return 2 * settings.num_hidden_layers * keys * width


def _kept(policy: LanguageModel, length: int) -> float:
    """Bytes that a model keeps for the backward pass of one text of that length."""
    own = {p.untyped_storage().data_ptr() for p in policy.parameters()}
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    text = np.zeros((1, length), dtype=np.int64)
    prefixes = Prefixes(text, 1, policy.vocabulary_size, np.array([length - 1]))
    rows = np.zeros(1, dtype=np.int64)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, _same):
        # One token only is predicted, so that the distributions are not counted here.
        alive: Any = policy.read(prefixes, rows, rows)
    del alive
    return float(sum(seen.values()))


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _bytes(parameter: Tensor) -> int:
    return parameter.numel() * parameter.element_size()
