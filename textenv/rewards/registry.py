"""Which reward has which name, so that specs stay JSON.

A name is one that was registered ("sentiment") or says where to import from
("package.module:function").
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar, overload

from textenv.errors import TextenvError, UnknownNameError

F = TypeVar("F", bound=Callable[..., Any])

_FACTORIES: dict[str, Callable[..., Any]] = {}


@overload
def register(name: str, factory: F, *, overwrite: bool = ...) -> F: ...
@overload
def register(name: str, *, overwrite: bool = ...) -> Callable[[F], F]: ...
def register(name: str, factory: Any = None, *, overwrite: bool = False) -> Any:
    """Give a reward a name; also a decorator: `@register("name")`.

    Args:
        name: What specs call it; no colon.
        factory: Makes the reward from keywords: a class or a function. A function that takes
            `prompts`, `completions` or `completion_ids` is the reward itself.
        overwrite: Replace the reward that has this name.

    Returns:
        The factory.

    Raises:
        ValueError: the name is empty, holds a colon or is taken.
        TypeError: the factory cannot be called.
    """
    if factory is None:
        return functools.partial(register, name, overwrite=overwrite)
    if not isinstance(name, str) or not name or ":" in name:
        raise ValueError(f"a reward's name must be a text without a colon, got {name!r}")
    if not callable(factory):
        raise TypeError(f"the reward {name!r} must be a class or a function, got {factory!r}")
    if name in _FACTORIES and not overwrite:
        raise ValueError(
            f"a reward called {name!r} is registered already: {_FACTORIES[name]!r}; choose another "
            "name, or replace it with overwrite=True"
        )
    _FACTORIES[name] = factory
    return factory


def names() -> list[str]:
    """List the registered names in order."""
    return sorted(_FACTORIES)


def find(name: str) -> Any:
    """Return what is registered under a name, or import "package.module:object".

    Raises:
        UnknownNameError: nothing has this name.
        TextenvError: the module cannot be imported.
    """
    if ":" in name:
        return _imported(name)
    if name not in _FACTORIES:
        raise UnknownNameError("reward", name, names())
    return _FACTORIES[name]


def name_of(factory: object) -> str | None:
    """Return the name under which exactly this factory is registered, or None."""
    return next((name for name, known in _FACTORIES.items() if known is factory), None)


def importable_name(thing: Any) -> str | None:
    """Return "module:name" if another process can import a class or a function by it, else None.

    What is defined in the script that runs, or in a notebook, cannot: there the module is
    `__main__`, which is another one in every process.
    """
    module, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module is None or path is None or module == "__main__":
        return None
    try:
        found = functools.reduce(getattr, path.split("."), sys.modules[module])
    except (AttributeError, KeyError):  # a closure, a lambda, or deleted since
        return None
    return f"{module}:{path}" if found is thing else None


def is_reward_itself(thing: Any) -> bool:
    """Say whether a callable scores texts, rather than making something that does."""
    if isinstance(thing, type):
        return False
    try:
        parameters = inspect.signature(thing).parameters
    except ValueError:  # written in C without a signature
        return False
    return not parameters.keys().isdisjoint(("prompts", "completions", "completion_ids"))


def make(name: str, factory: Callable[..., Any], keywords: dict[str, Any]) -> Any:
    """Call a factory with keywords that it takes.

    Raises:
        UnknownNameError: it takes no such keyword.
        ValueError: it needs one that is not there.
    """
    parameters = inspect.signature(factory).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind not in _STARRED]
    needed = [p.name for p in parameters if p.kind not in _STARRED and p.default is p.empty]
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        for keyword in keywords:
            if keyword not in known:
                kind = f"keyword of the reward {name!r}"
                raise UnknownNameError(kind, keyword, known or ["none at all"])
    missing = [keyword for keyword in needed if keyword not in keywords]
    if missing:
        raise ValueError(
            f"the reward {name!r} needs {', '.join(missing)}: write it as "
            f'{{"name": "{name}", "{missing[0]}": …}}; its keywords: {", ".join(known)}'
        )
    return factory(**keywords)


_STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _imported(name: str) -> Any:
    module_name, _, path = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:  # ValueError: the module's name is empty
        raise TextenvError(f"the reward {name!r} cannot be imported: {error}") from error
    try:
        return functools.reduce(getattr, path.split("."), module)
    except AttributeError as error:
        public = [key for key in vars(module) if not key.startswith("_")]
        raise UnknownNameError(f"object of the module {module_name!r}", path, public) from error
