"""Measures, intervals, the report and its page, from texts alone."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import sacrebleu

from textenv import metrics
from textenv.errors import TextenvError, UnknownNameError
from textenv.evaluate import (
    NAMES,
    Report,
    Resampling,
    Written,
    compare,
    counted,
    measures_of,
    page,
    rows_of,
    samples_of,
)
from textenv.evaluate.resampling import Distinct, mean_of, perplexity_of
from textenv.preferences.scripted import ScriptedRater

TEXTS = ["the cat sat on the mat today", "a dog", "who is it there now", "x", "the cat is there"]
RIGHT = ["the cat sat on a mat today", ["a dog barks", "dogs"], "who is there now", "y", None]


def written(texts=TEXTS, **changes):
    given = {
        "prompts": [f"prompt {i}" for i in range(len(texts))],
        "texts": texts,
        "token_ids": [[ord(letter) for letter in text] for text in texts],
        "tokens": np.array([len(text) + 1 for text in texts]),
        "rewards": np.arange(len(texts), dtype=np.float64),
    }
    return Written(**{**given, **changes})


class TestIntervals:
    def test_a_mean_is_that_of_the_metrics(self):
        values = np.random.default_rng(0).exponential(size=300)
        ours = mean_of(values).spread(Resampling(np.arange(300))).interval()
        theirs = metrics.mean_interval(values)
        assert ours.mean == pytest.approx(theirs.mean)
        assert ours == pytest.approx(theirs, abs=0.01)  # other draws

    def test_texts_of_a_prompt_are_drawn_together(self):
        """40 prompts, 10 texts of each that all score the same: worth 40 texts, not 400."""
        by_prompt = np.random.default_rng(1).normal(size=40)
        values, units = np.repeat(by_prompt, 10), np.repeat(np.arange(40), 10)
        together = mean_of(values).spread(Resampling(units)).interval()
        assert together == pytest.approx(
            mean_of(by_prompt).spread(Resampling(np.arange(40))).interval()
        )
        alone = mean_of(values).spread(Resampling(np.arange(400))).interval()
        ratio = (together.high - together.low) / (alone.high - alone.low)
        assert ratio == pytest.approx(math.sqrt(10), rel=0.1)

    def test_perplexity_by_hand(self):
        # p = ¼ for one token and ½ · ½ for two: exp((log 4 + log 4) / 3) = 4^(2/3)
        spread = perplexity_of(np.log([0.25, 0.25]), [1, 2]).spread(Resampling([0, 1]))
        assert spread.value == pytest.approx(4 ** (2 / 3))
        # the samples hold the first twice (4), the second twice (2) or both
        assert {round(draw, 9) for draw in spread.draws} == {4.0, 2.0, round(4 ** (2 / 3), 9)}

    def test_what_the_model_never_writes_is_infinite(self):
        spread = perplexity_of([-1.0, -np.inf, -1.0], [1, 1, 1]).spread(Resampling(range(3)))
        low, high = spread.interval().low, spread.interval().high
        assert (spread.value, low, high) == (math.inf, math.e, math.inf)
        nothing = spread.minus(spread).interval()
        assert math.isnan(nothing.mean)
        assert (nothing.low, nothing.high) == (-math.inf, math.inf)

    def test_distinct_leaves_each_unit_out(self):
        """a b | b c | c: 3 different of 5; without one of the texts 2 of 3, 3 of 3, 3 of 4."""
        items = [["a", "b"], ["b", "c"], ["c"]]
        spread = Distinct(items).spread(Resampling(range(3)))
        assert spread.value == 3 / 5
        by_hand = [len({"b", "c"}) / 3, len({"a", "b", "c"}) / 3, len({"a", "b", "c"}) / 4]
        assert spread.draws.tolist() == by_hand
        error = math.sqrt(2 / 3 * np.square(np.array(by_hand) - np.mean(by_hand)).sum())
        assert spread.interval().low == pytest.approx(3 / 5 - 1.959964 * error)
        rare = Distinct([["a"], ["a"], ["b"]]).spread(Resampling(range(3)))
        assert rare.interval().high == 1.0  # a share ends there
        assert Distinct([[], []]).spread(Resampling(range(2))).value == 0.0

    def test_distinct_covers(self):
        """The interval holds what other sets of as many texts have, about as often as it says."""
        generator = np.random.default_rng(0)

        def draw():
            return [generator.zipf(1.5, size=8).tolist() for _ in range(150)]

        truth = np.mean([metrics.distinct_n(draw(), 1) for _ in range(200)])
        intervals = [Distinct(draw()).spread(Resampling(range(150))).interval() for _ in range(100)]
        assert sum(low <= truth <= high for _, low, high in intervals) >= 88

    @pytest.mark.parametrize("units", [[], [0], [0, 0, 0]])
    def test_one_unit_is_too_few(self, units):
        with pytest.raises(ValueError, match="at least two texts that were drawn independently"):
            Resampling(units)


class TestMeasures:
    def test_they_are_the_metrics(self):
        texts = written(columns={"reference": RIGHT})
        found = measures_of(texts)
        resampling = Resampling(texts.drawn)
        value = {name: each.statistic.spread(resampling).value for name, each in found.items()}
        assert value["bleu"] == pytest.approx(metrics.corpus_bleu(TEXTS, RIGHT))
        assert value["chrf"] == pytest.approx(metrics.chrf(TEXTS, RIGHT).mean)
        for name, variant in {"rouge_1": "1", "rouge_2": "2", "rouge_l": "L"}.items():
            assert value[name] == pytest.approx(metrics.rouge(TEXTS, RIGHT, variant=variant).mean)
        assert value["self_bleu"] == pytest.approx(metrics.self_bleu(TEXTS))
        assert value["repetition"] == pytest.approx(metrics.repetition(TEXTS).mean)
        for n in (1, 2):
            assert value[f"distinct_{n}"] == metrics.distinct_n(texts.token_ids, n)
        assert value["reward"] == 2.0
        assert value["length"] == np.mean(texts.tokens)
        assert {
            name: each.number for name, each in found.items() if each.number != 5
        } == dict.fromkeys(["bleu", "chrf", "rouge_1", "rouge_2", "rouge_l", "exact_match"], 4)

    def test_corpus_bleu_of_each_bootstrap_sample(self):
        """One sample, put together by hand, against sacrebleu on its texts."""
        rights = [[right] if isinstance(right, str) else right for right in RIGHT[:4]]
        texts = written(TEXTS[:4], columns={"reference": rights})
        resampling = Resampling(texts.drawn, resamples=3, seed=5)
        spread = measures_of(texts, asked=["bleu"])["bleu"].statistic.spread(resampling)
        rows = np.random.default_rng(5).integers(4, size=(3, 4))
        for draw, sample in zip(spread.draws, rows):
            streams = [
                [rights[i][0] for i in sample],
                [(rights[i] + [None])[1] for i in sample],
            ]
            whole = sacrebleu.corpus_bleu([TEXTS[i] for i in sample], streams, force=True)
            assert draw == pytest.approx(whole.score / 100)

    def test_faults_do_not_count(self):
        faults = np.array([False, True, False, False, False])
        texts = written(faults=faults, parts={"one": np.ones(5)})
        rows = {row.name: row for row in rows_of(texts, asked=["reward"])}
        assert rows["reward"].policy.mean == (0 + 2 + 3 + 4) / 4
        assert rows["reward"].number == rows["reward.one"].number == 4
        assert samples_of(texts)[1].policy.reward is None
        with pytest.raises(TextenvError, match="failed for every text"):
            rows_of(written(faults=np.ones(5, dtype=bool)))

    def test_what_cannot_be_measured_is_said(self):
        with pytest.raises(TextenvError, match=r"'bleu' cannot.*column \"reference\".*has none"):
            rows_of(written(), asked=["reward", "bleu"])
        with pytest.raises(TextenvError, match="not asked for"):
            rows_of(written(), asked=["kl"])
        with pytest.raises(UnknownNameError, match="Did you mean 'bleu'"):
            rows_of(written(), asked=["blue"])
        with pytest.raises(ValueError, match="'rewards' has 2 entries for 5 texts"):
            written(rewards=np.zeros(2))
        with pytest.raises(ValueError, match="paired"):
            rows_of(written(), written(TEXTS[:3]))


class Biased:
    """Always prefers what stands first, and writes down what it was asked."""

    name = "biased"

    def __init__(self):
        self.asked = []

    def compare(self, prompts, first, second, **columns):
        self.asked += list(zip(prompts, first, second, columns["reference"]))
        return ["better"] * len(prompts)


class TestPairs:
    def test_sides_alternate_and_equal_texts_are_ties(self):
        ours = written(columns={"reference": RIGHT})
        theirs = written(["b", "a dog", "c", "d", "e"], columns={"reference": RIGHT})
        rater = Biased()
        assert compare(rater, ours, theirs) == ["better", "tie", "worse", "better", "worse"]
        assert rater.asked[0] == ("prompt 0", TEXTS[0], "b", RIGHT[0])
        assert rater.asked[1] == ("prompt 2", "c", TEXTS[2], RIGHT[2])
        with pytest.raises(ValueError, match="same prompts"):
            compare(rater, ours, written(prompts=["other"] * 5))

    def test_a_policy_against_itself(self):
        texts = written(columns={"reference": RIGHT})
        verdicts = compare(ScriptedRater("length"), texts, texts)
        names = [name for name in NAMES if name not in ("kl", "perplexity", "flagged",
                                                        "reference_perplexity")]  # fmt: skip
        rows = rows_of(texts, texts, asked=names, verdicts=verdicts)
        assert len(rows) == len(names)
        assert all(row.difference == (0.0, 0.0, 0.0) for row in rows[:-1])
        assert rows[-1].name == "win_rate"
        assert rows[-1].policy == (0.5, 0.5, 0.5)

    def test_a_difference_is_paired(self):
        """Rewards that differ by 1 everywhere, however far apart texts are: no doubt about it."""
        noise = np.random.default_rng(0).normal(scale=100, size=5)
        rows = rows_of(written(rewards=noise + 1), written(rewards=noise), asked=["reward"])
        assert rows[0].difference == pytest.approx((1.0, 1.0, 1.0))
        assert rows[0].policy.high - rows[0].policy.low > 50

    def test_win_rate_by_hand(self):
        verdicts = ["better", "better", "tie", "worse"]
        rows = rows_of(written(TEXTS[:4]), written(TEXTS[:4]), asked=["win_rate"],
                       verdicts=verdicts)  # fmt: skip
        assert rows[0].policy.mean == 2.5 / 4
        assert counted(verdicts) == {"better": 2, "worse": 1, "tie": 1}


def a_report(**changes):
    ours = written(
        ["<script>document.title = 'out'</script>", "很好，我爱你。", "رائع جدا", "", "a & b"],
        parts={"bleu": np.ones(5)},
        kl=np.array([1.0, np.inf, 0.0, 0.0, 0.0]),
        columns={"reference": ["<b>right</b>", "很好。", None, None, None]},
        prompts=["<img src=x onerror=alert(1)>", "这部电影", "هذا", "four", "five"],
    )
    theirs = written(parts={"bleu": np.zeros(5)}, kl=np.zeros(5), columns=ours.columns,
                     prompts=ours.prompts)  # fmt: skip
    verdicts = ["better", "worse", "tie", "worse", "better"]
    flags = (["toxicity 0.93", *[None] * 4], [None] * 5)
    asked = ["reward", "kl", "bleu", "flagged", "win_rate"]
    given = {
        "env": "textenv/Small-v0",
        "policy": 'runs/"quoted"&<odd>',
        "against": "start",
        "rater": "scripted:length",
        "reference": "start",
        "settings": {"texts": 5, "per_prompt": 1, "seed": 0},
        "rows": rows_of(ours, theirs, asked=asked, verdicts=verdicts, flags=flags),
        "verdicts": counted(verdicts),
        "samples": samples_of(ours, theirs, verdicts=verdicts, flags=flags),
    }
    return Report(**{**given, **changes})


class TestReport:
    def test_json_brings_it_back_whole(self):
        report = a_report()
        text = report.dumps()
        assert "Infinity" not in text
        back = Report.from_json(json.loads(text))
        assert back["kl"].policy == report["kl"].policy
        assert math.isinf(back["kl"].policy.mean)
        assert back.samples == report.samples
        assert back.rows == report.rows
        assert back.dumps() == text
        alone = a_report(against=None, rater=None, rows=rows_of(written()), samples=())
        assert Report.from_json(json.loads(alone.dumps())) == alone

    def test_json_that_is_none_is_refused(self):
        fields = a_report().to_json()
        with pytest.raises(TextenvError, match="version 1, got version 7"):
            Report.from_json({**fields, "version": 7})
        with pytest.raises(TextenvError, match="no whole report"):
            Report.from_json({**fields, "rows": [{"name": "reward"}]})

    def test_the_table_is_aligned(self):
        report = a_report(policy="影评" * 30)
        lines = report.table().splitlines()
        assert "3 better" not in lines[3]
        assert "2 better, 2 worse, 1 tie" in lines[3]
        table = lines[5:]
        assert [line.split()[0] for line in table[1:]] == [
            "reward", "reward.bleu", "kl", "bleu", "flagged", "win_rate",
        ]  # fmt: skip
        assert len({len(line) for line in table[1:]}) == 1
        assert report["reward"].number == 5
        with pytest.raises(KeyError, match="no measure 'rouge_l'"):
            report["rouge_l"]

    def test_the_page_escapes_and_asks_nobody(self):
        html = page(a_report())
        assert "<script>document.title" not in html
        assert "&lt;script&gt;document.title" in html
        assert html.count("<script>") == 1  # its own
        assert "<img" not in html
        assert "<b>right" not in html
        assert 'runs/"quoted"&<odd>' not in html
        assert "http" not in html.replace("http-equiv", "")
        assert "default-src 'none'" in html
        assert html.count('dir="auto"') == 5 + 10 - 1  # prompts and texts, one of which is empty
        assert html.count("<article") == 5
        assert page(a_report(), samples=2).count("<article") == 2
        assert "⚑ toxicity 0.93" in html
        assert html.count("✓ preferred") == 4
