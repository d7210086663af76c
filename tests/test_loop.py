"""The human-feedback loop with a scripted rater, top to bottom, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from tests.loops import AGENT, ENV, WORDS, assert_same_loop, numbers, settings
from textenv.errors import TextenvError
from textenv.models import load
from textenv.preferences.database import Database
from textenv.preferences.reward_model import RewardModel, RewardModelConfig
from textenv_agents.cli import main
from textenv_agents.loop import (
    LoopConfig,
    LoopError,
    LoopFinishedError,
    ScriptedConfig,
    loop,
    resume,
    table,
)
from textenv_agents.loop.sampling import Sample, pairs
from textenv_agents.run_folder import RunError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished loop of two rounds."""
    folder = tmp_path_factory.mktemp("loop") / "whole"
    lines = []
    outcome = loop(settings(folder), say=lines.append)
    assert outcome.waiting is None
    assert outcome.folder == folder
    assert any("round 2" in line for line in lines)
    return outcome


# What it does.


def test_the_true_reward_rises_though_nothing_is_trained_on_it(whole):
    start, first, second = whole.rounds
    assert start["true_reward"][2] < first["true_reward"][1]  # the intervals do not touch
    assert first["true_reward"][0] < second["true_reward"][0]
    assert start["kl"][0] == 0 < first["kl"][0] < second["kl"][0]
    assert second["win_rate"][1] > 0.5
    assert second["win_rate_by"] == "scripted:word_preference"
    assert second["learned_rise"][1] > 0
    assert second["reward_model"]["accuracy"]["mean"] > 0.6


def test_the_folder_holds_what_its_module_says(whole):
    names = {path.name for path in (whole.folder / "rounds/02").iterdir()}
    assert names == {
        "samples.jsonl", "comparisons.jsonl", "reward_model", "policy", "texts.jsonl",
        "evaluation.json",
    }  # fmt: skip
    assert (whole.folder / "loop.png").read_bytes().startswith(b"\x89PNG")
    assert numbers(whole.folder) == whole.rounds
    text = (whole.folder / "summary.md").read_text("utf-8")
    assert table(whole.rounds) in text
    assert len(table(whole.rounds).splitlines()) == 5  # the head, a rule, the start, two rounds
    reward = RewardModel.from_pretrained(whole.folder / "rounds/02/reward_model")
    row = json.loads((whole.folder / "rounds/02/texts.jsonl").read_text("utf-8").split("\n")[0])
    (paid,) = reward([row["prompt"]], [row["text"]])
    assert paid * reward.deviation == pytest.approx(row["learned"])


def test_each_round_asks_about_its_own_policys_texts_and_learns_from_all(whole):
    with Database(whole.folder / "ratings.sqlite") as database:
        pairs_of = {number: database.pairs(number) for number in (1, 2)}
        assert {p.policy_first for p in pairs_of[1]} == {"start"}
        assert {p.policy_first for p in pairs_of[2]} == {"round-01"}
        assert [len(found) for found in pairs_of.values()] == [60, 60]
        assert len(database.answers()) == 120  # each pair once
    assert [each["comparisons"] for each in whole.rounds[1:]] == [60, 120]


def test_the_reference_is_the_starting_policy_in_every_round(whole):
    start = load_state(whole.folder / "rounds/01/policy/checkpoint/reference")
    again = load_state(whole.folder / "rounds/02/policy/checkpoint/reference")
    trained = load_state(whole.folder / "rounds/01/policy/checkpoint/policy")
    assert torch.equal(start["logits"], torch.zeros_like(start["logits"]))  # it writes uniformly
    assert torch.equal(start["logits"], again["logits"])
    assert not torch.equal(start["logits"], trained["logits"])


def load_state(folder):
    return load(str(folder)).state_dict()


def test_the_same_seed_gives_the_same_loop_and_another_seed_another(whole, tmp_path):
    loop(settings(tmp_path / "again"))
    assert_same_loop(tmp_path / "again", whole.folder)
    loop(settings(tmp_path / "other", seed=1, rounds=1))
    assert numbers(tmp_path / "other")[1]["true_reward"] != whole.rounds[1]["true_reward"]


def test_a_round_may_begin_from_the_start_and_compare_with_it(tmp_path):
    changes = {"begin": "start", "opponent": "start", "samples": 4, "rater": WORDS}
    loop(settings(tmp_path / "run", **changes, texts=20))
    with Database(tmp_path / "run/ratings.sqlite") as database:
        (writers,) = {(p.policy_first, p.policy_second) for p in database.pairs(2)}
        assert writers == ("round-01", "start")
        assert {answer.rater for answer in database.answers()} == {"scripted:length"}
    # 15 groups of 2 + 2 texts: 4 pairs each, less those of equal texts, which are made up for
    samples = (tmp_path / "run/rounds/02/samples.jsonl").read_text("utf-8").splitlines()
    assert len(samples) >= 60


