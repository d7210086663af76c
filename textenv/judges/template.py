"""What a judge is asked: a text with places for what is judged, and the answers that count."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from textenv.errors import UnknownNameError

Mode = Literal["scale", "comparison"]

PLACES: Mapping[Mode, tuple[str, ...]] = {
    "scale": ("prompt", "text", "whole"),
    "comparison": ("prompt", "first", "second", "whole_first", "whole_second"),
}
_PLACE = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, kw_only=True)
class Template:
    """A question about one text (a scale) or two (a comparison), and what may be answered.

    Attributes:
        text: The question. On a scale `{text}` stands for the text, in a comparison `{first}` and
            `{second}`; `{prompt}` for what it goes on from; `{whole}` (`{whole_first}`,
            `{whole_second}`) for both as one, with a blank between where there is none. Other
            braces mean nothing, and what is put in is never searched for places.
        answers: What may be answered, and what it is worth. On a scale any numbers, the least for
            the worst text; in a comparison how far it prefers the first: 1, 0, and ½ for a tie.
        mode: "scale" or "comparison".
        chat: The question is a message in the chat format of models that have one, and the answer
            begins theirs. False: the model goes on from the question as it stands.
        system: What is said before the question in a chat; None: what the model's own format says.
        joint: What stands between the question and the answer where the model does not chat.
        name: For messages.

    Raises:
        ValueError: fewer than two answers, or values that are none; a place that is missing, or
            the other mode's.

    >>> answers = {"yes": 1, "no": 0}
    >>> Template(text="{x}: {text}?", answers=answers, mode="scale").question("", "a {text}, {0}")
    '{x}: a {text}, {0}?'
    """

    text: str
    answers: Mapping[str, float]
    mode: Mode
    chat: bool = True
    system: str | None = None
    joint: str = " "
    name: str = "own template"

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f'mode must be "scale" or "comparison", got {self.mode!r}')
        if not isinstance(self.text, str):
            raise ValueError(f"a template's text must be a text, got {self.text!r}")
        self._check_places()
        if not isinstance(self.answers, Mapping) or len(self.answers) < 2:
            raise ValueError(
                "a template needs two or more answers with their values, as in "
                f'{{"yes": 1, "no": 0}}, got {self.answers!r}'
            )
        for answer, value in self.answers.items():
            _check_answer(answer, value, self.mode)
        if len(set(self.answers.values())) < 2:
            raise ValueError(f"all answers have the same value: {dict(self.answers)!r}")
        if self.mode == "comparison" and not {0.0, 1.0} <= set(self.answers.values()):
            raise ValueError(
                "a comparison needs an answer of value 1 (the first text) and one of value 0 (the "
                f"second), got {dict(self.answers)!r}"
            )

    def question(self, prompt: str, text: str) -> str:
        """Ask about one text."""
        return self._filled({"prompt": prompt, "text": text, "whole": whole(prompt, text)})

    def comparison(self, prompt: str, first: str, second: str) -> str:
        """Ask about two texts, in this order."""
        return self._filled(
            {
                "prompt": prompt,
                "first": first,
                "second": second,
                "whole_first": whole(prompt, first),
                "whole_second": whole(prompt, second),
            }
        )

    def asked(self) -> dict[str, Any]:
        """Return what decides which answers a judge gives; their values do not."""
        answers = list(self.answers)
        decisive = {"text": self.text, "answers": answers, "chat": self.chat}
        return decisive | {"system": self.system, "joint": self.joint, "mode": self.mode}

    def to_json(self) -> dict[str, Any]:
        """Return the form that `as_template` takes."""
        return {**self.asked(), "answers": dict(self.answers), "name": self.name}

    def _filled(self, values: Mapping[str, str]) -> str:
        # Not str.format: it would read the braces of the template, and fail at a lone one.
        return _PLACE.sub(lambda match: values.get(match[1], match[0]), self.text)

    def _check_places(self) -> None:
        found = {name for name in _PLACE.findall(self.text)}
        known = {place for places in PLACES.values() for place in places}
        wrong = sorted((found & known) - set(PLACES[self.mode]))
        if wrong:
            raise ValueError(
                f"a {self.mode} has the places {', '.join(PLACES[self.mode])}; this template has "
                f"{{{wrong[0]}}}"
            )
        wished = [("text", "whole")]
        if self.mode == "comparison":
            wished = [("first", "whole_first"), ("second", "whole_second")]
        for one, other in wished:
            if not found & {one, other}:
                raise ValueError(
                    f"the template of a {self.mode} needs the place {{{one}}} (or {{{other}}}), so "
                    f"that the judge sees what it judges, got {self.text!r}"
                )


def whole(prompt: str, text: str) -> str:
    """Return a prompt and what was written after it as one text.

    >>> whole("This film", "is fine."), whole("", "Fine.")
    ('This film is fine.', 'Fine.')
    """
    blank = prompt and text and not prompt[-1].isspace() and not text[0].isspace()
    return f"{prompt}{' ' if blank else ''}{text}"


def as_template(value: Any) -> Template:
    """Make a template of a name, a dict with the fields of `Template`, or a template.

    Raises:
        UnknownNameError: no template has this name, or a template no such field.
        ValueError: something else, or fields that are missing or wrong.
    """
    from textenv.judges.included import TEMPLATES

    if isinstance(value, Template):
        return value
    if isinstance(value, str):
        if value not in TEMPLATES:
            raise UnknownNameError("template", value, TEMPLATES)
        return TEMPLATES[value]
    if not isinstance(value, Mapping):
        raise ValueError(
            f"expected a template's name ({', '.join(sorted(TEMPLATES))}), a dict with its text, "
            f"answers and mode, or a Template, got {value!r}"
        )
    fields = Template.__dataclass_fields__
    for field in value:
        if field not in fields:
            raise UnknownNameError("field of a template", field, fields)
    missing = [field for field in ("text", "answers", "mode") if field not in value]
    if missing:
        raise ValueError(f"a template as a dict needs text, answers and mode: no {missing[0]!r}")
    return Template(**value)


def _check_answer(answer: Any, value: Any, mode: Mode) -> None:
    if not isinstance(answer, str) or not answer or answer != answer.strip():
        raise ValueError(f"an answer must be a text without blanks around it, got {answer!r}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"the value of the answer {answer!r} must be a number, got {value!r}")
    if mode == "comparison" and value not in (0, 0.5, 1):
        raise ValueError(
            f"in a comparison an answer is worth 1 (the first text), 0 or ½ (a tie); {answer!r} is "
            f"worth {value!r}"
        )
