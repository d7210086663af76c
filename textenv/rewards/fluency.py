"""Perplexity: how a fixed language model likes what was written."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from textenv.rewards.base import Reward
from textenv.rewards.likelihood import log_likelihoods
from textenv.rewards.registry import register

Per = Literal["token", "word", "character"]
PER = ("token", "word", "character")


class Likelihoods(NamedTuple):
    """What a language model says of N texts.

    log_probs: float64 [N], Σ log ρ(y_t | x, y_<t) in nats; −∞ where the model never writes that.
    counts: int64 [N], what this is divided by: tokens, words or characters, and the end.
    """

    log_probs: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]


@register("perplexity")
class Perplexity(Reward):
    """The perplexity of the text under a fixed language model ρ, given the prompt.

    exp(−1/n · Σ_t log ρ(y_t | x, y_<t)), with n = the number of tokens of the text in **ρ's own
    vocabulary**, the end token included: by how many equally likely tokens ρ is surprised at each
    place. Range: 1 … `cap`, **lower is better**: as a reward write `-perplexity("reviews")`, or
    `bleu() - perplexity("reviews")`, whose parts are of very different size: a BLEU lies in
    0 … 1, a perplexity is often 100, so weigh it, as in `bleu() - 0.001 * perplexity()`.

    This is the perplexity *of what the policy writes, under a language model that does not
    learn*: low for fluent text, whether right or wrong, and lowest for dull text that repeats
    itself. How well the policy knows texts that people wrote is another thing of the same name:
    the perplexity *of references, under the policy*, `textenv.metrics.reference_perplexity`.
    It is a metric and no reward, because it does not look at what the policy writes.

    - With `end=True` the end token is the last y_t: the text is judged as a whole one, and one
      that breaks off costs. An empty text then has 1/ρ(end | x). With `end=False` only its own
      tokens count, and an empty text, which has none, earns `cap`: silence must not be the best.
    - A text that ρ never writes (with an unknown word) and all beyond `cap` earn `cap`.
    - Perplexities per token of models with different vocabularies cannot be compared; per word
      or character they can: n = the number of these, plus 1 for the end, if it counts.

    Args:
        lm: A language model's name or folder (see `textenv.models.load`), which is loaded for such
            rewards alone; or a model, which is copied as it is now, so that training it moves no
            reward (and has no JSON form).
        per: What n counts: "token" of ρ, "word" between blanks, or "character".
        end: Whether the end token counts.
        cap: The worst perplexity, finite.
        separator: What stands between prompt and text where neither has a blank there, for models
            that read both in a row: "" for scripts without blanks.
        dtype: Of a model by name. In float64 a text earns the same in every company, within 1e-5;
            "float32" takes half the time and memory, and differs by 1e-5 of the perplexity.
        device: Of a model by name: "cpu", "cuda", …; "auto": the GPU if there is one.

    Raises:
        ValueError: no number where one belongs.
        UnknownNameError: no such model.

    >>> texts = ["A funny and moving film.", "film and A moving funny.", "我爱你。"]
    >>> [round(value, 1) for value in Perplexity()([""] * 3, texts)]
    [6.4, 333.9, 10000.0]
    """

    name = "perplexity"

    def __init__(
        self,
        lm: Any = "reviews",
        *,
        per: Per = "token",
        end: bool = True,
        cap: float = 10_000.0,
        separator: str = " ",
        dtype: str = "float64",
        device: str | None = None,
    ) -> None:
        if per not in PER:
            raise ValueError(f"per must be one of {', '.join(PER)}, got {per!r}")
        if not 1 < cap < math.inf:  # or one text would make a whole sum infinite
            raise ValueError(f"cap must be a finite number above 1, got {cap!r}")
        self.lm = str(lm) if isinstance(lm, Path) else lm
        self.per = per
        self.end = bool(end)
        self.cap = float(cap)
        self.separator = separator
        self.dtype = dtype
        self.device = device
        self.range = (1.0, self.cap)
        self._own = _own(self.lm)

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        """Return the perplexity of each text."""
        log_probs, counts = self.likelihoods(prompts, completions)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            found = np.exp(-log_probs / counts)  # 0/0 where there is nothing: NaN
        return np.where(counts == 0, self.cap, np.clip(found, 1.0, self.cap)).tolist()

    def likelihoods(self, prompts: Sequence[str], completions: Sequence[str]) -> Likelihoods:
        """Return what ρ says of each text, before anything is divided or cut.

        Raises:
            ValueError: the model has no vocabulary, or no end token though that shall count; or a
                text cannot be written in its vocabulary.
        """
        model = self._model
        vocabulary, end = model.vocabulary, self._end_of(model)
        starts = [vocabulary.encode_prompt(prompt) for prompt in prompts]
        texts = [
            vocabulary.encode(self._joined(prompt, text)) + end
            for prompt, text in zip(prompts, completions, strict=True)
        ]
        if self.per == "token":
            counts = [len(text) for text in texts]
        else:
            counts = [len(end) + _number(text, self.per) for text in completions]
        return Likelihoods(log_likelihoods(model, starts, texts), np.array(counts, dtype=np.int64))

    @functools.cached_property
    def _model(self) -> Any:
        if self._own is not None:
            return self._own
        from textenv.catalogue import folder_of

        written = max(path.stat().st_mtime_ns for path in folder_of(self.lm).iterdir())
        return _loaded(self.lm, self.dtype, self.device, written)

    def _end_of(self, model: Any) -> list[int]:
        if model.vocabulary is None:
            raise ValueError(
                "perplexity reads text, and this language model has no vocabulary: hand over one "
                "that has, as in load(model, tokenizer)"
            )
        if not self.end:
            return []
        if model.vocabulary.end_token is None:
            raise ValueError(
                "perplexity counts the end token, and this language model's vocabulary has none: "
                "write end=False"
            )
        return [model.vocabulary.end_token]

    def _joined(self, prompt: str, text: str) -> str:
        """Return the text with what stands before it."""
        from textenv.models import Seq2SeqLM

        bare = not prompt or not text or prompt[-1].isspace() or text[0].isspace()
        return text if bare or isinstance(self._model, Seq2SeqLM) else self.separator + text

    def __getstate__(self) -> dict[str, Any]:
        """A named model is left out: it is loaded again when it is needed."""
        return {name: value for name, value in self.__dict__.items() if name != "_model"}


@functools.lru_cache(maxsize=2)
def _loaded(name: str, dtype: str, device: str | None, written: int) -> Any:
    """Load a model that nobody trains, once for all rewards, and again if its folder changed."""
    from textenv.models import load

    return load(name, dtype=dtype, device=device).requires_grad_(False).eval()


def _own(lm: Any) -> Any:
    """Return a copy of a model in memory; None for a name, which is checked."""
    if not isinstance(lm, str):
        if not hasattr(lm, "score"):
            raise ValueError(
                "lm must be a name, a folder or a textenv.models.LanguageModel, got "
                f"{type(lm).__name__}"
            )
        return copy.deepcopy(lm).requires_grad_(False).eval()
    from textenv.catalogue import folder_of

    folder_of(lm, weights=False)
    return None


def _number(text: str, per: Per) -> int:
    return len(text.split()) if per == "word" else len(text)


perplexity = Perplexity
