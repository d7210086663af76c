"""Environments with a blocklist: masks in all places and modes, refusals, candidates, copies."""

import copy
import functools
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch

import textenv
from tests.filtering import byte_tokens, holds
from tests.small_tasks import small_task, started, task
from textenv import TextEnv, TextVectorEnv
from textenv.errors import InvalidActionError, ResetNeededError, TextenvError
from textenv.models import TabularLM
from textenv.testing import check_env, check_vector_env
from textenv.vocabulary import CharacterVocabulary

PATTERNS = ["ab", "b?b", "cc!"]  # over the words a b c ! $, of which ! and $ end a text


@pytest.mark.parametrize("mask", [None, "info", "observation", "method"])
@pytest.mark.parametrize("end", [True, False])
def test_the_batteries(mask, end):
    keywords = {"task": small_task(max_tokens=5), "blocklist": PATTERNS, "mask": mask, "end": end}
    check_env(TextEnv(**keywords))
    make = functools.partial(TextVectorEnv, **keywords)
    check_vector_env(make, functools.partial(TextEnv, **keywords), num_envs=(1, 3), steps=60)


@pytest.mark.parametrize("mask", [None, "info", "observation"])
def test_the_batteries_with_candidates(mask):
    keywords = {"blocklist": ["爱你", "你你"], "mask": mask, "action": "candidates:2"}
    check_env("textenv/ILoveYou-v0", **keywords)
    check_vector_env("textenv/ILoveYou-v0", num_envs=3, steps=40, tolerance=1e-5, **keywords)


def test_a_token_that_completes_a_pattern_is_refused():
    env = started("a", blocklist=PATTERNS)
    before = env.state
    with pytest.raises(InvalidActionError, match=r"the token 1 is not allowed here .* mask is 1"):
        env.step(1)
    assert (env.state.tokens == before.tokens).all()
    assert env.action_masks().tolist() == [True, False, True, True, True]
    env.step(2)
    assert env.action_masks().tolist() == [True, True, False, True, True]  # "cc!" means "cc"


def test_rows_of_a_vector_environment_are_named():
    envs = TextVectorEnv(3, task(), blocklist=PATTERNS)
    envs.reset(seed=0, options={"prompt": ["a", "b c", "a"]})
    before = envs.state
    with pytest.raises(InvalidActionError, match=r"token 1 in row 2 is not .* the end token, 4"):
        envs.step(np.array([0, 0, 1]))
    assert (envs.state.tokens == before.tokens).all()
    assert envs.action_masks()[:, 1:3].tolist() == [[False, True], [False, False], [False, True]]


def test_before_reset_there_is_no_mask():
    for env in (TextEnv(task(), blocklist=PATTERNS), TextVectorEnv(2, task(), blocklist=PATTERNS)):
        with pytest.raises(ResetNeededError):
            env.action_masks()


def test_starting_from_a_prefix():
    env = started("a", blocklist=PATTERNS)
    env.reset(options={"prompt": "a", "prefix": "c"})
    with pytest.raises(ValueError, match="the prefix already holds a pattern of the blocklist"):
        env.reset(options={"prompt": "a", "prefix": "b"})
    assert env.text == "c"  # nothing was lost
    with pytest.raises(ValueError, match="the prefix already holds"):
        env.set_state(_state("a", "b"))
    envs = TextVectorEnv(2, task(), blocklist=PATTERNS)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"the prefix \(row 1\) already holds"):
        envs.reset(options={"prompt": "a", "prefix": ["c", "b"]})
    both = TextVectorEnv(2, task())
    both.reset(seed=0, options={"prompt": "a", "prefix": ["c", "b"]})
    with pytest.raises(ValueError, match=r"the prefix \(row 1\) already holds"):
        envs.set_state(both.state)


def test_going_back_to_an_end_behind_which_nothing_could_be_written():
    made = task(vocabulary=CharacterVocabulary("ab"), prompts=[""], stop=["a"], prompt_length=None)
    patterns = ["aa", "ab", "bb"]  # without an end token: after "a" each token completes one
    env = TextEnv(made, blocklist=patterns)
    env.reset(seed=0)
    _, _, terminated, _, _ = env.step(0)
    assert terminated
    env.set_state(env.state)
    assert env.text == "a"
    envs = TextVectorEnv(2, made, blocklist=patterns)
    envs.reset(seed=0)
    envs.step(np.array([0, 1]))
    envs.set_state(envs.state)
    assert envs.text == ["a", "b"]


def _state(prompt, prefix):
    env = TextEnv(task())
    env.reset(seed=0, options={"prompt": prompt, "prefix": prefix})
    return env.state


def test_a_prompt_may_hold_a_pattern_or_end_inside_a_character():
    env = started("a", blocklist=["bc"])
    env.reset(options={"prompt": "b c"})
    assert env.action_masks().all()  # what is written so far holds none
    env = started("a", blocklist=["ab"])
    env.reset(options={"prompt": "c a"})  # none of the task's own
    assert env.action_masks().tolist() == [True, False, True, True, True]
    vocabulary = byte_tokens([b"a", b"\xc3", b"\xa9", b"\xc3\xa9"])
    made = task(vocabulary=vocabulary, prompts=["a"], stop=[], prompt_length=4)
    env = TextEnv(made, blocklist=["e"])
    env.reset(seed=0, options={"prompt": [1, 2, 3]})
    with pytest.raises(ValueError, match="the prompt ends inside a character"):
        env.reset(options={"prompt": [1, 2]})
    env.reset(options={"prompt": [1]})
    assert env.action_masks().tolist() == [True, True, True, True, False]
    env.step(2)  # half of é
    assert env.action_masks().tolist() == [True, True, True, False, False]


