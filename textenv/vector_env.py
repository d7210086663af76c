"""B episodes at once: the rules of `mdp` as a `gymnasium.vector.VectorEnv`.

Row i, seeded s + i, is the single environment seeded s + i, in all three autoreset modes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from textenv import mdp
from textenv.asking import Choices
from textenv.assembled import Assembled
from textenv.enumeration import take
from textenv.env import TextEnv
from textenv.errors import ResetNeededError
from textenv.infos import final, infos_of, of_rows
from textenv.observations import Tokens
from textenv.options import check_options, mode_of, per_row, reset_mask
from textenv.paying import Paymaster
from textenv.plugins import is_count
from textenv.rows import Rows, row_of_state
from textenv.setup import set_up
from textenv.task import Task
from textenv.writing import write


class TextVectorEnv(Assembled, VectorEnv):
    """Write B texts at once: see `TextEnv` for the task, the spaces and the keywords.

    Args:
        num_envs: B.
        task: As for `TextEnv`.
        autoreset_mode: `AutoresetMode.NEXT_STEP` (default), `SAME_STEP` or `DISABLED`, or their
            values as strings. With NEXT_STEP the action of a row that has ended is neither read
            nor checked; with SAME_STEP the infos hold `final_obs` and `final_info`; with DISABLED
            the caller resets rows by `reset(options={"reset_mask": bool [B]})`.
        copy: False returns the environment's own token array as observation: faster, but the next
            step overwrites it; leave it True for libraries, which keep observations as they come.
        scoring: "step", or "deferred": at the end of a text `step` pays NaN and puts its number
            into `infos["episode_id"]`; `score()` then returns the rewards by that number, from
            one call of the reward for all of them.
        max_episode_steps: Truncate after that many steps, as Gymnasium's TimeLimit does.
        render_mode: As for `TextEnv`; `render()` returns a tuple with a frame for each row.
        **keywords: As for `TextEnv`.
    """

    metadata: dict[str, Any] = {}  # noqa: RUF012  (Gymnasium's name; each object has its own)

    def __init__(
        self,
        num_envs: int,
        task: str | Mapping[str, Any] | Task,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        scoring: str = "step",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **keywords: Any,
    ) -> None:
        if not is_count(num_envs):
            raise ValueError(f"expected a whole number of rows, num_envs ≥ 1, got {num_envs!r}")
        if scoring not in ("step", "deferred"):
            raise ValueError(f'expected scoring= to be "step" or "deferred", got {scoring!r}')
        if render_mode not in (None, "ansi", "rgb_array"):
            raise ValueError(
                f'expected render_mode= to be None, "ansi" or "rgb_array", got {render_mode!r}'
            )
        self.setup = set_up(task, **keywords)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = mode_of(autoreset_mode)
        # Libraries look for the mode in either place.
        self.metadata = {**TextEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.setup.observation_space
        self.single_action_space = self.setup.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.copy = copy
        self.scoring = scoring
        self.max_episode_steps = max_episode_steps
        self._rules = self.setup.rules
        self._scorer = self.setup.scorer
        self._rows = Rows(self.task, self.setup.guard, num_envs)
        self._finished = np.zeros(num_envs, dtype=np.bool_)
        self._any_finished = False
        self._paymaster = Paymaster(
            self.task, self._scorer, num_envs, deferred=scoring == "deferred"
        )
        self._last_rewards: npt.NDArray[np.float64] | None = None  # kept for render() alone
        self._seen: Choices | None = None  # what the states offer, once it is known
        self._offers = self.setup.action.asks_model
        self._guard = self.setup.guard
        self._plain = self.setup.plain
        self._shows_tokens = self.setup.shows_tokens and not self._offers

    @property
    def text(self) -> list[str]:
        """What each row has written so far."""
        return [
            self.task.vocabulary.decode(mdp.text_ids(self._rules, row)) for row in self.state.tokens
        ]

    @property
    def state(self) -> mdp.State:
        """A copy of the B states.

        Raises:
            ResetNeededError: there are no episodes yet.
        """
        return self._rows.copied()

    @property
    def random_state(self) -> dict[str, Any]:
        """Which prompts come next: the generators of the rows, and what they have drawn ahead.

        Together with `state` it is where an environment goes on exactly; see `RowDraws.state`.
        """
        return self._rows.draws.state

    @random_state.setter
    def random_state(self, state: Mapping[str, Any]) -> None:
        self._rows.draws.state = state

    @property
    def choices(self) -> Choices | None:
        """The candidates of the B states; None where the action is another kind."""
        if self._seen is None and self._offers:
            self._observation()
        return self._seen

    def set_state(self, state: mdp.State) -> None:
        """Go on from B states. Which prompt comes next is not part of them: see `random_state`.

        Raises:
            ValueError: they are the states of another task or number of rows, or, with SAME_STEP,
                some have ended.
        """
        own = self._rows.checked(state)
        finished = mdp.terminal(self._rules, own)
        if self.autoreset_mode == AutoresetMode.SAME_STEP and finished.any():
            raise ValueError(
                f"rows {np.flatnonzero(finished).tolist()} of the state have ended: with SAME_STEP "
                "nothing would reset them"
            )
        self._rows.seed(None, np.arange(self.num_envs))  # rows that no reset() has seeded yet
        self._rows.go_on_from(own)
        self._seen = None
        self._finish(finished)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes in all rows, or in those of `options["reset_mask"]`.

        Args:
            seed: s gives row i the seed s + i; or a list of B.
            options: `prompt` or `prompt_index`, `prefix`, `columns`: one value, or a list of B;
                `reset_mask`: bool [B].

        Raises:
            ValueError: an option is unknown or does not fit.
        """
        options_by_row = per_row(check_options(options), self.num_envs)
        mask = reset_mask(options or {}, self.num_envs)
        if mask is not None and not self._rows.begun:
            raise ResetNeededError("the first reset() must start all rows: leave reset_mask out")
        rows = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        self._rows.seed(seed, rows)
        starts = None
        if options_by_row is not None:  # before anything changes: a bad option loses nothing
            starts = [self._rows.start(row, options_by_row[row]) for row in rows.tolist()]
        self._rows.begin(rows, starts)
        finished = self._finished.copy()
        finished[rows] = False
        self._finish(finished)
        self._seen = None
        observation, choices = self._observation(), self.choices
        return observation, self._infos(rows, None if choices is None else choices.rows(rows))

    def step(
        self, actions: Any
    ) -> tuple[Any, npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray, dict[str, Any]]:
        """Write one token in each row, or what else its action says.

        Raises:
            InvalidActionError: an action is none of the action space, or not allowed by the
                blocklist.
            ResetNeededError: there are no episodes, or (DISABLED) one has ended.
            RewardFaultError: the reward failed; all rows are as they were before the step.
        """
        # 1. Which rows write: those that have ended are reset instead.
        state = self._rows.state
        resetting = self._resetting()
        live = None if resetting is None else ~resetting
        tokens = self.setup.action.read_batch(self.task, actions, resetting, state, self.choices)
        if self._guard is not None:
            self._guard.check_tokens(state, tokens, resetting)

        # 2. Write, end, pay.
        terminated, rewards, scored = write(
            self._rules, self._rows.with_columns, tokens, live, self._paymaster
        )
        self._seen = None

        # 3. Reset what has to be reset.
        truncated = self._truncated(live)
        finished = terminated | truncated if self.max_episode_steps else terminated
        ending = bool(finished.any())
        infos: dict[str, Any] = {}
        if ending and self.autoreset_mode == AutoresetMode.SAME_STEP:
            infos = self._final_infos(finished, of_rows(scored, finished))
            scored = of_rows(scored, ~finished)  # faults of tokens in texts that go on
            self._rows.begin(np.flatnonzero(finished))
        if resetting is not None:
            self._rows.begin(np.flatnonzero(resetting))
        if ending or self._any_finished:
            self._finish(finished)
        if self.render_mode is not None:
            self._last_rewards = np.where(terminated, rewards, np.nan)
        observation = self._observation()
        if not self._plain:
            infos |= self._infos(np.arange(self.num_envs), self.choices)
        if scored:
            infos |= scored
        return observation, rewards, terminated, truncated, infos

    def score(self) -> dict[int, float]:
        """Score the texts that ended since the last call, in one call of the reward.

        Returns:
            What the last step of each episode pays, by the number in `infos["episode_id"]`.
        """
        return self._paymaster.score()

    @property
    def faulty_episodes(self) -> frozenset[int]:
        """The numbers of the episodes whose reward failed in the last `score()`."""
        return self._paymaster.faulty

    @property
    def episode_parts(self) -> dict[str, dict[int, float]]:
        """What each term of a sum pays over the whole episodes of the last `score()`.

        By the term's name and the episode's number; {} for a reward of one term.
        """
        return self._paymaster.parts

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Return which actions make sense, bool [B, size]."""
        state = None if self._guard is None else self._rows.state
        return self.setup.action_mask(self.num_envs, self.choices, state).astype(np.bool_)

    def render(self) -> tuple[Any, ...] | None:
        """Return one frame for each row: strings ("ansi") or pictures ("rgb_array")."""
        if self.render_mode is None:
            return None
        from textenv import render

        state, choices, frames = self.state, self.choices, []
        for row in range(self.num_envs):
            over = bool(self._finished[row])
            reward = (
                float(self._last_rewards[row]) if over and self._last_rewards is not None else None
            )
            own = None if choices is None else choices.rows([row])
            frame = render.frame(self.task, row_of_state(state, row), reward, over, own)
            frames.append(render.RENDERERS[self.render_mode](frame))
        return tuple(frames)

    def close_extras(self, **_: Any) -> None:
        """Stop the reward's worker process, if there is one."""
        if hasattr(self, "_scorer"):  # older Gymnasiums close what could not be made, too
            self._scorer.close()

    # What step() and reset() are made of, in the order of their use.

    def _resetting(self) -> npt.NDArray[np.bool_] | None:
        if not self._any_finished:
            return None
        if self.autoreset_mode == AutoresetMode.DISABLED:
            raise ResetNeededError(
                f"rows {np.flatnonzero(self._finished).tolist()} have ended: reset them first by "
                "envs.reset(options={'reset_mask': terminated | truncated})"
            )
        return self._finished

    def _truncated(self, live: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_]:
        if not self.max_episode_steps:
            return np.zeros(self.num_envs, dtype=np.bool_)
        self._rows.steps += 1
        truncated = self._rows.steps >= self.max_episode_steps
        return truncated if live is None else truncated & live

    def _finish(self, finished: npt.NDArray[np.bool_]) -> None:
        """Remember which rows have ended and are not reset yet."""
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            finished = np.zeros(self.num_envs, dtype=np.bool_)
        self._finished = finished.copy()  # the caller has the other array
        self._any_finished = bool(finished.any())

    def _observation(self) -> Any:
        state = self._rows.state
        if self._shows_tokens:
            return state.tokens.copy() if self.copy else state.tokens
        observation, self._seen = self.setup.look(state, mdp.terminal(self._rules, state))
        return self._lent(observation, state)

    def _lent(self, observation: Any, state: mdp.State) -> Any:
        """With `copy=False` the environment's own tokens in place of their copy."""
        if self.copy or not isinstance(self.setup.observation, Tokens):
            return observation
        if isinstance(observation, dict):
            return {**observation, "observation": state.tokens}
        return state.tokens

    def _infos(self, rows: npt.NDArray[np.int64], choices: Choices | None) -> dict[str, Any]:
        """What infos say of some rows, whose choices these are."""
        return infos_of(self.setup, self._rows.state, rows, choices)

    def _final_infos(
        self, finished: npt.NDArray[np.bool_], scored: dict[str, Any]
    ) -> dict[str, Any]:
        """What SAME_STEP says of the episodes that have just ended, before they are reset.

        The language model is asked about those that were truncated, and about no others.
        """
        rows = np.flatnonzero(finished)
        state = take(self._rows.state, rows)
        observation, choices = self.setup.look(state, mdp.terminal(self._rules, state))
        return final(rows, self.num_envs, observation, self._infos(rows, choices) | scored)
