"""`textenv serve ID`: an environment for OpenEnv's clients, until Ctrl-C."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tyro

# No keywords of an environment: what is said here, and to `gym.make`.
_SAID_OUTSIDE = ("env", "environment_id", "id", "disable_env_checker", "host", "port", "sessions")


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """What is served, and where.

    Raises:
        ValueError: a number is out of range, or the keywords are no JSON object.
    """

    env: tyro.conf.Positional[str]
    """The environment's id, such as textenv/Sentiment-v0."""
    lm: str | None = None
    """A language model's name or folder, whose tokenizer is the vocabulary."""
    action: str | None = None
    """What a step writes: "all_tokens" (ids), "candidates:8", "strings" or "completion" (texts)."""
    keywords: str | None = None
    """Further keywords of the environment as JSON, such as '{"max_tokens": 8}'."""
    host: str = "127.0.0.1"
    """The address to listen at. Another one lets others in: there are no passwords."""
    port: int = 8000
    """Where; 0: any that is free."""
    sessions: int = 64
    """How many clients may be connected at once; each has an environment of its own."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ValueError(f"expected port in 0 … 65535, got {self.port}")
        if self.sessions < 1:
            raise ValueError(f"expected sessions ≥ 1, got {self.sessions}")
        for name in ("lm", "action"):
            if getattr(self, name) is not None and name in self._parsed():
                raise ValueError(f"{name} is given twice: as --{name} and in --keywords")
        for name in _SAID_OUTSIDE:
            if name in self._parsed():
                raise ValueError(f"{name!r} is no keyword of environments: say it outside")

    def environment_keywords(self) -> dict[str, Any]:
        """The keywords for the environment."""
        own = {"lm": self.lm, "action": self.action}
        return {**self._parsed(), **{key: own[key] for key in own if own[key] is not None}}

    def _parsed(self) -> dict[str, Any]:
        if self.keywords is None:
            return {}
        try:
            value = json.loads(self.keywords)
        except ValueError as error:
            raise ValueError(f"--keywords is no JSON: {error}, in {self.keywords!r}") from error
        if not isinstance(value, dict):
            raise ValueError(f"expected --keywords to be a JSON object, got {self.keywords!r}")
        return value


def serve(config: ServeConfig, say: Callable[[str], Any] = print) -> None:
    """Serve until Ctrl-C.

    Args:
        config: What is served, and where.
        say: Gets the address, once it is known.

    Raises:
        MissingExtraError: OpenEnv is not installed.
        ValueError: the id, or a keyword of the environment, is unknown.
        OSError: the port is taken.
    """
    from textenv.interop.openenv import Server

    server = Server(
        config.env,
        host=config.host,
        port=config.port,
        sessions=config.sessions,
        **config.environment_keywords(),
    )
    say(f"{config.env} is served at {server.address} (Ctrl-C stops it)")
    if config.host not in ("127.0.0.1", "::1", "localhost"):
        say("others can reach this address, and there are no passwords")
    server.run()
