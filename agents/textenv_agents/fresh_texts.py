"""The texts of one policy, or of several by the same draws, and what models say of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from textenv.evaluate import Written
from textenv.metrics import reference_perplexity
from textenv.models import LanguageModel, Prefixes
from textenv.models.sampling import Sampling
from textenv.rewards.references import references_in
from textenv_agents.evaluation import ROWS, write


class FreshTexts:
    """Writes each policy's texts by the same draws, and asks models about them.

    Args:
        envs: As `evaluation.environments` makes it.
        reference: What KL and perplexity are measured by.
        prompts: int64 [N], which prompt each text continues.
        uniforms: float64 [N, T], what chooses its tokens.
        units: int64 [N], which texts belong to one draw of a prompt.
        sampling: Temperature and cuts.
        wished: The names of the measures; None: all.
    """

    def __init__(
        self,
        envs: Any,
        reference: LanguageModel,
        prompts: npt.NDArray[np.int64],
        uniforms: npt.NDArray[np.float64],
        units: npt.NDArray[np.int64],
        sampling: Sampling,
        wished: set[str] | None,
    ) -> None:
        self.envs, self.task = envs, envs.unwrapped.task
        self.reference = reference
        self.prompts, self.uniforms, self.units = prompts, uniforms, units
        self.sampling = sampling
        self.wished = wished

    def of(self, policy: LanguageModel) -> Written:
        """Write one policy's texts."""
        task, draws = self.task, (self.prompts, self.uniforms)
        fresh = write(self.envs, policy, self.reference, *draws, sampling=self.sampling)
        episodes = fresh.episodes
        prefixes = episodes.prefixes
        texts = task.texts(prefixes.state(self.prompts), range(len(self.prompts)))
        cut = episodes.kept.bits is not None or episodes.kept.temperature != 1
        log_probs = _log_probs(self.reference, prefixes) if cut else fresh.log_probs
        rights = {}
        if "reference" in task.columns and self._wishes("reference_perplexity"):
            rights = self._of_right_texts(policy)
        return Written(
            prompts=texts.prompts,
            texts=texts.completions,
            token_ids=texts.completion_ids,
            tokens=prefixes.written,
            rewards=episodes.rewards.sum(axis=1),
            parts=episodes.parts,
            faults=episodes.faults,
            units=self.units,
            columns=texts.columns,
            kl=fresh.kl,
            log_probs=log_probs,
            **rights,
        )

    def _of_right_texts(self, policy: LanguageModel) -> dict[str, npt.NDArray[Any]]:
        """What the policy itself says of the right texts of each drawn prompt.

        Several of a prompt count together; one that has none has 0 tokens.
        """
        drawn_prompts, places = np.unique(self.prompts, return_inverse=True)
        columns = {name: [values[i] for i in drawn_prompts.tolist()]
                   for name, values in self.task.columns.items()}  # fmt: skip
        prompts = [self.task.prompts[i] for i in drawn_prompts.tolist()]
        rights = references_in("reference_perplexity", "reference", columns)
        numbers = [len(several or ()) for several in rights]
        log_probs, tokens = np.zeros(len(numbers)), np.zeros(len(numbers), dtype=np.int64)
        if any(numbers):
            said = reference_perplexity(
                policy, self.task.with_changes(prompts=prompts, columns=columns)
            )
            owner = np.repeat(np.arange(len(numbers)), numbers)
            np.add.at(log_probs, owner, said.log_probs)
            np.add.at(tokens, owner, said.counts)
        return {"reference_log_probs": log_probs[places], "reference_tokens": tokens[places]}

    def _wishes(self, name: str) -> bool:
        return self.wished is None or name in self.wished


def _log_probs(model: LanguageModel, prefixes: Prefixes) -> npt.NDArray[np.float64]:
    """Return log p of each text under a model as it is, a part at a time."""
    parts = np.split(np.arange(len(prefixes)), np.arange(ROWS, len(prefixes), ROWS))
    with torch.no_grad():
        scores = [model.score(prefixes.rows(part)).log_probs.sum(dim=1) for part in parts]
    return torch.cat(scores).double().cpu().numpy()
