"""Statistics of training runs, against hand-worked numbers."""

import numpy as np
import pytest

from textenv.metrics import bootstrap_interval, interquartile_mean, mean_interval


def test_interquartile_mean_leaves_out_a_quarter_on_each_side():
    # 10 values: ⌊10/4⌋ = 2 go on each side, (2 + 3 + 4 + 5 + 6 + 7)/6 = 4.5.
    values = [-100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 900.0]
    assert interquartile_mean(values) == 4.5
    assert interquartile_mean(values[::-1]) == 4.5


def test_interquartile_mean_of_a_few_is_their_mean():
    assert interquartile_mean([5.0]) == 5.0
    assert interquartile_mean([1.0, 2.0, 6.0]) == 3.0  # ⌊3/4⌋ = 0 are left out


def test_one_collapsed_run_does_not_move_it():
    assert interquartile_mean([0.5, 0.5, 0.5, -1.0]) == 0.5


def test_bootstrap_interval_is_that_of_the_generator_it_is_given():
    values = np.random.default_rng(1).normal(size=20)
    first, again = (
        bootstrap_interval(values, interquartile_mean, np.random.default_rng(0)) for _ in range(2)
    )
    assert first == again
    assert first.low < first.mean < first.high
    other = bootstrap_interval(values, interquartile_mean, np.random.default_rng(2))
    assert other.mean == first.mean
    assert other != first


def test_bootstrap_interval_of_the_mean_holds_it_as_often_as_it_says():
    # The standard error of the mean of 40 standard normals is 1/√40 = 0.158; ±1.96·0.158 = 0.31.
    generator = np.random.default_rng(0)
    intervals = [
        bootstrap_interval(generator.normal(size=40), np.mean, generator, resamples=400)
        for _ in range(200)
    ]
    widths = [interval.high - interval.low for interval in intervals]
    assert np.mean(widths) == pytest.approx(0.62, abs=0.04)
    assert np.mean([interval.low < 0 < interval.high for interval in intervals]) > 0.88


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [[1.0]]])
def test_what_has_no_mean_is_refused(values):
    with pytest.raises(ValueError, match="at least one finite number"):
        interquartile_mean(values)
    with pytest.raises(ValueError, match="at least one finite number"):
        bootstrap_interval(values, interquartile_mean, np.random.default_rng(0))


@pytest.mark.parametrize("setting", [{"confidence": 95}, {"confidence": -1}, {"resamples": 0}])
def test_intervals_that_are_none_are_refused(setting):
    # confidence=-1 would turn the interval round.
    with pytest.raises(ValueError, match=r"0 < confidence < 1, as in 0\.95, and resamples ≥ 1"):
        mean_interval([1.0, 2.0], **setting)
    with pytest.raises(ValueError, match="0 < confidence < 1"):
        bootstrap_interval([1.0, 2.0], np.mean, np.random.default_rng(0), **setting)
