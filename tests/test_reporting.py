"""`textenv evaluate`: against exact values, pair by pair, and from the command line."""

from __future__ import annotations

import copy
import json
import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.runs import settings, small_lstm
from tests.small_tasks import task
from textenv import exact, metrics
from textenv.errors import TextenvError, UnknownNameError
from textenv.evaluate import Report
from textenv.models import Sampling, TabularLM
from textenv.rewards import length, word_preference
from textenv_agents import PolicyGradient, evaluate, report
from textenv_agents.cli import main
from textenv_agents.policies import find_policy
from textenv_agents.reporting import save
from textenv_agents.train import train

GOOD_BAD, LOVE = "textenv/GoodBad-v0", "textenv/ILoveYou-v0"
gym.register(
    "tests/NoStart-v0",
    entry_point="textenv.env:TextEnv",
    vector_entry_point="textenv.vector_env:TextVectorEnv",
    kwargs={"task": task()},
)
FEW = ["reward", "kl", "perplexity", "length"]


def good_writer():
    """P(good) = σ(1)."""
    policy = TabularLM(2, order=1)
    with torch.no_grad():
        policy.logits[:] = torch.tensor([0.5, -0.5])
    return policy


class TestExact:
    def test_the_toy(self):
        toy = gym.make(GOOD_BAD).unwrapped.task
        start = gym.make(GOOD_BAD).unwrapped.lm
        policy = good_writer()
        result = report(policy, GOOD_BAD, texts=1000)
        j, kl = exact.value(toy, policy), exact.kl(toy, policy, start)
        assert result["reward"].policy.low <= j <= result["reward"].policy.high
        assert result["kl"].policy == pytest.approx((kl, kl, kl))  # one state: no chance in it
        assert result["perplexity"].policy == pytest.approx((2, 2, 2))  # the start is sure of ½
        assert result["length"].policy == (1, 1, 1)
        assert result["distinct_1"].policy.mean == 2 / 1000
        assert result["self_bleu"].policy.mean == 1
        assert result.reference == "start"

    def test_four_words(self):
        env = gym.make(LOVE).unwrapped
        policy = copy.deepcopy(env.lm)
        with torch.no_grad():
            policy.logits.mul_(1.3)
        result = report(policy, LOVE, against="start", texts=2000, measures=FEW)
        for row, value in {
            "reward": exact.value(env.task, policy),
            "kl": exact.kl(env.task, policy, env.lm),
        }.items():
            assert result[row].policy.low <= value <= result[row].policy.high
        gain = exact.value(env.task, policy) - exact.value(env.task, env.lm)
        assert result["reward"].difference.low <= gain <= result["reward"].difference.high
        # Paired: the same random numbers choose mostly the same words.
        alone = [result["reward"].policy, result["reward"].against]
        apart = math.hypot(*(interval.high - interval.low for interval in alone))
        paired = result["reward"].difference.high - result["reward"].difference.low
        assert paired < 0.8 * apart
        assert result["kl"].against == (0, 0, 0)

    def test_it_agrees_with_the_short_evaluation(self):
        env = gym.make(LOVE).unwrapped
        policy = copy.deepcopy(env.lm)
        with torch.no_grad():
            policy.logits.mul_(0.7)
        short = evaluate(policy, LOVE, reference=env.lm, texts=300)
        result = report(policy, LOVE, texts=300, measures=[*FEW, "distinct_2"])
        texts = [(each.prompt, each.policy.text, each.policy.reward) for each in result.samples]
        assert texts == short.texts
        assert result["reward"].policy.mean == pytest.approx(short.reward.mean)
        assert result["distinct_2"].policy.mean == pytest.approx(short.distinct_2)
        assert result["length"].policy.mean == pytest.approx(short.length)
        assert result["kl"].policy.mean == pytest.approx(short.kl.mean)
        assert result["perplexity"].policy.mean == pytest.approx(short.perplexity)

    def test_what_the_reference_never_writes(self):
        """After 你 the start writes 。 alone, a uniform policy does not: that is infinitely far."""
        result = report(TabularLM(4, order=1), LOVE, texts=100, measures=FEW)
        assert math.isinf(result["perplexity"].policy.mean)
        assert math.isinf(result["kl"].policy.mean)
        assert Report.from_json(json.loads(result.dumps())).rows == result.rows

    def test_the_perplexity_is_that_of_the_uncut_reference(self):
        """A uniform policy that writes its first word only (top-k of ties keeps all four)."""
        env = gym.make(LOVE).unwrapped
        uniform = TabularLM(4, order=1)
        sure = Sampling(top_k=1)
        result = report(env.lm, LOVE, reference=uniform, texts=20, sampling=sure, measures=FEW)
        assert result["perplexity"].policy.mean == pytest.approx(4.0)
        assert {each.policy.text for each in result.samples} == {"我爱你。"}
        assert result["reward"].policy == (1, 1, 1)

    def test_parts_add_up(self):
        weighted = 2 * length() - word_preference({"我": 1.0})
        result = report("start", LOVE, texts=200, measures=["reward"], reward=weighted)
        whole, first, second = (row.policy.mean for row in result.rows)
        assert [row.name for row in result.rows] == [
            "reward", "reward.length", "reward.word_preference",
        ]  # fmt: skip
        assert whole == pytest.approx(first + second)
        assert first == pytest.approx(2 * np.mean([len(s.policy.text) for s in result.samples]))
        sample = result.samples[0].policy
        assert sample.reward == pytest.approx(sum(sample.parts.values()))

    def test_the_two_perplexities(self):
        names = ["perplexity", "reference_perplexity", "bleu"]
        result = report(
            "start", "textenv/ToyTranslation-v0", texts=60, measures=names, split="test"
        )
        lm = gym.make("textenv/ToyTranslation-v0").unwrapped.lm
        rights = [sample.references[0] for sample in result.samples]
        prompts = [sample.prompt for sample in result.samples]
        own = metrics.reference_perplexity(lm, prompts=prompts, references=rights).value
        assert result["reference_perplexity"].policy.mean == pytest.approx(own, rel=1e-4)
        texts = [sample.policy.text for sample in result.samples]
        assert result["bleu"].policy.mean == pytest.approx(metrics.corpus_bleu(texts, rights))
        assert result["perplexity"].policy.mean != pytest.approx(own, rel=0.1)


