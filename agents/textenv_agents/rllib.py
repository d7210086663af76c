"""RLlib's new API stack on texts: a module that reads tokens, a configuration, a check.

    from textenv_agents.rllib import ppo_config

    algorithm = ppo_config("textenv/ILoveYou-v0", num_envs=8).training(lr=3e-3).build_algo()

RLlib's own module takes observations as they are, so that token ids (int64) are an error in its
first matrix; it is right for observation="hidden". RLlib pins Gymnasium 1.2.2: it wants a virtual
environment of its own (`make rllib`). Left out on purpose: language models as RLlib modules.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

import textenv  # it registers the ids, in RLlib's other processes too
from textenv.errors import MissingExtraError
from textenv_agents.single_file_ppo import Agent

try:
    from ray.rllib.algorithms.ppo import PPOConfig  # type: ignore[import-not-found]
    from ray.rllib.core.columns import Columns  # type: ignore[import-not-found]
    from ray.rllib.core.rl_module.apis import ValueFunctionAPI  # type: ignore[import-not-found]
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec  # type: ignore[import-not-found]
    from ray.rllib.core.rl_module.torch import TorchRLModule  # type: ignore[import-not-found]
except ImportError as error:
    raise MissingExtraError("ray", "textenv_agents.rllib") from error


class TokenModule(TorchRLModule, ValueFunctionAPI):
    """Policy and value on token observations: an embedding, a GRU and two linear heads.

    With mask="observation" what is masked has probability 0. `model_config={"width": 64}` says how
    wide embedding and GRU are.
    """

    def setup(self) -> None:
        """Make the network for the spaces of the environment.

        Raises:
            ValueError: the observations are no tokens, or the action is not one of n.
        """
        seen, actions = self.observation_space, self.action_space
        if isinstance(seen, gym.spaces.Dict):
            seen = seen.spaces.get("observation")
        tokens = isinstance(seen, gym.spaces.Box) and seen.dtype == "int64"
        if not tokens or not isinstance(actions, gym.spaces.Discrete):
            raise ValueError(
                'TokenModule reads tokens and takes one action of n: it needs observation="tokens" '
                f"and no fragments or strings, got {self.observation_space} and {actions}; for "
                'observation="hidden" leave rl_module_spec to RLlib'
            )
        nothing = int(seen.high.max())  # V, the id of an empty column
        self.network = Agent(nothing, int(actions.n), self.model_config.get("width", 64))

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Tensor]:
        """Return the logits of the actions, [B, n]."""
        policy, _values = self.network(*_tokens_and_mask(batch[Columns.OBS]))
        return {Columns.ACTION_DIST_INPUTS: policy.logits}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        """Return V(s), [B]."""
        return self.network(*_tokens_and_mask(batch[Columns.OBS]))[1]


def _tokens_and_mask(observation: Any) -> tuple[Tensor, Tensor | None]:
    if not isinstance(observation, dict):
        return observation.to(torch.int64), None
    return observation["observation"].to(torch.int64), observation["action_mask"] > 0


def refuse_what_is_misread(*, env: Any, **_: Any) -> None:
    """Refuse a vector environment that RLlib would misread; see `on_environment_created`.

    RLlib takes the first observation after an end for a reset, whatever the environment says. With
    SAME_STEP that is the second of the next text: its first token is lost, and with it a step of
    each episode's length, without a word.

    Nor does it keep observations for itself, or fetch rewards later: copy=False would overwrite
    what it holds, and scoring="deferred" pay NaN.

    Raises:
        ValueError: the mode is not NEXT_STEP, or the environment has one of these settings.
    """
    if not isinstance(env, gym.vector.VectorEnv):
        return
    mode = env.metadata.get("autoreset_mode")
    if mode != AutoresetMode.NEXT_STEP:
        raise ValueError(
            f"RLlib reads vector environments as NEXT_STEP, and this one has {mode}: texts would "
            "lose their first token; leave autoreset_mode out of env_config"
        )
    texts = env.unwrapped
    if isinstance(texts, textenv.TextVectorEnv) and not (texts.copy and texts.scoring == "step"):
        raise ValueError(
            f"RLlib stores observations and reads rewards at once, and this one has copy="
            f"{texts.copy} and scoring={texts.scoring!r}: leave both out of env_config"
        )


def ppo_config(environment_id: str, *, num_envs: int = 8, width: int = 64, **keywords: Any) -> Any:
    """Return a PPOConfig in this process, over our own vector environment; change it as any other.

    Args:
        environment_id: One of `textenv list`.
        num_envs: Texts side by side, for each env runner.
        width: Of embedding and GRU.
        **keywords: Of the environment: `mask="observation"`, `blocklist=…`, the task's.
    """
    return (
        PPOConfig()
        .environment(environment_id, env_config=keywords)
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=num_envs,
            gym_env_vectorize_mode=gym.VectorizeMode.VECTOR_ENTRY_POINT,
        )
        .learners(num_learners=0)
        .rl_module(
            rl_module_spec=RLModuleSpec(module_class=TokenModule, model_config={"width": width})
        )
        .training(gamma=1.0, lambda_=0.95, lr=3e-3, entropy_coeff=0.01, vf_loss_coeff=0.5)
        .callbacks(on_environment_created=refuse_what_is_misread)
    )
