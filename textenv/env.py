"""One episode at a time: the rules of `mdp` as a `gymnasium.Env`.

Seeding, spaces, info and rendering are here; what a token does, when a text ends and what it is
worth is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from textenv import mdp
from textenv.asking import Choices
from textenv.assembled import Assembled
from textenv.draws import PromptDraws
from textenv.errors import ResetNeededError
from textenv.observations import row_of
from textenv.options import begin, check_options
from textenv.setup import set_up
from textenv.task import Task


class TextEnv(Assembled, gym.Env):
    """Write a text, one token at a time.

    ## Description
    The state is the prompt and the tokens written so far, the action is the next token, the
    transition appends it. P is the longest prompt, T the longest completion, V the size of the
    vocabulary, all in tokens, H the width of the language model. The ids `textenv/GoodBad-v0`, …
    each make one task.

    ## Action Space
    | `action=` | Space | What it writes | Size of its mask |
    |---|---|---|---|
    | "all_tokens" | `Discrete(V)` | that token | V |
    | "candidates:k" | `Discrete(k)` | that one of the k likeliest tokens | k |
    | "fragments:n" | `MultiDiscrete([V] * n)` | n tokens, until the text ends | n · V |
    | "strings" | `textenv.spaces.UnicodeText()` | a text; "" writes the end token | none |
    | "completion" | the same | a text and the end token: one step is an episode | none |

    Python, NumPy and torch integers without axes are accepted. Candidates are ordered by
    (−log-probability rounded to 1e-4, id); the end token, if there is one, is always among them,
    tokens of probability 0 never; where only n < k are left, action a writes candidate a mod n.
    With `blocklist=` a token that would complete a pattern is an error, and no candidate; the
    action mask says which they are, and marks each candidate once.

    ## Observation Space
    | `observation=` | Space |
    |---|---|
    | "tokens" | `Box(0, V, (P + T,), int64)` |
    | "hidden" | `Box(…, (H,), float32)`: the language model's last hidden state |
    | "probabilities:k" | `Dict` of `ids`, `Box(0, V, (k,), int64)`: the k likeliest next tokens |
    | | … and `probabilities`, `Box(0, 1, (k,), float32)`: theirs |
    | "text" | `textenv.spaces.UnicodeText()`: prompt and text |

    | Columns of tokens | What | Min | Max | Unit |
    |---|---|---|---|---|
    | 0 … P − 1 | the prompt, right-aligned | 0 | V | token id; V: nothing here |
    | P … P + T − 1 | what is written, left-aligned | 0 | V | token id; V: nothing here |

    With `mask="observation"` a Dict of it, as `observation`, and `action_mask`, int8; a Dict gets
    `action_mask` as a further entry. At a terminated state no model is asked: "hidden" and
    "probabilities" are zeros (the ids are V).

    ## Transition
    Append the token, or one after another until the text ends; deterministic.

    ## Starting State
    A prompt drawn uniformly from the task's and nothing written. `reset(options={…})` starts
    anywhere: `prompt` (text or ids) or `prompt_index` (which of the task's), `prefix` (text or
    ids already written), `columns` (a dict for the reward).

    ## Reward
    0 until the end, then the task's reward of the text; or one number a token, if the reward
    says so. An action of several tokens is paid their sum.

    ## Episode End
    Terminated at the end token (not a part of the text), a stop token (a part of it), the
    task's stop condition, and at T tokens. Truncated never, unless a wrapper does it.

    ## Information
    Empty, but for what is asked for or rare.

    | Key | When | What |
    |---|---|---|
    | `candidates` | `action="candidates:k"` | int64 [k], their ids; V where there is none |
    | `candidate_log_probs` | the same | float64 [k]; 0 where there is none |
    | `action_mask` | `mask="info"` | int8, 1 where an action makes sense (and is allowed) |
    | `prompt`, `text` | `info_text=True` | texts |
    | `reward_parts` | at the end | what each term of a combined reward paid over the whole text |
    | `reward_fault` | rare | 1 where the reward failed and `reward_fault=` is not "raise" |

    ## Arguments
    See `textenv.setup.set_up` for `lm`, `observation`, `action`, `mask`, `info_text`,
    `blocklist`, the fault handling and the task's keywords, among them `prompts` and `columns`,
    by which you bring prompts of your own with what the reward compares with;
    `render_mode` is None, "ansi", "human" or "rgb_array".

    ## Version History
    * v0: the first version.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["ansi", "human", "rgb_array"],
        "render_fps": 4,
    }

    def __init__(
        self,
        task: str | Mapping[str, Any] | Task,
        *,
        render_mode: str | None = None,
        **keywords: Any,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(
                f"expected render_mode= to be None or one of {self.metadata['render_modes']}, "
                f"got {render_mode!r}"
            )
        self.setup = set_up(task, **keywords)
        self.render_mode = render_mode
        self.observation_space = self.setup.observation_space
        self.action_space = self.setup.action_space
        self._task, self._action = self.setup.task, self.setup.action
        self._rules = self.setup.rules
        self._scorer = self.setup.scorer
        self._draws = PromptDraws(len(self.task.prompts))
        self._state: mdp.State | None = None
        self._over = False
        self._last_reward: float | None = None
        self._seen: Choices | None = None  # what this state offers, once it is known
        # Asked at every step, of which a bare one takes less than two microseconds.
        self._several, self._offers = self._action.several, self._action.asks_model
        self._guard = self.setup.guard
        self._plain = self.setup.plain
        self._shows_tokens = self.setup.shows_tokens and not self._offers

    @property
    def text(self) -> str:
        """What is written so far, the end token left out."""
        return self.task.vocabulary.decode(mdp.text_ids(self._rules, self.state.tokens))

    @property
    def prompt(self) -> str:
        """The prompt of this episode."""
        return self.task.prompt_text(_as_batch(self.state), 0)

    @property
    def state(self) -> mdp.State:
        """The state, to keep, to hand to `mdp.transition` or to come back to with `set_state`.

        Raises:
            ResetNeededError: there is no episode yet.
        """
        if self._state is None:
            raise ResetNeededError("there is no state before reset(): call env.reset() first")
        return self._state._replace(tokens=self._state.tokens.copy())

    @property
    def choices(self) -> Choices | None:
        """The candidates of this state, a batch of one; None where the action is another kind.

        The language model is asked if it was not yet.

        Raises:
            ResetNeededError: there is no episode yet.
        """
        if self._seen is None and self._offers:
            self._observation()
        return self._seen

    def set_state(self, state: mdp.State) -> None:
        """Go on from a state. Randomness (which prompt comes next) is not part of it.

        Raises:
            ValueError: it is the state of another task.
        """
        mdp.check_state(self._rules, state, ())
        if self._guard is not None:
            self._guard.check_start(state)
        self._state = state._replace(tokens=np.array(state.tokens), length=int(state.length))
        self._over = bool(mdp.terminal(self._rules, self._state))
        self._seen = None
        self._last_reward = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Fixes which prompts are drawn from now on.
            options: `prompt` or `prompt_index`, `prefix`, `columns`: see the class.

        Raises:
            ValueError: an option is unknown or does not fit the task, or a prefix holds a pattern
                of the blocklist.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._draws.clear()
        state = begin(
            self.task,
            check_options(options, reset_mask=False),
            lambda: self._draws.draw(self.np_random),
        )
        if self._guard is not None:
            self._guard.check_start(state)
        self._state = state
        self._over = False
        self._seen = None
        self._last_reward = None
        observation = self._observation()
        if self.render_mode == "human":
            self.render()
        return observation, self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Write one token, or what else the action says.

        Raises:
            InvalidActionError: the action is none of the action space, or not allowed by the
                blocklist.
            ResetNeededError: there is no episode, or it is over.
            RewardFaultError: the reward failed; the state is as it was before the step.
        """
        # 1. What is to be written.
        if self._state is None or self._over:
            when = "before reset()" if self._state is None else "after the end of the episode"
            raise ResetNeededError(f"step() was called {when}: call env.reset() first")
        choices = self.choices if self._offers else None
        action = self._action.read(self._task, action, self._state, choices)
        if self._guard is not None:
            self._guard.check_tokens(_as_batch(self._state), [action])

        # 2. Write, end, pay.
        if self._several:
            state, reward, over, scored = self._write_several(self._state, action)
        else:
            state, reward, over, scored = self._write(self._state, action)
        self._state, self._over, self._seen = state, over, None
        self._last_reward = reward if over or self._scorer.pays_tokens else None

        # 3. See what is there now.
        observation = self._observation()
        if self.render_mode == "human":
            self.render()
        info = scored if self._plain else {**self._info(), **scored}
        return observation, reward, over, False, info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Return which actions make sense, bool [size]: what sb3-contrib's MaskablePPO asks for."""
        return self._mask(self.choices).astype(np.bool_)

    def render(self) -> Any:
        """Return the text ("ansi"), show it ("human") or draw it ("rgb_array").

        Raises:
            ResetNeededError: there is no episode yet.
            MissingExtraError: "rgb_array" without Pillow.
        """
        if self.render_mode is None:
            gym.logger.warn('render() shows nothing without gym.make(…, render_mode="ansi")')
            return None
        from textenv import render

        frame = render.frame(self.task, self.state, self._last_reward, self._over, self.choices)
        return render.RENDERERS[self.render_mode](frame)

    def close(self) -> None:
        """Stop the reward's worker process, if there is one."""
        self._scorer.close()

    def _write(self, state: mdp.State, token: int) -> tuple[mdp.State, float, bool, dict[str, Any]]:
        """Append a token: the next state, what it pays, whether it is the end, and its info."""
        state = mdp.transition(self._rules, state, token)
        over = bool(mdp.terminal(self._rules, state))
        if self._scorer.table is not None:
            return state, float(self._scorer.table[token]), over, {}
        if over or self._scorer.pays_tokens:
            reward, said = self._score(state, over)
            return state, reward, over, said
        return state, 0.0, over, {}

    def _write_several(
        self, state: mdp.State, tokens: list[int]
    ) -> tuple[mdp.State, float, bool, dict[str, Any]]:
        """Append tokens until the end; pay their sum."""
        total, over = 0.0, False
        said: dict[str, Any] = {}
        for token in tokens:
            state, reward, over, more = self._write(state, token)
            total += reward
            said |= more
            if over:
                break
        return state, total, over, said

    def _score(self, state: mdp.State, over: bool) -> tuple[float, dict[str, Any]]:
        batch = _as_batch(state)
        texts = self.task.texts(batch, [0])
        if over:
            closed = np.array([mdp.last_token(self._rules, state) == self._rules.end_token])
            scores = self._scorer.finish(texts, closed)
        else:
            scores = self._scorer.proceed(texts)
        info: dict[str, Any] = {}
        if scores.parts and over:
            info["reward_parts"] = {name: float(part[0]) for name, part in scores.parts.items()}
        if scores.faults[0]:
            info["reward_fault"] = 1
        return float(scores.rewards[0]), info

    def _observation(self) -> Any:
        if self._state is None:
            raise ResetNeededError("nothing can be chosen before reset(): call env.reset() first")
        if self._shows_tokens:
            return self._state.tokens.copy()
        look = self.setup.look(_as_batch(self._state), np.array([self._over]))
        self._seen = look.choices
        return row_of(look.observation, 0)

    def _mask(self, choices: Choices | None) -> npt.NDArray[np.int8]:
        state = None if self._guard is None else _as_batch(self.state)
        return self.setup.action_mask(None, choices, state)

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = {}
        choices = self.choices
        if choices is not None:
            info["candidates"] = choices.ids[0].copy()
            info["candidate_log_probs"] = choices.log_probs[0].copy()
        if self.setup.mask == "info":
            info["action_mask"] = self._mask(choices)
        if self.setup.info_text:
            info["prompt"], info["text"] = self.prompt, self.text
        return info


def _as_batch(state: mdp.State) -> mdp.State:
    """One state as a batch of one."""
    return mdp.State(
        state.tokens[None],
        np.array([state.length]),
        np.array([state.prompt_index]),
        None if state.columns is None else (state.columns,),
    )