class TestPairs:
    def test_a_policy_against_itself(self):
        result = report("start", LOVE, against="start", rater="scripted:length", texts=300)
        assert result["win_rate"].policy == (0.5, 0.5, 0.5)
        assert result.verdicts == {"better": 0, "worse": 0, "tie": 300}
        assert {row.difference for row in result.rows[:-1]} == {(0.0, 0.0, 0.0)}
        assert all(sample.policy.text == sample.against.text for sample in result.samples)

    def test_texts_of_a_prompt_share_it(self):
        result = report(
            "start", "textenv/ToyTranslation-v0", texts=12, per_prompt=4, measures=["reward"]
        )
        prompts = [sample.prompt for sample in result.samples]
        assert [len(set(prompts[i : i + 4])) for i in (0, 4, 8)] == [1, 1, 1]
        assert "over draws of a prompt" in result.table()

    def test_who_wins(self):
        """Always 'good' against always 'bad': every pair that differs is won."""
        policy = good_writer()
        with torch.no_grad():
            policy.logits[:] = torch.tensor([0.0, -torch.inf])
        result = report(policy, GOOD_BAD, against="start", texts=400, rater=PrefersGood())
        bad = sum(sample.against.text == "bad" for sample in result.samples)
        assert result.verdicts == {"better": bad, "worse": 0, "tie": 400 - bad}
        assert result["win_rate"].policy.mean == pytest.approx((bad + (400 - bad) / 2) / 400)


class PrefersGood:
    name = "prefers good"

    def compare(self, prompts, first, second, **columns):
        return [
            "tie" if a == b else "better" if a == "good" else "worse" for a, b in zip(first, second)
        ]


