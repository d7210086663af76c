"""What the tests of served environments share."""

from __future__ import annotations

from openenv.core.generic_client import GenericEnvClient

TOY, TEXTS = "textenv/ILoveYou-v0", "textenv/WordPreference-v0"


def connected(address):
    return GenericEnvClient(base_url=address).sync()
