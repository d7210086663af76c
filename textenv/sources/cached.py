"""The cache folder: models that were converted once, for every later process. No torch.

It is `$TEXTENV_CACHE`, else `$XDG_CACHE_HOME/textenv`, else `~/.cache/textenv`. Everything in it
can be deleted at any time: it is made again when it is asked for.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from textenv.errors import MissingExtraError, TextenvError
from textenv.files import replaced_folder

LOGGER = logging.getLogger("textenv")


def cache_folder() -> Path:
    """Return the cache folder, which need not be there yet."""
    if own := os.environ.get("TEXTENV_CACHE"):
        return Path(own).expanduser()
    if common := os.environ.get("XDG_CACHE_HOME"):
        return Path(common).expanduser() / "textenv"
    return Path.home() / ".cache" / "textenv"


def made_once(name: str, make: Callable[[Path], None], message: str) -> Path:
    """Return a folder of the cache, making it if it is not there.

    Two processes that want it at once make it once: the second waits for the first.

    Args:
        name: Of the folder, in the cache.
        make: Writes into an empty folder; where it fails, nothing is left behind.
        message: Logged before making it, because that may take a while.

    Raises:
        TextenvError: the cache cannot be written.
        MissingExtraError: the package filelock is not installed.
    """
    folder = cache_folder() / name
    if folder.is_dir():
        return folder
    try:
        from filelock import FileLock
    except ImportError as error:
        raise MissingExtraError("filelock", "converting a model") from error
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{name}.lock"):
            if not folder.is_dir():
                LOGGER.warning("%s (once; into %s)", message, folder)
                for half in folder.parent.glob(f".{name}-*"):  # of a process that was killed
                    shutil.rmtree(half)
                with replaced_folder(folder) as temporary:
                    make(temporary)
    except OSError as error:
        raise TextenvError(
            f"the cache folder {str(folder.parent)!r} cannot be written: {error}. Set "
            "TEXTENV_CACHE to a folder that can"
        ) from error
    return folder
