"""Rewards by name: the registry, specs that survive JSON, copies, imports."""

import copy
import functools
import json
import pickle
import subprocess
import sys

import pytest

import textenv.rewards as rewards
from textenv.errors import NotSerialisableError, TextenvError, UnknownNameError
from textenv.rewards import FunctionReward, Reward, as_reward, get, length, register
from textenv.rewards.registry import _FACTORIES


def accuracy(completions, reference, **kwargs):
    return [1.0 if c == r else 0.0 for c, r in zip(completions, reference, strict=True)]


def ones(prompts, completions, **columns):
    return [1.0] * len(completions)


def make_constant(value):
    return lambda completions: [value] * len(completions)


def not_a_factory():
    return 3


@pytest.fixture
def registry():
    """Give back the registry as it was."""
    before = dict(_FACTORIES)
    yield
    _FACTORIES.clear()
    _FACTORIES.update(before)


class Constant(Reward):
    def __init__(self, value, *, words=("a", "b")):
        self.value, self.words = value, tuple(words)

    def __call__(self, prompts, completions, **columns):
        return [self.value] * len(completions)


SPECS = [
    "zero",
    "sentiment",
    "exact_match",
    {"name": "exact_match", "target": "我爱你。"},
    {"name": "exact_match", "column": "label"},
    {"name": "length", "target": 3, "unit": "words"},
    {"name": "regular_expression", "pattern": "^a+$", "full": True},
    {"name": "word_preference", "weights": {"我": 2.0}, "pays": "token"},
    {"name": "word_preference", "preferred": ["a"], "unwanted": ["b"], "separator": ""},
    {"name": "sentiment", "include_prompt": True, "separator": ""},
    {"name": "sum", "terms": [[0.5, "length"], [-1.0, {"name": "length", "unit": "words"}]]},
    f"{__name__}:accuracy",
    {"name": f"{__name__}:make_constant", "value": 3.0},
    {"name": f"{__name__}:Constant", "value": 3.0},
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_specs_survive_json(spec):
    reward = as_reward(spec)
    assert reward.spec() == spec
    again = as_reward(json.loads(json.dumps(reward.spec())))
    assert again.spec() == spec
    assert (again.name, again.pays, again.range) == (reward.name, reward.pays, reward.range)


@pytest.mark.parametrize(
    ("reward", "spec"),
    [
        (length(), "length"),
        (length(2, unit="tokens"), {"name": "length", "target": 2}),
        (rewards.exact_match("a"), {"name": "exact_match", "target": "a"}),
        (rewards.word_preference(), "word_preference"),
        (
            rewards.word_preference(preferred=("a", "b")),
            {"name": "word_preference", "preferred": ["a", "b"]},
        ),
        (rewards.sentiment(), "sentiment"),
        (Constant(1.5), {"name": f"{__name__}:Constant", "value": 1.5}),
        (as_reward(ones), f"{__name__}:ones"),
        (
            2 * length() + ones,
            {"name": "sum", "terms": [[2.0, "length"], [1.0, f"{__name__}:ones"]]},
        ),
    ],
)
def test_specs_of_objects(reward, spec):
    assert reward.spec() == spec
    assert as_reward(spec).spec() == spec


def test_what_lives_only_here_has_no_spec():
    class Local(Reward):
        pass

    for reward in (
        as_reward(lambda completions: [0.0]),
        as_reward(make_constant(1.0)),
        as_reward(functools.partial(accuracy, reference=["a"])),
        Local(),
        Constant(object()),
        Constant(float("nan")),
        as_reward({"name": f"{__name__}:Constant", "value": object()}),
        length() + make_constant(1.0),
    ):
        with pytest.raises(NotSerialisableError, match="no JSON form"):
            reward.spec()


def test_subclass_must_keep_its_arguments():
    reward = Constant(1.0)
    del reward.value
    with pytest.raises(NotSerialisableError, match="does not keep its argument 'value'"):
        reward.spec()


def test_registered_names(registry):
    register("constant", make_constant)

    @register("mine")
    def likes_b(completions, **columns):
        return [float(text == "b") for text in completions]

    assert {"constant", "mine", "sum", "zero"} <= set(rewards.names())
    assert get("mine")([""], ["b"]) == [1.0]
    assert get("mine").spec() == get("mine").name == "mine"
    constant = get({"name": "constant", "value": 4.0})
    assert constant([""], ["x"]) == [4.0]
    assert constant.spec() == {"name": "constant", "value": 4.0}
    assert constant.name == "constant"  # and not "<lambda>"


def test_registering_one_name_twice_is_refused(registry):
    with pytest.raises(ValueError, match=r"'length' is registered already.*overwrite=True"):
        register("length", make_constant)
    register("length", make_constant, overwrite=True)
    assert get({"name": "length", "value": 1.0})([""], ["abc"]) == [1.0]
    for name in ("", "a:b", 3):
        with pytest.raises(ValueError, match="without a colon"):
            register(name, make_constant)
    with pytest.raises(TypeError, match="must be a class or a function"):
        register("number", 3)


def test_a_registered_object_is_not_changed(registry):
    mine = as_reward(ones)
    register("mine", mine)
    assert get("mine").spec() == "mine"
    assert mine.spec() == f"{__name__}:ones"


def test_unknown_names_and_keywords():
    with pytest.raises(UnknownNameError, match=r"'sentimnet'\. Did you mean 'sentiment'\?"):
        get("sentimnet")
    with pytest.raises(UnknownNameError, match="Did you mean 'accuracy'"):
        get(f"{__name__}:acuracy")
    with pytest.raises(TextenvError, match="cannot be imported: No module named 'no_such'"):
        get("no_such.module:function")
    with pytest.raises(TextenvError, match="cannot be imported"):
        get(":function")
    with pytest.raises(UnknownNameError, match=r"'length' is called 'targt'.*Known: target, unit"):
        get({"name": "length", "targt": 3})
    with pytest.raises(UnknownNameError, match="Known: none at all"):
        get({"name": "zero", "a": 3})
    with pytest.raises(ValueError, match=r"needs pattern.*its keywords: pattern, full"):
        get("regular_expression")
    with pytest.raises(ValueError, match='needs "name"'):
        as_reward({"target": 3})
    with pytest.raises(TypeError, match="takes no keywords, got a"):
        as_reward({"name": f"{__name__}:accuracy", "a": 3})
    with pytest.raises(TypeError, match="should make a reward"):
        as_reward({"name": f"{__name__}:not_a_factory"})


# Copies


def test_rewards_pickle_and_copies_share_them():
    for reward in map(as_reward, SPECS):
        if "make_constant" not in str(reward.made_from):  # holds a closure
            assert pickle.loads(pickle.dumps(reward)).spec() == reward.spec()
        assert copy.deepcopy(reward) is reward
    assert isinstance(pickle.loads(pickle.dumps(as_reward(ones))), FunctionReward)


def test_importing_rewards_loads_nothing_heavy():
    code = (
        "import sys, textenv.rewards as r; r.get('sentiment');"
        "print([m for m in ('torch', 'vaderSentiment', 'pebble', 'requests') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
