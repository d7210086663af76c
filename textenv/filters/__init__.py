"""What must not be written: a list of patterns, enforced, and a classifier of toxic texts."""

from importlib import import_module
from typing import Any

from textenv.filters.blocklist import Blocklist
from textenv.filters.flagging import flag
from textenv.filters.folding import normal_form

__all__ = ["Blocklist", "allowed_by", "flag", "normal_form"]


def __getattr__(name: str) -> Any:
    if name == "allowed_by":  # it knows tasks, and these know rewards, and these this package
        return import_module("textenv.filters.policy").allowed_by
    raise AttributeError(f"module 'textenv.filters' has no attribute {name!r}")
