"""Agreement of raters, against hand-worked values and those of the literature."""

import math

import numpy as np
import pytest

from textenv.preferences.agreement import agreement, cohen_kappa, krippendorff_alpha
from textenv.preferences.records import Answered


def units(*raters):
    """From one line a rater to the answers of each unit; a point is a missing one."""
    return [[int(a) for a in column if a != "."] for column in zip(*raters)]


# K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), examples A, B and C.


def test_two_observers_and_two_values():
    # "Jon" and "Han": four of ten units differ; α = 0.095.
    data = units("0100000010", "1110010000")
    assert krippendorff_alpha(data) == pytest.approx(0.095, abs=5e-4)


def test_two_observers_and_five_values():
    data = [list(pair) for pair in zip("aabbdcccedda", "babbbcccedda")]
    data[-1] = ["a", "d"]
    assert krippendorff_alpha(data) == pytest.approx(0.692, abs=5e-4)


def test_any_number_of_observers_with_missing_answers():
    data = units("123321412...", "1233224125.3", ".3332342251.", "123324412.51"[:9] + "51.")
    assert krippendorff_alpha(data) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(data, level="interval") == pytest.approx(0.849, abs=5e-4)


def test_alpha_by_hand():
    # Units aa, ab: n = 4, values a a a b. D_o = 2/4 (ab, both ways, / (2 − 1)) = 1/2;
    # D_e = (16 − 9 − 1) / (4·3) = 1/2. α = 0. A single answer adds nothing.
    assert krippendorff_alpha([["a", "a"], ["a", "b"], ["b"]]) == pytest.approx(0.0)


@pytest.mark.parametrize("data", [[], [["a"]], [["a", "a"], ["a", "a", "a"]], [[0.1] * 3] * 7])
def test_where_nothing_can_be_compared_alpha_is_nan(data):
    assert math.isnan(krippendorff_alpha(data))
    if not data or isinstance(data[0][0], float):
        assert math.isnan(krippendorff_alpha(data, level="interval"))


def test_random_answers_agree_by_chance():
    draw = np.random.default_rng(0)
    data = draw.integers(3, size=(4000, 3)).tolist()
    assert krippendorff_alpha(data) == pytest.approx(0.0, abs=0.03)
    first, second = zip(*((row[0], row[1]) for row in data))
    assert cohen_kappa(first, second) == pytest.approx(0.0, abs=0.04)


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="'ordinal'"):
        krippendorff_alpha([], level="ordinal")


def test_cohens_kappa_by_hand():
    # 50 proposals: 20 twice yes, 15 twice no, 5 yes/no, 10 no/yes. p_o = 35/50 = 0.7;
    # p_e = 25/50 · 30/50 + 25/50 · 20/50 = 0.5. κ = 0.2 / 0.5.
    first = "y" * 20 + "n" * 15 + "y" * 5 + "n" * 10
    second = "y" * 20 + "n" * 15 + "n" * 5 + "y" * 10
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa("ab", "ba") == pytest.approx(-1.0)
    assert cohen_kappa("ab", "ab") == 1.0
    assert math.isnan(cohen_kappa("aa", "aa"))
    assert math.isnan(cohen_kappa("", ""))
    with pytest.raises(ValueError, match="got 1 and 2"):
        cohen_kappa("a", "ab")


def test_skips_and_flags_are_missing_answers():
    said = {
        "ann": ["better", "worse", "tie", "skip", "better"],
        "bob": ["better", "worse", "worse", "tie", "flag"],
        "cy": ["skip", "flag", "tie"],
    }
    answers = [
        Answered(0, question, rater, answer)
        for rater, row in said.items()
        for question, answer in enumerate(row)
    ]
    answers += [Answered(0, 9, rater, number) for rater, number in [("ann", 1.0), ("bob", 2.0)]]
    found = agreement(answers)
    assert found.pairs == 3
    assert found.texts == 1
    assert [(k.first, k.second, k.n) for k in found.kappas] == [("ann", "bob", 3), ("ann", "cy", 1),
                                                               ("bob", "cy", 1)]  # fmt: skip
    # bw?, bw?: p_o = 2/3; p_e = 1/3·1/3 + 1/3·2/3 + 1/3·0 = 1/3. κ = (1/3) / (2/3).
    assert found.kappas[0].kappa == pytest.approx(0.5)
    # Units bb, ww, twt: D_o = 1/7 · 4/2 = 2/7; values b2 w3 t2: D_e = (49 − 17) / 42 = 16/21.
    assert found.alpha == pytest.approx(1 - (2 / 7) / (16 / 21))
    assert found.rating_alpha == pytest.approx(0.0)
