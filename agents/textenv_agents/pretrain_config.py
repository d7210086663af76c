"""The settings of `textenv pretrain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

POSITIVE = (
    "layers", "width", "heads", "epochs", "patience", "batch", "learning_rate", "temperature",
)  # fmt: skip
SHARES = ("dropout", "word_dropout", "averaging", "weight_decay", "warm_up")


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
    tokenizer: Literal["word", "character"] = "word"
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
        for name in POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")
        for name in SHARES:
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
