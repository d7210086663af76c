"""A judge that is a local language model: the log-probability of each answer, nothing is parsed.

n = questions, A = answers, V = vocabulary. No torch until a question is asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from textenv.catalogue import ModelHandle
from textenv.judges.backend import Float64, JudgeError, Outcome, check_apart
from textenv.judges.chat import ChatFormat, defused
from textenv.judges.template import Template
from textenv.limits import max_positions
from textenv.prefixes import Prefixes

_SHARED = 16  # tokens that all questions begin with, from which on they are read once


class LocalModel:
    """A local language model as a judge.

    Each answer's log-probability after the question is exact, over all its tokens; answers may
    have several. A question is put into the chat format of the model where it has one and the
    template wants it; special tokens that are spelled out in a text are broken by a blank, so
    that no text can end its turn and speak as somebody else.

    Args:
        lm: A name ("smollm2", "reviews"), a folder, or a `LanguageModel` with a vocabulary.
        batch_size: How many questions are read at once.
        chat_template: The chat format, as transformers writes it (Jinja). None: the model's own.

    Raises:
        UnknownNameError: neither a known name nor a folder.
        ValueError: something else.
    """

    def __init__(self, lm: Any, *, batch_size: int = 32, chat_template: str | None = None) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be an integer ≥ 1, got {batch_size!r}")
        if lm is None:
            raise ValueError("a local judge needs lm=, a name, a folder or a LanguageModel")
        self.lm = lm
        self.batch_size = batch_size
        self.chat_template = chat_template
        self._named = isinstance(lm, str | Path)
        self.name = str(lm) if self._named else f"a {type(lm).__name__} in memory"
        self._handle = ModelHandle(lm)
        self._format: ChatFormat | None = None
        self._digest: tuple[Any, str] | None = None

    @property
    def chats(self) -> bool:
        """Whether the model has a chat format."""
        return self._chat_format().template is not None

    def identity(self, template: Template) -> dict[str, Any]:
        """As `Backend.identity`: a digest of all weights, the vocabulary and the chat format."""
        from textenv.models.modules import reading_key

        model = self._model()
        key = reading_key(model)
        if self._digest is None or self._digest[0] != key:  # it may be trained in between
            self._digest = (key, _digest(model))
        return {"model": self._digest[1], "chat": self._chat_format().identity(template.chat)}

    def ask(self, template: Template, questions: Sequence[str]) -> Iterator[dict[int, Outcome]]:
        """As `Backend.ask`; batches of questions of about equal length.

        Raises:
            ValueError: the model cannot write one of the answers.
        """
        answers = self._answers(template)
        longest = max(map(len, answers))
        positions = max_positions(getattr(getattr(self._model(), "model", None), "config", {}))
        rows: dict[int, list[int]] = {}
        for number, question in enumerate(questions):
            try:
                rows[number] = self._encoded(template, question)
            except ValueError as error:  # a word that is not in a small vocabulary
                yield {number: JudgeError(f"the judge {self.name} cannot read it: {error}")}
                continue
            needed = len(rows[number]) + longest - 1  # the last token is predicted, never read
            if positions is not None and needed > positions:
                del rows[number]
                yield {number: self._too_long(needed, longest, positions)}
        order = sorted(rows, key=lambda number: len(rows[number]))
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            said = self._read([rows[number] for number in batch], answers)
            yield dict(zip(batch, said, strict=True))

    def _model(self) -> Any:
        model = self._handle.load()
        if model.vocabulary is None:
            raise ValueError(
                f"the judge, {self.name}, has no vocabulary, so that it cannot read a question: "
                "give a model with one"
            )
        return model

    def _chat_format(self) -> ChatFormat:
        if self._format is None:
            self._format = ChatFormat.of(self.lm, self._handle.vocabulary(), self.chat_template)
        return self._format

    def _encoded(self, template: Template, question: str) -> list[int]:
        vocabulary = self._model().vocabulary
        bare = defused(question, vocabulary)
        if template.chat and self.chats:
            rendered = self._chat_format().render(bare, template.system)
            return list(vocabulary.encode(rendered))  # the format brings its own start token
        return list(vocabulary.encode_prompt(bare))

    def _answers(self, template: Template) -> list[list[int]]:
        model = self._model()
        joint = "" if template.chat and self.chats else template.joint
        encoded = [list(model.vocabulary.encode(joint + answer)) for answer in template.answers]
        never = set(model.vocabulary.suppressed_tokens)
        for answer, ids in zip(template.answers, encoded, strict=True):
            if not ids or never & set(ids):
                raise ValueError(
                    f"the judge {self.name} cannot write the answer {answer!r}, which is not in "
                    f"its vocabulary: take another template than {template.name!r}, or a model "
                    "with a larger vocabulary"
                )
        check_apart(encoded, list(template.answers), self.name)
        return encoded

    def _read(self, rows: list[list[int]], answers: list[list[int]]) -> Float64:
        """Return log p(answer | question), float64 [n, A]: Σ over the answer's tokens.

        The model is asked once for each beginning of an answer, which several may share: " 1" and
        " 2" are a blank and a digit for some tokenizers.
        """
        import torch

        model = self._model()
        begun = {tuple(answer[:length]) for answer in answers for length in range(len(answer))}
        totals = np.zeros((len(rows), len(answers)))
        with torch.no_grad():
            shared = _common(rows)
            if self._named and shared >= _SHARED and len(rows) > 1:  # read once, remembered below
                model.next(_prefixes([rows[0][:shared]], model.vocabulary_size))
            for begin in sorted(begun, key=len):
                logits = self._after([[*row, *begin] for row in rows])
                log_probs = torch.log_softmax(logits.double(), dim=-1).cpu().numpy()  # [n, V]
                for place, answer in enumerate(answers):
                    if len(answer) > len(begin) and tuple(answer[: len(begin)]) == begin:
                        totals[:, place] += log_probs[:, answer[len(begin)]]
            if self._named:
                model.forget()  # nobody else asks this model, and its memory is large
        return totals

    def _after(self, rows: list[list[int]]) -> Any:
        """What comes after so many tokens, as logits [n, V]."""
        model = self._model()
        if self._named:
            return model.next(_prefixes(rows, model.vocabulary_size)).logits
        # A model that others ask too keeps what it remembers for them: `score` remembers nothing.
        asked = _prefixes(rows, model.vocabulary_size, written=1)
        return model.score(asked, distributions=True).distributions

    def _too_long(self, needed: int, longest: int, positions: int) -> JudgeError:
        return JudgeError(
            f"the judge {self.name} reads at most {positions} tokens, and the question with this "
            f"text and an answer of {longest} has {needed}: shorten the text or the template by "
            f"{needed - positions}, or take a model with more positions"
        )


def _prefixes(rows: Sequence[list[int]], nothing: int, written: int = 0) -> Prefixes:
    """Put rows before one column, and behind it as many tokens, whichever, as are asked about."""
    start = max(map(len, rows))
    tokens = np.full((len(rows), start + written), nothing, dtype=np.int64)
    for filled, row in zip(tokens, rows, strict=True):
        filled[start - len(row) : start] = row
    tokens[:, start:] = 0
    return Prefixes(tokens, start, nothing, np.full(len(rows), written, dtype=np.int64))


def _common(rows: list[list[int]]) -> int:
    """How many tokens all rows begin with; each keeps one of its own to be asked about."""
    least, greatest = min(rows), max(rows)  # in the order of words: what these two share, all do
    same = 0
    for one, other in zip(least, greatest, strict=False):
        if one != other:
            break
        same += 1
    return min(same, min(map(len, rows)) - 1)


def _digest(model: Any) -> str:
    """SHA-256 of all that decides what a model says."""
    import torch

    digest = hashlib.sha256()
    vocabulary = model.vocabulary
    about = [type(model).__name__, model.vocabulary_size, vocabulary.start_token]
    about += [vocabulary.token(number) for number in range(vocabulary.size)]
    about.append(list(getattr(model, "suppressed_tokens", ())))
    config = getattr(getattr(model, "model", None), "config", None)
    if config is not None:
        # Where it was loaded from, and by which version, changes nothing.
        fields = {k: v for k, v in config.to_dict().items() if k not in _NOT_DECISIVE}
        about.append(json.dumps(fields, sort_keys=True, default=str))
    digest.update(json.dumps(about).encode())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


_NOT_DECISIVE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")
