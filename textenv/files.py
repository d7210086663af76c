"""Writing files so that a crash leaves the old one or the new one, never half of one.

What is written is fsynced before it gets its name, and the folder that holds the name after it: a
kill, and where the disk keeps its promises a power cut too, finds either.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_HERE, _EXCHANGE = -100, 2  # Linux's AT_FDCWD and RENAME_EXCHANGE


@contextmanager
def replaced_folder(folder: str | Path) -> Iterator[Path]:
    """Give a temporary folder to write into; when the block ends well it becomes `folder`.

    All files are fsynced before the rename. A folder that is there already is replaced whole: in
    one step on Linux; elsewhere a crash between two renames can leave it beside, in a folder named
    `.NAME-old-…`.
    """
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp's folders are for their owner alone
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            _fsync(path)
        if not target.exists():
            temporary.replace(target)
        elif _exchanged(temporary, target):
            shutil.rmtree(temporary)
        else:
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
            target.replace(old / "was")
            temporary.replace(target)
            shutil.rmtree(old)
        _fsync(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def replace_file(path: str | Path, content: str | bytes) -> None:
    """Write a file (text as UTF-8); what is there is replaced at once."""
    target = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _fsync(target.parent)


def free_folder(folder: Path) -> Path:
    """Return the folder, or the first of folder-2, folder-3, … that is not there."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def lock(file: IO[Any], *, of_process: bool) -> bool:
    """Lock an open file; False where somebody else has it locked.

    The lock ends with whoever holds it. Where files cannot be locked, on Windows and some network
    drives, there is none.

    Args:
        file: Open for writing.
        of_process: The lock is the process's: what it forks, a reward's worker for one, does not
            inherit it. Else it is the open file's, and keeps out another part of this process too.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        return True
    take = fcntl.lockf if of_process else fcntl.flock
    try:
        take(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a drive without locks
        return True
    return True


def _exchanged(one: Path, other: Path) -> bool:
    """Give each of two paths the other's name in one step; False where that cannot be done."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # an old C library
        return False
    return rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
