"""The errors of textenv, and the two messages that every part gives in the same words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Which extra brings which module, so that a missing one can be answered with the exact command.
EXTRAS = {
    "torch": "lm",
    "transformers": "lm",
    "tokenizers": "lm",
    "safetensors": "lm",
    "jaxtyping": "lm",
    "peft": "lm",
    "huggingface_hub": "lm",
    "filelock": "lm",
    "gguf": "gguf",
    "accelerate": "gguf",
    "pebble": "text",
    "vaderSentiment": "text",
    "sacrebleu": "text",
    "pyphen": "text",
    "pyarrow": "feedback",
    "opacus": "feedback",
    "tenacity": "feedback",
    "PIL": "render",
    "stable_baselines3": "agents",
    "matplotlib": "agents",
    "tensorboard": "agents",
    "tqdm": "agents",
    "datasets": "bench",
    "ray": "rllib",
    "minari": "data",
    "h5py": "data",
    "reasoning_gym": "reasoning",
    "openenv": "serve",
}


class TextenvError(Exception):
    """Anything that textenv refuses."""


class UnknownNameError(TextenvError, ValueError):
    """A string names no task, reward, model or plug-in."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        """Say what is known, and which known name is nearest to the one asked for."""
        known = sorted(known)
        folded = {each.casefold(): each for each in known}
        near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
        guess = f" Did you mean {folded[near[0]]!r}?" if near else ""
        super().__init__(f"no {kind} is called {name!r}.{guess} Known: {', '.join(known)}")


class UnknownKeywordError(UnknownNameError, TypeError):
    """A keyword that nothing takes.

    It is made from its message alone, because Gymnasium makes a longer one of each TypeError.
    """

    def __init__(self, message: str) -> None:
        """Take the message as it is."""
        Exception.__init__(self, message)

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> UnknownKeywordError:
        """Say which keywords are known, and then what Python would have said.

        Libraries that try keywords, as TorchRL's `GymEnv` tries frameskip=, look for these words
        before they go on without it.
        """
        words = f"(__init__() got an unexpected keyword argument {name!r})"
        return cls(f"{UnknownNameError(kind, name, known)} {words}")


class MissingExtraError(TextenvError, ImportError):
    """An optional package is not installed."""

    def __init__(self, module: str, what: str, *, extra: str | None = None) -> None:
        """Name the module, what needs it and the command that installs it.

        `extra` is for a module that comes with several extras.
        """
        extra = extra or EXTRAS.get(module, "all")
        super().__init__(
            f"{what} needs the package {module!r}, which is not installed: "
            f'pip install "textenv[{extra}]"',
            name=module,
        )


class InvalidActionError(TextenvError, ValueError):
    """An action is none of the action space, or cannot be written."""


class ResetNeededError(TextenvError, RuntimeError):
    """`step` was called before `reset`, or after the end."""


class RewardFaultError(TextenvError, RuntimeError):
    """A reward raised, timed out, or returned something that is not one number a text."""


class TooLargeError(TextenvError, ValueError):
    """A task has too many texts to be enumerated."""


class NotSerialisableError(TextenvError, TypeError):
    """A spec holds an object that lives only in this process."""
