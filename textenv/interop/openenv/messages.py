"""What goes over the wire: one action class for each kind of action, observations, the state.

An action has one field, so that a client that knows its schema alone can put a language model's
reply into it. The field takes anything: what is wrong with it is said by the environment, whose
messages reach the client, while those of pydantic do not.
"""

from __future__ import annotations

from typing import Any

from textenv import actions
from textenv.interop.openenv.package import Action, ConfigDict, Field, Observation, State


def _with_required(field: str) -> ConfigDict:
    """Let anything in, and name the field required: verifiers puts a reply into the one that is."""
    return ConfigDict(extra="allow", json_schema_extra={"required": [field]})


class TokensAction(Action):
    """Token ids, written one after another until the text ends; the step pays their sum."""

    model_config = _with_required("tokens")
    tokens: Any = Field(
        default=None,
        description="an id, or a list of at least one",
        json_schema_extra={"type": ["integer", "array"], "items": {"type": "integer"}},
    )


class CandidateAction(Action):
    """One of the tokens that the observation offers as `candidates`."""

    model_config = _with_required("candidate")
    candidate: Any = Field(
        default=None,
        description="its place in `candidates`, from 0",
        json_schema_extra={"type": "integer"},
    )


class TextAction(Action):
    """A text, which the environment's vocabulary encodes."""

    model_config = _with_required("text")
    text: Any = Field(
        default=None, description="what to write", json_schema_extra={"type": "string"}
    )


FIELDS: dict[type[Action], str] = {
    TokensAction: "tokens",
    CandidateAction: "candidate",
    TextAction: "text",
}


def action_class(action: actions.Action) -> type[Action]:
    """Return the class of messages for an environment's kind of action.

    Raises:
        ValueError: it is none of textenv's own kinds.
    """
    if isinstance(action, actions.Strings):
        return TextAction
    if isinstance(action, actions.Candidates):
        return CandidateAction
    if isinstance(action, actions.AllTokens | actions.Fragments):
        return TokensAction
    raise ValueError(f"no OpenEnv message is known for actions of the kind {action!r}")


class TextObservation(Observation):
    """What a client sees; `done`, `reward` and `metadata` are OpenEnv's own.

    `metadata` holds what infos say and is no array: `reward_parts`, `reward_fault`, and `truncated`
    where a wrapper ended the episode.

    Attributes:
        prompt: The prompt, as text.
        text: What is written so far, the end token left out.
        tokens: The ids of what is written, the end token included.
        prompt_tokens: Those of the prompt; None where actions are texts.
        action_mask: 1 for each action that makes sense, where the environment has `mask=`.
        candidates: The ids on offer, likeliest first, where actions are candidates; the id V where
            there are fewer.
        candidate_log_probs: Their log-probabilities.
        seen: What the agent sees, where that is no tokens: `observation="hidden"`, …
    """

    prompt: str = ""
    text: str = ""
    tokens: list[int] = Field(default_factory=list)
    prompt_tokens: list[int] | None = None
    action_mask: list[int] | None = None
    candidates: list[int] | None = None
    candidate_log_probs: list[float] | None = None
    seen: Any = None


class TextState(State):
    """Where a session stands: `episode_id`, `step_count`, and the text.

    Attributes:
        prompt: The prompt; "" before the first reset.
        text: What is written so far.
    """

    prompt: str = ""
    text: str = ""
