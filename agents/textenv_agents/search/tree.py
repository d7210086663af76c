"""Monte-Carlo tree search for the text of the highest reward, guided by a language model.

The tree of texts is deterministic and each text need be seen once only, so a branch whose texts
have all been seen is closed: k simulations see k different texts, and as many simulations as there
are texts see all of them. Left out on purpose: a learned value (a text is written to its end, by
the policy) and several threads.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import textenv
from textenv import mdp
from textenv.errors import ResetNeededError
from textenv_agents.search.texts import Array, Found, open_to, setup_of


class TreeSearch(NamedTuple):
    """What a tree search has seen.

    found: The texts in the order of their rewards, the best first; those that are worth the same
        in the order in which they were seen. One a simulation.
    visits: int64 [V], in how many simulations each token was the first one.
    exhausted: Whether no text is left unseen, of those that may be written and were considered.
    """

    found: Found
    visits: npt.NDArray[np.int64]
    exhausted: bool


class Node:
    """A text that goes on: what may come next, and what came of it.

    tokens: int64 [k], the tokens that are considered, the likeliest first; with their prior [k].
    visits, failed, totals: [k], how often each was tried, how many of these texts had a reward
        that failed, and the sum of what the others were worth.
    open: bool [k], which still lead to texts that were not seen.
    """

    def __init__(self, state: mdp.State, probabilities: Array, width: int | None) -> None:
        self.state = state
        likeliest = np.argsort(-probabilities, kind="stable")[:width]
        self.tokens = likeliest[probabilities[likeliest] > 0]
        self.prior = probabilities[self.tokens] / probabilities[self.tokens].sum()
        self.visits, self.failed = np.zeros((2, len(self.tokens)), dtype=np.int64)
        self.totals = self.prior * 0
        self.open = np.ones(len(self.tokens), dtype=np.bool_)
        self.following: dict[int, tuple[float, Node | None]] = {}

    def choose(self, exploration: float, low: float, high: float) -> int:
        """argmax_a Q(a) + c·π(a)·√N / (1 + N(a)) of those that are open, Q scaled to 0 … 1.

        Where nothing is known yet Q is the mean over what was tried here: at 0 a good text would
        keep the search from looking beside it. What failed counts as the lowest reward so far.
        """
        if low > high:  # no reward is known yet: those seen so far failed
            low = high = 0.0
        totals = self.totals + self.failed * low
        mean = totals.sum() / self.visits.sum()
        q = np.where(self.visits > 0, totals / np.maximum(self.visits, 1), mean)
        q = (q - low) / max(high - low, 1e-12)
        bonus = exploration * self.prior * np.sqrt(self.visits.sum()) / (1 + self.visits)
        return int(np.where(self.open, q + bonus, -np.inf).argmax())

    def draw(self, generator: np.random.Generator) -> int:
        """Draw from the prior."""
        return int(generator.choice(len(self.prior), p=self.prior))


def tree_search(
    env: Any,
    policy: Any = None,
    *,
    simulations: int,
    generator: np.random.Generator,
    exploration: float = 1.0,
    width: int | None = None,
) -> TreeSearch:
    """Search the texts that go on from where an environment stands.

    Each simulation goes down the tree by PUCT, writes a new text to its end by the policy, and
    adds what it was worth to every choice on the way (Kocsis & Szepesvári 2006; the rule is that
    of Silver et al. 2017, https://doi.org/10.1038/nature24270). The rewards are those that the
    environment pays, of the tokens from here on; wrappers around it are not asked. It is left as
    it was; twice the same generator finds the same.

    Args:
        env: A `TextEnv` after `reset`, with all tokens as actions.
        policy: The prior: a language model, or Prefixes → probabilities. Tokens of probability 0
            are never tried. None: all tokens alike.
        simulations: At most how many texts are written.
        generator: Draws what the policy writes.
        exploration: c > 0; larger trusts the prior more and the rewards less.
        width: Consider only that many tokens at each place, the likeliest. None: all.

    Raises:
        ValueError: a number is out of range, the environment is another, or nothing may be
            written; or the reward of every text failed and was skipped.
        ResetNeededError: there is no episode, or it is over.
    """
    setup = setup_of(env)
    if not isinstance(env.unwrapped, textenv.TextEnv):
        raise ValueError("expected a single environment: gym.make(…) in the place of gym.make_vec")
    if simulations < 1 or not exploration > 0 or (width is not None and width < 1):
        raise ValueError(
            "expected simulations ≥ 1, exploration > 0 and width ≥ 1 or None, got "
            f"{simulations}, {exploration} and {width}"
        )
    clone = copy.deepcopy(env.unwrapped)
    clone.render_mode = None

    def node(state: mdp.State) -> Node:
        return Node(state, open_to(setup, policy, _batch([state]))[0], width)

    def write(parent: Node, choice: int) -> tuple[float, Node | None]:
        """Write one token: what it pays (NaN: it does not count), and what comes then."""
        clone.set_state(parent.state)
        _, reward, over, _, info = clone.step(parent.tokens[choice])
        if setup.is_skipped(info):
            reward = np.nan
        return reward, None if over else node(clone.state)

    if mdp.terminal(setup.rules, clone.state):
        raise ResetNeededError("the episode is over: call env.reset() first")
    root = node(clone.state)
    seen: list[tuple[mdp.State, float]] = []
    low, high = np.inf, -np.inf
    while len(seen) < simulations and root.open.any():
        # 1. Down the tree by the rule, from where it is new by the policy, to the end of a text.
        path: list[tuple[Node, int]] = []
        here: Node | None = root
        worth = 0.0
        while here is not None:
            new = not here.visits.any()
            choice = here.draw(generator) if new else here.choose(exploration, low, high)
            path.append((here, choice))
            if choice not in here.following:
                here.following[choice] = write(here, choice)
            reward, here = here.following[choice]
            worth += reward

        # 2. What it was worth goes to every choice on the way; what is seen whole is closed.
        seen.append((clone.state, worth))
        failed = bool(np.isnan(worth))
        if not failed:
            low, high = min(low, worth), max(high, worth)
        closed = True
        for parent, choice in reversed(path):
            parent.visits[choice] += 1
            parent.failed[choice] += failed
            parent.totals[choice] += 0.0 if failed else worth
            parent.open[choice] &= not closed
            closed = closed and not parent.open.any()
    return _result(root, seen, setup.rules.vocabulary_size)


def _result(root: Node, seen: list[tuple[mdp.State, float]], size: int) -> TreeSearch:
    counted = [(state, worth) for state, worth in seen if not np.isnan(worth)]
    if not counted:
        raise ValueError(
            f"the reward of each of the {len(seen)} texts failed and was skipped: make the "
            'environment with reward_fault="raise" to see why'
        )
    counted.sort(key=lambda pair: -pair[1])
    scores = np.array([worth for _, worth in counted])
    visits = np.zeros(size, dtype=np.int64)
    visits[root.tokens] = root.visits
    found = Found(_batch([state for state, _ in counted]), scores)
    return TreeSearch(found, visits, not root.open.any())


def _batch(states: list[mdp.State]) -> mdp.State:
    columns = tuple(state.columns for state in states)
    return mdp.State(
        np.stack([state.tokens for state in states]),
        np.array([state.length for state in states]),
        np.array([state.prompt_index for state in states]),
        columns if any(own is not None for own in columns) else None,
    )
