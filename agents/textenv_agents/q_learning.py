"""Tabular learning, top to bottom: Q-learning, SARSA, and Q from ratings.

    Q-learning  Q(s, a) ← Q(s, a) + α·(r + γ·max_a′ Q(s′, a′) − Q(s, a))   (Watkins 1989)
    SARSA       Q(s, a) ← Q(s, a) + α·(r + γ·Q(s′, a′) − Q(s, a))          (Rummery, Niranjan 1994)
    ratings     Q(s, a) ← Q(s, a) + α·(rating − Q(s, a))

A terminal state is worth 0; one that a wrapper truncates is worth what the table says. Text is
deterministic: with α = 1 Q-learning's numbers are exact as soon as each (s, a) was seen after what
follows it; with α = 1/n^ω they come near, the slower the nearer ω is to 1, for the mean keeps the
early targets. With a fixed ε SARSA learns the values of the ε-greedy policy, not Q*; greedy with
exploring starts it comes to Q*.
TD(0) for V of a policy and softmax preferences are in `tabular/`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Literal, Self

import gymnasium as gym
import numpy as np

from textenv import mdp
from textenv.preferences import RatedText
from textenv.prefixes import Prefixes
from textenv.task import Task
from textenv_agents.tabular.choosing import chooser, draw, epsilon_greedy
from textenv_agents.tabular.environments import (
    check_environment,
    check_memory,
    is_skipped,
    masks_after,
    tokens_of,
)
from textenv_agents.tabular.table import Table


@dataclass(frozen=True, kw_only=True)
class TabularConfig:
    """Settings of `Tabular`.

    Raises:
        ValueError: a number is out of range, or a name unknown.
    """

    method: Literal["q_learning", "sarsa"] = "q_learning"
    """What follows counts as: the best token there, or the one that is taken."""
    gamma: float = 1.0
    """γ, the discount. 1: a text is worth what it is worth."""
    exploration: Literal["epsilon_greedy", "softmax"] = "epsilon_greedy"
    """How tokens are drawn while learning."""
    epsilon: float = 0.1
    """ε, the share of uniform choice among the allowed tokens."""
    epsilon_power: float = 0.0
    """p in ε(s) = ε/n(s)^p, n(s) the updates of s so far plus one. 0: constant."""
    temperature: float = 1.0
    """τ of the softmax over Q."""
    exploring_starts: bool = False
    """Begin each text with 0 … T − 1 tokens drawn uniformly, which are not learned from, and one
    more that is: so every (s, a) is met however greedy the rest is, and SARSA comes to Q*."""
    step_size: float | None = None
    """α, if it is constant. None: 1/n(s, a)^ω."""
    step_power: float = 0.75
    """ω, between ½ (not included) and 1."""
    initial: float = 0.0
    """Q before anything is learned: above the best reward it makes even greedy choice explore."""
    memory_budget: float = 1.0
    """10⁹ bytes that a full table may take."""
    seed: int = 0
    """Of the environment's prompts and of the exploration."""

    def __post_init__(self) -> None:
        chooser(self.exploration, self.epsilon, self.temperature)
        if self.method not in ("q_learning", "sarsa"):
            raise ValueError(f'expected method="q_learning" or "sarsa", got {self.method!r}')
        if self.step_size is not None and not 0 < self.step_size <= 1:
            raise ValueError(f"expected 0 < step_size ≤ 1 or None, got {self.step_size}")
        if not 0.5 < self.step_power <= 1:
            raise ValueError(
                f"expected ½ < step_power ≤ 1 (else the steps' squares do not sum up), got "
                f"{self.step_power}"
            )
        if not 0 <= self.gamma <= 1 or not self.epsilon_power >= 0 or not self.memory_budget > 0:
            raise ValueError(
                "expected 0 ≤ gamma ≤ 1, epsilon_power ≥ 0 and memory_budget > 0, got "
                f"{self.gamma}, {self.epsilon_power} and {self.memory_budget}"
            )


