"""`check_env`: does a single environment keep what textenv promises?

Only the environment itself is checked, not the wrappers around it.
"""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import env_checker

from textenv import mdp
from textenv.actions import AllTokens, Candidates, Fragments, Strings
from textenv.env import TextEnv
from textenv.errors import InvalidActionError, NotSerialisableError, ResetNeededError
from textenv.plugins import Held
from textenv.prefixes import Prefixes
from textenv.testing.choosing import choose_action, written_by
from textenv.testing.compare import (
    CheckError,
    expect,
    expect_same,
    global_generators_untouched,
    refused,
    vandalise,
)
from textenv.testing.views import check_spaces, check_view

EPISODES = 8
MODEL_TOLERANCE = 1e-5  # of numbers that come out of a neural model


def check_env(
    env: gym.Env | str,
    *,
    seed: int = 123,
    skip_render_check: bool = False,
    tolerance: float | None = None,
    **keywords: Any,
) -> None:
    """Check a single environment: Gymnasium's `check_env`, and what textenv promises beyond it.

    Spaces and layout of observations, accepted and refused actions, flags, rewards and infos,
    steps before `reset` and after the end, fresh arrays, seeds, `state` and `set_state`, deep
    copies, the pure transition, prefixes, the spec through pickle and JSON, and that no global
    generator is touched. It plays some dozens of episodes. Gymnasium's own check is left out where
    there is a blocklist, because it draws actions that the mask forbids.

    Args:
        env: An environment, wrapped or not, or an id. Wrappers are taken off. It is left in the
            middle of something: call `reset`.
        seed: Chooses prompts and tokens.
        skip_render_check: Leave rendering out; "rgb_array" needs Pillow.
        tolerance: By how much floats may differ between two runs. None: 1e-5 where a language
            model is asked, else not at all.
        **keywords: For `gym.make`, where `env` is an id.

    Raises:
        CheckError: a promise of textenv is broken.
        AssertionError: Gymnasium's check failed.
        TypeError: the environment is no `TextEnv`.
    """
    if isinstance(env, str):
        with contextlib.closing(gym.make(env, **keywords)) as made:
            check_env(made, seed=seed, skip_render_check=skip_render_check, tolerance=tolerance)
        return
    inner = env.unwrapped
    if not isinstance(inner, TextEnv):
        raise TypeError(
            f"textenv.testing.check_env checks a TextEnv, got {type(inner).__name__}; for other "
            "environments there is gymnasium.utils.env_checker.check_env"
        )
    if tolerance is None:
        tolerance = MODEL_TOLERANCE if inner.setup.asks_model else 0.0
    with global_generators_untouched(str(inner)):
        check_spaces(inner)
        _check_before_reset(inner)
        _check_episodes(inner, seed, tolerance)
        _check_seeds(inner, seed, tolerance)
        _check_actions(inner, seed, tolerance)
        _check_forbidden(inner, seed)
        _check_fresh(inner, seed, tolerance)
        _check_state(inner, seed, tolerance)
        _check_deepcopy(inner, seed, tolerance)
        _check_transition(inner, seed)
        _check_prefixes(inner, seed, tolerance)
        _check_spec(inner, seed, tolerance)
    if inner.setup.guard is not None:
        return  # Gymnasium's checker draws actions without looking at the mask
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # An environment that gym.make did not make has no spec to make its other render modes by.
        warnings.filterwarnings("ignore", ".*Not able to test alternative render modes")
        env_checker.check_env(inner, skip_render_check=skip_render_check)


def _check_before_reset(env: TextEnv) -> None:
    if env.spec is None:
        return  # nothing to make an environment from that was not reset yet
    with contextlib.closing(_again(env.spec)) as unplayed:
        with refused(ResetNeededError, "step() before reset()"):
            unplayed.step(0)
        with refused(ResetNeededError, "state before reset()"):
            _ = unplayed.state


def _check_episodes(env: TextEnv, seed: int, tolerance: float) -> None:
    """Play episodes and work out, from the tokens alone, what each step must return."""
    generator = np.random.default_rng(seed)
    for episode in range(EPISODES):
        observation, info = env.reset(seed=seed if episode == 0 else None)
        prompt = env.task.prompt_ids[env.state.prompt_index]
        written: list[int] = []
        check_view(env, observation, info, prompt, written, tolerance)
        terminated = False
        while not terminated:
            action = choose_action(env, generator)
            written += written_by(env, action, info)
            observation, reward, terminated, truncated, info = env.step(action)
            check_view(env, observation, info, prompt, written, tolerance)
            _check_outcome(env, written, reward, terminated, truncated)
        before = env.state
        with refused(ResetNeededError, "step() after the end"):
            env.step(0)
        expect_same(env.state, before, "the state after a refused step")


