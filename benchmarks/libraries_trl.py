"""TRL's trainers on our rewards and prompts: in this process, or served by OpenEnv's protocol.

TRL trains language models with prompts: a GPT-2 of one layer and random weights, a word a token,
learns on WordPreference-v0 which words are paid, and on ReasoningGym-v0 three answers by heart. J
is exact, over all of the model's texts, as a share of what the best text pays.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import trl
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.libraries_training import Training, task_of, worth
from benchmarks.trl_training import SHARED, Counting
from textenv import Task, exact
from textenv.interop.openenv import ServedReward, Server
from textenv.interop.trl import as_trl_reward, prompt_dataset
from textenv.models import load

WORDS = ("<end>", "a", "the", "film", "good", "bad", "fine")


def grpo(environment_id: str, seed: int, *, updates: int = 40) -> Training:
    """Train by GRPOTrainer on our reward."""
    return _words("GRPO", environment_id, seed, updates, served=False)


def rloo(environment_id: str, seed: int, *, updates: int = 40) -> Training:
    """Train by RLOOTrainer on our reward."""
    return _words("RLOO", environment_id, seed, updates, served=False)


def served(environment_id: str, seed: int, *, updates: int = 40) -> Training:
    """Train by GRPOTrainer on what a served environment pays for its tokens."""
    return _words("GRPO", environment_id, seed, updates, served=True)


def reasoning(environment_id: str, seed: int, *, updates: int = 80) -> Training:
    """Train by GRPOTrainer on what a served reasoning-gym's scorer says of one-word answers."""
    keywords: dict[str, Any] = {"task": "leg_counting", "size": 3, "max_tokens": 1}
    rows = prompt_dataset(environment_id, repeats=32, **keywords)
    words = re.findall(r"\S+", " ".join([*rows["prompt"], *rows["reference"]]))
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), ("<end>", *dict.fromkeys(words)), seed)
        keywords["lm"] = folder
        task = task_of(environment_id, **keywords)
        with Server(environment_id, action="completion", **keywords) as server:
            reward = ServedReward(server.address, sends="text")
            settings = {"learning_rate": 3e-3, "num_generations": 32, "max_steps": updates}
            return _trained("GRPO", folder, task, reward, rows, seed=seed, **settings)


def make_model(folder: Path, words: Sequence[str], seed: int) -> None:
    """Write a GPT-2 of random weights, and a tokenizer whose tokens are these words; [0] ends."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    bare = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=words[0]))
    bare.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=bare, eos_token=words[0], pad_token=words[0], padding_side="left"
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=len(words), n_positions=64, n_embd=32, n_layer=1, n_head=2,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
        resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)


def _words(method: str, environment_id: str, seed: int, updates: int, *, served: bool) -> Training:
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), WORDS, seed)
        keywords: dict[str, Any] = {
            "lm": folder,
            "prompts": ["a film", "the film"],
            "max_tokens": 4,
            "weights": {"good": 1.0, "fine": 1.0, "bad": -1.0},
        }
        task = task_of(environment_id, **keywords)
        rows = prompt_dataset(environment_id, repeats=16, **keywords)
        settings = {"learning_rate": 4e-3, "num_generations": 8, "max_steps": updates, "seed": seed}
        if not served:
            reward = as_trl_reward(task.reward, vocabulary=folder)
            return _trained(method, folder, task, reward, rows, **settings)
        with Server(environment_id, **keywords) as server:
            return _trained(method, folder, task, ServedReward(server.address), rows, **settings)


def _trained(
    method: str, folder: str, task: Task, reward: Any, rows: Any, **settings: Any
) -> Training:
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    counted = Counting(reward)
    settings |= {
        "per_device_train_batch_size": len(rows),
        "max_completion_length": task.rules.max_tokens,
        "beta": 0.0,
        "model_init_kwargs": {"dtype": "float32"},
    }
    arguments = getattr(trl, f"{method}Config")(folder, **SHARED | settings)
    trainer = getattr(trl, f"{method}Trainer")(
        model=folder, reward_funcs=counted, args=arguments, train_dataset=rows
    )
    trainer.remove_callback(transformers.PrinterCallback)
    best = _best(task)
    before = worth(task, load(folder))
    trainer.train()
    after = worth(task, load(trainer.model.eval(), trainer.processing_class))
    return Training(
        before=before[0] / best,
        after=after[0] / best,
        greedy=after[1] / best,
        steps=counted.tokens,
    )


def _best(task: Task) -> float:
    """J of the best texts."""
    found = exact.optimum(task).V
    return float(np.mean([found[index, ()] for index in range(len(task.prompts))]))
