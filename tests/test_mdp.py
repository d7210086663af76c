"""The rules, worked out by hand. Most tests use V = 5 words a b c ! $ with $ the end token (id 4)
and ! a stop token (id 3), P = 2 and T = 3, so that 5 means "nothing here"."""

from __future__ import annotations

import numpy as np
import pytest

from textenv import mdp
from textenv.prefixes import Prefixes

RULES = mdp.Rules(vocabulary_size=5, prompt_length=2, max_tokens=3, end_token=4, stop_tokens=(3,))


def start(prompt=(0,), written=(), rules=RULES):
    prompts = mdp.align_prompts(rules, [prompt])[0]
    return mdp.initial(rules, prompts, mdp.align_written(rules, [written])[0])


def test_prompts_end_at_column_p_and_texts_begin_there():
    assert mdp.align_prompts(RULES, [[0], [1, 2], []]).tolist() == [[5, 0], [1, 2], [5, 5]]
    assert mdp.align_written(RULES, [[0], [], [1, 2, 0]]).tolist() == [
        [0, 5, 5],
        [5, 5, 5],
        [1, 2, 0],
    ]
    assert start([0], [1]).tokens.tolist() == [5, 0, 1, 5, 5]
    assert start([0], [1]).length == 1


def test_rules_know_their_size():
    assert (RULES.nothing, RULES.width, RULES.ending_tokens) == (5, 5, (4, 3))
    assert mdp.Rules(vocabulary_size=2, prompt_length=0, max_tokens=1).ending_tokens == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size ≥ 1"),
        ({"max_tokens": 0}, "max_tokens ≥ 1"),
        ({"prompt_length": -1}, "prompt_length ≥ 0"),
        ({"end_token": 5}, r"0 … 4, got 5"),
        ({"stop_tokens": (0, -1)}, r"0 … 4, got -1"),
    ],
)
def test_impossible_rules_are_refused(changes, message):
    fields = {"vocabulary_size": 5, "prompt_length": 2, "max_tokens": 3}
    with pytest.raises(ValueError, match=message):
        mdp.Rules(**{**fields, **changes})


@pytest.mark.parametrize(
    ("align", "row", "message"),
    [
        (mdp.align_prompts, [0, 1, 2], "prompt 1 has 3 tokens, the limit is 2.*prompt_length="),
        (mdp.align_written, [0] * 4, "prefix 1 has 4 tokens, the limit is 3.*max_tokens="),
        (mdp.align_prompts, [5], "prompt 1 holds the id 5; ids lie in 0 … 4"),
        (mdp.align_written, [-1], "prefix 1 holds the id -1"),
    ],
)
def test_rows_that_do_not_fit_are_refused(align, row, message):
    with pytest.raises(ValueError, match=message):
        align(RULES, [[0], row])


def test_transition_appends_and_leaves_the_state_alone():
    state = start([0])
    after = mdp.transition(RULES, state, 2)
    assert state.tokens.tolist() == [5, 0, 5, 5, 5]
    assert after.tokens.tolist() == [5, 0, 2, 5, 5]
    assert (state.length, after.length) == (0, 1)
    assert mdp.transition(RULES, after, 1).tokens.tolist() == [5, 0, 2, 1, 5]


@pytest.mark.parametrize(
    ("written", "over"),
    [
        ([], False),
        ([0], False),
        ([4], True),  # the end token
        ([0, 3], True),  # the stop token
        ([0, 1], False),
        ([0, 1, 2], True),  # T = 3
        ([3, 0], False),  # only the last token counts: the rules never come here
    ],
)
def test_terminal(written, over):
    assert mdp.terminal(RULES, start([0], written)) == over


def test_a_prompt_that_ends_with_a_stop_token_ends_nothing():
    state = start([0, 3])
    assert mdp.last_token(RULES, state) == 5  # nothing is written
    assert not mdp.terminal(RULES, state)
    batch = mdp.initial(RULES, mdp.align_prompts(RULES, [[0, 3], [4], [0]]))
    assert mdp.last_token(RULES, batch).tolist() == [5, 5, 5]
    assert mdp.terminal(RULES, batch).tolist() == [False, False, False]


def test_stop_condition_is_a_further_reason_to_end():
    def two_alike(rules, state):
        """The last two tokens are the same."""
        tokens, length = np.atleast_2d(state.tokens), np.atleast_1d(state.length)
        rows, column = np.arange(len(tokens)), rules.prompt_length + length - 1
        alike = (length >= 2) & (tokens[rows, column] == tokens[rows, column - 1])
        return alike if state.tokens.ndim == 2 else bool(alike[0])

    rules = mdp.Rules(vocabulary_size=5, prompt_length=2, max_tokens=3, stop_condition=two_alike)
    assert mdp.terminal(rules, start([0], [1, 1], rules))
    assert not mdp.terminal(rules, start([0], [0, 1], rules))
    assert not mdp.terminal(rules, start([0], [0], rules))  # the prompt's a does not count
    assert mdp.terminal(rules, start([0], [0, 1, 2], rules))
    prompts = mdp.align_prompts(rules, [[0], [0]])
    batch = mdp.initial(rules, prompts, mdp.align_written(rules, [[1, 1], [0, 1]]))
    assert mdp.terminal(rules, batch).tolist() == [True, False]