class TestPolicies:
    def test_a_run_its_checkpoint_and_its_start(self, tmp_path):
        run = train(settings(tmp_path / "run", env=GOOD_BAD, tokens=300), progress_bar=False)
        names = [tmp_path / "run", tmp_path / "run" / "checkpoint"]
        (names[0] / "config.json").unlink()  # as in the folder of a policy in a loop
        results = [report(name, GOOD_BAD, texts=50) for name in names]
        assert results[0].rows == results[1].rows
        assert results[0].reference == f"what {names[0]} began as"
        assert results[0]["kl"].policy.mean == pytest.approx(run.after.kl.mean, rel=1e-3)
        agent = PolicyGradient.load(names[1])
        assert report(agent.policy, GOOD_BAD, texts=50).rows == results[0].rows

    def test_an_unfinished_run(self, tmp_path):
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(TextenvError, match=r"is not finished.*--resume"):
            find_policy(tmp_path, None)

    def test_a_model_with_an_adapter_is_measured_by_its_base(self, tmp_path):
        agent = PolicyGradient("reviews", "textenv/Sentiment-v0", lora_rank=2, episodes=8, group=4,
                               learning_rate=0.05)  # fmt: skip
        agent.learn(200)
        agent.save(tmp_path / "agent")
        result = report(tmp_path / "agent", "textenv/Sentiment-v0", texts=20, measures=["kl"])
        assert result.reference.startswith("what ")
        expected = evaluate(
            agent.policy, "textenv/Sentiment-v0", reference=agent.reference, texts=20
        )
        assert result["kl"].policy.mean == pytest.approx(expected.kl.mean, rel=1e-4)
        assert expected.kl.mean > 0.01

    def test_other_vocabularies(self):
        with pytest.raises(ValueError, match="3 tokens, 'start' another one of 2"):
            report(TabularLM(3, order=1), GOOD_BAD, texts=20)
        with pytest.raises(ValueError, match=r"'reviews' has a vocabulary of .* another one of 2:"):
            report("reviews", GOOD_BAD, texts=20)
        with pytest.raises(ValueError, match="another one of"):
            report("start", GOOD_BAD, against="reviews", texts=20)

    def test_the_environment_names_its_model(self):
        """The vocabulary is then that model's; any policy that shares it writes."""
        films, few = "textenv/Sentiment-v0", {"texts": 20, "measures": ["reward", "kl"]}
        result = report("reviews", films, lm="reviews", **few)
        assert result.rows == report("reviews", films, **few).rows
        with pytest.raises(ValueError, match=r"'translator'.*\"the environment's lm=\""):
            report("translator", films, reference="translator", lm="reviews", **few)

    def test_a_win_rate_needs_a_rater(self):
        with pytest.raises(ValueError, match="win_rate needs"):
            report("start", GOOD_BAD, against="start", texts=20, measures=["win_rate"])

    def test_no_start(self):
        with pytest.raises(TextenvError, match="no starting policy of its own"):
            report("start", "tests/NoStart-v0", texts=20)


