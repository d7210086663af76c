"""Names of language models, their folders, and a handle that loads one when it is asked for.

No torch here: an environment needs a model's vocabulary at once, the model itself perhaps never.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from textenv.errors import TextenvError, UnknownNameError
from textenv.plugins import release
from textenv.vocabulary import Vocabulary, load_vocabulary

SHIPPED = {"reviews": Path(__file__).parent / "data" / "reviews"}


def folder_of(name: str) -> Path:
    """Return the folder of a language model, given its name or the folder itself.

    Raises:
        UnknownNameError: neither a known name nor a folder.
        TextenvError: a folder without a model in it.
    """
    if name in SHIPPED:
        return SHIPPED[name]
    folder = Path(name)
    if not folder.is_dir():
        raise UnknownNameError("language model (or folder with one)", name, SHIPPED)
    missing = [
        file for file in ("config.json", "model.safetensors") if not (folder / file).is_file()
    ]
    if missing:
        raise TextenvError(
            f"{name!r} is no language model: expected a folder as `save_pretrained` or "
            f"`textenv pretrain` writes it, but it has no {' and no '.join(missing)}"
        )
    return folder


class ModelHandle:
    """A language model that is named, or in memory, or made by the task, loaded when needed.

    Copies of the handle are the handle: environments share their model.

    Args:
        lm: A name, a folder, a language model, or None.
        make: What makes the model when `lm` is None.
    """

    def __init__(self, lm: Any, make: Callable[[], Any] | None = None) -> None:
        lm = release(lm)
        if lm is not None and not isinstance(lm, str | Path) and not hasattr(lm, "next"):
            raise ValueError(
                "expected lm= to be a name, a folder or a textenv.models.LanguageModel, got "
                f"{type(lm).__name__}"
            )
        self._folder = folder_of(str(lm)) if isinstance(lm, str | Path) else None
        self._model = None if self._folder else lm
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

    def load(self) -> Any:
        """Return the language model; the first call loads or makes it. None: there is none."""
        if self._model is None and self._folder:
            from textenv.models import load

            self._model = load(str(self._folder))
        elif self._model is None and self._make:
            self._model = self._make()
        return self._model

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