class Tabular:
    """Q-learning or SARSA on token prefixes, in an environment made by `gym.make`.

    Args:
        env: An id, or an environment with "tokens" observations (with or without the mask in it)
            and actions of one token: all tokens or candidates. Masks are respected.
        config: The settings; or single ones as keywords.

    Attributes:
        table: Q.
        episodes: Written so far.

    Raises:
        TooLargeError: a full table would not fit into the memory budget.
        ValueError: the environment shows or takes something else.

    >>> agent = Tabular("textenv/GoodBad-v0", seed=0).learn(50)
    >>> agent.table.values
    array([[ 1., -1.]])
    """

    def __init__(
        self, env: str | gym.Env, config: TabularConfig | None = None, **settings: Any
    ) -> None:
        if config is not None and settings:
            raise ValueError(f"give config= or single settings, not both: got {sorted(settings)}")
        self.config = config or TabularConfig(**settings)
        self.env: gym.Env = gym.make(env) if isinstance(env, str) else env
        self.task, candidates = check_environment(self.env)
        check_memory(self.task, candidates, self.config.memory_budget)
        self.table = Table(self.task, columns=candidates, initial=self.config.initial)
        self.generator = np.random.default_rng(self.config.seed)
        self.episodes = 0
        self._choose = chooser(
            self.config.exploration, self.config.epsilon, self.config.temperature
        )

    def learn(self, episodes: int) -> Self:
        """Write that many more texts, learning at each token."""
        for _ in range(episodes):
            self._episode()
        return self

    def learn_from_ratings(self, rated: Iterable[RatedText], *, first_token: bool = False) -> Self:
        """Q(s, a) ← Q(s, a) + α·(rating − Q(s, a)) for the tokens of texts that somebody rated.

        With `step_power=1` Q(s, a) is the mean rating of the texts that go through (s, a): the
        values of whoever wrote them, not Q*. Their texts are tokenised.

        Args:
            rated: Texts with their ratings, `textenv.preferences.RatedText`.
            first_token: Learn the value of the first token only, of texts that go on or not.

        Raises:
            ValueError: the actions are no tokens; a text is empty where there is no end token, is
                too long, or goes on after its end.
        """
        if self.table.columns is not None:
            raise ValueError(
                'ratings are of tokens, these actions are candidates: use action="all_tokens"'
            )
        config, rules = self.config, self.task.rules
        for text in rated:
            tokens = _written(self.task, text, first_token)
            prompt = self.task.encode_prompt(text.prompt, "the prompt of a rating")
            state = mdp.initial(rules, mdp.align_prompts(rules, [prompt])[0])
            for token in tokens:
                if mdp.terminal(rules, state):
                    raise ValueError(
                        f"the rated text {text.text!r} goes on after its end: rate texts of this "
                        "task only"
                    )
                row = self.table.row(
                    state.tokens, masks_after(self.env, Prefixes.of(rules, state))[0]
                )
                self.table.update(row, token, text.rating, step_size=config.step_size,
                                  step_power=config.step_power)  # fmt: skip
                state = mdp.transition(rules, state, token)
        return self

    def policy(self, kind: str = "greedy", **keywords: Any) -> Any:
        """Return a policy read off Q, as `Table.policy`; masks are those of the environment."""
        return self.table.policy(kind, allow=partial(masks_after, self.env), **keywords)

    def _episode(self) -> None:
        config, table = self.config, self.table
        seed = config.seed if self.episodes == 0 else None
        observation, _ = self.env.reset(seed=seed)
        walk = -1  # the place of the last token that is drawn uniformly; learning starts there
        if config.exploring_starts:
            walk = int(self.generator.integers(self.task.rules.max_tokens))
        row = self._row(observation)
        action = self._act(row, uniform=walk >= 0)
        for place in count():
            observation, reward, terminated, truncated, info = self.env.step(action)
            following = 0.0
            if not terminated:
                next_row = self._row(observation)
                next_action = self._act(next_row, uniform=place < walk)
                following = self._worth(next_row, next_action)
            if place >= walk and not is_skipped(self.env, info):
                target = float(reward) + config.gamma * following
                table.update(row, action, target, step_size=config.step_size,
                             step_power=config.step_power)  # fmt: skip
            if terminated or truncated:
                break
            row, action = next_row, next_action
        self.episodes += 1

    def _worth(self, row: int, action: int) -> float:
        """What the state of a row counts as, where `action` is what will be taken there."""
        if self.config.method == "sarsa":
            return float(self.table.values[row, action])
        return float(self.table.values[row, self.table.allowed[row]].max())

    def _act(self, row: int, *, uniform: bool) -> int:
        values, allowed = self.table.values[row], self.table.allowed[row]
        config = self.config
        if uniform:
            return draw(allowed / allowed.sum(), self.generator)
        if config.exploration == "epsilon_greedy" and config.epsilon_power:
            times = 1 + int(self.table.visits[row].sum())
            epsilon = config.epsilon * times**-config.epsilon_power
            return draw(epsilon_greedy(values, allowed, epsilon), self.generator)
        return draw(self._choose(values, allowed), self.generator)

    def _row(self, observation: Any) -> int:
        tokens = tokens_of(observation)
        known = self.table.find(tokens)
        if known is not None:
            return known
        return self.table.row(tokens, self.env.get_wrapper_attr("action_masks")())


def _written(task: Task, rated: RatedText, first_token: bool) -> list[int]:
    """The tokens of a rated text, its end token included."""
    rules = task.rules
    tokens = task.encode(rated.text, "a rated text")
    closed = bool(tokens) and tokens[-1] in rules.ending_tokens
    if rules.end_token is not None and not closed and len(tokens) < rules.max_tokens:
        tokens.append(rules.end_token)
    if not tokens or (len(tokens) > rules.max_tokens and not first_token):
        raise ValueError(
            f"expected rated texts of 1 … {rules.max_tokens} tokens, {rated.text!r} has "
            f"{len(tokens)}: rate texts of this task, or learn with first_token=True"
        )
    return tokens[:1] if first_token else tokens
