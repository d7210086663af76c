"""A vector environment as a `VecEnv` of Stable-Baselines3.

Nothing is learned, scaled or counted here: SB3's VecMonitor, VecNormalize, … go around it.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import VectorEnv, VectorWrapper
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from textenv import TextVectorEnv, mdp
from textenv.errors import TextenvError
from textenv.rows import row_of_state
from textenv_agents.sb3.checks import check, empty_mask, made, warn_of_memory
from textenv_agents.sb3.infos import at_ends, by_row
from textenv_agents.sb3.text_space import with_texts

_ROW_METHODS = ("action_masks", "render")  # of a vector: entry i of what they return is row i's
_MISSING = object()


class SB3VecEnv(VecEnv):
    """Let Stable-Baselines3 write many texts at once: `PPO("MlpPolicy", SB3VecEnv(id, 64))`.

    It steps as a `DummyVecEnv` of single environments does, to the bit for what is computed from
    text: seeded s, row i is the single environment seeded s + i; at ends the infos hold
    `terminal_observation` and `TimeLimit.truncated`. PPO, A2C and MaskablePPO also write
    `action="fragments:n"` (a MultiDiscrete action); DQN takes one number only, SAC and TD3 none of
    these. `check_algorithm` says so beforehand, and how much memory an algorithm would take.

    Of SB3's algorithms MaskablePPO alone reads masks. The others may write
    `action="candidates:k"` all the same: where only n < k are left, action a writes candidate
    a mod n (`textenv.Candidates`), here and in a single environment. What a blocklist forbids among
    all tokens stays an error.

    Args:
        env: The id of a textenv environment, or a vector environment in SAME_STEP mode: a
            `TextVectorEnv`, wrappers around one, or another one of Gymnasium's.
        num_envs: B, for an id; 1 by default.
        **keywords: The environment's, for an id.

    Attributes:
        vector_env: The vector environment.

    Raises:
        ValueError: the vector environment resets at another time than SAME_STEP, pays later or
            reuses its observations; or shows or takes what SB3 has no policy for.
    """

    def __init__(self, env: str | VectorEnv, num_envs: int | None = None, **keywords: Any) -> None:
        self.vector_env = made(env, num_envs, keywords)
        check(self.vector_env)
        self._inner: Any = self.vector_env.unwrapped
        self._ours = isinstance(self._inner, TextVectorEnv)
        super().__init__(
            self.vector_env.num_envs,
            with_texts(self.vector_env),
            self.vector_env.single_action_space,
        )
        self.metadata = self.vector_env.metadata
        self._actions: np.ndarray | None = None
        warn_of_memory(self.vector_env)

    @property
    def spec(self) -> Any:
        """What the vector environment was made from; VecMonitor writes its id."""
        return self.vector_env.spec

    def reset(self) -> VecEnvObs:
        """Start B episodes with the seeds of `seed` and the options of `set_options`, once."""
        seeded = any(seed is not None for seed in self._seeds)
        seeds: Any = list(self._seeds) if seeded else None
        observations, infos = self.vector_env.reset(seed=seeds, options=self._joined_options())
        self.reset_infos = by_row(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Take B actions; `step_wait` does them."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Do the actions; rows that end are reset at once.

        Returns:
            Observations, of the new texts where one has ended; rewards, float32 [B]; which have
            ended, bool [B]; an info for each row.
        """
        observations, rewards, terminated, truncated, infos = self.vector_env.step(self._actions)
        dones = np.logical_or(terminated, truncated)
        step_infos, self.reset_infos = at_ends(infos, dones, self.reset_infos)
        cut = (truncated & ~terminated).tolist()
        for info, is_cut in zip(step_infos, cut, strict=True):
            info["TimeLimit.truncated"] = is_cut
        return observations, np.array(rewards, dtype=np.float32), dones, step_infos

    def close(self) -> None:
        """Close the vector environment."""
        self.vector_env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Return a picture of each row, if `render_mode="rgb_array"`."""
        if self.render_mode != "rgb_array":
            warnings.warn(
                f'pictures need render_mode="rgb_array", got {self.render_mode!r}', stacklevel=2
            )
            return [None] * self.num_envs
        return self.env_method("render")

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute for each row, such as `text`, `state`, `task` or `render_mode`.

        Raises:
            AttributeError: the environment has none of that name.
        """
        rows = self._rows(indices)
        if (singles := self._singles) is not None:
            return [singles[row].get_wrapper_attr(attr_name) for row in rows]
        if attr_name in ("observation_space", "action_space"):
            attr_name = f"single_{attr_name}"
        value = self._attribute(attr_name)
        if attr_name in _ROW_METHODS:
            return [functools.partial(self._call_for, attr_name, row) for row in rows]
        if self._ours and attr_name in _ROW_VALUES:
            return [_ROW_VALUES[attr_name](value, row) for row in rows]
        return [value] * len(rows)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of all rows, or of some where these are environments of their own.

        Raises:
            ValueError: some rows of an environment that writes all of them.
        """
        rows = self._rows(indices)
        if (singles := self._singles) is not None:
            for row in rows:
                setattr(singles[row], attr_name, value)
            return
        if set(rows) != set(range(self.num_envs)):
            raise ValueError(
                f"one environment writes all {self.num_envs} rows, so {attr_name!r} cannot be set "
                f"for rows {rows} alone: leave indices= out"
            )
        owners = [env for env in self._layers() if hasattr(env, attr_name)]
        setattr(owners[-1] if owners else self.vector_env, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Return what a method says of each row: `action_masks`, bool [size], or `render`.

        Raises:
            AttributeError: another method, of an environment that writes all rows.
            TextenvError: a mask forbids everything.
        """
        rows = self._rows(indices)
        if (singles := self._singles) is not None:
            methods = [singles[row].get_wrapper_attr(method_name) for row in rows]
            said = [method(*method_args, **method_kwargs) for method in methods]
            return self._checked(method_name, said, rows)
        if method_name not in _ROW_METHODS:
            raise AttributeError(
                f"one environment writes all {self.num_envs} rows: of its methods only "
                f"{', '.join(_ROW_METHODS)} can be called row by row, got {method_name!r}; call "
                "it on .vector_env, for all rows"
            )
        said = self._attribute(method_name)(*method_args, **method_kwargs)
        said = [None if said is None else said[row] for row in rows]
        return self._checked(method_name, said, rows)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Say for each row whether a wrapper of this class is around it."""
        rows = self._rows(indices)
        around = any(isinstance(layer, wrapper_class) for layer in self._layers())
        singles = self._singles
        return [around or (singles is not None and _within(singles[row], wrapper_class))
                for row in rows]  # fmt: skip

    def _checked(self, method: str, said: list[Any], rows: list[int]) -> list[Any]:
        """Refuse masks that forbid everything."""
        if method == "action_masks" and (empty := empty_mask(said, self.action_space)) is not None:
            texts = self.get_attr("text", rows[empty]) if self.has_attr("text") else []
            raise TextenvError(
                f"the action mask of row {rows[empty]} forbids every action"
                f"{''.join(f' after the text {text!r}' for text in texts)}, and MaskablePPO would "
                "then draw among all: allow at least one, or end the episode before"
            )
        return said

    @property
    def _singles(self) -> Sequence[gym.Env] | None:
        """The single environments, where the rows are such: in Gymnasium's SyncVectorEnv."""
        return getattr(self._inner, "envs", None)

    def _rows(self, indices: VecEnvIndices) -> list[int]:
        return [range(self.num_envs)[row] for row in self._get_indices(indices)]

    def _layers(self) -> Iterator[VectorEnv]:
        """The wrappers from the outside in, then what they wrap."""
        layer = self.vector_env
        while isinstance(layer, VectorWrapper):
            yield layer
            layer = layer.env
        yield layer

    def _attribute(self, name: str) -> Any:
        for layer in self._layers():
            value = getattr(layer, name, _MISSING)
            if value is not _MISSING:
                return value
        raise AttributeError(f"{self.vector_env} has no attribute {name!r}")

    def _call_for(self, method: str, row: int, *arguments: Any, **keywords: Any) -> Any:
        return self.env_method(method, *arguments, indices=row, **keywords)[0]

    def _joined_options(self) -> dict[str, Any] | None:
        """The rows' options as those of a vector: each a list of B.

        Raises:
            ValueError: there are not B, or they differ and the environment takes one for all.
        """
        if len(self._options) != self.num_envs:
            raise ValueError(
                f"expected one dict of options, or a list of {self.num_envs}, got a list of "
                f"{len(self._options)}: call set_options() again"
            )
        names = list(dict.fromkeys(name for row in self._options for name in row))
        if not names:
            return None
        if self._ours:
            return {name: [row.get(name) for row in self._options] for name in names}
        if all(data_equivalence(row, self._options[0]) for row in self._options):
            return self._options[0]
        raise ValueError(f"{self.vector_env} takes the same options in all rows: give one dict")


def _state_of(state: mdp.State, row: int) -> mdp.State:
    columns = None if state.columns is None else state.columns[row]
    return row_of_state(state, row)._replace(columns=columns)


# What a row's single environment has under the name under which the vector has that of all rows.
_ROW_VALUES: dict[str, Callable[[Any, int], Any]] = {
    "text": lambda texts, row: texts[row],
    "state": _state_of,
    "choices": lambda choices, row: None if choices is None else choices.rows([row]),
}


def _within(env: gym.Env, wrapper_class: type[gym.Wrapper]) -> bool:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, wrapper_class):
            return True
        env = env.env
    return False
