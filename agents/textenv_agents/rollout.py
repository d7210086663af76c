"""Collecting episodes: one text in each row of a vector environment, whatever its autoreset mode.

Each row writes exactly one text per call. Taking the first texts to end instead would prefer short
ones, and the estimate of the gradient would no longer be that of the task.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from textenv.models import LanguageModel, Prefixes


class Episodes(NamedTuple):
    """N finished texts.

    prefixes: The texts, tokens [N, P + T].
    rewards: float64 [N, T], what each token was paid.
    log_probs: float64 [N, T], log π(a_t|s_t) when it was written; 0 behind the end.
    faults: bool [N], texts whose reward failed and was skipped.
    """

    prefixes: Prefixes
    rewards: npt.NDArray[np.float64]
    log_probs: npt.NDArray[np.float64]
    faults: npt.NDArray[np.bool_]

    @property
    def written(self) -> npt.NDArray[np.bool_]:
        """Bool [N, T]: where a token was written."""
        return np.arange(self.rewards.shape[1]) < self.prefixes.written[:, None]


def collect(
    envs: VectorEnv,
    policy: LanguageModel,
    prompt_index: npt.NDArray[np.int64],
    uniforms: npt.NDArray[np.float64],
) -> Episodes:
    """Let the policy write one text in each row.

    Args:
        envs: A `TextVectorEnv` with token observations.
        policy: Writes the texts, at temperature 1.
        prompt_index: int64 [N], which prompt each row continues.
        uniforms: [N, T] numbers in [0, 1): u[i, t] chooses the t-th token of row i. They belong to
            the row and not to the step, so that all autoreset modes write the same texts.
    """
    texts: Any = envs.unwrapped  # the TextVectorEnv inside whatever wrappers
    rules = texts.task.rules
    rows = envs.num_envs
    observation, _ = envs.reset(options={"prompt_index": prompt_index})
    tokens = np.array(_tokens(observation))
    written = np.zeros(rows, dtype=np.int64)
    rewards, log_probs = np.zeros((2, rows, rules.max_tokens))
    faults = np.zeros(rows, dtype=np.bool_)
    live = np.arange(rows)
    # Rows that are done go on to write this token until the last one is done; nobody reads it.
    ordinary = (i for i in range(rules.vocabulary_size) if i not in rules.ending_tokens)
    idle = next(ordinary, 0)
    for step in range(rules.max_tokens):
        prefixes = Prefixes(tokens[live], rules.prompt_length, rules.nothing, written[live])
        chosen, chosen_log_probs = sample(policy.next(prefixes).logits, uniforms[live, step])
        actions = np.full(rows, idle)
        actions[live] = chosen
        _, paid, terminated, truncated, infos = envs.step(actions)
        tokens[live, rules.prompt_length + step] = chosen
        log_probs[live, step] = chosen_log_probs
        rewards[live, step] = paid[live]
        faults[live] |= _faults(infos, rows)[live]
        written[live] += 1
        ended = terminated | truncated
        live = live[~ended[live]]
        if not len(live):
            break
        if ended.any() and texts.autoreset_mode == AutoresetMode.DISABLED:
            envs.reset(options={"reset_mask": ended})
    whole = Prefixes(tokens, rules.prompt_length, rules.nothing, written)
    return Episodes(whole, rewards, log_probs, faults)


def sample(
    logits: Tensor, uniforms: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Draw a token from softmax(logits), [B, V], by its cumulative sum and one number in [0, 1).

    Never a token of probability 0: the token is the first whose cumulative probability lies above
    the number. (A multinomial draw costs as much as a small model's forward pass.)

    Returns:
        The tokens and their log-probabilities, [B] each.
    """
    log_probs = torch.log_softmax(logits, dim=-1)
    cumulative = log_probs.double().exp().cumsum(dim=-1)
    total = cumulative[:, -1:]
    threshold = torch.as_tensor(uniforms, device=logits.device)[:, None] * total
    threshold = torch.minimum(threshold, torch.nextafter(total, torch.zeros_like(total)))
    tokens = torch.searchsorted(cumulative, threshold, right=True)  # [B, 1]
    taken = log_probs.gather(-1, tokens)[:, 0]
    return tokens[:, 0].cpu().numpy(), taken.double().cpu().numpy()


def _tokens(observation: Any) -> Any:
    return observation["observation"] if isinstance(observation, dict) else observation


def _faults(infos: dict[str, Any], rows: int) -> npt.NDArray[np.bool_]:
    none = np.zeros(rows, dtype=np.bool_)
    final = infos.get("final_info", {})  # SAME_STEP: what is said of texts that have just ended
    return infos.get("_reward_fault", none) | final.get("_reward_fault", none)
