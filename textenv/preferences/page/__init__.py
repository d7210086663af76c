"""The page on which people rate: served to this machine alone."""

from textenv.preferences.page.server import PageServer, serve

__all__ = ["PageServer", "serve"]
