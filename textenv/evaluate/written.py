"""What one policy wrote, and what is known of each text: what a report is computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Written:
    """N texts of one policy, in the order in which their prompts were drawn.

    Attributes:
        prompts: What each text goes on from.
        texts: What was written.
        token_ids: The ids of each text, without the end token.
        tokens: [N], how many tokens were written, the end token included.
        rewards: [N], what each text was paid.
        parts: What each term of a sum paid, weighted, [N] by the term's name.
        faults: bool [N], texts whose reward failed and was left out; None: none did.
        units: int [N], which texts were drawn together: texts of one draw of a prompt share a
            number 0 … G − 1. None: each text by itself.
        columns: The task's columns, lists of N; "reference" holds the right texts.
        kl: [N], Σ_t KL(π(·|s_t)‖ρ(·|s_t)) in nats; None: no reference model was asked.
        log_probs: [N], log-probability of each text, the end token included, under a fixed
            language model; None: none was asked.
        reference_log_probs: [N], the policy's own log-probability of the right text; None: there
            are none, or none was asked.
        reference_tokens: [N], how many tokens that text has, the end token included.

    Raises:
        ValueError: lists of different lengths, or no text.
    """

    prompts: Sequence[str]
    texts: Sequence[str]
    token_ids: Sequence[Sequence[int]]
    tokens: npt.NDArray[np.int64]
    rewards: Array
    parts: Mapping[str, Array] = field(default_factory=dict)
    faults: npt.NDArray[np.bool_] | None = None
    units: npt.NDArray[np.int64] | None = None
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    kl: Array | None = None
    log_probs: Array | None = None
    reference_log_probs: Array | None = None
    reference_tokens: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if not len(self.texts):
            raise ValueError("expected at least one text, got none")
        flat = {name: value for name, value in vars(self).items() if value is not None}
        given = {**flat.pop("parts"), **flat.pop("columns"), **flat}
        for name, values in given.items():
            if len(values) != len(self.texts):
                raise ValueError(f"{name!r} has {len(values)} entries for {len(self.texts)} texts")

    @property
    def counted(self) -> npt.NDArray[np.bool_]:
        """Bool [N]: texts whose reward did not fail."""
        if self.faults is None:
            return np.ones(len(self.texts), dtype=np.bool_)
        return ~self.faults

    @property
    def drawn(self) -> npt.NDArray[np.int64]:
        """Int64 [N], the unit of each text."""
        return np.arange(len(self.texts)) if self.units is None else self.units

    @property
    def references(self) -> list[list[str] | None] | None:
        """The right texts of each prompt, None where it has none; None: no prompt has any."""
        column = self.columns.get("reference")
        if column is None or all(right is None for right in column):
            return None
        return [
            right if right is None else [right] if isinstance(right, str) else list(right)
            for right in column
        ]
