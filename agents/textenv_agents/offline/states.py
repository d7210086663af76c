"""What the learner reads of logged texts: hidden states, actions, rewards, and what came after.

B = texts, T = the longest, M = their actions, H = hidden width, R = M + B states: one an action,
and the one behind the last token of each text.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from textenv.logged import LoggedTexts
from textenv.logged.texts import check_logged
from textenv.models import LanguageModel
from textenv.models.chosen import chosen
from textenv_agents.offline.losses import lambda_targets

PART = 256  # texts that are read at once where no gradient is needed


class States(NamedTuple):
    """The states of B texts, text after text; behind each text's states the one after its end.

    hidden: [R, H]; zeros where the rules ended the text: nobody acts there.
    acts: bool [R], where a token was written; False at the B states behind the ends.
    over: bool [R], where the rules ended the text: worth 0.
    actions: int64 [M], the tokens that were written.
    rewards: [M], what each was paid; float32 at least.
    log_probs: [M], log π(a|s) of the language model, with gradient; None unless asked for.
    """

    hidden: Float[Tensor, "r width"]
    acts: Bool[Tensor, " r"]
    over: Bool[Tensor, " r"]
    actions: Int[Tensor, " m"]
    rewards: Float[Tensor, " m"]
    log_probs: Float[Tensor, " m"] | None = None

    def before_and_after(
        self, values: Float[Tensor, " r"]
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Part what is known of each state into that of s_t and that of s_{t+1}, [M] each."""
        return values[self.acts], values[self.acts.roll(1)]  # the last state is behind an end

    def targets(
        self, values: Float[Tensor, " r"], discount: float, trace: float
    ) -> Float[Tensor, " m"]:
        """What each Q(s_t, a_t) should be: see `losses.lambda_targets`.

        Args:
            values: V of each state, 0 where the rules ended the text.
            discount: γ.
            trace: λ.
        """
        ends = (~self.acts).nonzero()[:, 0]
        before = nn.functional.pad(ends[:-1], (1, 0), value=-1)
        length = ends - before - 1  # [B]
        real = torch.arange(int(length.max()), device=ends.device) < length[:, None]  # [B, T]
        # Behind a text's last token nothing is paid, and all is worth what is worth there.
        v_tp1 = values[ends][:, None].repeat(1, real.shape[1])
        v_tp1[real] = self.before_and_after(values)[1]
        r_t, discount_t = torch.zeros_like(v_tp1), torch.ones_like(v_tp1)
        r_t[real], discount_t[real] = self.rewards.to(v_tp1), discount
        return lambda_targets(r_t, discount_t, v_tp1, trace)[real]

    def detached(self) -> States:
        """The same without gradient, and without log-probabilities."""
        return self._replace(hidden=self.hidden.detach(), log_probs=None)


class Reader:
    """Reads texts by a language model, again at each update or once for all.

    Args:
        lm: The language model.
        texts: All the logged texts.
        frozen: Whether the language model stays as it is. Then everything is read here and kept:
            (M + N)·H numbers.
    """

    def __init__(self, lm: LanguageModel, texts: LoggedTexts, *, frozen: bool) -> None:
        check_logged(texts)
        lm.check(texts.prefixes)
        texts.check_vocabulary(lm.vocabulary, "the language model")
        if not len(texts):
            raise ValueError("expected logged texts to learn from, got none")
        self.lm, self.texts = lm, texts
        self._known: States | None = None
        if frozen:
            parts = np.split(np.arange(len(texts)), np.arange(PART, len(texts), PART))
            with torch.no_grad():
                read = [self._read(texts.rows(part)).detached() for part in parts]
            fields = [torch.cat(field) for field in list(zip(*read, strict=True))[:-1]]
            self._known = States(*fields)
            self._first = np.concatenate([[0], np.cumsum(texts.prefixes.written + 1)])

    def states(self, rows: npt.NDArray[np.int64]) -> States:
        """Return the states of some texts; with gradient where the language model is not frozen.

        Args:
            rows: int64 [B], which texts, in rising order.
        """
        known = self._known
        if known is None:
            return self._read(self.texts.rows(rows))
        if len(rows) == len(self.texts):
            return known
        spans = [np.arange(self._first[row], self._first[row + 1]) for row in rows.tolist()]
        every, acting = np.concatenate(spans), np.concatenate([span[:-1] for span in spans])
        of_texts = np.repeat(rows, self.texts.prefixes.written[rows])
        device = known.hidden.device
        r = torch.as_tensor(every, device=device)
        m = torch.as_tensor(acting - of_texts, device=device)  # each text before has one state more
        return States(
            known.hidden[r], known.acts[r], known.over[r], known.actions[m], known.rewards[m]
        )

    def _read(self, texts: LoggedTexts) -> States:
        prefixes, device = texts.prefixes, self.lm.device
        row, step = np.nonzero(texts.written)
        said = chosen(self.lm, prefixes, row, step)  # no array of M × V numbers
        states = said.hidden
        ends = np.cumsum(prefixes.written + 1) - 1  # the states behind the texts
        over = np.zeros(len(row) + len(texts), dtype=np.bool_)
        over[ends] = texts.terminated
        acts = torch.ones(len(over), dtype=torch.bool, device=device)
        acts[torch.as_tensor(ends, device=device)] = False
        hidden = states.new_zeros(len(over), states.shape[1]).index_put((acts,), states)
        cut = ~texts.terminated
        if cut.any():  # V of these states is a target: it needs no gradient
            behind = self.lm.next(prefixes.rows(cut)).hidden.to(hidden.dtype)
            hidden = hidden.index_put((torch.as_tensor(ends[cut], device=device),), behind)
        return States(
            hidden,
            acts,
            torch.as_tensor(over, device=device),
            torch.as_tensor(prefixes.tokens[row, prefixes.start + step], device=device),
            # Half precision would round what is paid.
            torch.as_tensor(
                texts.rewards[row, step],
                dtype=torch.promote_types(hidden.dtype, torch.float32),
                device=device,
            ),
            said.log_probs,
        )
