"""The Scorer: what is paid when, parts, None, and seven faults under three policies."""

import copy
import pickle

import numpy as np
import pytest

from textenv.errors import RewardFaultError
from textenv.rewards import Scorer, Texts, as_reward, get, length, word_preference
from textenv.vocabulary import WordVocabulary

VOCABULARY = WordVocabulary(["good", "bad", "film"], end="<end>")  # ids 0, 1, 2 and the end 3


def texts_of(*written, **columns):
    ids = [VOCABULARY.encode(text) for text in written]
    return Texts([""] * len(written), list(written), ids, columns)


def scorer_of(reward, **keywords):
    return Scorer(reward, VOCABULARY, end_token=3, **keywords)


def rising(completions, completion_ids):
    """Pay 1 for the first token, 2 for the second, …"""
    return [[float(place + 1) for place in range(len(ids))] for ids in completion_ids]


rising.pays = "token"


# What is paid when


def test_end_paying_reward_is_paid_at_the_end():
    scorer = scorer_of(word_preference())
    assert (scorer.pays_tokens, scorer.table) == (False, None)
    scores = scorer.finish(texts_of("good good", "bad", ""), [True, False, True])
    assert scores.rewards.tolist() == [2.0, -1.0, 0.0]
    assert scores.rewards.dtype == np.float64
    assert scores.parts == {}
    assert scores.faults.tolist() == [False] * 3
    assert scorer.proceed(texts_of("good")).rewards.tolist() == [0.0]
    assert scorer.counts == {"calls": 2, "texts": 4, "faults": 0, "none": 0}


def test_token_paying_reward_pays_the_last_token():
    scorer = scorer_of(rising)
    assert (scorer.pays_tokens, scorer.table) == (True, None)
    assert scorer.proceed(texts_of("good bad", "film")).rewards.tolist() == [2.0, 1.0]
    # Open: the last token is paid. Closed by the end token: it was paid one step earlier.
    assert scorer.finish(texts_of("good bad", "good bad"), [False, True]).rewards.tolist() == [2, 0]
    assert scorer.finish(texts_of(""), [False]).rewards.tolist() == [0.0]


def test_table_of_a_single_term():
    for reward, table in (
        (word_preference(pays="token"), [1.0, -1.0, 0.0, 0.0]),
        (-0.5 * word_preference(pays="token"), [-0.5, 0.5, 0.0, 0.0]),
        (word_preference({"<end>": 5.0, "film": 1.0}, pays="token"), [0.0, 0.0, 1.0, 0.0]),
        ("zero", [0.0] * 4),
    ):
        scorer = scorer_of(reward)
        assert scorer.table.tolist() == table
        assert scorer.table.dtype == np.float64
        texts = texts_of("good bad", "film good")
        # By texts the same as by the table: ids 1 and 0 were written last.
        assert scorer.proceed(texts).rewards.tolist() == [table[1], table[0]]
        assert scorer.finish(texts, [False, True]).rewards.tolist() == [table[1], 0.0]


def test_several_terms_have_no_table():
    tokens = word_preference(pays="token")
    assert scorer_of(tokens + tokens).table is None
    assert scorer_of(tokens + length()).table is None


def test_a_table_must_fit():
    for values in ([1.0], [1.0, 2.0, float("nan"), 0.0]):
        reward = word_preference(pays="token")
        reward.token_table = lambda vocabulary, values=values: np.array(values)
        with pytest.raises(ValueError, match="must give 4 finite numbers"):
            scorer_of(reward)


def test_parts_sum_to_what_an_episode_earns():
    reward = 2 * word_preference(pays="token") + 0.5 * as_reward(rising) + length()
    scorer = scorer_of(reward)
    # "good bad film": words 2, −2, 0; rising 0.5, 1, 1.5; length 3, at the end.
    steps = [scorer.proceed(texts_of(text)).rewards[0] for text in ("good", "good bad")]
    assert steps == [2.5, -1.0]
    assert scorer.proceed(texts_of("good")).parts == {}
    end = scorer.finish(texts_of("good bad film"), [False])
    assert end.rewards.tolist() == [0 + 1.5 + 3]
    assert {name: part.tolist() for name, part in end.parts.items()} == {
        "word_preference": [0.0],
        "rising": [3.0],
        "length": [3.0],
    }
    assert sum(steps) + end.rewards[0] == sum(part[0] for part in end.parts.values())
    # The same text, closed by the end token: the third token is paid before, the length after.
    steps.append(scorer.proceed(texts_of("good bad film")).rewards[0])
    closed = scorer.finish(texts_of("good bad film"), [True])
    assert closed.rewards.tolist() == [3.0]
    assert sum(steps) + 3.0 == sum(part[0] for part in closed.parts.values())


