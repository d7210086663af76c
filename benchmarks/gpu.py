"""Everything that a GPU is asked for, in one run: `python -m benchmarks gpu`.

1. Parity: the same weights on the CPU and on the GPU, over texts whose rows begin anew at random.
2. Writing: tokens a second beside `generate()`, and what share of the memory-bandwidth limit that
   is: a step must read all weights and the keys and values of all rows once.
3. Training: tokens a second of whole iterations (sample, reward, reference, update).

With `--device cpu --small` the same code runs anywhere in seconds, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.cache import Texts
from benchmarks.decoding import PROMPT, TOKENS, NumberedPrompts, generate_rate, textenv_rate
from benchmarks.machine import describe
from textenv import Task, TextVectorEnv
from textenv.errors import TextenvError
from textenv.models import CausalLM, load
from textenv.models.loading import find_device
from textenv.models.sampling import draw
from textenv.rewards import get
from textenv.vocabulary import WordVocabulary
from textenv_agents import PolicyGradient

SMOLLM2 = {
    "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "rope_theta": 100_000.0,
}  # fmt: skip
SMALL = {
    "vocab_size": 96, "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 3, "num_key_value_heads": 1,
}  # fmt: skip
PARITY = 1e-3  # of log-probabilities in float32; both sides sum in another order
AIM = 5.0  # times generate(), for texts of one length


class Size(NamedTuple):
    """How much is asked for: rows, texts in the queue, steps of the parity check, repeats."""

    rows: int
    queue: int
    steps: int
    repeats: int


class Rate(NamedTuple):
    """One line of a table: tokens a second of `generate()` and of each of our ways."""

    what: str
    reference: float
    ours: dict[str, float]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a toy model, to try the script")
    parser.add_argument("--rows", type=int, help="episodes at once (256)")
    arguments = parser.parse_args()
    device = find_device(arguments.device)
    size = Size(8, 16, 6, 1) if arguments.small else Size(256, 1024, 24, 3)
    if arguments.rows:
        size = size._replace(rows=arguments.rows, queue=4 * arguments.rows)
    name, lm = language_model(arguments.small)
    numbers = sum(parameter.numel() for parameter in lm.parameters())
    print(f"{describe()}\n{name}, {numbers / 1e6:.1f}M weights, on {device}\n")
    good = parity(lm, device, size.steps)
    writing(lm, device, size)
    training(lm, device, size)
    if not good:
        sys.exit("the answers on the two devices differ by more than they may")


def language_model(small: bool) -> tuple[str, CausalLM]:
    """SmolLM2 where its weights are at hand, else a model of its size with random ones."""
    if not small:
        try:
            lm = load("smollm2")
            assert isinstance(lm, CausalLM)
            return "SmolLM2-135M-Instruct", lm
        except TextenvError:
            pass  # speed does not depend on the weights
    size = SMALL if small else SMOLLM2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            **size, bos_token_id=0, eos_token_id=size["vocab_size"] - 1, pad_token_id=None,
            tie_word_embeddings=True, initializer_range=0.1,
        )  # fmt: skip
        model = LlamaForCausalLM(config).eval()
    words = WordVocabulary([f"w{number}" for number in range(size["vocab_size"] - 1)], end="</s>")
    return "toy Llama" if small else "Llama of SmolLM2's size, random weights", CausalLM(
        model, words
    )


# 1. Parity.


def parity(lm: CausalLM, device: torch.device, steps: int) -> bool:
    """Ask both devices the same; print the largest differences, and say whether they are small."""
    print(f"{'parity with the CPU':34}{'next':>12}{'score':>12}{'drawn alike':>13}{'graphs':>9}")
    good = True
    for name, dtype in (("float32", torch.float32), ("bfloat16 weights", torch.bfloat16)):
        reference, there = copy.deepcopy(lm), copy.deepcopy(lm).to(device, dtype)
        there.graphs.patience = 0  # every shape is recorded at once
        differences, alike, prefixes = [], [], None
        generator = np.random.default_rng(0)
        for prefixes in questions(lm.vocabulary_size, steps):
            ours, theirs = there.next(prefixes).logits, reference.next(prefixes).logits
            differences.append(largest_difference(ours, theirs))
            uniforms = generator.random(len(prefixes))
            alike.append((draw(ours, uniforms).tokens == draw(ours.cpu(), uniforms).tokens).mean())
        with torch.no_grad():
            whole = [model.score(prefixes).log_probs.cpu() for model in (there, reference)]
        following = float(np.max(differences))
        scored = float((whole[0] - whole[1]).abs().max())
        print(f"{name:34}{following:12.1e}{scored:12.1e}{np.mean(alike):13.1%}"
              f"{there.graphs.replayed:9}")  # fmt: skip
        if dtype == torch.float32:
            good = following <= PARITY and scored <= PARITY
    print()
    return good


def questions(vocabulary_size: int, steps: int) -> Any:
    """The first steps of the texts of `benchmarks.cache`."""
    for _, prefixes in zip(range(steps), Texts(vocabulary_size).steps(), strict=False):
        yield prefixes


def largest_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Of log-probabilities; NaN where something is not finite on one device only."""
    one, other = (logits.cpu().double().log_softmax(-1) for logits in (ours, theirs))
    return float((one - other).masked_fill(one == other, 0.0).abs().max())  # −∞ on both is right


