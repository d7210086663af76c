"""Writing texts through `step` beside `generate()`: `python -m benchmarks decoding`.

Both sample at temperature 1 from the same weights. Wall time, in turns, the best of each compared:
other work on the machine only ever slows a run down. Useful tokens are those up to the end token.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LogitsProcessor, LogitsProcessorList

from benchmarks.machine import describe
from textenv import Task, TextVectorEnv
from textenv.models import CausalLM, LanguageModel, Prefixes, load
from textenv.models.base import Next
from textenv.rewards import get
from textenv.vocabulary import WordVocabulary
from textenv_agents.rollout import collect

PROMPT, TOKENS = 16, 48
END_PROBABILITY = 1 / 16


class Setting(NamedTuple):
    """One model of the table, and what is asked of it."""

    name: str
    lm: CausalLM
    episodes: int
    queue: int
    aims: tuple[float, float]
    repeats: int


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks decoding")
    parser.add_argument("--model", choices=["gpt2", "smollm2", "both"], default="both")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(describe(), "\n")
    print(f"{'':34}{'generate()':>14}{'textenv':>14}{'ratio':>8}{'aim':>8}")
    for setting in settings(arguments.model, arguments.device):
        rows(setting)
    if arguments.model != "smollm2":
        growth()


def settings(model: str, device: str) -> list[Setting]:
    """The models that were asked for."""
    chosen = []
    if model != "smollm2":
        chosen.append(Setting("GPT-2, 4 × 128", gpt2(device=device), 64, 1024, (2.0, 4.5), 5))
    if model != "gpt2":
        chosen.append(Setting("SmolLM2-135M", smollm2(device), 32, 128, (1.2, 2.5), 2))
    return chosen


def rows(setting: Setting) -> None:
    """Two lines of the table: all texts of one length, and a queue of texts that end at random."""
    lm, episodes = setting.lm, setting.episodes
    for number, (what, queue) in enumerate(
        [(f"{episodes} texts of {TOKENS}", episodes), (f"queue of {setting.queue}", setting.queue)]
    ):
        ends = number == 1
        prompts = np.random.default_rng(0).integers(3, lm.vocabulary_size, size=(queue, PROMPT))
        runs: dict[str, Callable[[], float]] = {
            "generate()": lambda p=prompts, e=ends: generate_rate(lm, p, episodes, e),
            "textenv": lambda p=prompts, e=ends: textenv_rate(lm, p, episodes, e),
        }
        best = dict.fromkeys(runs, 0.0)
        for _ in range(setting.repeats):
            for name, run in runs.items():
                best[name] = max(best[name], run())
        ratio = best["textenv"] / best["generate()"]
        rates = "".join(f"{rate:11,.0f} /s" for rate in best.values())
        aim = f"≥ {setting.aims[number]}"
        print(f"{setting.name + ', ' + what:34}{rates}{ratio:8.2f}{aim:>8}", flush=True)


def generate_rate(lm: CausalLM, prompts: Any, batch: int, ends: bool) -> float:
    """Useful tokens a second of `generate()`, in batches that wait for the longest text."""
    end = lm.vocabulary.end_token
    keywords: dict[str, Any] = {"min_new_tokens": TOKENS, "eos_token_id": None}
    if ends:
        processors = LogitsProcessorList([EndsAtRandom(end)])
        keywords = {"eos_token_id": end, "logits_processor": processors}
    torch.manual_seed(0)
    useful, start = 0, time.perf_counter()
    for first in range(0, len(prompts), batch):
        ids = torch.as_tensor(prompts[first : first + batch], device=lm.device)
        with torch.inference_mode():
            output = lm.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, top_p=1.0,
                temperature=1.0, max_new_tokens=TOKENS, pad_token_id=0, **keywords,
            )  # fmt: skip
        new = output[:, PROMPT:].cpu().numpy()
        ended = (new == end).argmax(axis=1) + 1
        useful += int(np.where((new == end).any(axis=1) & ends, ended, new.shape[1]).sum())
    return useful / (time.perf_counter() - start)


def textenv_rate(lm: CausalLM, prompts: Any, rows: int, ends: bool) -> float:
    """Tokens a second through the vector environment's `step`, rows refilled at once."""
    lm.forget()
    task = Task(
        name="decoding",
        vocabulary=NumberedPrompts(lm, prompts),
        max_tokens=TOKENS,
        reward=get("zero"),
        prompts=[str(number) for number in range(len(prompts))],
        end=ends,
    )
    envs = TextVectorEnv(rows, task, autoreset_mode="same_step", scoring="deferred")
    uniforms = np.random.default_rng(0).random((len(prompts), TOKENS))
    policy = Ending(lm) if ends else lm
    start = time.perf_counter()
    episodes = collect(envs, policy, np.arange(len(prompts)), uniforms)
    return int(episodes.prefixes.written.sum()) / (time.perf_counter() - start)


