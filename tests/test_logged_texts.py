"""Logged texts as arrays: transitions, checks that name text and token, and what rollouts give."""

from __future__ import annotations

import numpy as np
import pytest

from tests.small_tasks import small_task, task
from textenv import TextVectorEnv, exact, mdp
from textenv.logged import BadTextError, LoggedTexts
from textenv.prefixes import Prefixes
from textenv.vocabulary import WordVocabulary

NOTHING = 5


def logged(written, made=None, *, prompt=(0,), terminated=None, rewards=None, **more):
    rules = (made or task()).rules
    tokens = np.concatenate(
        [mdp.align_prompts(rules, [prompt] * len(written)), mdp.align_written(rules, written)],
        axis=1,
    )
    lengths = np.array([len(row) for row in written])
    paid = np.zeros((len(written), rules.max_tokens)) if rewards is None else np.array(rewards)
    ended = np.ones(len(written), dtype=bool) if terminated is None else np.array(terminated)
    return LoggedTexts(Prefixes(tokens, 2, NOTHING, lengths), paid, ended, **more)


def test_transitions_by_hand():
    # "a": b !  (the stop token ends it), and "a": c, cut off; P = 2, T = 3, nothing = 5.
    texts = logged(
        [[1, 3], [2]], terminated=[True, False], rewards=[[0.5, 2.0, 0], [0.25, 0, 0]]
    ).check(task())
    found = texts.transitions()
    assert found.states.tokens.tolist() == [[5, 0, 5, 5, 5], [5, 0, 1, 5, 5], [5, 0, 5, 5, 5]]
    assert found.next_states.tokens.tolist() == [[5, 0, 1, 5, 5], [5, 0, 1, 3, 5], [5, 0, 2, 5, 5]]
    assert found.states.written.tolist() == [0, 1, 0]
    assert found.next_states.written.tolist() == [1, 2, 1]
    assert found.actions.tolist() == [1, 3, 2]
    assert found.rewards.tolist() == [0.5, 2.0, 0.25]
    assert found.terminated.tolist() == [False, True, False]
    assert found.texts.tolist() == [0, 0, 1]
    assert texts.returns().tolist() == [2.5, 0.25]
    assert (len(texts), texts.actions) == (2, 3)
    assert texts.rows([1]).transitions().actions.tolist() == [2]
    assert texts.rows(np.array([False, True])).returns().tolist() == [0.25]


def test_transitions_of_random_texts_are_what_a_loop_finds():
    made = small_task()
    texts = LoggedTexts.from_episodes(episodes(made, 50), made)
    rules, found, row = made.rules, texts.transitions(), 0
    for text in range(len(texts)):
        prompts = texts.prefixes.tokens[text, : rules.prompt_length]
        state = mdp.initial(rules, prompts)
        for step in range(texts.prefixes.written[text]):
            assert (found.states.tokens[row] == state.tokens).all()
            state = mdp.transition(rules, state, found.actions[row])
            assert (found.next_states.tokens[row] == state.tokens).all()
            assert found.terminated[row] == mdp.terminal(rules, state)
            assert found.rewards[row] == texts.rewards[text, step]
            row += 1
    assert row == texts.actions


def test_episodes_become_texts_without_those_whose_reward_failed():
    made = small_task()
    found = episodes(made, 20)._replace(faults=np.arange(20) == 3)
    texts = LoggedTexts.from_episodes(found, made)
    assert len(texts) == 19
    assert texts.terminated.all()
    assert (texts.rewards[3] == found.rewards[4]).all()
    assert (texts.log_probs == np.delete(found.log_probs, 3, axis=0)).all()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (lambda: logged([[0, 0, 0], [3, 0]]), "text 1, token 1: small ends before it"),
        (lambda: logged([[0, 0]]), "text 0, token 1: it is said to have been ended by the rules"),
        (lambda: logged([[3]], terminated=[False]), "said to have been cut off there, but small"),
    ],
)
def test_ends_that_the_task_does_not_know(texts, message):
    with pytest.raises(BadTextError, match=message):
        texts().check(task())


