"""verifiers plays served environments, and its rewards are those of the environments here.

verifiers 0.4 needs another mcp than OpenEnv 0.10, so it is in an environment of its own, whose
`vf-eval` is run here: that of .venv-verifiers, or one on the PATH.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import gymnasium as gym
import pytest

import textenv  # noqa: F401

pytest.importorskip("openenv")

from tests import judge_server
from textenv.interop.openenv import Server

OWN = str(Path(__file__).parents[1] / ".venv-verifiers" / "bin")
EVAL = shutil.which("vf-eval", path=os.pathsep.join([OWN, os.environ.get("PATH", "")]))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(EVAL is None, reason='needs vf-eval, of "verifiers[openenv]==0.4.0"'),
]

# Verifiers' own harnesses install their program with uv, over the network; this one asks by itself.
HARNESS = """
import httpx
from verifiers.v1.dialects.chat import message_to_wire
from verifiers.v1.harness import Harness, HarnessConfig
from verifiers.v1.runtimes import ProgramResult

__all__ = ["Asking"]


class Asking(Harness[HarnessConfig]):
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data):
        body = {"model": ctx.model, "messages": [message_to_wire(part) for part in data.prompt]}
        head = {"Authorization": f"Bearer {secret}"}
        async with httpx.AsyncClient(timeout=30) as http:
            reply = await http.post(f"{endpoint}/chat/completions", json=body, headers=head)
        reply.raise_for_status()
        return ProgramResult(exit_code=0, stdout="", stderr="")
"""


def evaluate(folder, server, resets, answer):
    """What verifiers says of an episode for each reset: its rewards, and its turns' number."""

    def say(question):
        return answer(json.loads(question)["observation"])

    (folder / "asking.py").write_text(HARNESS)
    with judge_server.Server(lambda *_: "right", answer=say) as model:
        tables = ", ".join(
            f"{{ {name} = {value} }}" for each in resets for name, value in each.items()
        )
        (folder / "eval.toml").write_text(
            f'''
            model = "scripted"
            push = false
            output_dir = {json.dumps(str(folder / "runs"))}
            [client]
            base_url = "{model.address}"
            api_key_var = "NONE"
            [env.taskset]
            id = "openenv"
            base_url = "{server.address}"
            resets = [{tables}]
            [env.player]
            harness.id = "asking"
            runtime.type = "subprocess"
            max_turns = 20
            '''
        )
        run = subprocess.run(
            [EVAL, "@", str(folder / "eval.toml"), "--no-rich"], cwd=folder, check=False,
            env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    (results,) = (folder / "runs").glob("*/traces.jsonl")
    said = {}
    for episode in map(json.loads, results.read_text("utf-8").splitlines()):
        (trace,) = episode["traces"]
        assert episode["ok"], episode["errors"] + trace["errors"]
        data = episode["task"]["data"]
        turns = sum(node["message"]["role"] == "assistant" for node in trace["nodes"])
        said[data["idx"]] = trace["rewards"]["openenv_reward"]["score"], turns
    return [said[index] for index in range(len(resets))]


def test_a_reasoning_task(tmp_path):
    keywords = {"task": "gcd", "size": 3, "action": "completion"}
    wrong = gym.make("textenv/ReasoningGym-v0", **keywords).unwrapped.task.prompts[1]

    def solve(seen):
        numbers = re.findall(r"\d+", seen["prompt"])
        return "no idea" if seen["prompt"] == wrong else str(math.gcd(*map(int, numbers)))

    resets = [{"prompt_index": index} for index in range(3)]
    local = gym.make("textenv/ReasoningGym-v0", **keywords)
    rewards = []
    for options in resets:
        local.reset(options=options)
        reward, over = local.step(solve({"prompt": local.unwrapped.prompt}))[1:3]
        assert over
        rewards.append(reward)
    with Server("textenv/ReasoningGym-v0", **keywords) as server:
        assert evaluate(tmp_path, server, resets, solve) == [(reward, 1) for reward in rewards]
    assert (rewards[0], rewards[2]) == (1.0, 1.0)
    assert rewards[1] < 0.1


@pytest.mark.parametrize(
    ("keywords", "replies"),
    [
        # verifiers takes an empty reply for the end, without asking the environment.
        ({"action": "strings"}, ["good", "the cruel day", "good great", ""]),
        ({"action": "all_tokens"}, ["3", "4", "[0, 1]", "16"]),
    ],
)
def test_turns(tmp_path, keywords, replies):
    local = gym.make("textenv/WordPreference-v0", **keywords)
    local.reset()
    total, written = 0.0, {}  # a reply for what is written before it
    for reply in replies:
        written[local.unwrapped.text] = reply
        ids = json.loads(reply) if keywords["action"] == "all_tokens" else reply
        for action in ids if isinstance(ids, list) else [ids]:
            reward, over = local.step(action)[1:3]
            total += reward
    assert over
    assert total == 2.0
    with Server("textenv/WordPreference-v0", **keywords) as server:
        said = evaluate(tmp_path, server, [{"seed": 0}], lambda seen: written[seen["text"]])
    assert said == [(total, len(replies))]
