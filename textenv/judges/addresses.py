"""Where an endpoint is, and which key may be sent there."""

from __future__ import annotations

import ipaddress
import os
from typing import Any
from urllib.parse import urlsplit

from textenv.judges.backend import EndpointError


def checked_address(address: Any) -> str:
    """Return an address without what follows it in requests.

    Raises:
        ValueError: it is none, or holds a password.

    >>> checked_address("http://localhost:8000/v1/chat/completions")
    'http://localhost:8000/v1'
    """
    plain = isinstance(address, str) and address.isprintable() and " " not in address
    try:
        parts = urlsplit(address if plain else "")
        plain = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half a pair of brackets, a port beyond 65535
        parts, plain = urlsplit(""), False
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "an address may hold no password and nothing after ? or #, because it is written into "
            "specs: keep the key in an environment variable and name it by key_variable="
        )
    if not plain:
        raise ValueError(f'expected an address such as "http://localhost:8000/v1", got {address!r}')
    return address.rstrip("/").removesuffix("/chat/completions").rstrip("/")


def is_local(address: str) -> bool:
    """Say whether an address is on this machine.

    >>> is_local("http://localhost:8000/v1"), is_local("http://127.0.0.1.example.org/v1")
    (True, False)
    """
    host = urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def key_for(address: str, variable: str | None) -> str | None:
    """Read the key for an endpoint from the environment, now; None: none is set.

    Raises:
        EndpointError: it is no key, or would travel in the open. The message does not hold it.
    """
    key = os.environ.get(variable, "").strip() if variable else ""
    if not key:
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise EndpointError(
            f"the environment variable {variable} holds no key: expected one word of ASCII "
            "characters"
        )
    if address.startswith("http:") and not is_local(address):
        raise EndpointError(
            f"the key in {variable} would travel to {address} in the open: use https://, or "
            "key_variable=None to send none"
        )
    return key