def test_a_batch_is_its_rows():
    generator = np.random.default_rng(0)
    prompts = [[0], [1, 2], [], [3]]
    batch = mdp.initial(RULES, mdp.align_prompts(RULES, prompts), prompt_index=[0, 1, -1, 2])
    rows = [start(prompt) for prompt in prompts]
    for _ in range(3):
        actions = generator.integers(5, size=4)
        batch = mdp.transition(RULES, batch, actions)
        rows = [mdp.transition(RULES, row, int(a)) for row, a in zip(rows, actions, strict=True)]
        assert batch.tokens.tolist() == [row.tokens.tolist() for row in rows]
        assert batch.length.tolist() == [row.length for row in rows]
        assert mdp.terminal(RULES, batch).tolist() == [mdp.terminal(RULES, row) for row in rows]
        last = [mdp.last_token(RULES, row) for row in rows]
        assert mdp.last_token(RULES, batch).tolist() == last == actions.tolist()
    assert batch.prompt_index.tolist() == [0, 1, -1, 2]


def test_transition_in_place_writes_the_same_in_the_rows_asked_for():
    batch = mdp.initial(RULES, mdp.align_prompts(RULES, [[0], [1], [2]]))
    expected = mdp.transition(RULES, batch, np.array([0, 1, 2]))
    mdp.transition_in_place(RULES, batch, np.array([0, 1, 2]))
    assert batch.tokens.tolist() == expected.tokens.tolist()
    mdp.transition_in_place(RULES, batch, np.array([4, -9, 3]), np.array([True, False, True]))
    assert batch.tokens.tolist() == [[5, 0, 0, 4, 5], [5, 1, 1, 5, 5], [5, 2, 2, 3, 5]]
    assert batch.length.tolist() == [2, 1, 2]


def test_ids_of_prompt_and_text():
    tokens = start([0], [1, 4]).tokens
    assert mdp.prompt_ids(RULES, tokens) == [0]
    assert mdp.text_ids(RULES, tokens) == [1]  # the end token is no part of the text
    assert mdp.text_ids(RULES, start([0], [1, 3]).tokens) == [1, 3]  # a stop token is
    assert mdp.text_ids(RULES, start([4], []).tokens) == []
    without_end = mdp.Rules(vocabulary_size=5, prompt_length=2, max_tokens=3)
    assert mdp.text_ids(without_end, start([0], [1, 4]).tokens) == [1, 4]


def test_the_smallest_rules():
    rules = mdp.Rules(vocabulary_size=1, prompt_length=0, max_tokens=1)
    state = start([], [], rules)
    assert state.tokens.tolist() == [1]
    after = mdp.transition(rules, state, 0)
    assert after.tokens.tolist() == [0]
    assert mdp.terminal(rules, after)


class TestCheckState:
    RULES = mdp.Rules(vocabulary_size=3, prompt_length=1, max_tokens=2)

    def state(self, tokens, length):
        return mdp.State(np.array(tokens), length, -1)

    @pytest.mark.parametrize("length", [0, 2])
    def test_the_length_must_be_that_of_what_is_written(self, length):
        with pytest.raises(ValueError, match="1 tokens are written"):
            mdp.check_state(self.RULES, self.state([0, 1, 3], length), ())

    def test_ids_must_be_the_tasks(self):
        with pytest.raises(ValueError, match="outside 0 … 3"):
            mdp.check_state(self.RULES, self.state([0, 9, 3], 1), ())

    def test_a_good_one_passes(self):
        mdp.check_state(self.RULES, self.state([0, 1, 3], 1), ())
        batch = self.state([[3, 1, 3], [0, 1, 2]], np.array([1, 2]))
        mdp.check_state(self.RULES, batch, (2,))


def test_prefixes_are_states_and_back():
    # P = 2, T = 3, V = 5: "a" and then "b c"; "b c" and nothing yet.
    tokens = np.array([[5, 0, 1, 2, 5], [1, 2, 5, 5, 5]])
    prefixes = Prefixes.from_observations(tokens, 2, 5)
    assert prefixes.written_mask.tolist() == [[True, True, False], [False] * 3]
    state = prefixes.state(np.array([0, 1]))
    assert state.length.tolist() == [2, 0]
    assert state.prompt_index.tolist() == [0, 1]
    assert prefixes.state().prompt_index.tolist() == [-1, -1]
    again = Prefixes.of(RULES, state)
    assert (again.tokens == tokens).all()
    assert again.written.tolist() == [2, 0]
