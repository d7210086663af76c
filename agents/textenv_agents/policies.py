"""Which language model is meant: a name, a folder, a checkpoint, a run, "start" or "uniform"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from textenv.errors import TextenvError
from textenv.models import LanguageModel, TabularLM, load
from textenv.models.adapters import WithoutAdapter, has_adapter
from textenv.vocabulary import same_vocabulary
from textenv_agents.run_folder import CHECKPOINTS, CONFIG

START, UNIFORM = "start", "uniform"


class Policy(NamedTuple):
    """A language model that writes.

    name: As it was asked for.
    model: The model.
    began_as: What an agent's checkpoint began as, its KL's reference; None: not known.
    """

    name: str
    model: LanguageModel
    began_as: LanguageModel | None = None


def find_policy(
    policy: LanguageModel | str | Path,
    start: Callable[[], LanguageModel],
    *,
    device: str | None = None,
) -> Policy:
    """Find a policy.

    Args:
        policy: A language model, or whatever `textenv.models.load` takes by name: a name, a
            model's folder, an agent's checkpoint. A finished run's folder means its checkpoint,
            "start" the environment's own starting policy, "uniform" all its tokens alike.
        start: Makes the starting policy.
        device: Where to put a model that is loaded.

    Raises:
        TextenvError: there is no such model, or the run is not finished.
    """
    if isinstance(policy, LanguageModel):
        return Policy(type(policy).__name__, policy)
    name = str(policy)
    if name == START:
        return Policy(START, start())
    if name == UNIFORM:
        own = start()
        flat = TabularLM(own.vocabulary_size, order=0, vocabulary=own.vocabulary)
        return Policy(UNIFORM, flat if device is None else flat.to(own.device))
    folder = _checkpoint(Path(name))
    model = load(name if folder is None else folder, device=device)
    return Policy(name, model, _began_as(Path(name) if folder is None else folder, model, device))


def model_name(policy: str | Path) -> str:
    """Return what `textenv.models.load` and `lm=` call a policy that has a name or a folder.

    Raises:
        TextenvError: it is a run that is not finished.
    """
    folder = Path(policy)
    if not folder.is_dir():
        return str(policy)
    return str((_checkpoint(folder) or folder).absolute())


def _checkpoint(folder: Path) -> Path | None:
    """The agent's checkpoint in a run's folder; None where the folder is no run's.

    Raises:
        TextenvError: the run is not finished.
    """
    if (folder / "checkpoint").is_dir():
        return folder / "checkpoint"
    if (folder / CONFIG).is_file() and (folder / CHECKPOINTS).is_dir():
        raise TextenvError(
            f"the run in {str(folder)!r} is not finished, so that it has no trained agent yet: go "
            f"on with it by textenv train --resume {folder}"
        )
    return None


def _began_as(folder: Path, model: LanguageModel, device: str | None) -> LanguageModel | None:
    """The reference that stands beside the policy in a checkpoint, or is it without its adapter."""
    if (folder / "reference" / "config.json").is_file():
        return load(folder / "reference", device=device)
    return WithoutAdapter(model) if has_adapter(model) else None


def check_same_vocabulary(one: Policy, other: Policy) -> None:
    """Refuse two models that mean different tokens by the same ids.

    Raises:
        ValueError: they do.
    """
    sizes = one.model.vocabulary_size, other.model.vocabulary_size
    ours, theirs = one.model.vocabulary, other.model.vocabulary
    same = sizes[0] == sizes[1]
    if same and ours is not None and theirs is not None:
        same = same_vocabulary(ours, theirs)
    if not same:
        raise ValueError(
            f"{one.name!r} has a vocabulary of {sizes[0]:,} tokens, {other.name!r} another one of "
            f"{sizes[1]:,}: they can only be measured by each other token by token. Name a policy, "
            "or another model as against and as reference, so that all have the same tokenizer"
        )
