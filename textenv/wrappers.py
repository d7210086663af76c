"""Wrappers for libraries that look for masks under another name.

Everything else that a wrapper does is Gymnasium's own: time limits, statistics, films.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs


class MaskKey(gym.ObservationWrapper, RecordConstructorArgs):
    """Rename the parts of an observation with a mask, `observation` and `action_mask`.

    Without keywords as Tianshou reads them; TorchRL's `ActionMask()` reads `action_mask` and needs
    no wrapper.

    Args:
        env: An environment made with `mask="observation"`.
        observation: The new name of `observation`. An observation of several parts, such as
            "probabilities:k", has no part of this name, and keeps theirs.
        mask: The new name of `action_mask`.

    Raises:
        ValueError: the observations have no mask, or two parts would have one name.

    >>> import textenv
    >>> env = MaskKey(gym.make("textenv/GoodBad-v0", mask="observation"))
    >>> env.reset(seed=0)[0]
    {'mask': array([1, 1], dtype=int8), 'obs': array([2])}
    """

    def __init__(self, env: gym.Env, *, observation: str = "obs", mask: str = "mask") -> None:
        RecordConstructorArgs.__init__(self, observation=observation, mask=mask)
        gym.ObservationWrapper.__init__(self, env)
        parts = env.observation_space
        if not isinstance(parts, spaces.Dict) or "action_mask" not in parts.spaces:
            raise ValueError(
                f"expected observations with a part action_mask, got {parts}: make the environment "
                'with mask="observation", as in gym.make("textenv/ILoveYou-v0", mask="observation")'
            )
        new = {"observation": observation, "action_mask": mask}
        self._names = {part: new.get(part, part) for part in parts.spaces}
        if len(set(self._names.values())) < len(self._names):
            raise ValueError(
                f"expected different names for {', '.join(self._names)}, got "
                f"{', '.join(self._names.values())}: choose other observation= or mask="
            )
        self.observation_space = spaces.Dict(self.observation(parts.spaces))

    def observation(self, observation: Any) -> dict[str, Any]:
        """Return the same parts under their new names."""
        return {new: observation[part] for part, new in self._names.items()}
