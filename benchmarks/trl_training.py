"""Both trainers of `python -m benchmarks trl`, their common settings and their model.

TRL is imported when it is first needed. Prompts are the openings of Sentiment-v0 that have 5
tokens: TRL passes no position ids when it scores, so that GPT-2 would read prompts of different
lengths, padded on the left, at other positions than those at which it wrote.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.pretrain_reviews import SNIPPETS, TOP, readable, tidy
from textenv import Task, TextVectorEnv
from textenv.interop.trl import as_trl_reward
from textenv.models import CausalLM, load
from textenv.tasks.sentiment import sentiment
from textenv_agents import PolicyGradient, PolicyGradientConfig
from textenv_agents.pretrain import PretrainConfig, pretrain

PROMPT_TOKENS = 5  # the start token and four words
MODEL: dict[str, Any] = {"layers": 4, "width": 128, "epochs": 5, "dropout": 0.1}
METHODS: dict[str, dict[str, Any]] = {
    "GRPO": {
        "returns": "total",
        "baseline": "group_mean",
        "normalise": True,
        "reduction": "tokens",  # TRL's "dapo", its default
        "loss": "ppo",
    },
    "RLOO": {"returns": "total", "baseline": "leave_one_out"},
}
SHARED: dict[str, Any] = {
    "temperature": 1.0,
    "num_iterations": 1,
    "gradient_accumulation_steps": 1,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 1.0,
    "disable_dropout": True,  # ours never drops out either
    # Float32 throughout, and nothing computed twice or written down.
    "gradient_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "logging_strategy": "no",
    "save_strategy": "no",
    "disable_tqdm": True,
    "dataloader_num_workers": 0,
    "dataloader_pin_memory": False,
}
"""TRL's settings."""


@dataclass(frozen=True, kw_only=True)
class TRLConfig:
    """The benchmark."""

    quality: bool = False
    """Compare what is learned, over seeds, in place of the speed."""
    model: Path = Path("runs/trl/gpt2")
    """The folder of the model."""
    archive: Path | None = None
    """vaderSentiment-3.3.2.tar.gz, to make the model of."""
    episodes: int = 64
    """Texts an iteration."""
    group: int = 8
    """Texts of a prompt."""
    max_tokens: int = 48
    """Tokens of a text."""
    learning_rate: float = 5e-4
    """Adam's, constant."""
    beta: float = 0.05
    """β, the price of a nat of KL."""
    our_beta: float | None = None
    """Ours, if it is another: TRL's GRPO divides rewards by their deviation, but not the KL."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Which of them."""
    iterations: int = 10
    """Iterations that are timed, after one that is not."""
    threads: int = torch.get_num_threads()
    """Of PyTorch, for both."""
    seeds: int = 10
    """Training runs of each (quality)."""
    tokens: int = 25_000
    """Tokens that each run writes, at least (quality)."""
    texts: int = 500
    """Fresh texts that each policy is measured on (quality)."""


@dataclass
class Clock:
    """Seconds of wall time and of processor time, and the tokens that were written in them."""

    wall: float = 0.0
    processor: float = 0.0
    tokens: int = 0

    def rate(self) -> tuple[float, float]:
        """Tokens a second of wall time and of processor time."""
        return self.tokens / self.wall, self.tokens / self.processor


class Moment(NamedTuple):
    """A moment: wall time and processor time."""

    wall: float
    processor: float

    @classmethod
    def begin(cls) -> Moment:
        """Now."""
        return cls(time.perf_counter(), time.process_time())

    def end(self, clock: Clock, tokens: int) -> None:
        """Add what went by since then."""
        now = Moment.begin()
        clock.wall += now.wall - self.wall
        clock.processor += now.processor - self.processor
        clock.tokens += tokens