def _check_outcome(
    env: TextEnv, written: list, reward: Any, terminated: Any, truncated: Any
) -> None:
    rules = env.task.rules
    over = len(written) == rules.max_tokens or written[-1] in rules.ending_tokens
    if rules.stop_condition is not None:
        over = over or bool(rules.stop_condition(rules, env.state))
    what = f"after {len(written)} tokens, the last of which is {written[-1]},"
    expect_same(terminated, over, f"terminated {what}")
    expect_same(truncated, False, f"truncated {what}")
    expect(type(reward) is float, f"the reward {reward!r} is a {type(reward).__name__}, no float")
    expect(np.isfinite(reward), f"the reward is {reward!r}, expected a finite number")
    if not over and env.task.reward.pays == "end":
        expect_same(reward, 0.0, "the reward of an unfinished text")


def _check_actions(env: TextEnv, seed: int, tolerance: float) -> None:
    env.reset(seed=seed)
    if isinstance(env.action_space, spaces.Discrete):
        _check_kinds(env, seed, tolerance)
        env.reset(seed=seed)
    last = env.task.rules.vocabulary_size - 1
    wrong: list[Any] = [None]
    if isinstance(env.setup.action, AllTokens | Candidates):
        last = int(env.action_space.n) - 1  # type: ignore[attr-defined]
        wrong += [-1, last + 1, 0.0, np.float32(0), True, np.bool_(True), [0], np.array([0]), "0"]
    elif isinstance(env.setup.action, Fragments):
        fits = np.zeros(env.setup.action.n, dtype=np.int64)
        wrong += [fits - 1, fits + last + 1, fits[1:], fits[None], fits > 0, fits + 0.5, 0, "0"]
    elif isinstance(env.setup.action, Strings):
        wrong += [0, 0.5, ["0"], b"0"]
    before = env.state
    for action in wrong:
        with refused(InvalidActionError, f"step({action!r})") as refusal:
            env.step(action)
        if isinstance(env.action_space, spaces.Discrete):
            expect(str(last) in refusal[0], f"the error names no range 0 … {last}: {refusal[0]}")
        expect_same(env.state, before, f"the state after the refused step({action!r})")


def _check_forbidden(env: TextEnv, seed: int) -> None:
    """What the blocklist forbids is refused, and changes nothing."""
    env.reset(seed=seed)
    guard, before = env.setup.guard, env.state
    if guard is None or not isinstance(env.setup.action, AllTokens):
        return
    allowed = guard.allowed_after(Prefixes.of(env.task.rules, before))[0]
    for token in np.flatnonzero(~allowed)[:20].tolist():
        with refused(InvalidActionError, f"step({token}), which the blocklist forbids"):
            env.step(token)
        expect_same(env.state, before, f"the state after the refused step({token})")


def _check_kinds(env: TextEnv, seed: int, tolerance: float) -> None:
    """Python, NumPy and torch integers mean the same."""
    kinds: list[Any] = [np.int64, np.int32, np.uint16, np.array]
    kinds.append(lambda token: np.array(token, dtype=np.int32))
    if "torch" in sys.modules:
        kinds.append(sys.modules["torch"].tensor)
    possible = np.arange(int(env.action_space.n))  # type: ignore[attr-defined]
    if isinstance(env.setup.action, Candidates) or env.setup.guard is not None:
        possible = np.flatnonzero(env.action_masks())
    for token in {int(possible[0]), int(possible[-1])}:
        env.reset(seed=seed)
        expected = env.step(token)
        for kind in kinds:
            env.reset(seed=seed)
            what = f"step({kind(token)!r}) for {token}"
            expect_same(env.step(kind(token)), expected, what, tolerance)


def _check_seeds(env: TextEnv, seed: int, tolerance: float) -> None:
    what = f"two runs after reset(seed={seed})"
    expect_same(_played(env, seed), _played(env, seed), what, tolerance)


def _check_fresh(env: TextEnv, seed: int, tolerance: float) -> None:
    overwritten = _played(env, seed, vandal=True)
    what = "what is returned when the caller overwrites each array that was returned before"
    expect_same(overwritten, _played(env, seed), what, tolerance)


def _check_state(env: TextEnv, seed: int, tolerance: float) -> None:
    rules, generator = env.task.rules, np.random.default_rng(seed)
    env.reset(seed=seed)
    for _ in range(EPISODES):
        state = env.state
        following = env.step(choose_action(env, np.random.default_rng(seed)))
        finished = env.state
        env.reset()  # somewhere else
        lent = copy.deepcopy(state)
        env.set_state(lent)
        vandalise(lent)
        expect_same(env.state, state, "the state after set_state(state) and the caller's changes")
        again = env.step(choose_action(env, np.random.default_rng(seed)))
        expect_same(again, following, "a step after set_state(state)", tolerance)
        env.state.tokens[...] = 0
        expect_same(env.state, finished, "the state whose copy the caller overwrote")
        if again[2]:
            env.set_state(finished)
            with refused(ResetNeededError, "step() in a finished state that was set"):
                env.step(0)
            env.reset()
        else:
            env.set_state(state)
            _, _, over, _, _ = env.step(choose_action(env, generator))
            if over:
                env.reset()
    env.reset()
    wider = env.state._replace(tokens=np.zeros(rules.width + 1, dtype=np.int64))
    with refused(ValueError, "set_state with the state of another task"):
        env.set_state(wider)


