"""What a table was measured on."""

from __future__ import annotations

import platform
from datetime import date

import torch


def describe() -> str:
    """Date, machine and versions, in one line."""
    import transformers

    where = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return (
        f"{date.today()}, {where}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, {torch.get_num_threads()} threads"
    )
