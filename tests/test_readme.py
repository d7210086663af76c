"""The README's Python runs as it stands, and prints what the README says it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCKS = [
    block
    for path in (README, ROOT / "agents" / "README.md")
    for block in re.findall(
        r"```python\n(.*?)```\n(?:```text\n(.*?)```)?", path.read_text("utf-8"), re.DOTALL
    )
]


@pytest.mark.parametrize(("code", "output"), BLOCKS)
def test_example(code, output, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    if output:
        assert run.stdout == output


def test_code_comes_early():
    lines = README.read_text("utf-8").splitlines()
    assert lines.index("```python") < 25