def _check_deepcopy(env: TextEnv, seed: int, tolerance: float) -> None:
    env.reset(seed=seed)
    twin = copy.deepcopy(env)
    expect_same(twin.state, env.state, "the state of a deep copy")
    # One after the other: if they shared anything, the first would have moved the second.
    first, second = _continued(env, seed), _continued(twin, seed)
    expect_same(second, first, "the episodes of a deep copy", tolerance)


def _check_transition(env: TextEnv, seed: int) -> None:
    rules, generator = env.task.rules, np.random.default_rng(seed)
    _, info = env.reset(seed=seed)
    terminated = False
    while not terminated:
        state = env.state
        action = choose_action(env, generator)
        kept, following = copy.deepcopy(state), state
        for token in written_by(env, action, info):
            following = mdp.transition(rules, following, token)
        expect_same(state, kept, "the state that was handed to mdp.transition")
        _, _, terminated, _, info = env.step(action)
        expect_same(env.state, following, "step() beside mdp.transition")
        expect_same(terminated, bool(mdp.terminal(rules, following)), "step() beside terminal")


def _check_prefixes(env: TextEnv, seed: int, tolerance: float) -> None:
    """A reset to a prefix is the state, and has the future, that stepping there has."""
    rules, generator = env.task.rules, np.random.default_rng(seed)
    observations = [env.reset(seed=seed)[0]]
    index = env.state.prompt_index
    actions: list[Any] = []
    results: list[Any] = []
    lengths = [0]
    while not (results and results[-1][2]):
        actions.append(choose_action(env, generator))
        results.append(env.step(actions[-1]))
        observations.append(results[-1][0])
        lengths.append(env.state.length)
    tokens = env.state.tokens[rules.prompt_length :][: lengths[-1]].tolist()
    vocabulary = env.task.vocabulary
    for action, length, observed, result in zip(
        actions, lengths[:-1], observations[:-1], results, strict=True
    ):
        prefixes: list[Any] = [tokens[:length], np.array(tokens[:length], dtype=np.int64)]
        if vocabulary.encode(vocabulary.decode(tokens[:length])) == tokens[:length]:
            prefixes.append(vocabulary.decode(tokens[:length]))
        for prefix in prefixes:
            observation, _ = env.reset(options={"prompt_index": index, "prefix": prefix})
            expect_same(observation, observed, f"reset to the prefix {prefix!r}", tolerance)
        again = env.step(action)
        expect_same(again, result, f"a step after the prefix {prefix!r}", tolerance)
    before = env.state
    with refused(ValueError, "reset to a prefix that is finished"):
        env.reset(options={"prompt_index": index, "prefix": tokens})
    expect_same(env.state, before, "the state after a refused reset")


def _check_spec(env: TextEnv, seed: int, tolerance: float) -> None:
    spec = env.spec
    if spec is None:
        return
    if any(isinstance(value, Held) for value in spec.kwargs.values()):
        for write in (pickle.dumps, type(spec).to_json):
            with refused(NotSerialisableError, "writing down a spec with an object in memory"):
                write(spec)
        return
    expected = _played(env, seed)
    ways = {
        "pickle": lambda: pickle.loads(pickle.dumps(spec)),
        "JSON": lambda: EnvSpec.from_json(spec.to_json()),
    }
    for name, through in ways.items():
        try:
            again = through()
        except Exception as error:
            raise CheckError(f"the spec does not go through {name}: {error}") from error
        with contextlib.closing(_again(again)) as twin:
            what = f"the environment of a spec through {name}"
            expect_same(_played(twin, seed), expected, what, tolerance)


def _again(spec: EnvSpec) -> TextEnv:
    made: Any = spec.make(disable_env_checker=True)
    return made.unwrapped


def _played(env: TextEnv, seed: int, *, vandal: bool = False) -> list[Any]:
    """Everything that is returned from a seeded reset on."""
    return [_kept(env, env.reset(seed=seed), vandal), *_continued(env, seed, vandal=vandal)]


def _continued(env: TextEnv, seed: int, *, vandal: bool = False) -> list[Any]:
    """Everything that is returned from here on, over some episodes."""
    rules, generator = env.task.rules, np.random.default_rng(seed)
    returned: list[Any] = []
    for _ in range(EPISODES * min(rules.max_tokens, 16)):
        action = choose_action(env, generator)
        returned.append(_kept(env, env.step(action), vandal))
        if returned[-1][2]:
            returned.append(_kept(env, env.reset(), vandal))
    return returned


def _kept(env: TextEnv, returned: Any, vandal: bool) -> Any:
    """A copy of what was returned, whose own arrays are overwritten if so wished."""
    kept = copy.deepcopy(returned)
    if vandal:
        before = env.state
        vandalise(returned)
        expect_same(env.state, before, "the state when the caller overwrites what was returned")
    return kept
