"""Stable-Baselines3 on texts: `SB3VecEnv`, many texts at once as one of its environments."""

from textenv.errors import MissingExtraError

try:
    import stable_baselines3  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtraError("stable_baselines3", "textenv_agents.sb3") from error

from textenv_agents.sb3.vec_env import SB3VecEnv

__all__ = ["SB3VecEnv"]