class TestCommand:
    def run(self, *arguments):
        return main(["evaluate", *map(str, arguments)])

    def test_a_toy(self, tmp_path, capsys):
        folder = tmp_path / "evaluation"
        lstm = small_lstm(tmp_path / "lstm")
        arguments = [lstm, LOVE, "--against", lstm, "--reference", lstm, "--texts", 40]
        assert self.run(*arguments, "--rater", "scripted:length", "--folder", folder) == 0
        printed = capsys.readouterr().out
        assert "win_rate" in printed
        assert "0.500 [0.500, 0.500]" in printed
        fields = json.loads((folder / "evaluation.json").read_text("utf-8"))
        result = Report.from_json(fields)
        assert result["win_rate"].policy.mean == 0.5
        assert len(result.samples) == 40
        assert result.table() in printed
        html = (folder / "samples.html").read_text("utf-8")
        assert html.count("<article") == 40
        assert self.run(*arguments, "--folder", folder) == 2
        assert "is not empty" in capsys.readouterr().err

    def test_film_reviews(self, tmp_path, capsys):
        folder = tmp_path / "evaluation"
        reward = '{"name": "sum", "terms": [[1, "sentiment"], [0.1, "length"]]}'
        arguments = ["reviews", "textenv/Sentiment-v0", "--texts", 12, "--per-prompt", 2,
                     "--device", "auto"]  # fmt: skip
        assert self.run(*arguments, "--reward", reward, "--folder", folder, "--top-k", 20,
                        "--keywords", '{"max_tokens": 6}', "--samples", 3) == 0  # fmt: skip
        printed = capsys.readouterr().out
        assert "reward.sentiment" in printed
        result = Report.from_json(json.loads((folder / "evaluation.json").read_text("utf-8")))
        assert result.settings["sampling"] == {"top_k": 20}
        assert result.settings["keywords"]["max_tokens"] == 6
        assert result["length"].policy.mean <= 6
        assert (folder / "samples.html").read_text("utf-8").count("<article") == 3

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["nowhere", LOVE], "no language model"),
            (["start", "textenv/ILoveYuo-v0"], "ILoveYou"),
            (["start", LOVE, "--against", "start", "--rater", "nobody:x"], "kind of rater"),
            (["start", LOVE, "--measures", "bleu"], 'the task\'s column "reference"'),
            (["start", LOVE, "--measures", "blue"], "Did you mean 'bleu'"),
            (["start", LOVE, "--reward", "nothing"], "nothing"),
            (["start", LOVE, "--against", "reviews"], "vocabulary"),
            (["start", "CartPole-v1"], "textenv environment"),
            (["start", f"nowhere:{LOVE}"], "No module named 'nowhere'"),
            (["start", LOVE, "--keywords", '{"num_envs": 3}'], "num_envs= is chosen here"),
            (["start", LOVE, "--device", "xla:9"], "expected device="),
        ],
    )
    def test_mistakes_are_one_line(self, arguments, said, tmp_path, capsys):
        assert self.run(*arguments, "--texts", 20, "--folder", tmp_path / "evaluation") == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
        assert not (tmp_path / "evaluation").exists()

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--texts", "1"], "at least two"),
            (["--texts", "10", "--per-prompt", "3"], "multiple of per_prompt"),
            (["--texts", "4", "--per-prompt", "4"], "at least two draws"),
            (["--rater", "scripted:length"], "name the other by --against"),
            (["--measures", "win_rate"], "--against"),
            (["--keywords", "{"], "to be JSON"),
            (["--keywords", "[1]"], "a JSON object"),
            (["--keywords", '{"seed": 1}'], "'seed' is no keyword of environments"),
            (["--temperature", "0"], "temperature"),
            (["--samples", "-1"], "samples ≥ 0"),
            (["--seed", "-1"], "seed ≥ 0"),
        ],
    )
    def test_settings_that_cannot_be(self, arguments, said, capsys):
        with pytest.raises(SystemExit, match="2"):
            self.run("start", LOVE, *arguments)
        assert said in " ".join(capsys.readouterr().err.split())

    def test_the_default_folder_is_a_free_one(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        for _ in range(2):
            assert self.run("start", GOOD_BAD, "--texts", 4, "--measures", "reward") == 0
        assert {path.name for path in (tmp_path / "runs").iterdir()} == {
            "evaluation", "evaluation-2",
        }  # fmt: skip

    def test_a_report_is_saved_whole(self, tmp_path):
        result = report("start", GOOD_BAD, texts=10, measures=["reward"])
        save(result, tmp_path / "here")
        text = (tmp_path / "here" / "evaluation.json").read_text("utf-8")
        assert Report.from_json(json.loads(text)) == result


def test_an_unknown_rater_is_said_before_anything_is_written():
    with pytest.raises(UnknownNameError, match="kind of rater"):
        report("start", LOVE, against="start", rater="somebody:x", texts=10**9)
