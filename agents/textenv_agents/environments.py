"""The agent's environment: made from an id, or checked when it was handed in."""

from __future__ import annotations

import importlib
from collections.abc import Container
from dataclasses import replace
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import (
    find_highest_version,
    get_env_id,
    load_env_creator,
    parse_env_id,
)
from gymnasium.vector import AutoresetMode, VectorEnv

import textenv
from textenv.errors import TextenvError
from textenv.models import LanguageModel
from textenv_agents.config import PolicyGradientConfig

# What agents and evaluations decide themselves when they make an environment.
COLLECTING = ("num_envs", "vectorization_mode", "autoreset_mode", "scoring")


def settings_for(
    env: str | VectorEnv, config: PolicyGradientConfig, settings: dict[str, Any]
) -> PolicyGradientConfig:
    """Replace some settings; rows, and texts if nothing is said of either, are the environment's.

    What comes back says how many texts it means, whatever environment it is used with later.

    Raises:
        ValueError: the environment has other rows than the settings say.
    """
    if isinstance(env, VectorEnv):
        rows = settings.get("rows", config.rows)
        if rows not in (None, env.num_envs):
            raise ValueError(f"rows={rows}, but the environment has {env.num_envs}")
        episodes = settings.get("episodes", config.episodes)
        own = {"episodes": env.num_envs} if episodes is rows is None else {"rows": env.num_envs}
        settings = settings | own
    config = replace(config, **settings)
    return replace(config, episodes=config.texts)


def make_environment(
    env: str | VectorEnv, policy: LanguageModel | None, config: PolicyGradientConfig
) -> VectorEnv:
    """Make the environment of an id, or check one that was handed in.

    Raises:
        ValueError: it is no `TextVectorEnv`, or shows or takes other things than tokens.
    """
    if isinstance(env, str) and _is_ours(env):
        own = policy is not None and policy.vocabulary is not None
        keywords: dict[str, Any] = {"lm": policy} if own else {}
        return gym.make_vec(
            env,
            num_envs=config.rows or config.texts,
            autoreset_mode=AutoresetMode.SAME_STEP,
            scoring="deferred",  # all texts of an update in one call of the reward
            **keywords,
        )
    if not isinstance(env, VectorEnv) or not isinstance(env.unwrapped, textenv.TextVectorEnv):
        raise ValueError(
            "expected an id such as 'textenv/GoodBad-v0' or a TextVectorEnv, as "
            f"gym.make_vec('textenv/GoodBad-v0', num_envs=64) makes it, got {env!r}"
        )
    if env.unwrapped.setup.observation != textenv.Tokens():
        raise ValueError('the agent needs observation="tokens"')
    if env.unwrapped.setup.action != textenv.AllTokens():
        raise ValueError(
            'the agent writes token by token: it needs action="all_tokens", not '
            f"{env.unwrapped.setup.action!r}"
        )
    return env


def check_id(environment_id: str, keywords: Container[str] = ()) -> None:
    """Refuse ids of other environments, and keywords that say how texts are collected.

    Args:
        environment_id: What `gym.make_vec` takes, "module:id" included.
        keywords: The names of the environment's.

    Raises:
        ValueError: the id makes something else, or a keyword is one that is said here.
    """
    if not isinstance(environment_id, str) or not _is_ours(environment_id):
        raise ValueError(
            "expected the id of a textenv environment, such as those of `textenv list`, got "
            f"{environment_id!r}"
        )
    for name in COLLECTING:
        if name in keywords:
            raise ValueError(f"{name}= is chosen here: leave it out of the environment's keywords")


def _is_ours(environment_id: str) -> bool:
    """Whether an id makes a `TextVectorEnv`, or may make one, being a function."""
    module, _, name = environment_id.rpartition(":")
    if module:  # "module:id", as `gym.make` takes it: the module registers the id
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise TextenvError(f"{environment_id!r} cannot be made: {error}") from error
    namespace, short, version = parse_env_id(name)
    if version is None:  # then `gym.make_vec` takes the newest
        name = get_env_id(namespace, short, find_highest_version(namespace, short))
    entry = gym.spec(name).vector_entry_point
    if entry is None:
        return False
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    return not isinstance(creator, type) or issubclass(creator, textenv.TextVectorEnv)
