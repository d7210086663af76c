"""What an environment must show of a state, worked out from its tokens and its model alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from textenv import mdp
from textenv.actions import AllTokens, Candidates, Fragments, Strings
from textenv.env import TextEnv
from textenv.observations import Hidden, Probabilities, Text, Tokens
from textenv.prefixes import Prefixes
from textenv.spaces import UnicodeText
from textenv.testing.compare import expect, expect_same, texts_in


def check_spaces(env: TextEnv) -> None:
    """Compare both spaces with what the plug-ins promise."""
    observation, size = expected_space(env), mask_size(env)
    if observation is not None:
        if env.setup.mask == "observation":
            own = observation.spaces if isinstance(observation, spaces.Dict) else None
            parts: dict[str, spaces.Space] = dict(own or {"observation": observation})
            mask = spaces.Box(0, 1, (size,), np.int8)
            observation = spaces.Dict({**parts, "action_mask": mask})
        expect_same(env.observation_space, observation, "the observation space")
    action = env.setup.action
    expected: spaces.Space | None = None
    if isinstance(action, AllTokens | Candidates):
        expected = spaces.Discrete(size)
    elif isinstance(action, Fragments):
        expected = spaces.MultiDiscrete([env.task.rules.vocabulary_size] * action.n)
    elif isinstance(action, Strings):
        expected = UnicodeText(env.task.vocabulary)
    if expected is not None:
        expect_same(env.action_space, expected, "the action space")


def expected_space(env: TextEnv) -> spaces.Space | None:
    """Return the space of an observation of ours, without the mask; None for other kinds."""
    rules, observation = env.task.rules, env.setup.observation
    if isinstance(observation, Tokens):
        return spaces.Box(0, rules.nothing, (rules.width,), np.int64)
    if isinstance(observation, Hidden):
        bound = np.finfo(np.float32).max
        return spaces.Box(-bound, bound, (env.lm.hidden_size,), np.float32)
    if isinstance(observation, Probabilities):
        ids = spaces.Box(0, rules.nothing, (observation.k,), np.int64)
        numbers = spaces.Box(0, 1, (observation.k,), np.float32)
        return spaces.Dict({"ids": ids, "probabilities": numbers})
    return UnicodeText() if isinstance(observation, Text) else None


def mask_size(env: TextEnv) -> int:
    """Return how many entries an action mask has; 0 where there is none."""
    action, size = env.setup.action, env.task.rules.vocabulary_size
    if isinstance(action, AllTokens):
        return size
    if isinstance(action, Fragments):
        return size * action.n
    return action.k if isinstance(action, Candidates) else 0


def check_view(
    env: TextEnv,
    observation: Any,
    info: Any,
    prompt: list[int],
    written: list[int],
    tolerance: float,
) -> None:
    """Check what is shown of a prompt and a text: observation, mask, candidates, text and info.

    Args:
        env: The environment, which is in that state.
        observation: What it returned.
        info: What it returned.
        prompt: The prompt's tokens.
        written: The tokens written so far.
        tolerance: By how much numbers of the model may differ.
    """
    setup = env.setup
    expect(observation in env.observation_space, f"{observation!r} is not in its space")
    expect(isinstance(info, dict), f"info is {info!r}, expected a dict")
    log_probs, hidden = _asked(env)
    mask = _check_mask(env, observation, info, log_probs, tolerance)
    expected = _observation(env, prompt, written, log_probs, hidden)
    if expected is not None:
        if setup.mask == "observation":
            parts = expected if isinstance(expected, dict) else {"observation": expected}
            expected = {**parts, "action_mask": mask}
        expect_same(observation, expected, "the observation", tolerance)
    ends = bool(written) and written[-1] == env.task.rules.end_token
    text = env.task.vocabulary.decode(written[:-1] if ends else written)
    expect_same(env.text, text, "env.text")
    if setup.info_text:
        expect_same(info.get("text"), text, "info['text']")
        expect_same(info.get("prompt"), env.prompt, "info['prompt']")
    else:
        expect(not texts_in(info), f"without info_text=True info holds no texts, got {info!r}")


def _asked(env: TextEnv) -> tuple[Any, Any]:
    """Ask the model by ourselves: log-probabilities [V] and hidden state [H]; None: not asked."""
    state = env.state
    if not env.setup.asks_model or mdp.terminal(env.task.rules, state):
        return None, None
    said = env.lm.next(Prefixes.of(env.task.rules, state))
    log_probs = said.logits[0].double().log_softmax(-1).cpu().numpy()
    return log_probs, said.hidden[0].float().cpu().numpy()


def _ranking(env: TextEnv, log_probs: Any, k: int) -> list[int]:
    """The k likeliest tokens, by sorting all of them; fewer where the others have none."""
    if log_probs is None:
        return []
    order = np.lexsort((np.arange(len(log_probs)), -np.round(log_probs, 4)))
    return order[np.exp(log_probs[order]) > 0][:k].tolist()


def _check_mask(
    env: TextEnv, observation: Any, info: Any, log_probs: Any, tolerance: float
) -> npt.NDArray[np.int8]:
    """Check masks and candidates; return the mask."""
    action, suppressed = env.setup.action, list(env.task.vocabulary.suppressed_tokens)
    mask = np.ones(mask_size(env), dtype=np.int8)
    if isinstance(action, Candidates):
        mask = _check_candidates(env, action.k, info, log_probs, tolerance)
    elif isinstance(action, AllTokens | Fragments):
        mask.reshape(-1, env.task.rules.vocabulary_size)[:, suppressed] = 0
        mask &= _clean(env)
    if len(mask):
        expect_same(env.action_masks(), mask.astype(np.bool_), "action_masks()")
    if len(mask) and env.setup.mask == "info":
        expect_same(info.get("action_mask"), mask, "info['action_mask']")
    return mask


def _check_candidates(
    env: TextEnv, k: int, info: Any, log_probs: Any, tolerance: float
) -> npt.NDArray[np.int8]:
    rules = env.task.rules
    if log_probs is not None:
        log_probs = np.where(_clean(env), log_probs, -np.inf)
    ids, end = _ranking(env, log_probs, k), rules.end_token
    if log_probs is not None and end is not None and log_probs[end] > -np.inf and end not in ids:
        ids = [*ids[: k - 1], end]
    numbers = [float(log_probs[token]) for token in ids]
    missing = k - len(ids)
    expected = np.array(ids + [rules.nothing] * missing, dtype=np.int64)
    expect_same(info.get("candidates"), expected, "info['candidates']")
    numbers += [0.0] * missing
    what = "info['candidate_log_probs']"
    expect_same(info.get("candidate_log_probs"), np.array(numbers), what, tolerance)
    # Where nothing is to be chosen any more, a policy must still have something to choose from.
    return np.array([1] * len(ids) + [int(not ids)] * missing, dtype=np.int8)


def _clean(env: TextEnv) -> Any:
    """Which tokens complete no pattern of the blocklist, by searching the text of each: [V]."""
    rules, guard, state = env.task.rules, env.setup.guard, env.state
    if guard is None or mdp.terminal(rules, state):
        return True
    written, find = mdp.text_ids(rules, state.tokens), guard.blocklist.find
    texts = [env.task.vocabulary.decode([*written, token]) for token in range(rules.nothing)]
    clean = np.array([find(env.prompt, text) is None for text in texts])
    if rules.end_token is not None:
        clean[rules.end_token] = True
        return clean
    # Some clean tokens lead to where nothing is allowed; which, tests of the filter know.
    return clean & guard.allowed_after(Prefixes.of(rules, state))[0]


def _observation(
    env: TextEnv, prompt: list[int], written: list[int], log_probs: Any, hidden: Any
) -> Any:
    """What an observation of ours must be, without the mask; None for other kinds."""
    rules, observation = env.task.rules, env.setup.observation
    if isinstance(observation, Tokens):
        # The prompt ends at column P, the text begins there, and V stands where nothing is.
        row = [rules.nothing] * (rules.prompt_length - len(prompt)) + prompt + written
        row += [rules.nothing] * (rules.width - len(row))
        return np.array(row, dtype=np.int64)
    if isinstance(observation, Hidden):
        return np.zeros(env.lm.hidden_size, dtype=np.float32) if hidden is None else hidden
    if isinstance(observation, Probabilities):
        likeliest = _ranking(env, log_probs, observation.k)
        ids = np.full(observation.k, rules.nothing)
        numbers = np.zeros(observation.k, dtype=np.float32)
        ids[: len(likeliest)] = likeliest
        numbers[: len(likeliest)] = [np.exp(log_probs[token]) for token in likeliest]
        return {"ids": ids, "probabilities": numbers}
    if isinstance(observation, Text):
        ends = bool(written) and written[-1] == rules.end_token
        return env.task.vocabulary.decode(prompt + (written[:-1] if ends else written))
    return None