def make_model(config: TRLConfig) -> None:
    """Pretrain it on the film snippets."""
    if config.archive is None:
        raise SystemExit(
            f"there is no model in {str(config.model)!r}; to make it (minutes):\n"
            "  pip download --no-deps --no-binary :all: vaderSentiment==3.3.2\n"
            "  python -m benchmarks trl --archive vaderSentiment-3.3.2.tar.gz"
        )
    with tarfile.open(config.archive) as outer:
        inner = outer.extractfile(f"{TOP}/additional_resources/hutto_ICWSM_2014.tar.gz").read()
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        rows = archive.extractfile(SNIPPETS).read().decode().splitlines()
    snippets = list(dict.fromkeys(tidy(row.split("\t")[2]) for row in rows if row))
    text = config.model.parent / "film_snippets.txt"
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text("\n".join(readable(snippets)), "utf-8")
    print(pretrain(PretrainConfig(text=text, folder=config.model, **MODEL)))


def start(config: TRLConfig) -> CausalLM:
    """The model before training."""
    lm = load(str(config.model))
    assert isinstance(lm, CausalLM)
    return lm


@cache
def prompts(folder: Path) -> tuple[str, ...]:
    """The openings of Sentiment-v0 that have `PROMPT_TOKENS` tokens."""
    vocabulary = load(str(folder)).vocabulary
    task = sentiment(vocabulary=vocabulary)
    lengths = (task.prompt_table != task.rules.nothing).sum(axis=1)
    return tuple(p for p, n in zip(task.prompts, lengths, strict=True) if n == PROMPT_TOKENS)


def make_agent(config: TRLConfig, method: str, seed: int, ends: bool = True) -> PolicyGradient:
    """Our agent."""
    lm = start(config)
    task: Task = sentiment(
        vocabulary=lm.vocabulary, prompts=prompts(config.model), max_tokens=config.max_tokens
    )
    envs = TextVectorEnv(
        config.episodes,
        replace(task, end=ends),
        autoreset_mode="same_step",
        scoring="deferred",
    )
    settings = PolicyGradientConfig(
        episodes=config.episodes, group=config.group, learning_rate=config.learning_rate,
        kl_coefficient=config.beta if config.our_beta is None else config.our_beta,
        seed=seed, **METHODS[method],
    )  # fmt: skip
    return PolicyGradient(lm, envs, settings)


def train_theirs(
    config: TRLConfig,
    method: str,
    turn: Callable[[int, Moment, int], bool],
    seed: int,
    ends: bool = True,
) -> Any:
    """Train with TRL until `turn` says that it is enough; return the model.

    Args:
        config: The benchmark's.
        method: "GRPO" or "RLOO".
        turn: Called after each iteration with its number, from 0, when it began, and how many
            tokens it wrote. What `turn` itself takes is nobody's time.
        seed: Fixes order and tokens.
        ends: Whether texts may end before their full length.
    """
    import datasets
    import transformers
    import trl

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    lm = start(config)
    reward = Counting(as_trl_reward("sentiment"))

    class Turns(transformers.TrainerCallback):
        began = Moment.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            tokens, reward.tokens = reward.tokens, 0
            control.should_training_stop = turn(state.global_step - 1, self.began, tokens)
            self.began = Moment.begin()

    never = list(lm.suppressed_tokens) + ([] if ends else [lm.vocabulary.end_token])
    with tempfile.TemporaryDirectory() as folder:
        arguments = getattr(trl, f"{method}Config")(
            folder,
            per_device_train_batch_size=config.episodes,
            num_generations=config.group,
            max_completion_length=config.max_tokens,
            learning_rate=config.learning_rate,
            beta=config.beta,
            max_steps=1_000_000,
            seed=seed,
            model_init_kwargs={"dtype": "float32"},
            generation_kwargs={"suppress_tokens": never},
            **SHARED,
        )
        trainer = getattr(trl, f"{method}Trainer")(
            model=str(config.model),
            reward_funcs=reward,
            args=arguments,
            train_dataset=datasets.Dataset.from_dict({"prompt": list(prompts(config.model))}),
            callbacks=[Turns()],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return trainer.model


class Counting:
    """A reward, by TRL's signature, which counts the tokens that it is shown."""

    def __init__(self, reward: Callable[..., Any]) -> None:
        self.reward, self.tokens = reward, 0
        self.__name__ = reward.__name__

    def __call__(self, prompts: Any, completions: Any, **columns: Any) -> list[float]:
        self.tokens += sum(map(len, columns["completion_ids"]))
        return self.reward(prompts, completions, **columns)
