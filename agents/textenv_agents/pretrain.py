"""`textenv pretrain`: a small language model from a text file, one text a line.

An LSTM, or a transformer of GPT-2's shape, learns to predict the next word. The perplexity on
lines set aside is printed each epoch; training stops when it no longer falls, and the best weights
are kept. The folder opens with `textenv.models.load`, and with the library transformers if it
holds a transformer. No mixed precision, no several devices: the models are meant to be small.

B = batch, L = length, V = vocabulary.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from textenv.errors import TextenvError
from textenv.files import replaced_folder
from textenv.models import LSTMLM, CausalLM, LanguageModel, load
from textenv.models.base import suppress
from textenv.vocabulary import TokenizerVocabulary
from textenv_agents.corpus import PADDING, batches, encode, read_lines, split
from textenv_agents.model_card import model_card
from textenv_agents.tokenizer import START, UNKNOWN, Kind, for_transformers, train_tokenizer

CLIP = 1.0  # gradients are shortened to this norm
LAST_RATE = 0.02  # the share of the learning rate that is left at the end


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Settings of `pretrain`; the defaults suit 10,000 sentences.

    Raises:
        ValueError: a number is out of range.
    """

    # What is read and written.
    text: Path
    """The text file, UTF-8, one text a line."""
    folder: Path
    """Where the model goes: a folder that does not exist yet, or is empty."""
    tokenizer: Kind = "word"
    """"word", or "character" for text without blanks between its words, such as Chinese."""
    vocabulary_size: int = 4096
    """How many words, or characters, at most; the rarer ones are read as `<unk>`, never written."""
    validation_share: float = 0.05
    """The share of the lines that is set aside."""
    split_seed: int = 0
    """Which lines are set aside; a model and its teachers must share it."""

    # The model.
    architecture: Literal["gpt2", "lstm"] = "gpt2"
    """A transformer of GPT-2's shape, or an LSTM."""
    layers: int = 3
    """How many layers."""
    width: int = 128
    """The size of embeddings and hidden states."""
    heads: int = 4
    """Attention heads (gpt2); they divide the width."""
    longest: int = 64
    """The most tokens that it reads; longer lines are cut into pieces."""
    dropout: float = 0.2
    """The share of activations that is dropped while training."""
    word_dropout: float = 0.0
    """The share of words that is read as `<unk>` while training."""

    # The training.
    epochs: int = 20
    """Passes over the text at most; the learning rate falls along a cosine over them."""
    patience: int = 3
    """Stop after so many epochs without a better validation perplexity."""
    batch: int = 64
    """Lines per step."""
    learning_rate: float = 2e-3
    """AdamW's, at its highest."""
    warm_up: float = 0.05
    """The share of the steps in which the learning rate rises."""
    weight_decay: float = 0.1
    """AdamW's, on matrices."""
    averaging: float = 0.995
    """The saved weights are a moving average: how much of it stays at each step."""
    teachers: tuple[Path, ...] = ()
    """Models pretrained on the same text: this one also learns the mean of what they predict
    (Hinton, Vinyals & Dean 2015)."""
    teacher_weight: float = 0.8
    """How much of the loss is the teachers'."""
    temperature: float = 1.0
    """What the saved logits are divided by. Below 1, the model writes more readable and less varied
    text, and its perplexity is higher."""
    seed: int = 0
    """Fixes first weights, order and dropout."""
    progress: bool = True
    """Show a progress bar."""

    # For the model card.
    data: str = ""
    """What the text is."""
    licence: str = ""
    """The text's licence."""
    command: str = ""
    """What was typed; empty: `textenv pretrain` with these settings."""

    def __post_init__(self) -> None:
        for name in (
            ["layers", "width", "heads", "epochs", "patience", "batch", "learning_rate"]
            + ["temperature"]
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")
        for name in ("dropout", "word_dropout", "averaging", "weight_decay", "warm_up"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"expected 0 ≤ {name} < 1, got {getattr(self, name)}")
        if not 0 < self.validation_share < 1:
            raise ValueError(f"expected 0 < validation_share < 1, got {self.validation_share}")
        if not 0 <= self.teacher_weight <= 1:
            raise ValueError(f"expected 0 ≤ teacher_weight ≤ 1, got {self.teacher_weight}")
        if self.vocabulary_size < 4 or self.longest < 2:
            raise ValueError(
                "expected vocabulary_size ≥ 4 (three pieces are special) and longest ≥ 2, got "
                f"{self.vocabulary_size} and {self.longest}"
            )
        if self.architecture == "gpt2" and self.width % self.heads:
            raise ValueError(
                f"expected heads to divide width, got width={self.width} and heads={self.heads}"
            )


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """What came out.

    Attributes:
        folder: Where the model is.
        perplexity: Of the saved weights on the validation lines: exp of the mean of −log p over
            their known tokens, the end included; `<unk>` and `<s>` have probability 0.
        history: The averaged weights' validation perplexity after each epoch.
        parameters: How many numbers the model has.
        vocabulary_size: V.
        known: The share of the validation tokens that are in the vocabulary.
    """

    folder: Path
    perplexity: float
    history: list[float]
    parameters: int
    vocabulary_size: int
    known: float


def pretrain(config: PretrainConfig) -> PretrainResult:
    """Train a language model on a text file and write it to a folder, whole or not at all.

    Raises:
        TextenvError: the text file is missing, not UTF-8 or too short, the folder is taken, a
            teacher has another vocabulary, or the training diverged.
    """
    lines = read_lines(config.text)
    if config.folder.exists() and (not config.folder.is_dir() or any(config.folder.iterdir())):
        raise TextenvError(f"{str(config.folder)!r} is not an empty folder: name another one")
    training, validation = split(lines, config.validation_share, config.split_seed)
    tokenizer = train_tokenizer(training, config.tokenizer, config.vocabulary_size)
    vocabulary = TokenizerVocabulary(
        for_transformers(tokenizer, config.longest),
        suppressed_tokens=[tokenizer.token_to_id(piece) for piece in (START, UNKNOWN)],
    )
    teachers = [_teacher(folder, vocabulary) for folder in config.teachers]
    learned = encode(vocabulary, training, config.longest)
    set_aside = encode(vocabulary, validation, config.longest)
    with torch.random.fork_rng(devices=[]):  # dropout draws from torch's global generator
        torch.manual_seed(config.seed)
        model, history = _train(_new_model(config, vocabulary), teachers, learned, set_aside, config)
    _sharpen(model, config.temperature)
    with replaced_folder(config.folder) as temporary:
        model.save_pretrained(temporary, dtype=torch.float16)
        if isinstance(model, LSTMLM):  # transformers writes this file itself
            special = {"suppress_tokens": list(vocabulary.suppressed_tokens)}
            (temporary / "generation_config.json").write_text(json.dumps(special), "utf-8")
        result = PretrainResult(
            folder=config.folder,
            perplexity=perplexity(load(str(temporary)), set_aside),  # of what was really stored
            history=history,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            vocabulary_size=vocabulary.size,
            known=1 - _share(set_aside, tokenizer.token_to_id(UNKNOWN)),
        )
        (temporary / "README.md").write_text(model_card(config, result, len(learned)), "utf-8")
    return result


def perplexity(model: LanguageModel, texts: Sequence[Sequence[int]]) -> float:
    """exp of the mean of −log p over all known tokens of some texts but their first.

    Args:
        model: A model that can write all of its vocabulary but the suppressed tokens.
        texts: Ids, as `corpus.encode` gives them.
    """  # noqa: D403
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for ids in batches(texts, 128):
            log_probs, targets = _predictions(model, ids, ids)
            total -= log_probs.gather(1, targets[:, None]).double().sum().item()
            count += len(targets)
    return math.exp(total / count) if count else math.nan


def _train(
    model: LanguageModel,
    teachers: Sequence[LanguageModel],
    training: Sequence[Sequence[int]],
    validation: Sequence[Sequence[int]],
    config: PretrainConfig,
) -> tuple[LanguageModel, list[float]]:
    """Return the moving average of the weights where it did best, and each epoch's perplexity."""
    generator = np.random.default_rng(config.seed)
    average, best, history = copy.deepcopy(model), copy.deepcopy(model), []
    optimizer = _optimizer(model, config)
    steps = config.epochs * math.ceil(len(training) / config.batch)
    bar = tqdm(total=steps, desc="pretrain", unit="step", disable=not config.progress)
    with bar:
        for _ in range(config.epochs):
            model.train()
            for ids in batches(training, config.batch, generator):
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * _schedule(bar.n / steps, config.warm_up)
                loss = _loss(model, teachers, ids, config)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                optimizer.step()
                bar.update()
                _follow(average, model, min(config.averaging, bar.n / (bar.n + 9)))
            history.append(perplexity(average, validation))
            bar.set_postfix(perplexity=f"{history[-1]:.2f}")
            if not math.isfinite(history[-1]):
                raise TextenvError(
                    f"the training diverged in epoch {len(history)} (perplexity {history[-1]}): "
                    f"lower the learning rate of {config.learning_rate}"
                )
            if history[-1] == min(history):
                best = copy.deepcopy(average)
            elif len(history) - 1 - int(np.argmin(history)) >= config.patience:
                break
    return best, history


def _loss(
    model: LanguageModel,
    teachers: Sequence[LanguageModel],
    ids: Int[Tensor, "batch length"],
    config: PretrainConfig,
) -> Float[Tensor, ""]:
    """(1 − w)·E[−log p(target)] + w·E[−Σ q·log p], q being the mean of the teachers."""
    read = ids
    if config.word_dropout:
        assert model.vocabulary is not None
        start, unknown = model.vocabulary.suppressed_tokens
        dropped = (torch.rand(ids.shape) < config.word_dropout) & (ids != start)
        read = torch.where(dropped, unknown, ids)
    log_probs, targets = _predictions(model, read, ids)
    loss = nn.functional.nll_loss(log_probs, targets)
    if not teachers:
        return loss
    with torch.no_grad():
        taught = sum(_predictions(teacher, ids, ids)[0].exp() for teacher in teachers)
    # 0·(−∞) counts as 0
    likely = log_probs.masked_fill(log_probs == -torch.inf, 0.0)
    imitation = -(taught * likely).sum(dim=-1).mean() / len(teachers)
    return (1 - config.teacher_weight) * loss + config.teacher_weight * imitation


def _predictions(
    model: LanguageModel, read: Int[Tensor, "batch length"], ids: Int[Tensor, "batch length"]
) -> tuple[Float[Tensor, "known vocabulary"], Int[Tensor, "known"]]:
    """Return log p(· | the ids before) for each known target, and these targets."""
    inputs, targets = read[:, :-1].clamp(min=0), ids[:, 1:]
    if isinstance(model, LSTMLM):
        logits = model(inputs)[0]
    else:
        assert isinstance(model, CausalLM)
        logits = model.model(input_ids=inputs, use_cache=False).logits
    assert model.vocabulary is not None
    never = model.vocabulary.suppressed_tokens
    known = torch.isin(targets, torch.tensor([PADDING, *never]), invert=True)
    return torch.log_softmax(suppress(logits[known], never), dim=-1), targets[known]


def _new_model(config: PretrainConfig, vocabulary: TokenizerVocabulary) -> LanguageModel:
    if config.architecture == "lstm":
        return LSTMLM(
            vocabulary.size, config.width, config.layers,
            dropout=config.dropout, vocabulary=vocabulary,
        )  # fmt: skip
    from transformers import GPT2Config, GPT2LMHeadModel

    special = {"bos_token_id": vocabulary.start_token, "eos_token_id": vocabulary.end_token}
    network = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary.size,
            n_positions=config.longest,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=min(config.dropout, 0.1),
            pad_token_id=vocabulary.end_token,
            **special,
        )
    )
    network.generation_config.suppress_tokens = list(vocabulary.suppressed_tokens)
    network.generation_config.do_sample = True
    return CausalLM(network, vocabulary)