def test_ids_and_gaps():
    texts = logged([[0, 1, 3]])
    for column, token, message in [
        (3, 9, r"text 0, column 3: ids lie in 0 … 4, got 9"),
        (3, NOTHING, r"text 0, token 1: nothing stands there, in the middle"),
    ]:
        tokens = texts.prefixes.tokens.copy()
        tokens[0, column] = token
        bad = LoggedTexts(
            Prefixes(tokens, 2, NOTHING, texts.prefixes.written), texts.rewards, texts.terminated
        )
        with pytest.raises(BadTextError, match=message):
            bad.check(task())
    behind = logged([[3]])
    behind.prefixes.tokens[0, 4] = 1
    with pytest.raises(BadTextError, match="token 2: a token stands there, behind"):
        behind.check(task())
    gap = logged([[3]])
    gap.prefixes.tokens[0, :2] = [1, NOTHING]
    with pytest.raises(BadTextError, match="column 1: nothing stands there, in the middle of the"):
        gap.check(task())


def test_another_tasks_texts():
    with pytest.raises(ValueError, match="3 columns for the text where small has 4"):
        logged([[3]]).check(task(max_tokens=4))


def test_texts_remember_what_their_ids_mean():
    texts = logged([[3], [0, 3]])
    assert texts.vocabulary is None
    checked = texts.check(task())
    assert checked.rows([1]).check(task()).returns().tolist() == [0.0]
    other = task(vocabulary=WordVocabulary(["a", "b", "d", "!"], end="$"), prompts=["a", "b d"])
    texts.check(other)  # nobody says what they mean
    for some in (checked, checked.rows([1])):
        with pytest.raises(
            ValueError, match="that of small, 5 tokens and 5; 2 is 'c' there and 'd'"
        ):
            some.check(other)
    assert checked.check(task(name="again")).vocabulary.token(2) == "c"


def test_shapes_and_numbers():
    with pytest.raises(ValueError, match=r"expected rewards of shape \(1, 3\)"):
        logged([[3]], rewards=[[1.0]])
    with pytest.raises(ValueError, match=r"text 0, token 1: rewards behind the end: 1\.0"):
        logged([[3]], rewards=[[0, 1.0, 0]])
    with pytest.raises(ValueError, match="text 0, token 0: rewards must be finite, got nan"):
        logged([[3]], rewards=[[np.nan, 0, 0]])
    with pytest.raises(ValueError, match=r"text 0, token 0: log_probs are ≤ 0, got 0\.5"):
        logged([[3]], log_probs=np.array([[0.5, 0, 0]]))
    for terminated in (np.array([1]), np.array([1.0])):  # ~1 is no False, but −2
        with pytest.raises(ValueError, match="expected terminated to be an array of bool, got arr"):
            logged([[3]], terminated=terminated)
    good = logged([[3]])
    with pytest.raises(ValueError, match=r"expected rewards to be an array of numbers, got \[\[0"):
        LoggedTexts(good.prefixes, good.rewards.tolist(), good.terminated)
    assert len(logged([[3]]).rows([])) == 0
    with pytest.raises(ValueError, match="text 1: has no written token"):
        logged([[3], []])


def test_a_stop_condition_counts_as_an_end():
    made = task(stop_condition=lambda rules, state: np.asarray(state.length) == 2)
    assert logged([[0, 1]], made).check(made).terminated.all()
    with pytest.raises(BadTextError, match="token 2: small ends before it"):
        logged([[0, 1, 2]], made).check(made)


def episodes(made, number, seed=0):
    from textenv.models import TabularLM
    from textenv_agents.evaluation import drawn
    from textenv_agents.rollout import collect

    envs = TextVectorEnv(4, task=made, autoreset_mode="SameStep")
    flat = TabularLM(made.vocabulary.size, order=0, vocabulary=made.vocabulary)
    return collect(envs, flat, *drawn(made, number, seed))


def test_the_mean_return_is_the_policys_value():
    """2,000 texts of the uniform policy: their mean lies within 4 standard errors of J."""
    made = small_task()
    returns = LoggedTexts.from_episodes(episodes(made, 2000), made).returns()
    uniform = exact.value(made, lambda prefixes: np.full((len(prefixes), 5), 0.2))
    assert abs(returns.mean() - uniform) < 4 * returns.std() / np.sqrt(2000)
