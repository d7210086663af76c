"""A served environment as a reward of TRL's trainers; imports no TRL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textenv.interop.openenv.client import TextEnvClient
from textenv.interop.trl.messages import text_of

_TRAINER = ("trainer_state", "log_extra", "log_metric", "environments")


class ServedReward:
    """What a served environment pays for a text; for `reward_funcs` of TRL's trainers.

    With the served environment's `action="all_tokens"` it gets the ids that the trainer wrote, and
    nothing is tokenised twice; its vocabulary must then be that of the trained model (`lm=` its
    folder) and its `max_tokens` the trainer's `max_completion_length`: ids after the end of a text
    there are not read. With `action="completion"` it gets the text.

    Args:
        address: Where it is served: `Server(…).address`.
        sends: "tokens" or "text".
        name: For TRL's logs.

    Raises:
        ValueError: it is to send something else.
    """

    def __init__(self, address: str, *, sends: str = "tokens", name: str = "served") -> None:
        if sends not in ("tokens", "text"):
            raise ValueError(f'expected sends= to be "tokens" or "text", got {sends!r}')
        self.sends = sends
        self.__name__ = name
        self._client = TextEnvClient(base_url=address).sync()

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float]:
        """Play an episode for each text, and say what it earned.

        Args:
            prompts: n texts, or n lists of messages.
            completions: Likewise.
            completion_ids: n lists of ids.
            **columns: Lists of n, which go to the environment's reward; "prompt_index" says by
                number which of the task's prompts it is. And what TRL passes beside.

        Raises:
            RuntimeError: the server refused something; it says what.
            ValueError: there are no ids to send, or a text has not ended in the environment.
        """
        own = {name: values for name, values in columns.items() if name not in _TRAINER}
        if self.sends == "tokens" and completion_ids is None:
            raise ValueError('there are no completion_ids: use sends="text"')
        rewards = []
        for row, prompt in enumerate(prompts):
            beside = {name: values[row] for name, values in own.items()}
            self._client.reset(**_start(text_of(prompt, "prompt"), beside))
            text = text_of(completions[row], "completion")
            ids = None if completion_ids is None else [int(i) for i in completion_ids[row]]
            result = self._client.step(text if self.sends == "text" else ids)
            if not result.done:
                raise ValueError(
                    f"the text {text!r:.80} has not ended in the served environment, so that it "
                    "was not paid yet: serve it with max_tokens= the trainer's "
                    'max_completion_length, or with action="completion" and sends="text"'
                )
            rewards.append(float(result.reward))
        return rewards

    def close(self) -> None:
        """Leave the server."""
        self._client.close()


def _start(prompt: str, beside: dict[str, Any]) -> dict[str, Any]:
    """The options of a reset."""
    index = beside.pop("prompt_index", None)
    options: dict[str, Any] = {"columns": beside} if beside else {}
    if index is not None:
        options["prompt_index"] = index
    elif prompt:
        options["prompt"] = prompt
    return options
