"""How near the formula for an update's memory is: `python -m benchmarks memory`.

Each case trains a model of random weights on texts of random tokens. Measured is the peak of what
PyTorch allocates on the CPU while the agent writes and learns (its profiler notes every
allocation), on a GPU what `torch.cuda.max_memory_allocated` says. Both are compared with the larger
of `textenv_agents.memory.peak_memory` and `rollout_memory`.
"""

from __future__ import annotations

import gc
from typing import Any

import torch
import transformers

from textenv import Task, TextVectorEnv
from textenv.models import CausalLM
from textenv.rewards import length
from textenv.vocabulary import WordVocabulary
from textenv_agents import PolicyGradient
from textenv_agents.memory import rollout_memory

PROMPT, TOKENS = 16, 48
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CASES: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    "GPT-2, 4 × 128": ("gpt2", 128, 4, {}),
    "with KL": ("gpt2", 128, 4, {"kl_coefficient": 0.1}),
    "with KL, entropy, top-k": (
        "gpt2",
        128,
        4,
        {"kl_coefficient": 0.1, "entropy_coefficient": 0.01, "sampling": {"top_k": 50}},
    ),
    "value baseline, Adam": ("gpt2", 128, 4, {"baseline": "value", "optimizer": "adam"}),
    "checkpoints, 12 × 128": ("gpt2", 128, 12, {"gradient_checkpointing": True}),
    "PPO, 2 minibatches": ("gpt2", 128, 4, {"loss": "ppo", "epochs": 2, "minibatches": 2}),
    "budget of 0.2 GB, with KL": (
        "gpt2",
        128,
        4,
        {"kl_coefficient": 0.1, "memory_budget": 0.2, "rows": 16},
    ),
    "small vocabulary": ("gpt2 of 64 words", 128, 4, {}),
    "Llama, 4 × 128": ("llama", 128, 4, {"kl_coefficient": 0.1}),
    "Llama with adapter": ("llama", 128, 4, {"kl_coefficient": 0.1, "lora_rank": 8}),
    "OPT, 4 × 128": ("opt", 128, 4, {"kl_coefficient": 0.1}),
    "GPT-2, 8 × 384": ("gpt2", 384, 8, {"optimizer": "adam", "memory_budget": 0.8}),
}


def main() -> None:
    """Print the table."""
    print(f"64 texts of {PROMPT} + {TOKENS} tokens, on {DEVICE}, PyTorch {torch.__version__}\n")
    print(f"{'':28}{'measured, MB':>14}{'formula, MB':>14}{'ratio':>8}{'parts':>7}")
    for name, (kind, width, layers, settings) in CASES.items():
        measured, formula, parts = measure(kind, width, layers, settings)
        ratio = formula / measured
        print(f"{name:28}{measured / 1e6:14.0f}{formula / 1e6:14.0f}{ratio:8.2f}{parts:7}")


def measure(
    kind: str, width: int, layers: int, settings: dict[str, Any]
) -> tuple[float, float, int]:
    """Return bytes measured, bytes by the formula, and in how many parts a minibatch was read."""
    gc.collect()
    before = living()
    lm = language_model(kind, width, layers)
    prompts = [" ".join(["w1"] * PROMPT)]
    task = Task(
        name="memory",
        vocabulary=lm.vocabulary,
        prompts=prompts,
        max_tokens=TOKENS,
        end=False,
        reward=length(),
    )
    settings = {"optimizer": "sgd", "episodes": 64} | settings
    envs = TextVectorEnv(settings.get("rows", 64), task)
    agent = PolicyGradient(lm, envs, seed=0, **settings)
    agent.update()  # the optimizer's moments are there from now on
    agent.optimizer.zero_grad()
    peak, episodes = peak_of_update(agent, before)
    minibatch = range(64 // agent.config.minibatches)
    largest = agent.memory.parts(torch.tensor(minibatch).numpy(), episodes.prefixes)
    texts = len(largest[0])
    update = agent.memory.peak(texts, PROMPT + TOKENS, texts * TOKENS)
    rollout = rollout_memory(agent.memory.footprint, envs.num_envs, PROMPT + TOKENS)
    return peak, max(update, rollout), len(largest)


def peak_of_update(agent: PolicyGradient, before: int) -> tuple[float, Any]:
    """One update's peak, bytes that were there before the agent left out; and its texts."""
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        episodes = agent.collect()
        agent.step(episodes)
        return torch.cuda.max_memory_allocated(), episodes
    activities = [torch.profiler.ProfilerActivity.CPU]
    start = living() - before
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        episodes = agent.collect()
        agent._forget()
        agent.step(episodes)
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return start + peak, episodes


def living() -> int:
    """Bytes of all tensors that Python holds."""
    gc.collect()
    found = {}
    for thing in gc.get_objects():
        if type(thing) in (torch.Tensor, torch.nn.Parameter):
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def language_model(kind: str, width: int, layers: int) -> CausalLM:
    """A model of random weights over 4,096 words."""
    size = 64 if "64 words" in kind else 4096
    vocabulary = WordVocabulary([f"w{i}" for i in range(size)])
    ids = {"vocab_size": size, "bos_token_id": 0, "eos_token_id": size - 1}
    heads = width // 32
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind.startswith("gpt2"):
            config: Any = transformers.GPT2Config(
                n_embd=width, n_layer=layers, n_head=heads, n_positions=128, **ids
            )
            return CausalLM(transformers.GPT2LMHeadModel(config).eval().to(DEVICE), vocabulary)
        common = ids | {
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "max_position_embeddings": 128,
        }
        if kind == "opt":
            config = transformers.OPTConfig(
                ffn_dim=4 * width, word_embed_proj_dim=width, pad_token_id=1, **common
            )
            return CausalLM(transformers.OPTForCausalLM(config).eval().to(DEVICE), vocabulary)
        config = transformers.LlamaConfig(
            intermediate_size=3 * width,
            num_key_value_heads=heads // 2,
            pad_token_id=None,
            tie_word_embeddings=True,
            **common,
        )
        return CausalLM(transformers.LlamaForCausalLM(config).eval().to(DEVICE), vocabulary)
