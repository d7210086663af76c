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

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from textenv.errors import TextenvError
from textenv.files import replaced_folder
from textenv.models import LSTMLM, CausalLM, LanguageModel, load
from textenv.models.base import suppress
from textenv.models.modules import dropout_off
from textenv.vocabulary import TokenizerVocabulary
from textenv_agents.corpus import PADDING, batches, encode, read_lines, split
from textenv_agents.model_card import model_card
from textenv_agents.new_model import new_model, sharpen
from textenv_agents.pretrain_config import PretrainConfig
from textenv_agents.tokenizer import START, UNKNOWN, for_transformers, train_tokenizer

__all__ = ["PretrainConfig", "PretrainResult", "perplexity", "pretrain"]

CLIP = 1.0  # gradients are shortened to this norm
LAST_RATE = 0.02  # the share of the learning rate that is left at the end


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
    with torch.random.fork_rng(devices=[]):  # dropout draws from torch's global generator
        torch.manual_seed(config.seed)
        return _pretrain(config, lines)


def perplexity(model: LanguageModel, texts: Sequence[Sequence[int]]) -> float:
    """Return exp of the mean of −log p over all known tokens of some texts but their first.

    Args:
        model: A model that can write all of its vocabulary but the suppressed tokens.
        texts: Ids, as `corpus.encode` gives them.
    """
    total, count = 0.0, 0
    with torch.no_grad(), dropout_off(model):
        for ids in batches(texts, 128):
            log_probs, targets = _predictions(model, ids, ids)
            total -= log_probs.gather(1, targets[:, None]).double().sum().item()
            count += len(targets)
    return torch.tensor(total / count, dtype=torch.float64).exp().item()


def _pretrain(config: PretrainConfig, lines: list[str]) -> PretrainResult:
    training, validation = split(lines, config.validation_share, config.split_seed)
    tokenizer = train_tokenizer(training, config.tokenizer, config.vocabulary_size)
    start, unknown = (tokenizer.get_vocab()[piece] for piece in (START, UNKNOWN))
    vocabulary = TokenizerVocabulary(
        for_transformers(tokenizer, config.longest), suppressed_tokens=[start, unknown]
    )
    teachers = [_teacher(folder, vocabulary) for folder in config.teachers]
    learned = encode(vocabulary, training, config.longest)
    set_aside = encode(vocabulary, validation, config.longest)
    first = new_model(config, vocabulary)
    model, history = _train(first, teachers, learned, set_aside, config)
    sharpen(model, config.temperature)
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
            known=1 - _share(set_aside, unknown),
        )
        (temporary / "README.md").write_text(model_card(config, result, len(learned)), "utf-8")
    return result


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
    step = 0
    with tqdm(total=steps, desc="pretrain", unit="step", disable=not config.progress) as bar:
        for _ in range(config.epochs):
            model.train()
            for ids in batches(training, config.batch, generator):
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * _schedule(step / steps, config.warm_up)
                loss = _loss(model, teachers, ids, config)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                optimizer.step()
                step += 1
                bar.update()
                # The first average is short: the weights that it starts from are random.
                _follow(average, model, keep=min(config.averaging, step / (step + 9)))
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
    count = max(1, len(targets))  # none where all words are unknown
    loss = nn.functional.nll_loss(log_probs, targets, reduction="sum") / count
    if not teachers:
        return loss
    with torch.no_grad():
        taught = sum(_predictions(teacher, ids, ids)[0].exp() for teacher in teachers)
    likely = log_probs.masked_fill(log_probs == -torch.inf, 0.0)  # 0·(−∞) counts as 0
    imitation = -(taught * likely).sum() / (count * len(teachers))
    return (1 - config.teacher_weight) * loss + config.teacher_weight * imitation


def _predictions(
    model: LanguageModel, read: Int[Tensor, "batch length"], ids: Int[Tensor, "batch length"]
) -> tuple[Float[Tensor, "known vocabulary"], Int[Tensor, " known"]]:
    """Return log p(· | the ids before) for each known target, and these targets."""
    inputs, targets = read[:, :-1].clamp(min=0), ids[:, 1:]
    if isinstance(model, LSTMLM):
        logits = model(inputs)[0]
    else:
        assert isinstance(model, CausalLM)
        everything = torch.ones_like(inputs)  # what lies behind a text's end is not looked at
        logits = model.model(input_ids=inputs, attention_mask=everything, use_cache=False).logits
    assert model.vocabulary is not None
    never = model.vocabulary.suppressed_tokens
    known = torch.isin(targets, torch.tensor([PADDING, *never]), invert=True)
    return torch.log_softmax(suppress(logits[known], never), dim=-1), targets[known]


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


def _share(texts: Sequence[Sequence[int]], token: int) -> float:
    predicted = [number for text in texts for number in text[1:]]
    return predicted.count(token) / len(predicted)