def growth() -> None:
    """The cost of a sampled token at length 512 beside that at 32."""
    lm = gpt2(positions=600)
    generator, batch, around = np.random.default_rng(0), 64, 16
    tokens = np.full((batch, 600), lm.vocabulary_size)
    tokens[:, :PROMPT] = generator.integers(3, lm.vocabulary_size, size=(batch, PROMPT))
    seconds = {}
    for step in range(512 - PROMPT + around // 2):
        prefixes = Prefixes(tokens.copy(), PROMPT, lm.vocabulary_size, np.full(batch, step))
        start = time.perf_counter()
        lm.next(prefixes)
        seconds[step + PROMPT] = time.perf_counter() - start
        tokens[:, PROMPT + step] = generator.integers(3, lm.vocabulary_size, size=batch)
    at = {
        n: np.median([seconds[n + i] for i in range(-8, 8) if n + i in seconds]) for n in (32, 512)
    }
    attention = {n: attention_seconds(lm, batch, n) for n in (32, 512)}
    rest = {n: at[n] - attention[n] for n in at}
    print("\nGPT-2, 4 × 128, 64 rows: one step of the model, milliseconds")
    print(f"{'':34}{'all':>14}{'attention':>14}{'the rest':>14}")
    for n in at:
        numbers = "".join(f"{part[n] * 1e3:14.2f}" for part in (at, attention, rest))
        print(f"{f'at length {n}':34}{numbers}")
    print(f"{'ratio (aim for the rest: ≤ 1.5)':34}{at[512] / at[32]:14.2f}"
          f"{attention[512] / attention[32]:14.2f}{rest[512] / rest[32]:14.2f}")  # fmt: skip


def attention_seconds(lm: CausalLM, batch: int, length: int) -> float:
    """Attention alone: one query a row against that many keys, in every layer."""
    config = lm.model.config
    shape = (batch, config.n_head, length, config.n_embd // config.n_head)
    layers = [(torch.randn(shape), torch.randn(shape)) for _ in range(config.n_layer)]
    query = torch.randn(batch, config.n_head, 1, shape[3])
    times = []
    with torch.inference_mode():
        for _ in range(9):
            start = time.perf_counter()
            for keys, values in layers:
                torch.nn.functional.scaled_dot_product_attention(query, keys, values)
            times.append(time.perf_counter() - start)
    return float(np.median(times))


def gpt2(positions: int = 128, device: str = "cpu") -> CausalLM:
    """Random weights: speed does not depend on them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=4096, n_positions=positions, n_embd=128, n_layer=4, n_head=4,
            bos_token_id=0, eos_token_id=4095,
        )  # fmt: skip
        model = GPT2LMHeadModel(config).eval().to(device)
    words = WordVocabulary([f"w{i}" for i in range(4095)], end="</s>")
    return CausalLM(model, words)


def smollm2(device: str) -> CausalLM:
    """SmolLM2-135M-Instruct, in float32."""
    lm = load("smollm2")
    assert isinstance(lm, CausalLM)
    return lm.to(device)


class NumberedPrompts:
    """The model's vocabulary; a prompt's text is its number, so that its tokens are as given."""

    def __init__(self, lm: CausalLM, prompts: Any) -> None:
        self.size, self.end_token = lm.vocabulary_size, lm.vocabulary.end_token
        self.start_token, self.suppressed_tokens = None, ()
        self.decode, self.token = lm.vocabulary.decode, lm.vocabulary.token
        self.prompts = prompts

    def encode(self, text: str) -> list[int]:
        return self.prompts[int(text)].tolist() if text else []

    encode_prompt = encode


class EndsAtRandom(LogitsProcessor):
    """Gives the end token probability 1/16 at each step."""

    def __init__(self, end: int) -> None:
        self.end = end

    def __call__(self, input_ids: Any, scores: torch.Tensor) -> torch.Tensor:
        return ending(scores.clone(), self.end)


class Ending(LanguageModel):
    """The same for a language model of ours."""

    model_type = "benchmark"

    def __init__(self, lm: CausalLM) -> None:
        super().__init__(lm.vocabulary, lm.vocabulary_size)
        self.lm = lm

    @property
    def hidden_size(self) -> int:
        return self.lm.hidden_size

    @property
    def refills(self) -> bool:
        return self.lm.refills

    def read(self, *arguments: Any) -> Any:
        return self.lm.read(*arguments)

    def next(self, prefixes: Prefixes) -> Next:
        answer = self.lm.next(prefixes)
        return answer._replace(logits=ending(answer.logits.clone(), self.vocabulary.end_token))


def ending(logits: torch.Tensor, end: int) -> torch.Tensor:
    """Set p(end) = 1/16 in place: logit = log Σ of the others + log(1/15)."""
    logits[:, end] = -torch.inf
    others = torch.logsumexp(logits, dim=-1)
    logits[:, end] = others + np.log(END_PROBABILITY / (1 - END_PROBABILITY))
    return logits