def test_actions_of_several_tokens_are_refused():
    for action in ("fragments:2", "strings"):
        with pytest.raises(ValueError, match="blocklist= goes with actions of one token"):
            TextEnv(task(), blocklist=PATTERNS, action=action)
    with pytest.raises(ValueError, match="at least one pattern"):
        TextEnv(task(), blocklist=[])
    with pytest.raises(ValueError, match="impossible for GoodBad"):
        gym.make("textenv/GoodBad-v0", blocklist=["good", "BAD"])


def test_specs_go_through_json_and_pickle():
    for form in (["bad"], textenv.Blocklist(["bad"]), {"name": "blocklist", "patterns": ["bad"]}):
        env = gym.make("textenv/GoodBad-v0", blocklist=form)
        for spec in (
            pickle.loads(pickle.dumps(env.spec)),
            gym.envs.registration.EnvSpec.from_json(env.spec.to_json()),
        ):
            again = gym.make(spec)
            again.reset(seed=0)
            assert again.unwrapped.action_masks().tolist() == [True, False]
            json.dumps(again.spec.kwargs)


def test_copies_go_their_own_way():
    env = started("c", blocklist=PATTERNS)
    twin = copy.deepcopy(env)
    assert twin.setup.guard is env.setup.guard  # it knows nothing of where they are
    env.step(0)
    assert not env.action_masks()[1]
    assert twin.action_masks()[1]
    state = env.state
    env.step(2)
    env.set_state(state)
    assert not env.action_masks()[1]
    unpickled = pickle.loads(pickle.dumps(env.setup.guard))
    assert unpickled._young == {}
    batch = textenv.mdp.State(state.tokens[None], np.array([1]), np.array([-1]))
    assert (unpickled.allowed(batch) == env.setup.guard.allowed(batch)).all()


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_masked_play_writes_nothing_that_is_listed(mode):
    made = small_task(max_tokens=6)
    envs = TextVectorEnv(8, made, blocklist=PATTERNS, mask="info", autoreset_mode=mode)
    generator = np.random.default_rng(0)
    _, infos = envs.reset(seed=0)
    bitten = 0
    for _ in range(200):
        masks = infos["action_mask"]
        assert (masks == envs.action_masks()).all()
        bitten += int((masks.sum(axis=1) < 5).sum())
        actions = np.array([generator.choice(np.flatnonzero(mask)) for mask in masks])
        _, _, terminated, _, infos = envs.step(actions)
        if mode == "DISABLED" and terminated.any():
            _, reset_infos = envs.reset(options={"reset_mask": terminated})
            infos["action_mask"][terminated] = reset_infos["action_mask"][terminated]
        prompts = [envs.task.prompt_text(envs.state, row) for row in range(8)]
        for prompt, text in zip(prompts, envs.text, strict=True):
            assert not holds(PATTERNS, prompt, text)
    assert bitten > 300


def test_candidates_are_those_that_are_allowed():
    # Alone, the likeliest two after "我" in the toy's table; without what is listed, the next ones.
    free = gym.make("textenv/ILoveYou-v0", action="candidates:4").unwrapped
    free.reset(seed=0, options={"prefix": "我"})
    ranked = free.choices.ids[0].tolist()
    env = gym.make(
        "textenv/ILoveYou-v0", action="candidates:2", blocklist=["我爱", "你你"]
    ).unwrapped
    _, info = env.reset(seed=0, options={"prefix": "我"})
    love = env.task.vocabulary.encode("爱")[0]
    left = [token for token in ranked if token != love]
    assert info["candidates"].tolist() == left[:2]
    place = [ranked.index(token) for token in left[:2]]
    assert info["candidate_log_probs"].tolist() == free.choices.log_probs[0, place].tolist()


def test_a_model_that_gives_nothing_that_is_allowed_a_probability():
    table = TabularLM(5, order=1)
    with torch.no_grad():
        table.logits[:, [0, 2, 3, 4]] = -torch.inf  # it writes "b" and nothing else
    env = TextEnv(task(), blocklist=["bb"], lm=table, action="candidates:2")
    env.reset(seed=0, options={"prompt": "c"})
    with pytest.raises(
        TextenvError, match="in row 0 nothing is left to choose: the language model"
    ):
        env.step(0)  # "b", and then "bb" is listed


def test_suppressed_tokens_stay_out_of_the_mask():
    made = task()
    made.vocabulary.suppressed_tokens = (2,)
    env = started("a", made, blocklist=PATTERNS)
    assert env.action_masks().tolist() == [True, False, False, True, True]


def test_masks_as_maskable_ppo_asks_for_them():
    # sb3-contrib calls env.action_masks() before each action, and gives the others no probability.
    env = gym.make("textenv/ILoveYou-v0", blocklist=["我爱", "你?。"])
    generator, logits = np.random.default_rng(0), np.array([3.0, 2.0, 1.0, 0.0])
    for seed in range(200):
        env.reset(seed=seed)
        terminated = False
        while not terminated:
            mask = env.get_wrapper_attr("action_masks")()
            assert mask.dtype == np.bool_
            probabilities = np.where(mask, np.exp(logits), 0.0)
            action = generator.choice(4, p=probabilities / probabilities.sum())
            *_, terminated, _, _ = env.step(action)
        assert "我爱" not in env.unwrapped.text


def test_a_blocklist_in_a_file_is_a_name(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("bad\n", "utf-8")
    env = gym.make("textenv/GoodBad-v0", blocklist=path)
    env.reset(seed=0)
    assert env.unwrapped.action_masks().tolist() == [True, False]
    assert json.loads(env.spec.to_json())["kwargs"]["blocklist"] == str(path)