# 2. Writing.


def writing(lm: CausalLM, device: torch.device, size: Size) -> None:
    """Print tokens a second, ratios, and the share of the limit."""
    bandwidth = copy_bandwidth(device, (1 << 22) if size.rows < 64 else (1 << 30))
    print(f"a large copy reads and writes {bandwidth / 1e9:,.0f} GB/s")
    print(f"{'writing':44}{'tokens/s':>12}{'generate()':>12}{'ratio':>8}{'limit':>8}")
    for name, dtype in (("float32", torch.float32), ("bfloat16 weights", torch.bfloat16)):
        there = copy.deepcopy(lm).to(device, dtype)
        for number, queue in enumerate((size.rows, size.queue)):
            line = measured(there, queue, size, ends=number == 1)
            limit = size.rows * bandwidth / step_bytes(there, size.rows)
            for way, rate in line.ours.items():
                print(f"{f'{name}, {line.what}, {way}':44}{rate:12,.0f}{line.reference:12,.0f}"
                      f"{rate / line.reference:8.2f}{rate / limit:8.1%}", flush=True)  # fmt: skip
    print(f"aim for texts of one length: ≥ {AIM} × generate()\n")


def measured(lm: CausalLM, queue: int, size: Size, *, ends: bool) -> Rate:
    """Run `generate()` and our ways in turns; the best of each."""
    prompts = np.random.default_rng(0).integers(3, lm.vocabulary_size, size=(queue, PROMPT))
    runs: dict[str, Callable[[], float]] = {
        "generate()": lambda: generate_rate(lm, prompts, size.rows, ends),
        "usual steps": lambda: with_graphs(False, lm, prompts, size.rows, ends),
    }
    if lm.device.type == "cuda":
        runs["CUDA graphs"] = lambda: with_graphs(True, lm, prompts, size.rows, ends)
    for run in runs.values():  # libraries wake up, graphs are recorded
        run()
    best = dict.fromkeys(runs, 0.0)
    for _ in range(size.repeats):
        for name, run in runs.items():
            best[name] = max(best[name], run())
    if lm.device.type == "cuda" and not lm.graphs.enabled:  # a warning said why
        best["CUDA graphs given up"] = best.pop("CUDA graphs")
    what = f"queue of {queue}" if ends else f"{queue} texts of {TOKENS}"
    return Rate(what, best.pop("generate()"), best)


def with_graphs(enabled: bool, lm: CausalLM, prompts: np.ndarray, rows: int, ends: bool) -> float:
    """Tokens a second with or without graphs."""
    lm.graphs.enabled = enabled
    return textenv_rate(lm, prompts, rows, ends)


def step_bytes(lm: CausalLM, rows: int) -> float:
    """What a step must read: all weights, and the keys and values of texts half written."""
    config = lm.model.config
    weights = sum(parameter.nbytes for parameter in lm.parameters())  # tied ones are there once
    width = config.hidden_size // config.num_attention_heads
    token = 2 * config.num_hidden_layers * config.num_key_value_heads * width
    number = next(lm.parameters()).element_size()
    return weights + rows * (PROMPT + TOKENS / 2) * token * number


def copy_bandwidth(device: torch.device, numbers: int) -> float:
    """Bytes read and written a second by a copy that no cache holds; the median of several."""
    source = torch.rand(numbers, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(9):
        synchronise(device)
        start = time.perf_counter()
        target.copy_(source)
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return 2 * source.nbytes / float(np.median(seconds))


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# 3. Training.


def training(lm: CausalLM, device: torch.device, size: Size) -> None:
    """Print tokens a second of whole iterations."""
    print(f"{'training, groups of 8, KL on':44}{'tokens/s':>12}{'iteration':>12}")
    settings: dict[str, dict[str, Any]] = {
        "float32": {},
        "bfloat16 autocast": {"precision": "bfloat16"},
        "bfloat16 autocast, LoRA of rank 8": {"precision": "bfloat16", "lora_rank": 8},
    }
    for name, chosen in settings.items():
        there = copy.deepcopy(lm).to(device)
        agent = PolicyGradient(
            there, environments(there, size.rows), group=8, kl_coefficient=0.05, seed=0, **chosen
        )
        agent.update()
        before, times = agent.tokens, []
        for _ in range(size.repeats):
            synchronise(device)
            start = time.perf_counter()
            agent.update()
            synchronise(device)
            times.append(time.perf_counter() - start)
        tokens = (agent.tokens - before) / size.repeats
        print(f"{name:44}{tokens / min(times):12,.0f}{min(times):10.2f} s", flush=True)


def environments(lm: CausalLM, rows: int) -> TextVectorEnv:
    """Texts of one length after random prompts, paid by nobody: speed does not depend on it."""
    prompts = np.random.default_rng(0).integers(3, lm.vocabulary_size, size=(rows // 8, PROMPT))
    task = Task(
        name="gpu",
        vocabulary=NumberedPrompts(lm, prompts),
        prompts=[str(number) for number in range(len(prompts))],
        max_tokens=TOKENS,
        end=False,
        reward=get("zero"),
    )
    return TextVectorEnv(rows, task, autoreset_mode="same_step", scoring="deferred")
