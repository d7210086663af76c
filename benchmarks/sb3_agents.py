"""The stock algorithms of Stable-Baselines3 and sb3-contrib, with the settings of `sb3_stock`.

One setting an algorithm, for both toys and both views of them. They were chosen on seeds 100 to
102, tables are made on seeds 0, 1, …, so that what these show is held out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sb3_contrib import QRDQN, TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from textenv_agents.sb3 import SB3VecEnv

GOOD = 0.9  # what J of the greedy policy shall reach
STAYS = 5  # at how many evaluations in a row

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "PPO": PPO,
    "A2C": A2C,
    "DQN": DQN,
    "MaskablePPO": MaskablePPO,
    "QRDQN": QRDQN,
    "TRPO": TRPO,
    "RecurrentPPO": RecurrentPPO,
}

# Texts are short and paid at the end: no discount; and ILoveYou pays one of 85 texts only, so
# that all of them must go on exploring. DQN's returns are of 4 steps, a whole text: ILoveYou's
# hidden state is the last word alone, so that a bootstrapped value cannot tell 爱你。 from 我爱你。
_PPO = {
    "n_steps": 128, "batch_size": 256, "n_epochs": 4, "gamma": 1.0, "learning_rate": 3e-3,
    "ent_coef": 0.05,
}  # fmt: skip
_DQN = {
    "learning_starts": 500, "learning_rate": 2e-3, "train_freq": 1, "target_update_interval": 500,
    "batch_size": 128, "exploration_fraction": 0.2, "exploration_final_eps": 0.2, "gamma": 1.0,
    "buffer_size": 50_000, "n_steps": 4,
}  # fmt: skip
TOYS: dict[str, dict[str, Any]] = {
    "PPO": _PPO,
    "A2C": {"n_steps": 16, "learning_rate": 3e-3, "ent_coef": 0.05, "gamma": 1.0},
    "DQN": _DQN,
    "MaskablePPO": _PPO,
    "QRDQN": _DQN | {"policy_kwargs": {"n_quantiles": 25}},
    "TRPO": {"n_steps": 128, "batch_size": 256, "gamma": 1.0},
    "RecurrentPPO": _PPO,
}


def make(
    name: str, envs: VecEnv, settings: dict[str, Any], seed: int, device: str = "cpu"
) -> BaseAlgorithm:
    """Make an algorithm with SB3's own policy of two small layers."""
    policy = "MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy"
    return ALGORITHMS[name](policy, envs, seed=seed, device=device, **settings)


def greedy_reward(agent: BaseAlgorithm, envs: SB3VecEnv) -> float:
    """J of the greedy policy where there is one prompt and no chance: what its one text is paid.

    Args:
        agent: An algorithm; RecurrentPPO keeps its memory, MaskablePPO gets the masks.
        envs: Of one row.
    """
    seen, memory, begins = envs.reset(), None, np.ones(1, dtype=np.bool_)
    total = 0.0
    while True:
        more = {"action_masks": np.stack(envs.env_method("action_masks"))}
        action, memory = agent.predict(
            seen,  # type: ignore[arg-type]
            state=memory,
            episode_start=begins,
            deterministic=True,
            **(more if isinstance(agent, MaskablePPO) else {}),
        )
        seen, rewards, dones, _ = envs.step(action)
        total, begins = total + float(rewards[0]), dones
        if dones[0]:
            return total


class Watch(BaseCallback):
    """Look at J every so many steps, and stop where it has stayed at `GOOD` or above.

    Args:
        envs: To look in; of one row.
        every: Steps between two looks.

    Attributes:
        seen: (steps, J) of each look.
    """

    def __init__(self, envs: SB3VecEnv, every: int) -> None:
        super().__init__()
        self.envs, self.every = envs, every
        self.seen: list[tuple[int, float]] = []

    @property
    def reached(self) -> int | None:
        """The first of the looks in a row at which J was high enough; None: it never stayed."""
        last = self.seen[-STAYS:]
        stays = len(last) == STAYS and all(value >= GOOD for _, value in last)
        return last[0][0] if stays else None

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.every * (len(self.seen) + 1):
            self.seen.append((self.num_timesteps, greedy_reward(self.model, self.envs)))
        return self.reached is None