def test_texts_that_the_filter_flags_come_first_and_are_reviewed(tmp_path):
    loop(settings(tmp_path / "run", rounds=1, texts=20, blocklist=("cruel",)))
    rows = (tmp_path / "run/rounds/01/samples.jsonl").read_text("utf-8").splitlines()
    flagged = [row for row in map(json.loads, rows) if row["flagged"]]
    assert flagged
    assert all("cruel" in row["prompt"] + row["text"] for row in flagged)
    assert numbers(tmp_path / "run")[1]["flagged"] == len(flagged)
    with Database(tmp_path / "run/ratings.sqlite") as database:
        queue = database.flagged(1)
        assert {each.question.text for each in queue if hasattr(each.question, "text")} == {
            row["text"] for row in flagged
        }
        first = database.next_pair("somebody", raters_per_pair=2)
        assert first.flagged is not None


def test_a_rater_to_whom_all_texts_are_alike(tmp_path):
    lines = []
    config = settings(tmp_path / "run", rounds=1, texts=20, scripted=ScriptedConfig(tie=100.0))
    outcome = loop(config, say=lines.append)
    assert any("has learned nothing" in line for line in lines)
    assert outcome.rounds[1]["learned_reward"] == [0.0, 0.0, 0.0]
    assert outcome.rounds[1]["kl"][0] == pytest.approx(0.0, abs=1e-9)  # nothing to go away for


def test_low_rank_matrices_go_on_from_round_to_round(tmp_path):
    agent = replace(AGENT, lora_rank=2, learning_rate=2e-3)
    config = settings(tmp_path / "run", env="tests/Reviews-v0", agent=agent, tokens=600, texts=20)
    outcome = loop(config)
    assert 0 < outcome.rounds[1]["kl"][0] < outcome.rounds[2]["kl"][0]


def test_settings_come_back_from_json(tmp_path):
    config = settings(tmp_path, opponent="previous", blocklist=("x",), seed=4)
    assert LoopConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_pairs_are_of_different_texts_and_no_pair_comes_twice():
    def sample(group, text, against=False):
        return Sample(group=group, prompt="p", text=text, policy="start", against=against)

    beside = [sample(0, "a"), sample(0, "b"), sample(0, "a"), sample(1, "b"), sample(1, "a")]
    assert [(first.text, second.text) for first, second in pairs(beside)] == [("a", "b")]
    against = [sample(0, "a"), sample(0, "b"), sample(0, "b", True), sample(0, "c", True)]
    found = [(first.text, second.text) for first, second in pairs(against)]
    assert found == [("a", "b"), ("a", "c"), ("b", "c")]


