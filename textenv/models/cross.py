"""The cache of an encoder–decoder model's decoder: its own tokens, and the prompt of each row.

R = rows, S = the longest source among them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, EncoderDecoderCache

from textenv.models.cache import ColumnCache, Numbers


class CrossCache(ColumnCache):
    """A `ColumnCache` whose rows keep the keys and values of their prompts too.

    Attributes:
        mask: int64 [R, S], 1 where the prompt is. One column at least is 1: a row that sees nothing
            would hold no numbers.
        layers_of_prompts: The library's layers, keys and values [R, heads, S, width] each.
    """

    def __init__(self, rows: int, capacity: int, clock: int = 0) -> None:
        super().__init__(rows, capacity, clock)
        self.mask: Tensor | None = None
        self.layers_of_prompts: list[Any] = []

    def nbytes(self) -> int:
        """Memory of the buffers, in bytes."""
        return super().nbytes() + sum(
            layer.keys.nbytes + layer.values.nbytes for layer in self.layers_of_prompts
        )

    def for_library(self) -> EncoderDecoderCache:
        """What the library's decoder takes; it fills in the prompts where there are none yet."""
        return EncoderDecoderCache(self, prompts_cache(self.layers_of_prompts))

    def hold(
        self, rows: Numbers, layers: list[Any], mask: Tensor, which: Numbers | None = None
    ) -> None:
        """Let some rows have these prompts.

        Args:
            rows: int64 [n].
            layers: The library's layers of m prompts.
            mask: Where these are, int64 [m, S'].
            which: int64 [n], the prompt of each row; None: one each, in order.
        """
        if self.mask is None:
            self.mask = mask.new_zeros(len(self.begin), mask.shape[1])
            self.mask[:, 0] = 1
            self.layers_of_prompts = [
                _layer(*(_empty(part, self.mask.shape) for part in (layer.keys, layer.values)))
                for layer in layers
            ]
        self._widen(mask.shape[1])
        index, wide = torch.as_tensor(rows, device=mask.device), mask.shape[1]
        prompt = slice(None) if which is None else torch.as_tensor(which, device=mask.device)
        self.mask[index] = 0
        self.mask[index, :wide] = mask[prompt]
        for mine, theirs in zip(self.layers_of_prompts, layers, strict=True):
            mine.keys[index, :, :wide] = theirs.keys[prompt]
            mine.values[index, :, :wide] = theirs.values[prompt]

    def select(self, rows: Numbers, known: Numbers, *, after: int = 0) -> CrossCache:
        """As `ColumnCache.select`."""
        copy: CrossCache = super().select(rows, known, after=after)
        if self.mask is not None:
            index = torch.as_tensor(rows, device=self.mask.device)
            copy.mask = self.mask[index]
            copy.layers_of_prompts = [
                _layer(layer.keys[index], layer.values[index]) for layer in self.layers_of_prompts
            ]
        return copy

    def place(self, slots: Numbers, source: ColumnCache) -> None:
        """As `ColumnCache.place`."""
        super().place(slots, source)
        assert isinstance(source, CrossCache)
        if source.mask is not None:
            self.hold(slots, source.layers_of_prompts, source.mask)

    def _widen(self, columns: int) -> None:
        assert self.mask is not None
        more = columns - self.mask.shape[1]
        if more > 0:
            pad = torch.nn.functional.pad
            self.mask = pad(self.mask, (0, more))
            self.layers_of_prompts = [
                _layer(pad(layer.keys, (0, 0, 0, more)), pad(layer.values, (0, 0, 0, more)))
                for layer in self.layers_of_prompts
            ]


def prompts_cache(layers: list[Any] | None = None) -> Cache:
    """The library's cache with these layers, or one that it fills itself."""
    return Cache(layers=layers) if layers else DynamicCache()


def _layer(keys: Tensor, values: Tensor) -> Any:
    """The library's layer around keys and values that are there already."""
    layer = DynamicLayer()
    layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys, values
    return layer


def _empty(like: Tensor, shape: torch.Size) -> Tensor:
    """Zeros [R, heads, S, width]."""
    rows, columns = shape
    return like.new_zeros(rows, like.shape[1], columns, like.shape[3])
