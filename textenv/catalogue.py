"""Names of language models, their folders, and a handle that loads one when it is asked for.

No torch here unless a model must be converted: an environment needs a model's vocabulary at once,
the model itself perhaps never.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from textenv.errors import TextenvError, UnknownNameError
from textenv.limits import check_room
from textenv.plugins import release
from textenv.sources import gguf, is_hub_id, smollm2, snapshot
from textenv.task import Task
from textenv.vocabulary import TokenizerVocabulary, Vocabulary, load_vocabulary

SHIPPED = {name: Path(__file__).parent / "data" / name for name in ("reviews", "translator")}
NAMES = (*SHIPPED, "smollm2")

ADAPTER = "adapter_config.json"  # PEFT's
STATE = "state.json"  # an agent's
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")


def folder_of(name: str, *, weights: bool = True) -> Path:
    """Return the folder of a language model; it is downloaded or converted if it must be.

    Args:
        name: "reviews", "smollm2", a folder, a .gguf file, or `owner/name` on the Hugging Face Hub.
            Of the checkpoint of an agent it is its policy's folder; of an adapter its base's.
        weights: Whether the weights are needed, or the vocabulary alone.

    Raises:
        UnknownNameError: none of these.
        TextenvError: a folder without a model in it, a damaged file, no network.
    """
    if name in SHIPPED:
        return SHIPPED[name]
    if name == "smollm2":
        return smollm2.converted()
    adapter = adapter_of(name)
    if adapter is not None:
        return folder_of(base_of(adapter), weights=weights)
    path = Path(name)
    if name and path.is_dir():  # Path("") is the folder that we are in
        if (path / STATE).is_file() and (path / "policy").is_dir():
            path /= "policy"
        _check_folder(path)
        return path
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise TextenvError(f"there is no file {name!r}")
        return gguf.converted(path)
    if not name or path.is_file() or not is_hub_id(name):
        raise UnknownNameError("language model (or folder with one)", name, NAMES)
    folder = snapshot(name, weights=weights)
    if weights:
        _check_folder(folder)
    return folder


def adapter_of(name: str) -> Path | None:
    """Return the folder of an adapter: a folder itself, or of the agent that is saved there.

    None: the name means none.
    """
    path = Path(name)
    if not name or name in NAMES:
        return None
    if (path / STATE).is_file() and (path / "adapter").is_dir():
        return path / "adapter"
    whole = (path / "config.json").is_file()
    return path if (path / ADAPTER).is_file() and not whole else None


def base_of(adapter: Path) -> str:
    """Return the name of the model that an adapter stands beside.

    Raises:
        TextenvError: it has none, or is itself an adapter; or PEFT's settings are damaged.
    """
    try:
        base = json.loads((adapter / ADAPTER).read_text("utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TextenvError(f"{str(adapter)!r} holds no whole adapter: {error}") from error
    if not base:
        raise TextenvError(
            f"the adapter in {str(adapter)!r} was made for a model that was in memory only: load "
            "that model, then textenv.models.adapter_files.load_adapter(model, folder)"
        )
    if adapter_of(base) is not None:
        raise TextenvError(f"the adapter in {str(adapter)!r} stands beside an adapter, {base!r}")
    return base


def _check_folder(folder: Path) -> None:
    """Refuse a folder without a model, and one whose weights are pickles."""
    if (folder / STATE).is_file() and (folder / "training.pt").is_file():
        if (folder / "lm").is_dir():
            raise TextenvError(
                f"{str(folder)!r} is an offline learner, which can be steered by any β: write a "
                "language model with ImplicitQLearning.load(folder, texts).policy(beta)"
                ".save_pretrained(another_folder)"
            )
        raise TextenvError(
            f"{str(folder)!r} is a checkpoint inside a run, which holds no whole model: the one "
            "that a finished run has trained is in RUN/checkpoint"
        )
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any((folder / file).is_file() for file in _SAFETENSORS):
        pickles = sorted(path.name for each in _PICKLES for path in folder.glob(each))
        if pickles:
            raise TextenvError(
                f"the weights in {str(folder)!r} are pickle files, {', '.join(pickles[:3])}, which "
                "can run any code when they are opened: expected model.safetensors. If you trust "
                "them, convert them once: AutoModelForCausalLM.from_pretrained(folder)"
                ".save_pretrained(another_folder), and the tokenizer likewise"
            )
        missing.append("model.safetensors")
    if missing:
        raise TextenvError(
            f"{str(folder)!r} is no language model: expected a folder as `save_pretrained` or "
            f"`textenv pretrain` writes it, but it has no {' and no '.join(missing)}"
        )


class ModelHandle:
    """A language model that is named, or in memory, or made by the task, loaded when needed.

    Copies of the handle are the handle: environments share their model.

    Args:
        lm: A name as in `folder_of`, a language model, or None.
        make: What makes the model when `lm` is None.

    Raises:
        ValueError: it is something else.
    """

    def __init__(self, lm: Any, make: Callable[[], Any] | None = None) -> None:
        lm = release(lm)
        named = isinstance(lm, str | Path)
        if lm is not None and not named and not hasattr(lm, "next"):
            raise ValueError(_no_model(lm))
        self._name = str(lm) if named else None
        self._folder = folder_of(str(lm), weights=False) if named else None
        self._model = None if named else lm
        self._make = make

    def vocabulary(self) -> Vocabulary | None:
        """Return the model's vocabulary, without loading its weights; None if it has none."""
        if self._folder:
            return load_vocabulary(self._folder)
        return getattr(self._model, "vocabulary", None)

    def check(self, vocabulary_size: int) -> None:
        """Refuse a model in memory that has another number of tokens than the task.

        Raises:
            ValueError: it does.
        """
        own = getattr(self._model, "vocabulary_size", vocabulary_size)
        if own != vocabulary_size:
            raise ValueError(
                f"the language model has {own} tokens and no vocabulary of its own, the task has "
                f"{vocabulary_size}"
            )

    def check_task(self, task: Task) -> None:
        """Refuse a task that this model cannot write.

        Raises:
            ValueError: another number of tokens; no end token where the tokenizer's would end the
                text; ids that the model lacks; prompts and completions that are longer than its
                positions.
        """
        rules = task.rules
        self.check(rules.vocabulary_size)
        if self._model is None and self._folder is None:
            return  # the task's own model
        model = f"the language model {self._name!r}" if self._name else "the language model"
        ends = rules.max_tokens == 1 or rules.stop_tokens or rules.stop_condition
        no_end = isinstance(task.vocabulary, TokenizerVocabulary) and rules.end_token is None
        if task.end and no_end and not ends:
            raise ValueError(
                f"{model} has no end token (its configuration and its tokenizer name no "
                f"`eos_token`), so that no text would end before {rules.max_tokens} tokens. If "
                "that is meant, say end=False; else give the tokenizer an end token"
            )
        config = self._config()
        ids = config.get("vocab_size") if isinstance(config, dict) else None
        if ids is not None and ids < rules.vocabulary_size:
            raise ValueError(
                f"the tokenizer of {model} has {rules.vocabulary_size} ids, the model only {ids}: "
                "they do not belong together"
            )
        check_room(config, rules.prompt_length, rules.max_tokens, model)

    def load(self) -> Any:
        """Return the language model; the first call loads or makes it. None: there is none."""
        if self._model is None and self._name:
            from textenv.models import load

            self._model = load(self._name)
        elif self._model is None and self._make:
            self._model = self._make()
        return self._model

    def _config(self) -> Any:
        """What the model says of itself, without loading it."""
        if self._folder:
            return json.loads((self._folder / "config.json").read_text("utf-8"))
        return getattr(getattr(self._model, "model", None), "config", {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """A named model is left out: it is loaded again when it is needed."""
        return self.__dict__ | ({"_model": None} if self._name else {})


def _no_model(lm: Any) -> str:
    first = lm[0] if isinstance(lm, tuple) and lm else lm
    if hasattr(first, "get_output_embeddings"):
        return (
            f"expected lm= to be a language model of textenv, got a {type(first).__name__} of "
            "transformers: put it together with its tokenizer, "
            "lm=textenv.models.load(model, tokenizer)"
        )
    return (
        "expected lm= to be a name, a folder or a .gguf file, `owner/name` on the Hugging Face Hub "
        f"or a textenv.models.LanguageModel, got {type(lm).__name__}"
    )
