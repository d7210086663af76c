"""The language-model protocol: a function from token prefixes to next-token distributions.

`next` answers for the prefixes' ends, without gradient, and may remember what it has read;
`score` is one teacher-forced pass over whole texts, with gradient. Nobody passes caches around.

B = batch, T = the columns for writing, V = vocabulary, H = hidden width.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from textenv.errors import TextenvError
from textenv.files import replaced_folder
from textenv.models.memory import Next
from textenv.models.sampling import Kept
from textenv.prefixes import Prefixes
from textenv.vocabulary import Vocabulary, load_vocabulary, save_vocabulary


class Score(NamedTuple):
    """What a model says of whole texts; 0 where a position does not count.

    counts: bool [B, T], the positions that do.
    log_probs: [B, T], log π(a_t | s_t) of what is written.
    entropy: [B, T], of π(· | s_t); None unless asked for.
    hidden: [B, T, H], the state from which token t is predicted; None unless asked for.
    distributions: [N, V], log π(· | s_t) of the N positions that count, row by row; None unless
        asked for.
    """

    counts: Tensor
    log_probs: Tensor
    entropy: Tensor | None = None
    hidden: Tensor | None = None
    distributions: Tensor | None = None


class OutputLayer(NamedTuple):
    """The linear layer that makes logits of hidden states; those from V on are cut.

    weight: [≥ V, H].
    bias: [≥ V], or None.
    suppressed: Ids that are never written.
    """

    weight: Tensor
    bias: Tensor | None
    suppressed: tuple[int, ...]


class LanguageModel(nn.Module, ABC):
    """A language model with V tokens; subclasses say how it reads.

    Attributes:
        vocabulary: Its vocabulary, or None for a model made of numbers alone.
        vocabulary_size: V.
        hidden_size: H.
    """

    model_type: ClassVar[str]

    def __init__(self, vocabulary: Vocabulary | None, vocabulary_size: int) -> None:
        super().__init__()
        if vocabulary is not None and vocabulary.size != vocabulary_size:
            raise ValueError(
                f"the vocabulary has {vocabulary.size} tokens, the model {vocabulary_size}"
            )
        self.vocabulary = vocabulary
        self.vocabulary_size = vocabulary_size

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """H."""

    @abstractmethod
    def read(
        self, prefixes: Prefixes, rows: Int[np.ndarray, " n"], steps: Int[np.ndarray, " n"]
    ) -> tuple[Float[Tensor, "n vocabulary"], Float[Tensor, "n width"]]:
        """Read whole texts once; return what chosen tokens are predicted from, with gradient.

        Args:
            prefixes: Whole texts.
            rows: Which text, for each of n tokens.
            steps: Which of its written tokens.

        Returns:
            The logits and the hidden states just before these tokens.
        """

    @property
    def output_layer(self) -> OutputLayer | None:
        """What makes the logits, where a linear layer of `read_states` does; None: more than that.

        `textenv.models.chosen` then computes log-probabilities a few positions at a time.
        """
        return None

    def read_states(
        self, prefixes: Prefixes, rows: Int[np.ndarray, " n"], steps: Int[np.ndarray, " n"]
    ) -> Float[Tensor, "n width"]:
        """Return the hidden states of `read` without the logits, where there is `output_layer`."""
        raise NotImplementedError(f"{type(self).__name__} has no output_layer: use read")

    @abstractmethod
    def next(self, prefixes: Prefixes) -> Next:
        """Return the logits and the hidden state at the end of each prefix, without gradient."""

    def score(
        self,
        prefixes: Prefixes,
        *,
        sampling: Kept | None = None,
        written: Bool[np.ndarray, "batch time"] | None = None,
        entropy: bool = False,
        hidden: bool = False,
        distributions: bool = False,
    ) -> Score:
        """Return the log-probabilities of what is written, in one pass, with gradient.

        Args:
            prefixes: Whole texts.
            sampling: What sampling left at each step: all distributions are those that it left.
                None: the model's own.
            written: The positions that count, bool [B, T]; None: all that are written.
            entropy: Return the entropies too.
            hidden: Return the hidden states too.
            distributions: Return log π(· | s_t) too.
        """
        self.check(prefixes)
        counts = prefixes.written_mask
        if written is not None:
            counts &= written
        rows, steps = np.nonzero(counts)  # padding is never computed
        logits, states = self.read(prefixes, rows, steps) if len(prefixes) else self._no_rows()
        if sampling is not None:
            logits = sampling.apply(logits, rows, steps)
        tokens = torch.as_tensor(prefixes.tokens[rows, prefixes.start + steps], device=self.device)
        log_probs = torch.log_softmax(logits, dim=-1)  # [N, V]
        where = torch.as_tensor(counts, device=self.device)

        def spread(values: Tensor) -> Tensor:
            empty = values.new_zeros((*where.shape, *values.shape[1:]))
            return empty.index_put((where,), values)

        return Score(
            where,
            spread(log_probs.gather(-1, tokens[:, None])[:, 0]),
            spread(entropies(log_probs)) if entropy else None,
            spread(states) if hidden else None,
            log_probs if distributions else None,
        )

    @property
    def refills(self) -> bool:
        """Whether one row can begin a new text while the others go on, at the price of that row.

        Where it cannot, `next` gives the same answers, and reads everything again to do so.
        """
        return True

    def _no_rows(self) -> tuple[Tensor, Tensor]:
        """Logits and hidden states of nothing, [0, V] and [0, H]."""
        parameter = next(self.parameters())
        return parameter.new_zeros(0, self.vocabulary_size), parameter.new_zeros(
            0, self.hidden_size
        )

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def forget(self) -> None:
        """Drop what `next` remembers; needed after weights were written through `.data`."""

    def check(self, prefixes: Prefixes) -> None:
        """Refuse prefixes of another vocabulary, or with ids that are none.

        Raises:
            ValueError: their "nothing" is not this model's V, or an id lies outside 0 … V.
        """
        if prefixes.nothing != self.vocabulary_size:
            raise ValueError(
                f"the prefixes have a vocabulary of {prefixes.nothing} tokens, this "
                f"{type(self).__name__} has {self.vocabulary_size}"
            )
        tokens = prefixes.tokens
        if tokens.size and not 0 <= tokens.min() <= tokens.max() <= self.vocabulary_size:
            raise ValueError(
                f"ids lie in 0 … {self.vocabulary_size - 1}, and are {self.vocabulary_size} where "
                f"there is nothing; these prefixes hold {tokens.min()} … {tokens.max()}"
            )

    # Saving: config.json, model.safetensors and the vocabulary.

    def settings(self) -> dict[str, Any]:
        """Return the constructor's keywords, for config.json."""
        return {"vocabulary_size": self.vocabulary_size}

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write the model and its vocabulary into a folder, whole or not at all.

        Args:
            folder: Where to; what is there is replaced.
            dtype: Store the weights in this type; None: as they are.
        """
        with replaced_folder(folder) as temporary:
            config = {"model_type": self.model_type, **self.settings()}
            (temporary / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
            weights = {
                name: (tensor.to(dtype) if dtype else tensor).contiguous()
                for name, tensor in self.state_dict().items()
            }
            save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
            if self.vocabulary is not None:
                save_vocabulary(self.vocabulary, temporary)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> LanguageModel:
        """Read what `save_pretrained` wrote; safetensors only.

        Raises:
            TextenvError: the folder holds another kind of model, none, or a damaged one.
        """
        folder = Path(folder)
        config = read_config(folder)
        if config.pop("model_type", None) != cls.model_type:
            raise TextenvError(f"{str(folder)!r} holds no {cls.__name__}: use textenv.models.load")
        config = {key: value for key, value in config.items() if not key.endswith("_token_id")}
        known = (folder / "vocabulary.json").is_file() or (folder / "tokenizer.json").is_file()
        vocabulary = load_vocabulary(folder) if known else None
        try:
            with torch.random.fork_rng(devices=[]):  # first weights are drawn, then overwritten
                model = cls(vocabulary=vocabulary, **config)
            weights = load_file(folder / "model.safetensors")
            own = model.state_dict()
            model.load_state_dict({k: v.to(own[k]) if k in own else v for k, v in weights.items()})
        except (OSError, SafetensorError, TypeError, ValueError, RuntimeError) as error:
            raise TextenvError(f"{str(folder)!r} holds no whole {cls.__name__}: {error}") from error
        return model


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json.

    Raises:
        TextenvError: there is none, or it is no JSON.
    """
    try:
        return json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TextenvError(f"{str(folder)!r} is no model folder: {error}") from error