def test_terms_that_pay_at_the_end_are_not_called_before():
    def never(completions):
        raise AssertionError

    assert scorer_of(as_reward(rising) + never).proceed(texts_of("film")).rewards.tolist() == [1.0]


def test_no_texts():
    def never(completions):
        raise AssertionError

    for reward in (never, never + word_preference(pays="token"), as_reward(rising) + never):
        scorer = scorer_of(reward)
        scores = scorer.finish(Texts([], [], [], {}), np.zeros(0, bool))
        assert scores.rewards.shape == scores.faults.shape == (0,)
        assert all(part.shape == (0,) for part in scores.parts.values())
        assert scorer.proceed(Texts([], [], [], {})).rewards.shape == (0,)
        assert scorer.counts["calls"] == 0


def test_columns_reach_the_reward():
    scorer = scorer_of(get("exact_match"))
    texts = texts_of("good", "bad", "film", reference=["good", "good", None])
    assert scorer.finish(texts, [False] * 3).rewards.tolist() == [1.0, 0.0, 0.0]
    assert scorer.counts["none"] == 1


def test_none_is_no_fault():
    def maybe(completions):
        return [None if text == "bad" else 1.0 for text in completions]

    def tokens(completion_ids):
        return [None if ids == [1] else [1.0] * len(ids) for ids in completion_ids]

    tokens.pays = "token"
    scorer = scorer_of(as_reward(maybe) + length())
    scores = scorer.finish(texts_of("bad", "good film"), [False, False])
    assert scores.rewards.tolist() == [1.0, 3.0]
    assert scores.parts["maybe"].tolist() == [0.0, 1.0]
    assert (scorer.counts["none"], scorer.counts["faults"]) == (1, 0)
    assert scorer_of(tokens).proceed(texts_of("bad", "good")).rewards.tolist() == [0.0, 1.0]
    assert scorer_of(maybe).finish(texts_of("bad"), [True]).rewards.tolist() == [0.0]


def test_numbers_of_all_kinds():
    def kinds(completions):
        return (np.float32(0.5), True, 2, np.array(3.0))

    texts = texts_of("good", "bad", "film", "")
    assert scorer_of(kinds).finish(texts, [True] * 4).rewards.tolist() == [0.5, 1.0, 2.0, 3.0]
    array = scorer_of(lambda completions: np.arange(4)).finish(texts, [True] * 4)
    assert array.rewards.tolist() == [0.0, 1.0, 2.0, 3.0]


# Faults: each reward goes wrong at the text "bad" and pays 1 for the others.


def raises(completions):
    if "bad" in completions:
        raise KeyError("oh")
    return [1.0] * len(completions)


def not_a_number(completions):
    return [float("nan") if text == "bad" else 1.0 for text in completions]


def infinite(completions):
    return [float("-inf") if text == "bad" else 1.0 for text in completions]


def wrong_length(completions):
    return [1.0 for text in completions if text != "bad"]


def a_string(completions):
    return ["1.0" if text == "bad" else 1.0 for text in completions]


def wrong_inner_length(completions, completion_ids):
    return [[1.0] * (len(ids) + (ids == [1])) for ids in completion_ids]


wrong_inner_length.pays = "token"


def list_without_saying(completions):
    return [[1.0] if text == "bad" else 1.0 for text in completions]


def number_instead_of_list(completion_ids):
    return [1.0 if ids == [1] else [1.0] * len(ids) for ids in completion_ids]


number_instead_of_list.pays = "token"


def inner_nan(completion_ids):
    return [[float("nan") if token == 1 else 1.0 for token in ids] for ids in completion_ids]


inner_nan.pays = "token"


def nothing_at_all(completions):
    return None if "bad" in completions else [1.0] * len(completions)


def a_dict(completions):
    return dict.fromkeys(completions, 1.0) if "bad" in completions else [1.0] * len(completions)


FAULTS = {
    raises: "raised KeyError: 'oh'",
    not_a_number: "returned nan, expected a finite number",
    infinite: "returned -inf, expected a finite number",
    wrong_length: "returned 0 payments for 1 texts",
    a_string: "returned '1.0', expected a number",
    wrong_inner_length: "returned 2 numbers for 1 tokens",
    list_without_saying: r'returned \[1.0\], expected a number; .* pays = "token"',
    number_instead_of_list: "returned 1.0, expected a list of numbers",
    inner_nan: "returned nan",
    nothing_at_all: "returned None, expected a list of one number for each of 1 texts",
    a_dict: "returned {'bad': 1.0}, expected a list",
}


