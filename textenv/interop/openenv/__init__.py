"""OpenEnv: any environment of ours served over HTTP, and clients for it.

`textenv serve ID` on the command line does the same as `Server`. Through it TRL trains on our tasks
(`ServedReward`), and so does verifiers, which is not needed here: its taskset `openenv` takes the
server's address as `base_url` and split="train" for the prompts, one task each; serve it with
`action="completion"`, so that the model's reply is the text. It asks models at an endpoint of
OpenAI's kind.
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