def check_ids(vocabulary: Vocabulary, ids: int) -> None:
    """Refuse a vocabulary with ids that a model lacks.

    Raises:
        ValueError: it has more than the model's.
    """
    if ids < vocabulary.size:
        raise ValueError(
            f"the tokenizer has {vocabulary.size} ids, the model only {ids}: they do not belong "
            "together"
        )


def entropies(log_probs: Float[Tensor, "*batch vocabulary"]) -> Float[Tensor, "*batch"]:
    """H = −Σ p·log p, where 0·(−∞) counts as 0; no NaN in the gradient either."""
    finite = log_probs.masked_fill(log_probs == -torch.inf, 0.0)
    return -(log_probs.exp() * finite).sum(dim=-1)


def kl_divergences(
    log_probs: Float[Tensor, "*batch vocabulary"], reference: Float[Tensor, "*batch vocabulary"]
) -> Float[Tensor, "*batch"]:
    """KL(π‖ρ) = Σ π·(log π − log ρ), where 0·(−∞) counts as 0; ≥ 0, and exactly 0 for π = ρ.

    Args:
        log_probs: log π.
        reference: log ρ.
    """
    ratio = (log_probs - reference).masked_fill(log_probs == -torch.inf, 0.0)
    return (log_probs.exp() * ratio).sum(dim=-1)


def divergences(score: Score, reference: Score) -> Float[Tensor, "batch time"]:
    """KL(π(·|s_t)‖ρ(·|s_t)) at each position that counts, with gradient, 0 elsewhere.

    Args:
        score: What π says of the texts, distributions included.
        reference: What ρ says of the same texts.
    """
    assert score.distributions is not None
    assert reference.distributions is not None
    steps = kl_divergences(score.distributions, reference.distributions)
    return steps.new_zeros(score.counts.shape).index_put((score.counts,), steps)


def suppress(logits: Tensor, tokens: tuple[int, ...]) -> Tensor:
    """Set the logits of tokens that are never written to −∞, in place."""
    if logits.element_size() < 4:  # in half precision log-probabilities would be off by a percent
        logits = logits.float()
    if not tokens:
        return logits
    never = torch.tensor(tokens, device=logits.device)
    return logits.index_fill_(-1, never, -torch.inf)
