"""A judge as a reward: a language model says what each text is worth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textenv.rewards.base import Reward
from textenv.rewards.registry import register

if TYPE_CHECKING:
    from textenv.judges import Judge


@register("judge")
class JudgeReward(Reward):
    """A language model's opinion of the text, as the expected value on a scale. Range: 0 … 1.

    0 is the template's worst answer, 1 its best; between them Σ p·value over the answers. Equal
    questions are asked once and kept in a file: see `textenv.judges.Judge`. A text that the judge
    cannot judge is a fault, never a score. To pay for winning a comparison use "preference".

    Args:
        lm: A local model: "smollm2", "reviews" (a weak judge that costs milliseconds), a folder, or
            a `LanguageModel`.
        address: Or an OpenAI-compatible endpoint, up to /chat/completions.
        model: What the endpoint calls its model.
        template: What is asked, on a scale: the name of a template, its fields (text, answers,
            mode), or a `Template`. None: "sentiment" for an endpoint, "sentiment_examples" for a
            local model that chats, "continuation" for one that does not.
        key_variable: The environment variable that holds the endpoint's key.
        cache: True: a file in the cache folder; False: none; or a path.
        offline: Answer from the cache alone.
        endpoint: More keywords of `textenv.judges.Endpoint`, such as {"retries": 2}.

    Raises:
        ValueError: neither or both of lm and address; a template that compares two texts.
        UnknownNameError: no such model or template.
        MissingExtraError: torch, or tenacity for an endpoint, is not installed.

    >>> judge = JudgeReward(lm="reviews", cache=False)
    >>> good, bad = judge(["", ""], ["Funny and moving.", "Dull and tedious."])
    >>> 0 < bad < good < 1
    True
    """

    name = "judge"
    range = (0.0, 1.0)

    def __init__(
        self,
        *,
        lm: Any = None,
        address: str | None = None,
        model: str | None = None,
        template: Any = None,
        key_variable: str | None = "OPENAI_API_KEY",
        cache: Any = True,
        offline: bool = False,
        endpoint: Mapping[str, Any] | None = None,
    ) -> None:
        from textenv.judges import Template, make_judge

        # As they go to JSON.
        lm, cache = (str(value) if isinstance(value, Path) else value for value in (lm, cache))
        template = template.to_json() if isinstance(template, Template) else template
        self.lm = lm
        self.address = address
        self.model = model
        self.template = template
        self.key_variable = key_variable
        self.cache = cache
        self.offline = offline
        self.endpoint = endpoint
        self.judge: Judge = make_judge(
            lm=lm,
            address=address,
            model=model,
            template=template,
            mode="scale",
            key_variable=key_variable,
            cache=cache,
            offline=offline,
            endpoint=endpoint,
        )

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        """Ask about each text."""
        return self.judge.scores(prompts, completions)


judge = JudgeReward
