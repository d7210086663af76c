"""Two layouts of a key-value cache whose rows begin anew: `python -m benchmarks cache`.

(a) one clock for all rows, the layout that textenv uses (`textenv/models/cache.py`);
(b) each row at its own positions, its keys scattered there under a four-dimensional mask.

Both drive the library's own forward pass through the same texts, whose rows end with probability
1/16 at each step and begin anew at once. The table gives the time of a step and the largest
difference of log-probabilities from a full pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import MistralConfig, MistralForCausalLM
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from benchmarks.decoding import gpt2
from benchmarks.machine import describe
from textenv.models import CausalLM, Prefixes

ROWS, PROMPT, TOKENS, STEPS = 64, 16, 48, 96


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(describe(), "\n")
    print(f"{'':34}{'a step':>12}{'from a full pass':>20}")
    for name, lm in [("GPT-2, 4 × 128", gpt2()), ("Mistral, 2 × 64, window of 8", mistral())]:
        texts = Texts(lm.vocabulary_size)
        lm._own_pass = False  # the library's forward pass in both
        answers: dict[str, Callable[[Prefixes], torch.Tensor]] = {
            "(a) one clock": lambda p, lm=lm: lm.next(p).logits,
            "(b) scattered, 4-D mask": Scattered(lm),
        }
        for layout, answer in answers.items():
            seconds, difference = measure(lm, answer, texts)
            print(f"{name + ', ' + layout:34}"[:54].ljust(54)
                  + f"{seconds * 1e3:9.2f} ms{difference:17.1e}", flush=True)  # fmt: skip


def measure(
    lm: CausalLM, answer: Callable[[Prefixes], torch.Tensor], texts: Texts
) -> tuple[float, float]:
    """Median seconds of a step, and the largest difference from a full pass."""
    lm.forget()
    times, largest = [], 0.0
    for step, prefixes in enumerate(texts.steps()):
        start = time.perf_counter()
        ours = answer(prefixes)
        times.append(time.perf_counter() - start)
        if step % 16 == 15:
            ids = [row[row != lm.vocabulary_size] for row in prefixes.tokens[:4]]
            for number, row in enumerate(ids):
                with torch.no_grad():
                    full = lm.model(torch.as_tensor(row)[None]).logits[0, -1]
                difference = ours[number].log_softmax(-1) - full.log_softmax(-1)
                largest = max(largest, float(difference.abs().max()))
    return float(np.median(times)), largest


class Texts:
    """The same random texts for everyone."""

    def __init__(self, vocabulary_size: int) -> None:
        self.size = vocabulary_size

    def steps(self) -> Any:
        """Yield the prefixes of each step."""
        generator = np.random.default_rng(0)
        tokens = np.full((ROWS, PROMPT + TOKENS), self.size)
        written = np.full(ROWS, TOKENS)
        for _ in range(STEPS):
            ended = (written == TOKENS) | (generator.random(ROWS) < 1 / 16)
            tokens[ended], written[ended] = self.size, 0
            tokens[ended, :PROMPT] = generator.integers(self.size, size=(ended.sum(), PROMPT))
            yield Prefixes(tokens.copy(), PROMPT, self.size, written.copy())
            tokens[np.arange(ROWS), PROMPT + written] = generator.integers(self.size, size=ROWS)
            written += 1


class ScatterLayer(CacheLayerMixin):
    """Writes each row's new keys at the row's own position."""

    is_sliding = False

    def __init__(self, owner: Scattered) -> None:
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        rows, heads, _, width = key_states.shape
        self.keys = key_states.new_zeros(rows, heads, PROMPT + TOKENS, width)
        self.values = torch.zeros_like(self.keys)
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows = torch.arange(len(key_states))
        self.keys[rows, :, self.owner.position] = key_states[:, :, 0]
        self.values[rows, :, self.owner.position] = value_states[:, :, 0]
        width = int(self.owner.position.max()) + 1
        return self.keys[:, :, :width], self.values[:, :, :width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return int(self.owner.position.max())

    def get_max_length(self) -> int:
        return -1


class Scattered:
    """Layout (b), for texts that go on by one token or begin anew."""

    def __init__(self, lm: CausalLM) -> None:
        self.model = lm.model
        self.layers = [ScatterLayer(self) for _ in range(lm.model.config.num_hidden_layers)]
        self.position = torch.zeros(ROWS, dtype=torch.int64)

    @torch.no_grad()
    def __call__(self, prefixes: Prefixes) -> torch.Tensor:
        tokens = torch.as_tensor(prefixes.tokens)
        fresh = torch.as_tensor(np.flatnonzero(prefixes.written == 0))
        if len(fresh):  # their prompts but for the last token, in a pass of their own
            beginnings = DynamicCache()
            self.model(input_ids=tokens[fresh, : PROMPT - 1], past_key_values=beginnings)
            for layer, read in zip(self.layers, beginnings.layers, strict=True):
                if not layer.is_initialized:
                    layer.lazy_initialization(read.keys, read.values)
                layer.keys[fresh, :, : PROMPT - 1] = read.keys
                layer.values[fresh, :, : PROMPT - 1] = read.values
        self.position = torch.as_tensor(PROMPT - 1 + prefixes.written)
        width = int(self.position.max()) + 1
        hidden = torch.arange(width) > self.position[:, None]
        mask = torch.zeros(ROWS, 1, 1, width).masked_fill(hidden[:, None, None], -torch.inf)
        return self.model(
            input_ids=tokens.gather(1, self.position[:, None]),
            position_ids=self.position[:, None],
            attention_mask=mask,
            past_key_values=Cache(layers=self.layers),
            use_cache=True,
        ).logits[:, -1]


def mistral() -> CausalLM:
    """Random weights and a sliding window of 8."""
    base = gpt2()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = MistralConfig(
            vocab_size=base.vocabulary_size, hidden_size=64, intermediate_size=128,
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, sliding_window=8,
            bos_token_id=0, eos_token_id=base.vocabulary_size - 1, initializer_range=0.3,
        )  # fmt: skip
        return CausalLM(MistralForCausalLM(config).eval(), base.vocabulary)
