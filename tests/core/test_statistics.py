"""Intervals against closed forms."""

import numpy as np
import pytest

from marssep_jax.statistics import (
    bootstrap_ci,
    paired_bootstrap_ci,
    t_ci,
    wilcoxon_p,
)


def test_interval_of_many_values_is_the_normal_one():
    values = np.random.default_rng(0).standard_normal(400) * 2 + 5
    low, high = bootstrap_ci(values, seed=1)
    half = 1.96 * values.std() / np.sqrt(400)
    # 10,000 resamples place each end within about 2 % of the width; three times that.
    assert abs(low - (values.mean() - half)) < 0.06 * 2 * half
    assert abs(high - (values.mean() + half)) < 0.06 * 2 * half


def test_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = 0
    for trial in range(300):
        low, high = bootstrap_ci(
            rng.exponential(size=60), seed=trial, level=0.9, num_resamples=400
        )
        hits += low <= 1.0 <= high
    # 90 % nominal, a few points less on 60 skewed values; sd of the count is 1.8 %.
    assert 0.82 <= hits / 300 <= 0.95


def test_seed_decides():
    values = np.random.default_rng(3).standard_normal(50)
    assert bootstrap_ci(values, seed=7) == bootstrap_ci(list(values), seed=7)
    assert bootstrap_ci(values, seed=7) != bootstrap_ci(values, seed=8)


def test_wider_confidence_is_a_wider_interval():
    values = np.random.default_rng(4).standard_normal(50)
    narrow, wide = (bootstrap_ci(values, 0, level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_pairing_takes_out_what_items_share():
    rng = np.random.default_rng(5)
    difficulty = 10 * rng.standard_normal(100)
    b = difficulty + 0.1 * rng.standard_normal(100)
    a = difficulty + 0.1 * rng.standard_normal(100) + 0.2
    low, high = paired_bootstrap_ci(a, b, seed=0)
    # sd of the mean difference is 0.1 * sqrt(2) / 10 = 0.014 around 0.2.
    assert 0.1 < low < high < 0.3
    unpaired = bootstrap_ci(a, seed=0)
    assert high - low < 0.1 * (unpaired.high - unpaired.low)
    swapped = paired_bootstrap_ci(b, a, seed=0)
    np.testing.assert_allclose((swapped.low, swapped.high), (-high, -low), atol=1e-12)


def test_signed_ranks_worked_out_by_hand():
    # Differences 1, 2, 3, 4, -5: the one below zero has rank 5. Of the 32 sign
    # patterns 10 have a rank sum of 5 or less, 10 as much above: p = 20 / 32.
    a, b = np.array([1.0, 2, 3, 4, 0]), np.array([0.0, 0, 0, 0, 5])
    assert wilcoxon_p(a, b) == pytest.approx(20 / 32)
    assert wilcoxon_p(b, a) == pytest.approx(20 / 32)
    # Equal items count for nothing.
    padded = wilcoxon_p(np.append(a, 7.0), np.append(b, 7.0))
    assert padded == pytest.approx(20 / 32)
    assert wilcoxon_p(a, a) == 1.0
    # All ten above: 2 / 2^10.
    assert wilcoxon_p(np.arange(1.0, 11), np.zeros(10)) == pytest.approx(2 / 1024)


def test_single_and_constant_values_are_their_own_interval():
    assert bootstrap_ci([3.5], seed=0) == (3.5, 3.5)
    assert bootstrap_ci([2.0] * 9, seed=0) == (2.0, 2.0)


def test_many_values_go_through_in_blocks():
    values = np.random.default_rng(6).standard_normal(30_000)
    low, high = bootstrap_ci(values, seed=0, num_resamples=100)
    assert low < values.mean() < high
    assert high - low < 5 / np.sqrt(30_000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_ci([], 0), r"values has shape \(0,\)"),
        (lambda: bootstrap_ci([[1.0]], 0), r"values has shape \(1, 1\)"),
        (lambda: bootstrap_ci([1.0, np.nan], 0), r"values\[1\] is nan"),
        (lambda: bootstrap_ci([1.0], 0, level=95), "level is 95"),
        (lambda: bootstrap_ci([1.0], 0, num_resamples=0), "num_resamples is 0"),
        (lambda: paired_bootstrap_ci([1.0], [1.0, 2.0], 0), "b has 2 values"),
        (lambda: wilcoxon_p([1.0], [1.0, 2.0]), "b has 2 values"),
        (lambda: paired_bootstrap_ci([np.inf], [1.0], 0), r"a\[0\] is inf"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_t_interval_of_three_values():
    # Mean 2, standard error 1 / sqrt(3), 4.30265 of them with two degrees of freedom.
    np.testing.assert_allclose(t_ci([1.0, 2.0, 3.0]), [-0.484138, 4.484138], rtol=1e-6)
    narrow = t_ci([1.0, 2.0, 3.0], level=0.5)
    np.testing.assert_allclose(narrow, [2 - 0.471405, 2 + 0.471405], rtol=1e-6)


def test_t_interval_covers_the_true_mean_as_often_as_it_says():
    rows = np.random.default_rng(3).standard_normal((2_000, 3))
    found = [t_ci(row) for row in rows]
    hits = np.mean([low < 0 < high for low, high in found])
    assert abs(hits - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2_000)


def test_t_interval_of_what_it_cannot_be():
    assert t_ci([3.0]) is None
    with pytest.raises(ValueError, match="level is 1"):
        t_ci([1.0, 2.0], level=1)
    with pytest.raises(ValueError, match=r"values\[1\] is nan"):
        t_ci([1.0, float("nan")])
