"""The server: an application with a session for each client, on this machine unless told otherwise.

Nobody is asked for a password, and what a reward evaluates is run here: an address that others
can reach is for networks that you trust.
"""

from __future__ import annotations

import copy
import socket
import threading
import time
from types import TracebackType
from typing import Any, Self

import gymnasium as gym

from textenv.env import TextEnv
from textenv.errors import TextenvError
from textenv.interop.openenv.environment import ServedEnvironment
from textenv.interop.openenv.messages import TextObservation, TextState, action_class
from textenv.interop.openenv.package import (
    FastAPI,
    JSONResponse,
    Request,
    create_fastapi_app,
    uvicorn,
)
from textenv.plugins import check_count

STARTING = 30.0  # seconds at most, until it listens
STOPPING = 2  # seconds in which open sessions may finish what they are at


def application(environment_id: str, *, sessions: int = 64, **keywords: Any) -> FastAPI:
    """Make OpenEnv's application for an environment.

    Args:
        environment_id: Such as "textenv/Sentiment-v0".
        sessions: How many clients may be connected at once.
        **keywords: For `gym.make`.

    Raises:
        ValueError: the id or a keyword is unknown, or sessions is no integer ≥ 1.
        TextenvError: it is no environment of textenv.
    """
    check_count("sessions=", sessions)
    try:
        first = gym.make(environment_id, disable_env_checker=True, **keywords)
    except gym.error.Error as error:  # an unknown id; Gymnasium's message guesses the right one
        raise ValueError(str(error)) from error
    if not isinstance(first.unwrapped, TextEnv):
        raise TextenvError(f"expected an id of textenv, got {environment_id!r}")
    if first.unwrapped.setup.asks_model:
        _ = first.unwrapped.lm  # loaded now, not while the first client waits
    lock = threading.Lock()

    def session() -> ServedEnvironment:
        # A copy shares the task and the language model, and has no seed yet.
        return ServedEnvironment(copy.deepcopy(first), lock)

    app = create_fastapi_app(
        session,
        action_class(first.unwrapped.setup.action),
        TextObservation,
        max_concurrent_envs=sessions,
        env_name=environment_id.rpartition("/")[2],  # it becomes a part of addresses
        state_cls=TextState,
        mode="simulation",
    )
    for kind in (TextenvError, ValueError):
        app.add_exception_handler(kind, _refuse)
    return app


class Server:
    """Serves an environment: as a context manager beside the program, by `run()` alone.

    Args:
        environment_id: Such as "textenv/Sentiment-v0".
        host: The address to listen at; the default can be reached from this machine alone.
        port: Where; 0: any that is free.
        sessions: How many clients may be connected at once.
        **keywords: For `gym.make`.

    Attributes:
        address: For clients, "http://127.0.0.1:…".

    Raises:
        ValueError: as for `application`, or no such port.
        OSError: the port is taken.

    >>> from openenv.core.generic_client import GenericEnvClient
    >>> with Server("textenv/GoodBad-v0") as server:
    ...     with GenericEnvClient(base_url=server.address).sync() as client:
    ...         _ = client.reset(seed=0)
    ...         result = client.step({"tokens": [0]})
    >>> result.observation["text"], result.reward, result.done
    ('good', 1.0, True)
    """

    def __init__(
        self,
        environment_id: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        sessions: int = 64,
        **keywords: Any,
    ) -> None:
        if check_count("port=", port, 0) > 65535:
            raise ValueError(f"expected a port in 0 … 65535, got {port!r}")
        if not host:
            raise ValueError('expected a host such as "127.0.0.1" (0.0.0.0: any of this machine)')
        app = application(environment_id, sessions=sessions, **keywords)
        config = uvicorn.Config(
            app,
            log_level="warning",
            ws="websockets-sansio",  # the other one is deprecated by its library
            timeout_graceful_shutdown=STOPPING,
        )
        self._server = uvicorn.Server(config)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise OSError(
                error.errno, f"cannot listen at {host}, port {port}: {error.strerror}; "
                "choose another address, or port 0 for any that is free"
            ) from error  # fmt: skip
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self._socket.getsockname()[1]}"
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serve until Ctrl-C, which ends it quietly."""
        try:
            self._server.run(sockets=[self._socket])
        except KeyboardInterrupt:
            pass
        finally:
            self._socket.close()

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise TextenvError("a server is started once: make another Server(…)")
        self._thread = threading.Thread(target=self.run, name="textenv-serve", daemon=True)
        self._thread.start()
        limit = time.monotonic() + STARTING
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > limit:
                self._server.should_exit = True
                raise TextenvError(f"the server at {self.address} did not start")
            time.sleep(0.01)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()


def _refuse(request: Request, error: Exception) -> JSONResponse:
    """Answer a plain HTTP request that cannot be done with the reason."""
    message = str(error)
    if request.url.path == "/step":
        message += (
            ". Each plain HTTP request has an environment of its own: episodes need OpenEnv's "
            "client, GenericEnvClient(base_url=…).sync(), or the WebSocket at /ws"
        )
    return JSONResponse({"detail": message}, status_code=400)
