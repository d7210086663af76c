"""Judges from keywords that go to JSON: what specs, names and commands hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textenv.judges.cache import Cache
from textenv.judges.endpoint import Endpoint
from textenv.judges.judge import Judge
from textenv.judges.local import LocalModel
from textenv.judges.template import Mode, Template, as_template

# Templates where none is given: a large model behind an endpoint is told what to do, a local one
# that chats is shown examples, any other goes on from the text.
_TOLD: Mapping[Mode, str] = {"scale": "sentiment", "comparison": "more_positive"}
_SHOWN: Mapping[Mode, str] = {**_TOLD, "scale": "sentiment_examples"}
_CONTINUED = "continuation"


def make_judge(
    *,
    lm: Any = None,
    address: str | None = None,
    model: str | None = None,
    template: Template | str | Mapping[str, Any] | None = None,
    mode: Mode | None = None,
    cache: Cache | str | Path | bool = True,
    offline: bool = False,
    tie: float = 0.0,
    key_variable: str | None = "OPENAI_API_KEY",
    endpoint: Mapping[str, Any] | None = None,
) -> Judge:
    """Make a judge of a local model, by `lm`, or of an endpoint, by `address` and `model`.

    Args:
        lm: A language model's name or folder, or a `LanguageModel`.
        address: Of an OpenAI-compatible endpoint, as in "http://localhost:8000/v1".
        model: What the endpoint calls its model.
        template: A name, its fields, or a `Template`. None: "sentiment" for an endpoint,
            "sentiment_examples" for a local model that chats, "continuation" for one that does
            not; in the mode "comparison" "more_positive".
        mode: Which mode the template must have; None: the template's.
        cache: As in `Judge`.
        offline: As in `Judge`.
        tie: As in `Judge`.
        key_variable: As in `Endpoint`.
        endpoint: More keywords of `Endpoint`: "retries", "timeout", "concurrency", …

    Raises:
        ValueError: neither or both of lm and address; a template of the other mode; keywords that
            belong to the other kind.
        UnknownNameError: no such template or model.
    """
    if (lm is None) == (address is None):
        raise ValueError(
            "a judge is a local model, lm=…, or an endpoint, address=… with model=…: expected one "
            f"of the two, got lm={lm!r} and address={address!r}"
        )
    if address is None:
        if model is not None or endpoint:
            raise ValueError("model= and endpoint= belong to address=; a local model has lm= alone")
        backend: LocalModel | Endpoint = LocalModel(lm)
    else:
        if model is None:
            raise ValueError(f"an endpoint serves several models: give model= beside {address!r}")
        backend = _endpoint(address, model, key_variable, dict(endpoint or {}))
    if template is None:
        template = _usual(backend, mode)
    asked = as_template(template)
    if mode is not None and asked.mode != mode:
        raise ValueError(
            f"expected a template of the mode {mode!r}, {asked.name!r} is {asked.mode!r}"
        )
    return Judge(asked, backend, cache=cache, offline=offline, tie=tie)


def _usual(backend: LocalModel | Endpoint, mode: Mode | None) -> str:
    if isinstance(backend, Endpoint):
        return _TOLD[mode or "scale"]
    if backend.chats:
        return _SHOWN[mode or "scale"]
    if mode == "comparison":
        raise ValueError(
            f"the judge {backend.name} does not chat, and no template of ours compares two texts "
            "without: leave mode= out (texts are then compared by their scores), or give a "
            "template="
        )
    return _CONTINUED


def _endpoint(address: str, model: str, key_variable: str | None, more: dict[str, Any]) -> Endpoint:
    try:
        return Endpoint(address, model, key_variable, **more)
    except TypeError as error:
        raise ValueError(f"endpoint= holds keywords of Endpoint: {error}") from error