def test_a_batch_of_wrong_length_where_no_single_text_is_guilty():
    scorer = scorer_of(lambda completions: [1.0])
    with pytest.raises(
        RewardFaultError, match=r"returned 1 payments for 2 texts.*2 texts, the fir"
    ):
        scorer.finish(texts_of("film", "good"), [True, True])


@pytest.mark.parametrize("reward", FAULTS, ids=lambda reward: reward.__name__)
def test_fault_raises(reward):
    scorer = scorer_of(reward)
    with pytest.raises(RewardFaultError, match=FAULTS[reward]) as caught:
        scorer.finish(texts_of("good", "bad", "film"), [False] * 3)
    assert f"the reward '{reward.__name__}' " in str(caught.value)
    assert "the text 'bad'" in str(caught.value)
    assert caught.value.__cause__ is not None
    # Nothing is lost: the scorer goes on.
    assert scorer.finish(texts_of("good"), [False]).rewards.tolist() == [1.0]


@pytest.mark.parametrize("policy", [{"fault": "penalise", "fault_reward": -3.0}, {"fault": "skip"}])
@pytest.mark.parametrize("reward", FAULTS, ids=lambda reward: reward.__name__)
def test_fault_is_penalised_or_skipped(reward, policy):
    scorer = scorer_of(reward, **policy)
    scores = scorer.finish(texts_of("good", "bad", "film"), [False] * 3)
    assert scores.rewards.tolist() == [1.0, policy.get("fault_reward", 0.0), 1.0]
    assert scores.faults.tolist() == [False, True, False]
    assert scorer.counts == {"calls": 1, "texts": 3, "faults": 1, "none": 0}
    assert scorer.finish(texts_of("bad"), [False]).faults.tolist() == [True]
    assert scorer.counts["faults"] == 2


def test_fault_in_a_sum_replaces_the_whole_reward():
    scorer = scorer_of(length() + 2 * as_reward(raises), fault="penalise", fault_reward=-3.0)
    scores = scorer.finish(texts_of("good film", "bad"), [True, True])
    assert scores.rewards.tolist() == [2.0 + 2.0, -3.0]
    assert scores.parts["length"].tolist() == [2.0, 0.0]
    assert scores.parts["raises"].tolist() == [2.0, 0.0]


def test_fault_of_an_unfinished_text():
    scorer = scorer_of(inner_nan, fault="penalise", fault_reward=-3.0)
    scores = scorer.proceed(texts_of("good", "bad"))
    assert (scores.rewards.tolist(), scores.faults.tolist()) == ([1.0, -3.0], [False, True])


def test_a_weight_that_overflows_is_a_fault():
    scorer = scorer_of(1e300 * as_reward(lambda completions: [1e300]))
    with pytest.raises(RewardFaultError, match="expected a finite number"):
        scorer.finish(texts_of("good"), [True])


def test_missing_column_says_so():
    with pytest.raises(RewardFaultError, match="needs the column 'reference'"):
        scorer_of("exact_match").finish(texts_of("good"), [True])


def test_long_texts_are_shortened_in_messages():
    with pytest.raises(RewardFaultError) as caught:
        scorer_of(lambda completions: [None, "x"]).finish(
            texts_of("bad", "film " * 200), [True] * 2
        )
    assert "film film" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"fault": "ignore"}, "fault must be one of raise, penalise, skip, got 'ignore'"),
        ({"fault": "penalise"}, "is needed there"),
        ({"fault": "skip", "fault_reward": 1.0}, 'belongs to fault="penalise"'),
        ({"fault": "penalise", "fault_reward": float("nan")}, "finite number, got nan"),
        ({"timeout": 0}, "positive number of seconds, got 0"),
    ],
)
def test_bad_policies(keywords, message):
    with pytest.raises(ValueError, match=message):
        scorer_of("zero", **keywords)


def test_copies():
    scorer = scorer_of(length() + word_preference(pays="token"), fault="skip")
    for twin in (copy.deepcopy(scorer), pickle.loads(pickle.dumps(scorer))):
        assert twin.finish(texts_of("good"), [False]).rewards.tolist() == [2.0]
    assert scorer.counts["calls"] == 0  # each has its own
