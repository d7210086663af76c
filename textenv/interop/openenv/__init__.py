"""OpenEnv: any environment of ours served over HTTP, and clients for it.

`textenv serve ID` on the command line does the same as `Server`. TRL trains on our tasks through it
(`ServedReward`), and verifiers 0.4 plays them, from a virtual environment of its own, for its mcp
is another than ours: `pip install "verifiers[openenv]==0.4.0"`. It asks a model at an endpoint of
OpenAI's kind:

    textenv serve textenv/ReasoningGym-v0 --action completion --keywords '{"task": "gcd"}'
    vf-eval @ eval.toml --no-rich

where eval.toml is

    model = "…"
    push = false  # true, the default, sends the results to the makers' platform
    client.base_url = "http://127.0.0.1:8001/v1"
    client.api_key_var = "MY_KEY"  # the name of the variable that holds it
    env.taskset.id = "openenv"
    env.taskset.base_url = "http://127.0.0.1:8000"
    env.taskset.resets = [{ prompt_index = 0 }, { prompt_index = 1 }]  # an episode each
    env.player.harness.id = "null"  # it only talks
    env.player.runtime.type = "subprocess"

The results are in outputs/…/traces.jsonl, as `rewards.openenv_reward`. With `action="completion"`
a reply is the whole text. verifiers strips it, reads it as JSON if it is JSON (a number reaches us
as its text; a list or an object is refused, which fails the episode) and ends an episode at an
empty one, which is paid nothing.
"""

from textenv.interop.openenv.client import TextEnvClient
from textenv.interop.openenv.environment import ServedEnvironment
from textenv.interop.openenv.messages import TextObservation, TextState
from textenv.interop.openenv.server import Server, application
from textenv.interop.openenv.trl import ServedReward

__all__ = [
    "ServedEnvironment",
    "ServedReward",
    "Server",
    "TextEnvClient",
    "TextObservation",
    "TextState",
    "application",
]
