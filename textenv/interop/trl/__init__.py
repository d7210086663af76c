"""TRL, whose trainers take our rewards and prompts, and whose rewards we take; imports no TRL.

Give `RLOOConfig` the setting `disable_dropout=True`: its ratio of whole texts compares two passes,
and where the model drops out, as "reviews" does, most of it is noise and little is learned.
"""

from textenv.interop.trl.paying import RewardFunction, as_trl_reward
from textenv.interop.trl.prompts import prompt_dataset, prompt_rows
from textenv.interop.trl.taking import TRLReward, from_trl_reward

__all__ = [
    "RewardFunction",
    "TRLReward",
    "as_trl_reward",
    "from_trl_reward",
    "prompt_dataset",
    "prompt_rows",
]