def _teacher(folder: Path, vocabulary: TokenizerVocabulary) -> LanguageModel:
    teacher = load(str(folder)).eval()
    known = getattr(teacher.vocabulary, "tokenizer", None)
    if known is None or known.get_vocab() != vocabulary.tokenizer.get_vocab():
        raise TextenvError(
            f"the teacher {str(folder)!r} has another vocabulary: pretrain it on the same text, "
            "with the same tokenizer, vocabulary_size, validation_share and split_seed"
        )
    return teacher


def _optimizer(model: nn.Module, config: PretrainConfig) -> torch.optim.Optimizer:
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))


def _schedule(done: float, warm_up: float) -> float:
    """A linear rise, then a cosine down to LAST_RATE."""
    rise = min(1.0, done / warm_up) if warm_up else 1.0
    return rise * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done)))


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, keep: float) -> None:
    for old, new in zip(average.parameters(), model.parameters(), strict=True):
        old.lerp_(new, 1 - keep)


@torch.no_grad()
def _sharpen(model: LanguageModel, temperature: float) -> None:
    """Divide the logits by a temperature, for good: by what comes last before the softmax."""
    last = model.head if isinstance(model, LSTMLM) else model.model.transformer.ln_f
    for parameter in last.parameters():
        parameter.div_(temperature)


def _share(texts: Sequence[Sequence[int]], token: int) -> float:
    predicted = [number for text in texts for number in text[1:]]
    return predicted.count(token) / len(predicted)