def test_the_command(tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["loop", "--env", ENV, "--rounds", "1", "--folder", str(folder), "--pairs", "40"]
    arguments += ["--tokens", "500", "--texts", "20", "--rater", "scripted:word_preference_of_mine"]
    assert main(arguments) == 2
    assert "word_preference_of_mine" in capsys.readouterr().err
    assert not folder.exists()
    assert main([*arguments[:-1], "scripted"]) == 0
    shown = capsys.readouterr().out
    assert "| round" in shown
    assert str(folder) in shown
    assert main(["loop", "--resume", str(folder)]) == 0
    assert "is finished" in capsys.readouterr().out
    assert main(["loop", "--resume", str(folder), "--rounds", "3"]) == 2
    assert "expected --resume RUN and nothing else" in capsys.readouterr().err


# What it refuses.


def test_folders_that_hold_no_loop_or_a_finished_one(whole, tmp_path):
    with pytest.raises(LoopError, match="it does not exist"):
        resume(tmp_path / "nothing")
    with pytest.raises(LoopError, match=r"has no config\.json"):
        resume(tmp_path)
    with pytest.raises(LoopFinishedError, match="is finished"):
        resume(whole.folder)
    with pytest.raises(FileExistsError, match="textenv loop --resume"):
        loop(settings(whole.folder))
    (tmp_path / "config.json").write_text('{"env": "textenv/GoodBad-v0"}', "utf-8")
    with pytest.raises(LoopError, match="holds no loop's settings"):
        resume(tmp_path)


def test_one_process_at_a_time(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(RunError, match="another process is at work"):
        loop(settings(folder, rounds=1), say=lambda line: locked_elsewhere(folder))


def locked_elsewhere(folder):
    """Locks are a process's own: another one tries, while this one's loop is at work."""
    import subprocess
    import sys

    code = (
        "from tests.loops import *; from textenv_agents.loop import resume; "
        f"resume({str(folder)!r})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    raise RunError(run.stderr.strip().splitlines()[-1])


@pytest.mark.parametrize("changes", [{"pairs": 61}, {"agent": replace(AGENT, group=4)}])
def test_changed_settings(changes, tmp_path):
    folder = tmp_path / "run"
    interrupt(settings(folder), "compares")
    changed = settings(folder, **changes)
    (folder / "config.json").write_text(json.dumps(changed.to_json()), "utf-8")
    with pytest.raises(LoopError, match=r"pairs: 60 → 61|agent\.group: 8 → 4"):
        resume(folder)


def test_another_starting_policy(tmp_path):
    model = load("reviews")
    model.save_pretrained(tmp_path / "lm")
    config = settings(tmp_path / "run", env="tests/Reviews-v0", lm=str(tmp_path / "lm"), texts=10)
    interrupt(config, "compares")
    with torch.no_grad():
        next(model.parameters()).add_(0.01)
    model.save_pretrained(tmp_path / "lm")
    with pytest.raises(LoopError, match="its weights are others"):
        resume(tmp_path / "run")


class Interrupted(Exception):
    pass


def interrupt(config, line):
    def say(text):
        if line in text:
            raise Interrupted

    with pytest.raises(Interrupted):
        loop(config, say=say)


def test_texts_that_are_all_the_same(tmp_path):
    with pytest.raises(LoopError, match="there is nothing to compare: in all 600 groups"):
        loop(settings(tmp_path / "run", env="tests/OneText-v0", texts=10))


def test_too_few_pairs_to_hold_some_out(tmp_path):
    with pytest.raises(LoopError, match="no reward model can be trained on the 1 comparisons"):
        loop(settings(tmp_path / "run", pairs=1, texts=10))


def test_another_kind_of_environment(tmp_path):
    with pytest.raises(ValueError, match=r"id of a textenv environment.*'CartPole-v1'"):
        loop(settings(tmp_path / "loop", env="CartPole-v1"))


def test_damaged_files(tmp_path):
    folder = tmp_path / "run"
    interrupt(settings(folder, texts=10), "a reward model learns")
    path = folder / "rounds/01/comparisons.jsonl"
    path.write_text(path.read_text("utf-8")[:-5], "utf-8")
    with pytest.raises(LoopError, match=r"comparisons\.jsonl' is damaged"):
        resume(folder)
    (folder / "rounds/00/evaluation.json").write_text("{", "utf-8")
    with pytest.raises(LoopError, match=r"evaluation\.json' is damaged"):
        resume(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "expected rounds ≥ 1, got 0"),
        ({"samples": 1}, "a pair needs samples ≥ 2"),
        ({"opponent": "nobody"}, "no setting of opponent"),
        ({"begin": "begin"}, "no setting of begin"),
        ({"serve": True}, 'it needs rater="people"'),
        ({"raters_per_pair": 2}, "is about people"),
        ({"enough": 0.0}, "expected enough"),
        ({"seed": -1}, "expected seed ≥ 0"),
        ({"toxicity": 7.0}, "expected toxicity, a probability"),
        ({"device": "cuda"}, "moves the model of lm="),
        ({"agent": replace(AGENT, seed=1)}, "leave agent.seed out"),
    ],
)
def test_settings_that_do_not_fit(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        settings(tmp_path, **changes)


@pytest.mark.parametrize(
    ("rater", "message"),
    [
        ("peopel", "Did you mean 'people'"),
        ("scripted:lenght", "Did you mean 'length'"),
        ("judge:nobody-has-this-judge", "no language model"),
        ("scripted:{length", "is no JSON"),
    ],
)
def test_raters_that_nobody_knows(rater, message, tmp_path):
    with pytest.raises((TextenvError, ValueError), match=message):
        loop(settings(tmp_path / "run", rater=rater))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("learned", "message"),
    [
        ({"features": "tfid"}, "no kind of features is called 'tfid'"),
        ({"features": "hidden:nobodys-model"}, "no language model"),
        ({"hidden_units": 3}, "needs an encoder or a language model"),
    ],
)
def test_reward_models_that_cannot_be_trained_cost_no_ratings(learned, message, tmp_path):
    config = settings(tmp_path / "run", rater="people", reward_model=RewardModelConfig(**learned))
    with pytest.raises(ValueError, match=message):
        loop(config)
    assert not (tmp_path / "run").exists()


def test_what_privacy_costs_adds_up_over_the_rounds(tmp_path):
    private = RewardModelConfig(epsilon=8.0, epochs=2)
    outcome = loop(settings(tmp_path / "run", texts=20, reward_model=private))
    spent = [each["reward_model"]["privacy"] for each in outcome.rounds[1:]]
    assert len(spent) == 2
    summary = (tmp_path / "run/summary.md").read_text("utf-8")
    assert f"ε = {spent[0]['epsilon'] + spent[1]['epsilon']:.3f}" in summary
    # δ is half of one over the comparisons: 60, then 120.
    assert f"δ = {1 / 120 + 1 / 240:.3g}" in summary


def test_an_environment_without_a_reward_has_no_true_one(tmp_path):
    config = settings(tmp_path / "run", env="tests/Unpaid-v0", rater=WORDS, rounds=1)
    outcome = loop(config)
    assert [each["true_reward"] for each in outcome.rounds] == [None, None]
    assert outcome.rounds[1]["length"] > outcome.rounds[0]["length"]
    assert "| –" in table(outcome.rounds)
    assert (tmp_path / "run/loop.png").exists()
