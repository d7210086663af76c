"""All that is used of OpenEnv and of what it brings along, or an error that says how to get it."""

from __future__ import annotations

from textenv.errors import MissingExtraError

try:
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse
    from openenv.core.client_types import StepResult  # type: ignore[import-untyped]
    from openenv.core.env_client import EnvClient  # type: ignore[import-untyped]
    from openenv.core.env_server.http_server import (  # type: ignore[import-untyped]
        create_fastapi_app,
    )
    from openenv.core.env_server.interfaces import Environment  # type: ignore[import-untyped]
    from openenv.core.env_server.types import (  # type: ignore[import-untyped]
        Action,
        Observation,
        State,
    )
    from pydantic import ConfigDict, Field
except ImportError as error:
    raise MissingExtraError("openenv", "serving an environment, or a client for it,") from error

__all__ = [
    "Action",
    "ConfigDict",
    "EnvClient",
    "Environment",
    "FastAPI",
    "Field",
    "JSONResponse",
    "Observation",
    "Request",
    "State",
    "StepResult",
    "create_fastapi_app",
    "uvicorn",
]
