"""What agents of other libraries write, as logged texts: SB3's, sb3-contrib's, our own."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from textenv import TextEnv
from textenv.logged import LoggedTexts
from textenv.prefixes import Prefixes
from textenv_agents.environments import check_id
from textenv_agents.record import nothing_to_log


class Predicts(Protocol):
    """Whatever chooses actions as SB3's agents do."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Return an action and the agent's own state, for the next call."""


def record_agent(
    agent: Predicts,
    env: str | gym.Env,
    episodes: int = 1000,
    *,
    seed: int = 0,
    deterministic: bool = False,
    **keywords: Any,
) -> LoggedTexts:
    """Let an agent write one text after another, and log the tokens.

    It sees and does what it was trained to, such as hidden states and candidates; logged are the
    tokens that came of it. What an action of several tokens is paid stands at its last one. Texts
    whose reward failed (`reward_fault="skip"`) are left out. Probabilities are not logged.

    Args:
        agent: Has SB3's `predict`; where that takes `action_masks`, as MaskablePPO's does, it gets
            them. It draws from its own random numbers: seed it for the same texts again.
        env: An environment's id, or an environment of ours, wrapped as for training.
        episodes: How many texts.
        seed: Of the prompts.
        deterministic: Its likeliest actions instead of samples.
        **keywords: For the environment, where it is an id.

    Raises:
        TypeError: the agent has no `predict`, or the environment is no `TextEnv`.
        ValueError: the id is not one of ours, `episodes` < 1, or a text has no token at all.
        TextenvError: the reward failed for all texts.
    """
    if not callable(getattr(agent, "predict", None)):
        raise TypeError(
            f"expected an agent with SB3's predict(), got {agent!r:.80}: for language models and "
            "their names there is textenv_agents.record.record"
        )
    if episodes < 1:
        raise ValueError(f"expected episodes ≥ 1, got {episodes}")
    if isinstance(env, str):
        check_id(env, keywords)
        env = gym.make(env, **keywords)
    elif keywords:
        raise ValueError(f"{', '.join(keywords)}: keywords are for an id, the environment is made")
    if not isinstance(env.unwrapped, TextEnv):
        raise TypeError(f"expected an environment of textenv, got {env.unwrapped!r}")
    task = env.unwrapped.task
    masked = "action_masks" in inspect.signature(agent.predict).parameters
    texts = []
    for number in range(episodes):
        text, skipped = _write(agent, env, None if number else seed, deterministic, masked)
        if not skipped:
            texts.append(text)
    if not texts:
        raise nothing_to_log(task, episodes)
    tokens, written, rewards, terminated = map(np.array, zip(*texts, strict=True))
    prefixes = Prefixes(tokens, task.rules.prompt_length, task.rules.nothing, written)
    return LoggedTexts(prefixes, rewards, terminated).check(task)


def _write(
    agent: Predicts, env: gym.Env, seed: int | None, deterministic: bool, masked: bool
) -> tuple[tuple[Any, int, Any, bool], bool]:
    """Write a text: its tokens [P + T], how many, rewards [T], whether the rules ended it.

    Returns:
        These, and whether the reward of any of its tokens failed and says nothing.
    """
    inner: Any = env.unwrapped
    observation, _ = env.reset(seed=seed)
    rewards = np.zeros(inner.task.rules.max_tokens)
    state: Any = None
    start, terminated, truncated, skipped = np.ones(1, dtype=bool), False, False, False
    while not (terminated or truncated):
        more = {"action_masks": env.get_wrapper_attr("action_masks")()} if masked else {}
        action, state = agent.predict(
            observation, state=state, episode_start=start, deterministic=deterministic, **more
        )
        observation, reward, terminated, truncated, info = env.step(action)
        # An empty string writes nothing; what it is paid belongs to the token before.
        rewards[max(int(inner.state.length) - 1, 0)] += float(reward)
        skipped = skipped or inner.setup.is_skipped(info)
        start[:] = False
    final = inner.state
    text = final.tokens, int(final.length), rewards, bool(terminated)
    return text, skipped
