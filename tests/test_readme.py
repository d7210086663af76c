"""The READMEs' Python runs as it stands and prints what they say; they leave no file out."""

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
    for path in (README, *sorted(ROOT.glob("[at][eg]*/**/README.md")))  # agents, textenv
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


@pytest.mark.parametrize("folder", ["textenv/evaluate", "textenv/filters", "textenv/judges",
                                    "textenv/logged", "textenv/metrics", "textenv/models",
                                    "textenv/preferences", "textenv/rewards",
                                    "agents/textenv_agents/loop",
                                    "agents/textenv_agents/offline",
                                    "agents/textenv_agents/sb3"])  # fmt: skip
def test_every_file_has_its_place_in_the_folders_readme(folder):
    readme = (ROOT / folder / "README.md").read_text("utf-8")
    named = set(re.findall(r"[\w/]+\.(?:py|html|css|js)\b", readme))
    files = {path.name for path in (ROOT / folder).glob("*.py")} - {"__init__.py"}
    assert files - named == set()
    known = {path.name for path in ROOT.glob("*/**/*.*")}
    assert {Path(name).name for name in named} - known == set()
