"""A typed client: OpenEnv's own, for which actions are ids or texts, and observations objects."""

from __future__ import annotations

from typing import Any

from textenv.interop.openenv.messages import TextObservation, TextState
from textenv.interop.openenv.package import EnvClient, StepResult


class TextEnvClient(EnvClient):
    """Drives a served environment; use it as OpenEnv's: `TextEnvClient(base_url=…).sync()`.

    `reset(seed=…, prompt=…, prompt_index=…, prefix=…, columns=…)`, each if wanted, and
    `step(action)`, where an action is a text, an id, a list of ids, or a dict such as
    {"candidate": 3}; which of them is understood the served environment's `action=` decides.

    >>> from textenv.interop.openenv import Server
    >>> with Server("textenv/ILoveYou-v0", action="strings") as server:
    ...     with TextEnvClient(base_url=server.address).sync() as client:
    ...         prompt = client.reset().observation.prompt
    ...         result = client.step("我爱你。")
    >>> result.observation.tokens, result.reward, result.done
    ([0, 1, 2, 3], 1.0, True)
    """

    def _step_payload(self, action: Any) -> dict[str, Any]:
        if isinstance(action, dict):
            return action
        if isinstance(action, str):
            return {"text": action}
        if hasattr(action, "tolist"):  # of NumPy or torch
            action = action.tolist()
        return {"tokens": action}

    def _parse_result(self, payload: dict[str, Any]) -> StepResult:
        reward, done = payload.get("reward"), payload.get("done", False)
        observation = TextObservation(**payload["observation"], reward=reward, done=done)
        return StepResult(observation, reward, done, payload.get("metadata"))

    def _parse_state(self, payload: dict[str, Any]) -> TextState:
        return TextState(**payload)
