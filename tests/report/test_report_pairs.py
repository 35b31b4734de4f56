from __future__ import annotations

import math

import numpy as np
import pytest
from report_runs import make_run, zoo
from scipy import stats

from nmfnet.report.collect import collect
from nmfnet.report.pairs import MOST_METHODS, compare_methods, compared_methods, paired_interval
from nmfnet.report.terms import groups_of, refusals


def group(path):
    found = groups_of(collect(path))
    assert len(found) == 1
    return found[0]


def test_one_pair_a_seed_is_the_paired_t_interval():
    values = np.random.default_rng(0).normal(1, 2, 7)
    mean, low, high = paired_interval(values, range(7))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_repeating_every_pair_adds_no_evidence():
    values = np.random.default_rng(1).normal(size=5)
    once = paired_interval(values, range(5))
    assert paired_interval(np.tile(values, 4), [*range(5)] * 4) == pytest.approx(once)


def test_interval_covers_the_truth_as_often_as_it_says_when_seeds_are_shared():
    rng, hits, n = np.random.default_rng(2), 0, 1500
    for _ in range(n):
        shared = rng.normal(size=6)[:, None]  # the split: the same for every size
        values = (shared + 0.3 * rng.normal(size=(6, 4))).ravel()
        _, low, high = paired_interval(values, np.repeat(np.arange(6), 4))
        hits += low <= 0 <= high
    assert hits / n == pytest.approx(0.95, abs=0.02)


def test_one_seed_has_no_interval():
    mean, low, high = paired_interval([1.0, 3.0], [0, 0])
    assert mean == 2
    assert math.isnan(low)
    assert math.isnan(high)


def test_methods_are_compared_over_the_same_sizes_and_seeds(tmp_path):
    zoo(tmp_path)
    make_run(tmp_path, "extra", model="nmf", k=16, seed=0, error=0.0)  # nothing to pair it with
    found = {
        (c.method, c.reference): c
        for c in compare_methods(group(tmp_path), ["test/relative_error"])
    }
    worse = found["convex_nmf", "nmf"]
    assert (worse.n_pairs, worse.n_seeds, worse.n_unfinished) == (9, 3, 0)
    assert worse.mean == pytest.approx(0.05, abs=0.004)
    assert worse.low < 0.05 < worse.high
    assert worse.verdict == "worse"
    assert found["ae", "nmf"].verdict == "noise"
    one_size = compare_methods(group(tmp_path), ["test/relative_error"], size=2)
    assert all(c.n_pairs == 3 for c in one_size)


def test_direction_of_a_number_decides_what_is_better(tmp_path):
    for seed in range(3):
        make_run(tmp_path, f"a{seed}", seed=seed, metrics={"labels/ari": 0.5 + seed / 1000})
        ari = {"labels/ari": 0.6 + seed / 900}
        make_run(tmp_path, f"b{seed}", model="ae", seed=seed, error=0.5 + seed / 1e3, metrics=ari)
    found = compare_methods(group(tmp_path), ["labels/ari", "test/relative_error"])
    assert {c.key: c.verdict for c in found} == {
        "labels/ari": "better",
        "test/relative_error": "worse",
    }


def test_differences_below_the_stopping_rule_are_noise(tmp_path):
    for seed in range(3):
        make_run(tmp_path, f"a{seed}", seed=seed, error=0.4)
        make_run(tmp_path, f"b{seed}", model="ae", seed=seed, error=0.4 * (1 + 2e-5))
    (one,) = compare_methods(group(tmp_path), ["test/relative_error"])
    assert one.low > 0  # the interval alone would call it a difference
    assert one.verdict == "noise"


def test_pairs_with_a_run_that_had_not_converged_are_counted(tmp_path):
    zoo(tmp_path, sizes=(2,))
    make_run(tmp_path, "late", model="deep", k=2, seed=1, metrics={"converged": False})
    found = compare_methods(group(tmp_path), ["test/relative_error"])
    late = {c.n_unfinished for c in found if "deep" in (c.method, c.reference)}
    assert late == {1}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("max_iter", 5), ("tol", 1e-3), ("n_restarts", 1), ("dtype", "float64")],
        *[("patience", 9), ("split.test_fraction", 0.5), ("time_limit", 1.0)],
    ],
)
def test_runs_on_unequal_terms_are_never_paired_and_it_is_said_what_differs(tmp_path, key, value):
    for seed in range(2):
        make_run(tmp_path, f"a{seed}", seed=seed)
        make_run(tmp_path, f"b{seed}", model="ae", seed=seed, config={key: value})
    groups = groups_of(collect(tmp_path))
    assert [len(g.runs) for g in groups] == [2, 2]
    assert not any(compare_methods(g, ["test/relative_error"]) for g in groups)
    (said,) = refusals(groups)
    assert key in said
    assert str(value) in said
    assert all(key in g.name for g in groups)


def test_other_data_is_another_group_even_under_the_same_name(tmp_path):
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", model="ae", origin={"data_sha256": "cd" * 32})
    groups = groups_of(collect(tmp_path))
    assert len(groups) == 2
    assert len({g.name for g in groups}) == 2
    assert "data_sha256" in refusals(groups)[0]


def test_settings_that_vary_within_a_model_make_methods(tmp_path):
    for seed in range(2):
        make_run(tmp_path, f"a{seed}", seed=seed)
        make_run(tmp_path, f"b{seed}", seed=seed, choices={"init": "nndsvd"})
        make_run(tmp_path, f"c{seed}", model="ae", seed=seed)
    assert list(group(tmp_path).by_method()) == ["nmf init=nndsvd", "nmf init=random", "ae"]


def test_of_many_variants_the_best_of_each_model_is_compared(tmp_path):
    make_run(tmp_path, "base")
    for i in range(MOST_METHODS + 3):
        make_run(tmp_path, str(i), model="ae", error=0.5 - i / 1000, config={"solver.lr": i})
    kept = compared_methods(group(tmp_path))
    assert list(kept) == ["nmf", f"ae solver.lr={MOST_METHODS + 2}"]
