"""The two perplexities: of what a policy writes, and of what people wrote.

N = the number of texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from textenv.metrics.intervals import Interval, bootstrap_interval
from textenv.metrics.scores import References, list_of_texts
from textenv.rewards.fluency import Perplexity
from textenv.rewards.likelihood import log_likelihoods
from textenv.rewards.references import references_in

if TYPE_CHECKING:
    from textenv.task import Task


class TextPerplexity(NamedTuple):
    """What a language model says of N texts, and its perplexity on all of them.

    log_probs: float64 [N], Σ log p of each text in nats; −∞ where the model never writes it.
    counts: int64 [N], what is counted in each: its tokens (or words), the end included.
    """

    log_probs: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]

    @property
    def value(self) -> float:
        """exp(−Σ log p / Σ counts) over all texts, so that long ones weigh more; may be ∞."""
        return _perplexity(float(self.log_probs.sum()), int(self.counts.sum()))

    @property
    def by_text(self) -> npt.NDArray[np.float64]:
        """The perplexity of each text, float64 [N]; their mean is not `value`."""
        pairs = zip(self.log_probs.tolist(), self.counts.tolist(), strict=True)
        return np.array([_perplexity(*pair) for pair in pairs], dtype=np.float64)

    def interval(
        self, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
    ) -> Interval:
        """Return `value` with its percentile-bootstrap interval over texts.

        Raises:
            ValueError: there are no texts; or one has probability 0: see `written`.
        """
        impossible = int(np.isinf(self.log_probs).sum())
        if impossible:
            raise ValueError(
                f"the model never writes {impossible} of the {len(self.counts)} texts, so the "
                "perplexity is infinite and has no interval: take .written().interval(), and say "
                "how many are left out"
            )
        rows = np.arange(len(self.counts))

        def value(sample: npt.NDArray[np.float64]) -> float:
            chosen = sample.astype(np.int64)
            return _perplexity(self.log_probs[chosen].sum(), self.counts[chosen].sum())

        generator = np.random.default_rng(seed)
        return bootstrap_interval(
            rows, value, generator, confidence=confidence, resamples=resamples
        )

    def written(self) -> TextPerplexity:
        """Return the same without the texts that the model never writes."""
        kept = np.isfinite(self.log_probs)
        return TextPerplexity(self.log_probs[kept], self.counts[kept])


def perplexity(
    texts: Sequence[str],
    prompts: Sequence[str] | None = None,
    *,
    lm: Any = "reviews",
    per: Literal["token", "word", "character"] = "token",
    end: bool = True,
    separator: str = " ",
    dtype: str = "float64",
    device: str | None = None,
) -> TextPerplexity:
    """The perplexity of texts under a fixed language model: are they fluent?

    Two things are called perplexity. `perplexity` is that of texts that a policy wrote, under a
    language model that does not learn: are they fluent? It falls for dull texts that repeat
    themselves. `reference_perplexity` is that of texts that people wrote, under the policy
    itself: does it know them? It does not look at what the policy writes. Neither can be
    compared with the other, nor across models whose vocabularies differ.

    The mean of the reward `perplexity` is another number: there each text counts the same, and
    none more than `cap`.

    Args:
        texts: N texts.
        prompts: What each of them follows; None: nothing.
        lm: The language model, by name, folder or object; this and all that follows is as of the
            reward.
        per: What is counted.
        end: Whether the end token counts.
        separator: What stands between prompt and text.
        dtype: Of a model by name.
        device: Of a model by name.

    Raises:
        ValueError: another number of prompts; or as of the reward.

    >>> perplexity(["A funny and moving film."]).interval().mean < 10
    True
    """
    written = list_of_texts("texts", texts)
    starts = [""] * len(written) if prompts is None else list_of_texts("prompts", prompts)
    if len(starts) != len(written):
        raise ValueError(f"{len(written)} texts, but {len(starts)} prompts")
    reward = Perplexity(lm, per=per, end=end, separator=separator, dtype=dtype, device=device)
    return TextPerplexity(*reward.likelihoods(starts, written))


def reference_perplexity(
    policy: Any,
    task: Task | None = None,
    *,
    prompts: Sequence[str] | None = None,
    references: References | None = None,
    column: str = "reference",
    end: bool = True,
) -> TextPerplexity:
    """The perplexity of references under the policy itself: does it know them?

    Two things are called perplexity. `perplexity` is that of texts that a policy wrote, under a
    language model that does not learn: are they fluent? It falls for dull texts that repeat
    themselves. `reference_perplexity` is that of texts that people wrote, under the policy
    itself: does it know them? It does not look at what the policy writes. Neither can be
    compared with the other, nor across models whose vocabularies differ.

    Per token of the policy's vocabulary, at temperature 1, uncut. A reference counts with the
    end token after it, unless it ends with a stop token of the task. Of several references of a
    prompt each counts; a prompt without one is left out. A reference longer than `max_tokens` is
    read whole.

    Args:
        policy: A language model.
        task: Whose prompts and references; None: those that follow.
        prompts: N texts, where there is no task.
        references: The right text of each, several, or None.
        column: The task's column with the references.
        end: Whether the end token counts, where there is one.

    Raises:
        ValueError: neither a task nor prompts and references, or both; the column is missing; no
            reference at all; one that cannot be written in the vocabulary.
    """
    if task is None:
        starts, rights, vocabulary, stops = _given(policy, prompts, references)
        ending = vocabulary.end_token
    elif prompts is not None or references is not None:
        raise ValueError("reference_perplexity takes a task, or prompts= and references=, not both")
    else:
        vocabulary, stops, ending = task.vocabulary, task.rules.stop_tokens, task.rules.end_token
        starts = task.prompt_ids
        rights = references_in("reference_perplexity", column, task.columns)
    after = [ending] if end and ending is not None else []
    prompt_ids, text_ids = [], []
    for start, several in zip(starts, rights, strict=True):
        for text in several or ():
            ids = vocabulary.encode(text)
            prompt_ids.append(start)
            text_ids.append(ids if ids and ids[-1] in stops else ids + after)
    if not text_ids:
        raise ValueError(f"reference_perplexity got {len(rights)} prompts, none with a reference")
    counts = np.array([len(ids) for ids in text_ids], dtype=np.int64)
    return TextPerplexity(log_likelihoods(policy, prompt_ids, text_ids), counts)


def _given(
    policy: Any, prompts: Sequence[str] | None, references: References | None
) -> tuple[list[list[int]], list[list[str] | None], Any, tuple[int, ...]]:
    if prompts is None or references is None:
        raise ValueError(
            "reference_perplexity needs a task, or prompts= and references=: give both"
        )
    if len(prompts) != len(references):
        raise ValueError(f"{len(prompts)} prompts, but {len(references)} references")
    vocabulary = getattr(policy, "vocabulary", None)
    if vocabulary is None:
        raise ValueError(
            "reference_perplexity encodes texts, and this policy has no vocabulary: give the task "
            "that has, or a policy made by load(model, tokenizer)"
        )
    rights = references_in("reference_perplexity", "references", {"references": list(references)})
    return [vocabulary.encode_prompt(prompt) for prompt in prompts], rights, vocabulary, ()


def _perplexity(log_prob: float, count: int) -> float:
    if count == 0:
        return math.nan  # nothing was counted
    mean = -log_prob / count
    return math.exp(mean) if mean < 700 else math.inf  # where exp overflows
