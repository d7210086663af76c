"""Any reward as one that pays each token: what the token changed."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from textenv.errors import NotSerialisableError
from textenv.rewards.base import Reward
from textenv.rewards.convert import RewardLike, as_reward
from textenv.rewards.registry import register

if TYPE_CHECKING:
    from textenv.vocabulary import Vocabulary

REMEMBERED = 4096  # texts whose scores are kept, so that a step scores one new prefix a text

Key = tuple[Any, ...]
Values = tuple[float | None, ...]


@register("per_token")
class PerToken(Reward):
    """Pays each token the difference that it makes: r(y₁ … y_t) − r(y₁ … y_{t−1}).

    The first token earns the whole r(y₁), so the sum telescopes to r(y), what the reward says of
    the finished text: the same goal, but the agent hears at each step whether it comes nearer (a
    shaping reward with the potential r, Ng, Harada & Russell 1999, but for the start, which has
    the potential 0). A text without tokens earns 0, whatever r says of it. A prefix that r leaves
    out (None) counts as the one before; a whole text that r leaves out is left out.

    It makes sense where r means something in the middle of a text (BLEU, ROUGE, sentiment), and
    none where it only judges whole ones (readability, perplexity with its end token). It costs one
    score for each token instead of one for each text; what was scored a step before is remembered.

    Range: what two scores of r can differ by, and a single score.

    A reward is handed ids and texts, but no prefixes as text: environments hand the vocabulary
    over; whoever calls this by hand does so with `with_vocabulary`. A vocabulary does not go to
    another process, so it is refused beside `timeout=`.

    Args:
        reward: Any reward; of one that pays each token the sum counts.

    >>> from textenv.vocabulary import CharacterVocabulary
    >>> reward = PerToken("edit_similarity").with_vocabulary(CharacterVocabulary("我爱你。"))
    >>> reward([""], ["我你"], completion_ids=[[0, 2]], reference=["我爱你。"])
    [[0.25, 0.25]]
    """

    pays = "token"

    def __init__(self, reward: RewardLike) -> None:
        self.reward = as_reward(reward)
        self.name = f"{self.reward.name}_per_token"
        self.columns = self.reward.columns
        low, high = self.reward.range
        self.range = (min(low, low - high), max(high, high - low))
        self._vocabulary: Vocabulary | None = None
        self._remembered: OrderedDict[Key, Values] = OrderedDict()
        self._most = REMEMBERED

    def with_vocabulary(self, vocabulary: Vocabulary) -> PerToken:
        """Return the same reward for ids of this vocabulary."""
        bound = copy.copy(self)
        bound.reward = self.reward.with_vocabulary(vocabulary)
        bound._vocabulary = vocabulary
        bound._remembered = OrderedDict()
        return bound

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> list[list[float] | None]:
        """Pay each token of each text.

        Raises:
            ValueError: nobody said what the ids mean, or there are none.
        """
        if self._vocabulary is None or "completion_ids" not in columns:
            raise ValueError(
                f"{self.name} decodes the beginnings of each text, and got no "
                f"{'vocabulary' if self._vocabulary is None else 'completion_ids'}: in a task or "
                "an environment both are there; by hand call "
                "reward.with_vocabulary(vocabulary)(prompts, completions, completion_ids=…)"
            )
        others = {name: columns[name] for name in columns if name != "completion_ids"}
        texts = [
            _Text(prompt, tuple(map(int, ids)), {name: others[name][row] for name in others})
            for row, (prompt, ids) in enumerate(
                zip(prompts, columns["completion_ids"], strict=True)
            )
        ]
        return [_differences(values) for values in self._values(texts)]

    def total(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> list[float | None]:
        """Return what the reward says of the whole texts; 0 for those without tokens."""
        written = columns.get("completion_ids", completions)
        totals = self.reward.total(prompts, completions, **columns)
        pairs = zip(totals, written, strict=True)
        return [total if total is None or len(text) else 0.0 for total, text in pairs]

    def spec(self) -> str | dict[str, Any]:
        """Return {"name": "per_token", "reward": spec}.

        Raises:
            NotSerialisableError: the reward has no JSON form, or this one holds a vocabulary.
        """
        if self._vocabulary is not None:
            raise NotSerialisableError(
                f"the reward {self.name!r} has no JSON form once it was handed a vocabulary, which "
                "lives only in this process"
            )
        return {"name": "per_token", "reward": self.reward.spec()}

    def __getstate__(self) -> dict[str, Any]:
        """What is remembered is left out."""
        return {**self.__dict__, "_remembered": OrderedDict()}

    def _values(self, texts: list[_Text]) -> list[Values]:
        """Score the prefixes of each text that were not scored before, in one call."""
        known = {text.key(): self._known(text) for text in texts}
        new: dict[Key, tuple[_Text, int]] = {}
        for text in texts:
            for length in range(len(known[text.key()]) + 1, len(text.ids) + 1):
                new.setdefault(text.key(length), (text, length))
        scores = dict(zip(new, self._scores(list(new.values())), strict=True))
        self._most = max(REMEMBERED, 2 * len(texts))
        for text in texts:
            begun = len(known[text.key()])
            lengths = range(begun + 1, len(text.ids) + 1)
            known[text.key()] += tuple(scores[text.key(length)] for length in lengths)
            self._remember(text.key(), known[text.key()])
        return [known[text.key()] for text in texts]

    def _scores(self, prefixes: list[tuple[_Text, int]]) -> list[float | None]:
        if not prefixes:
            return []
        assert self._vocabulary is not None
        ids = [list(text.ids[:length]) for text, length in prefixes]
        columns = {
            name: [text.columns[name] for text, _ in prefixes] for name in prefixes[0][0].columns
        }
        return self.reward.total(
            [text.prompt for text, _ in prefixes],
            [self._vocabulary.decode(row) for row in ids],
            completion_ids=ids,
            **columns,
        )

    def _known(self, text: _Text) -> Values:
        """Return the scores of the longest beginning of a text that is remembered."""
        for length in range(len(text.ids), 0, -1):
            values = self._remembered.get(text.key(length))
            if values is not None:
                return values
        return ()

    def _remember(self, key: Key, values: Values) -> None:
        self._remembered[key] = values
        self._remembered.move_to_end(key)
        while len(self._remembered) > self._most:
            self._remembered.popitem(last=False)


class _Text:
    """A prompt, the ids after it and its columns.

    Args:
        prompt: The prompt.
        ids: What was written.
        columns: The values of this text.
    """

    def __init__(self, prompt: str, ids: tuple[int, ...], columns: dict[str, Any]) -> None:
        self.prompt = prompt
        self.ids = ids
        self.columns = columns
        self._frozen = _frozen(columns)

    def key(self, length: int | None = None) -> Key:
        """Return what is equal for equal beginnings of this many ids; None: for the whole."""
        return (self.prompt, self._frozen, self.ids[:length])


def _frozen(value: Any) -> Hashable:
    """Return what is equal for equal values; a value that cannot be compared equals only itself."""
    if isinstance(value, Mapping):
        return tuple((name, _frozen(value[name])) for name in sorted(value, key=repr))
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    return value if isinstance(value, str | int | float | None) else _Itself()


class _Itself:
    """Equal to nothing else: what cannot be compared is scored again rather than mistaken."""


def _differences(values: Values) -> list[float] | None:
    if values and values[-1] is None:
        return None
    paid, before = [], 0.0
    for value in values:
        paid.append(0.0 if value is None else value - before)
        before = before if value is None else value
    return paid


per_token = PerToken
