"""`check_vector_env`: is each row of a vector environment the single environment?

The yardstick is Gymnasium's `SyncVectorEnv` of single environments in the same autoreset mode.
B = rows.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import batch_space

from textenv.errors import InvalidActionError, ResetNeededError
from textenv.observations import Tokens
from textenv.testing.choosing import choose_actions, unread
from textenv.testing.compare import (
    expect,
    expect_same,
    global_generators_untouched,
    refused,
    vandalise,
)
from textenv.testing.pair import Make, Pair
from textenv.vector_env import TextVectorEnv

RESET_ANYWAY = 0.1  # how often a row is reset though it goes on


def check_vector_env(
    make_vector: str | Make,
    make_single: Make | None = None,
    *,
    num_envs: int | Sequence[int] = (1, 2, 5),
    steps: int = 200,
    seed: int = 123,
    tolerance: float = 0.0,
    **keywords: Any,
) -> None:
    """Check that row i of a vector seeded s is the single environment seeded s + i.

    In all three autoreset modes: observations, rewards, flags, infos, `final_obs` and
    `final_info`; with int32 actions; resets by `reset_mask`; unread actions (NEXT_STEP) and
    refused steps (DISABLED) of rows that have ended; truncation against `TimeLimit`; lists of
    seeds and options; fresh arrays and `copy=False`; `state`, `set_state` and deep copies;
    refused actions; deferred scoring.

    Args:
        make_vector: An id, or a function that takes `num_envs`, `autoreset_mode`, `copy`,
            `scoring` and `max_episode_steps` by keyword:
            `functools.partial(TextVectorEnv, task=my_task)`.
        make_single: The function that makes the single environment, where `make_vector` is one:
            `functools.partial(TextEnv, task=my_task)`.
        num_envs: B, or several to try one after the other.
        steps: How many steps to compare for each mode and B.
        seed: Chooses prompts and tokens.
        tolerance: By how much floats may differ; numbers that come out of a neural network need
            1e-5.
        **keywords: For both environments.

    Raises:
        CheckError: a promise is broken.

    >>> check_vector_env("textenv/ILoveYou-v0", num_envs=2, steps=20)
    """
    if isinstance(make_vector, str):
        make_single = functools.partial(gym.make, make_vector, disable_env_checker=True)
        make_vector = functools.partial(gym.make_vec, make_vector)
    if make_single is None:
        raise ValueError("make_vector is a function: make_single= is needed beside it")
    pair = Pair(make_vector, make_single, keywords, seed, tolerance)
    with global_generators_untouched("the vector environment"):
        for rows in (num_envs,) if isinstance(num_envs, int) else num_envs:
            for mode in AutoresetMode:
                _check_against_singles(pair, rows, mode, steps)
                _check_time_limit(pair, rows, mode, steps)
                _check_deferred(pair, rows, mode, steps)
            _check_before_reset(pair, rows)
            _check_seeds_and_options(pair, rows)
            _check_fresh(pair, rows, AutoresetMode.SAME_STEP, steps)
            _check_fresh(pair, rows, AutoresetMode.NEXT_STEP, steps)
            _check_state(pair, rows)
            _check_refused(pair, rows)


def _check_against_singles(pair: Pair, rows: int, mode: AutoresetMode, steps: int) -> None:
    with pair.ours(rows, mode) as ours, pair.singles(rows, mode) as singles:
        for name, space in {
            "observation_space": singles.single_observation_space,
            "action_space": singles.single_action_space,
        }.items():
            expect_same(getattr(ours, f"single_{name}"), space, f"single_{name}")
            expect_same(getattr(ours, name), batch_space(space, rows), name)
        expect(ours.metadata.get("autoreset_mode") == mode, "metadata lacks the autoreset mode")
        expect(ours.autoreset_mode == mode, "the attribute autoreset_mode is missing")
        _check_run(pair, ours, singles, mode, steps)


def _check_time_limit(pair: Pair, rows: int, mode: AutoresetMode, steps: int) -> None:
    with pair.ours(rows, mode) as ours:
        limit = max(1, ours.task.rules.max_tokens // 2)
    with (
        pair.ours(rows, mode, max_episode_steps=limit) as ours,
        pair.singles(rows, mode, limit) as singles,
    ):
        _check_run(pair, ours, singles, mode, steps)


def _check_run(
    pair: Pair, ours: TextVectorEnv, singles: SyncVectorEnv, mode: AutoresetMode, steps: int
) -> None:
    what = f"{ours.num_envs} rows with {mode.value}"
    generator = np.random.default_rng(pair.seed)
    pair.expect_same(ours.reset(seed=pair.seed), singles.reset(seed=pair.seed), f"reset, {what}")
    ended = np.zeros(ours.num_envs, dtype=np.bool_)
    for step in range(steps):
        must = ended if mode == AutoresetMode.DISABLED else np.zeros_like(ended)
        some = generator.random(ours.num_envs) < RESET_ANYWAY
        # Some of the rows first, so that a reset of these leaves the others as they are.
        for mask in (some, must & ~some):
            if (must & ended).any():
                with refused(ResetNeededError, "step() while a row has ended, DISABLED"):
                    ours.step(choose_actions(ours, generator))
            if mask.any():
                reset = ours.reset(options={"reset_mask": mask})
                expected = singles.reset(options={"reset_mask": mask})
                pair.expect_same(reset, expected, f"reset_mask before step {step}, {what}")
                ended = ended & ~mask
        actions = choose_actions(ours, generator)
        skipped = ended if mode == AutoresetMode.NEXT_STEP else np.zeros_like(ended)
        result = ours.step(unread(actions, skipped))
        pair.expect_same(result, singles.step(actions), f"step {step}, {what}")
        ended = result[2] | result[3]


def _check_deferred(pair: Pair, rows: int, mode: AutoresetMode, steps: int) -> None:
    generator = np.random.default_rng(pair.seed)
    expected: dict[int, float] = {}
    with pair.ours(rows, mode) as now, pair.ours(rows, mode, scoring="deferred") as later:
        now.reset(seed=pair.seed)
        later.reset(seed=pair.seed)
        for _ in range(steps):
            actions = choose_actions(now, generator)
            _, rewards, ended, _, _ = now.step(actions)
            _, deferred, flags, _, infos = later.step(actions)
            expect_same(flags, ended, "terminated with deferred scoring")
            expect_same(deferred, np.where(ended, np.nan, rewards), "rewards to be scored later")
            infos = infos.get("final_info", infos)
            found = np.flatnonzero(infos.get("_episode_id", np.zeros(rows, dtype=np.bool_)))
            expect_same(found, np.flatnonzero(ended), "rows with an episode_id")
            for row in found.tolist():
                episode = int(infos["episode_id"][row])
                expect(episode not in expected, f"the episode_id {episode} was given twice")
                expected[episode] = float(rewards[row])
            if mode == AutoresetMode.DISABLED and ended.any():
                now.reset(options={"reset_mask": ended})
                later.reset(options={"reset_mask": ended})
        expect_same(later.score(), expected, "score()", pair.tolerance)
        expect_same(later.score(), {}, "score() when nothing ended since")


def _check_before_reset(pair: Pair, rows: int) -> None:
    with pair.ours(rows, AutoresetMode.NEXT_STEP) as ours:
        with refused(ResetNeededError, "step() before reset()"):
            ours.step(np.zeros(rows, dtype=np.int64))
        with refused(ResetNeededError, "reset_mask at the first reset()"):
            ours.reset(options={"reset_mask": np.ones(rows, dtype=np.bool_)})


def _check_seeds_and_options(pair: Pair, rows: int) -> None:
    """Lists of seeds, and options as one value and as a list, against singles one by one."""
    generator = np.random.default_rng(pair.seed)
    seeds = [int(seed) for seed in generator.permutation(1000)[:rows]]
    mode = AutoresetMode.NEXT_STEP
    with pair.ours(rows, mode) as ours, pair.singles(rows, mode) as singles:
        task = ours.task
        prompts = generator.integers(len(task.prompts), size=rows).tolist()
        prefixes = [_unfinished(ours, generator) for _ in range(rows)]
        cases: list[dict[str, Any]] = [
            {},
            {"prefix": prefixes[0]},
            {"prefix": prefixes},
            {"prompt_index": prompts[0], "prefix": prefixes},
            {"prompt_index": prompts},
            {"prompt": [task.prompt_ids[index] for index in prompts]},
            {"prompt": task.prompt_ids[prompts[0]], "columns": {"note": "a"}},
            {"columns": [{"note": row} for row in range(rows)]},
        ]
        for options in cases:
            ours.reset(seed=seeds, options=options)
            for row, env in enumerate(singles.envs):
                own = {key: _value(key, value, row) for key, value in options.items()}
                env.reset(seed=seeds[row], options=own)
                expected = env.unwrapped.state  # type: ignore[attr-defined]
                expect_same(_state_of(ours, row), expected, f"row {row} after {options}")


def _check_fresh(pair: Pair, rows: int, mode: AutoresetMode, steps: int) -> None:
    with (
        pair.ours(rows, mode) as ours,
        pair.ours(rows, mode) as twin,
        pair.ours(rows, mode, copy=False) as lent,
    ):
        generator = np.random.default_rng(pair.seed)
        results: list[Any] = [envs.reset(seed=pair.seed) for envs in (ours, twin, lent)]
        memory = _tokens(results[2][0])
        for _ in range(steps):
            for result, name in ((results[1], "copy=True"), (results[2], "copy=False")):
                expect_same(result, results[0], f"what is returned with {name}", pair.tolerance)
            if isinstance(ours.setup.observation, Tokens):
                same = _tokens(results[2][0]) is memory
                expect(same, "with copy=False the array is another one")
            vandalise(results[1])
            actions = choose_actions(ours, generator)
            results = [envs.step(actions) for envs in (ours, twin, lent)]


def _check_state(pair: Pair, rows: int) -> None:
    """`state`, `set_state` and deep copies come back to the same future, until a row ends."""
    generator = np.random.default_rng(pair.seed)
    with pair.ours(rows, AutoresetMode.DISABLED) as ours:
        ours.reset(seed=pair.seed)
        for _ in range(20):
            state, actions = ours.state, choose_actions(ours, generator)
            twin = copy.deepcopy(ours)
            expected = ours.step(actions)
            after = ours.state
            expect_same(twin.step(actions), expected, "a step of a deep copy", pair.tolerance)
            ours.reset()
            ours.set_state(state)
            expect_same(ours.state, state, "the state after set_state(state)")
            again = ours.step(actions)
            expect_same(again, expected, "a step after set_state(state)", pair.tolerance)
            vandalise(ours.state)
            vandalise(state)
            expect_same(ours.state, after, "the state whose copies the caller overwrote")
            ended = expected[2]
            if ended.any():
                ours.set_state(after)
                with refused(ResetNeededError, "step() after set_state with finished rows"):
                    ours.step(actions)
                ours.reset(options={"reset_mask": ended})


def _check_refused(pair: Pair, rows: int) -> None:
    with pair.ours(rows, AutoresetMode.NEXT_STEP) as ours:
        ours.reset(seed=pair.seed)
        before = ours.state
        for actions in _wrong_actions(ours):
            with refused(InvalidActionError, f"step({actions!r})"):
                ours.step(actions)
            expect_same(ours.state, before, "the state after a refused step")
        for mask in ([True] * rows, np.ones(rows), np.zeros(rows, dtype=np.bool_)):
            with refused(ValueError, f"reset_mask {mask!r}"):
                ours.reset(options={"reset_mask": mask})
        with refused(ValueError, "a list of seeds that is too long"):
            ours.reset(seed=list(range(rows + 1)))
        expect_same(ours.state, before, "the state after a refused reset")


def _wrong_actions(envs: TextVectorEnv) -> list[Any]:
    """What no step may take: types, shapes, and one number in the last row."""
    rows, space = envs.num_envs, envs.single_action_space
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return [["a"] * (rows + 1), [0] * rows, "a", None]
    own: tuple[int, ...] = space.shape or ()
    shape = (rows, *own)
    wrong: list[Any] = [np.zeros(shape), np.zeros(shape, dtype=np.bool_)]
    wrong += [np.zeros((*shape, 1), dtype=np.int64)]
    wrong += [np.zeros((rows + 1, *own), dtype=np.int64)]
    size = int(space.n if isinstance(space, spaces.Discrete) else space.nvec[-1])
    for number in (-1, size):
        actions = np.zeros(shape, dtype=np.int64)
        actions[-1] = number
        wrong.append(actions)
    return wrong


def _unfinished(envs: TextVectorEnv, generator: np.random.Generator) -> list[int]:
    """Ids that a text may begin with and that end it by no token; none where some are forbidden."""
    rules = envs.task.rules
    if envs.setup.guard is not None:
        return []
    ordinary = [t for t in range(rules.vocabulary_size) if t not in rules.ending_tokens]
    length = int(generator.integers(rules.max_tokens)) if ordinary else 0
    return generator.choice(ordinary, size=length).tolist() if length else []


def _value(key: str, value: Any, row: int) -> Any:
    """One row's value of an option that may be one value or a list."""
    one = not isinstance(value, list)
    one = one or (key in ("prompt", "prefix") and all(isinstance(part, int) for part in value))
    return value if one else value[row]


def _state_of(envs: TextVectorEnv, row: int) -> Any:
    tokens, length, prompt_index, columns = envs.state
    own = None if columns is None else columns[row]
    return envs.state._replace(
        tokens=tokens[row],
        length=int(length[row]),
        prompt_index=int(prompt_index[row]),
        columns=own,
    )


def _tokens(observation: Any) -> Any:
    return observation.get("observation") if isinstance(observation, dict) else observation
