"""Golden: the factors of Egendal et al. 2025 give the published and recomputed numbers."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from nmfnet import metrics
from nmfnet.data.sources import egendal
from nmfnet.errors import UserError

pytestmark = pytest.mark.catalogue

# Consistency (ACS over 435 pairs): mean, sd, median, q25, q75, min, max
CONSISTENCY = {
    ("Ovary", "nmf"): (0.8927, 0.0851, 0.8933, 0.8163, 0.9868, 0.6085, 0.9997),
    ("Ovary", "autoencoder"): (0.8328, 0.1101, 0.8257, 0.7536, 0.9341, 0.5656, 0.9998),
    ("Ovary", "convex_nmf"): (0.8041, 0.1531, 0.7734, 0.6822, 0.9362, 0.4672, 1.000),
    ("Prostate", "nmf"): (0.8618, 0.0830, 0.8600, 0.8127, 0.8863, 0.6921, 0.9997),
    ("Prostate", "autoencoder"): (0.8948, 0.0637, 0.8958, 0.8618, 0.9363, 0.7220, 0.9999),
    ("Prostate", "convex_nmf"): (0.8983, 0.0603, 0.8999, 0.8494, 0.9274, 0.7635, 0.9999),
    ("Uterus", "nmf"): (0.9495, 0.0488, 0.9746, 0.9108, 0.9893, 0.8120, 0.9981),
    ("Uterus", "autoencoder"): (0.9036, 0.0611, 0.9175, 0.8700, 0.9484, 0.6683, 0.9975),
    ("Uterus", "convex_nmf"): (0.9638, 0.0324, 0.9761, 0.9447, 0.9878, 0.8359, 0.9997),
}
# The published figure: mean and median as read off its pixels, and as recomputed
PUBLISHED_FIGURE = {
    ("Ovary", "nmf"): ((0.9123, 0.9324), (0.9121, 0.9323)),
    ("Ovary", "autoencoder"): ((0.8522, 0.8694), (0.8521, 0.8693)),
    ("Ovary", "convex_nmf"): ((0.8158, 0.8088), (0.8155, 0.8087)),
    ("Prostate", "nmf"): ((0.8586, 0.8591), (0.8585, 0.8591)),
    ("Prostate", "autoencoder"): ((0.8901, 0.8934), (0.8899, 0.8934)),
    ("Prostate", "convex_nmf"): ((0.8926, 0.8958), (0.8924, 0.8956)),
    ("Uterus", "nmf"): ((0.9383, 0.9753), (0.9381, 0.9752)),
    ("Uterus", "autoencoder"): ((0.9140, 0.9183), (0.9139, 0.9182)),
    ("Uterus", "convex_nmf"): ((0.9733, 0.9879), (0.9732, 0.9878)),
}
# Runs with two components of cosine above .99, of 30
COLLAPSED = {
    "Ovary": {"nmf": 0, "autoencoder": 20, "convex_nmf": 19},
    "Prostate": {"nmf": 0, "autoencoder": 25, "convex_nmf": 3},
    "Uterus": {"nmf": 0, "autoencoder": 9, "convex_nmf": 20},
}
# Paired difference of consistency and its jackknife z: nmf - ae, ae - convex, nmf - convex
DIFFERENCES = {
    "Ovary": ((0.060, 3.1), (0.029, 1.1), (0.089, 4.1)),
    "Prostate": ((-0.033, -2.2), (-0.004, -0.2), (-0.037, -7.5)),
    "Uterus": ((0.046, 2.7), (-0.060, -3.7), (-0.014, -1.0)),
}
# Cross-method ACS within a split, same pairs
CROSS = {
    "Ovary": (0.826, 0.850, 0.798),
    "Prostate": (0.834, 0.900, 0.947),
    "Uterus": (0.838, 0.910, 0.813),
}
# Mean squared error: train mean, train median, test mean, test median
ERRORS = {
    ("Ovary", "nmf"): (5920, 6099, 1.507e6, 10660),
    ("Ovary", "autoencoder"): (12920, 10180, 1.717e6, 23410),
    ("Ovary", "convex_nmf"): (15350, 7344, 1.719e6, 41800),
    ("Prostate", "nmf"): (106.2, 96.29, 2810, 1668),
    ("Prostate", "autoencoder"): (239.0, 232.5, 3159, 1758),
    ("Prostate", "convex_nmf"): (131.5, 129.9, 3110, 1732),
    ("Uterus", "nmf"): (5.326e5, 5.554e5, 1.112e6, 8.532e5),
    ("Uterus", "autoencoder"): (1.390e6, 1.289e6, 2.574e6, 1.841e6),
    ("Uterus", "convex_nmf"): (1.101e6, 1.162e6, 2.203e6, 1.639e6),
}
PAIRS = (("nmf", "autoencoder"), ("autoencoder", "convex_nmf"), ("nmf", "convex_nmf"))
CSV_NAMES = {"nmf": "nmf", "autoencoder": "AE", "convex_nmf": "cvx"}


@pytest.fixture(scope="module")
def folder() -> Path:
    if "NMFNET_DATA" not in os.environ:
        pytest.skip("needs NMFNET_DATA")
    return Path(os.environ["NMFNET_DATA"])


@pytest.fixture(scope="module")
def components(folder: Path) -> dict[tuple[str, str], np.ndarray]:
    return {
        (cohort, method): egendal.load_components(folder / "egendal-2024", cohort, method)
        for cohort in egendal.COHORTS
        for method in egendal.METHODS
    }


def test_consistency_table(components: dict[tuple[str, str], np.ndarray]) -> None:
    for key, expected in CONSISTENCY.items():
        found = metrics.consistency(components[key], n_bootstrap=100)
        assert found.n_pairs == 435
        assert found[:7] == pytest.approx(expected, abs=1e-4), key


def test_published_figure_is_fifteen_runs_twice(
    components: dict[tuple[str, str], np.ndarray],
) -> None:
    for key, (in_figure, recomputed) in PUBLISHED_FIGURE.items():
        values = metrics.legacy_dup15(metrics.pairwise_matched_cosine(components[key]))
        assert len(values) == 435
        found = (values.mean(), np.median(values))
        assert found == pytest.approx(recomputed, abs=1e-4), key
        assert found == pytest.approx(in_figure, abs=4e-4), key


def test_collapse_and_differences(components: dict[tuple[str, str], np.ndarray]) -> None:
    for cohort in egendal.COHORTS:
        matrices = {}
        for method in egendal.METHODS:
            H = components[cohort, method]
            matrices[method] = metrics.pairwise_matched_cosine(H)
            collapsed = sum(metrics.collapse_count(run) > 0 for run in H)
            assert collapsed == COLLAPSED[cohort][method], (cohort, method)
        for i, (a, b) in enumerate(PAIRS):
            mean, se = metrics.jackknife(matrices[a] - matrices[b])
            expected_mean, expected_z = DIFFERENCES[cohort][i]
            assert mean == pytest.approx(expected_mean, abs=6e-4)
            assert mean / se == pytest.approx(expected_z, abs=0.06)
            cross = metrics.cross_method_cosine(components[cohort, a], components[cohort, b])
            assert cross.mean() == pytest.approx(CROSS[cohort][i], abs=6e-4)


@pytest.mark.slow
def test_errors_on_the_recovered_splits(folder: Path) -> None:
    with (folder / "egendal-2024" / "errors_of_published_factors.csv").open() as stream:
        stored = {(row["c"], int(row["i"])): row for row in csv.DictReader(stream)}
    for (cohort, method), expected in ERRORS.items():
        x = egendal.load_catalogue(folder / "gel-sbs", cohort).x
        train, test = [], []
        for i in range(egendal.N_RUNS):
            run = egendal.load_run(folder / "egendal-2024", cohort, method, i, x)
            train.append(metrics.mse(x[run.train], metrics.Product(run.W, run.H)))
            test.append(metrics.refit_mse(x[run.test], run.H))
            row, name = stored[cohort, i], CSV_NAMES[method]
            assert train[-1] == pytest.approx(float(row[f"train_{name}"]), rel=1e-6)
            assert test[-1] == pytest.approx(float(row[f"test_{name}"]), rel=1e-6)
        found = (np.mean(train), np.median(train), np.mean(test), np.median(test))
        assert found == pytest.approx(expected, rel=1e-3), (cohort, method)


def test_loader(folder: Path) -> None:
    catalogue = egendal.load_catalogue(folder / "gel-sbs", "Ovary")
    assert catalogue.x.shape == (523, 96)
    assert catalogue.x.sum() == 6_951_256
    assert catalogue.feature_names[:2] == ["A[C>A]A", "A[C>A]C"]
    assert len(set(catalogue.sample_names)) == 523
    for cohort, n, n_train in (("Ovary", 523, 418), ("Prostate", 311, 248), ("Uterus", 713, 570)):
        train, test = egendal.load_split(folder / "egendal-2024", cohort, 7, n)
        assert len(set(train.tolist())) == n_train
        assert sorted([*train.tolist(), *test.tolist()]) == list(range(n))


def test_components_are_distributions(components: dict[tuple[str, str], np.ndarray]) -> None:
    for (cohort, _), H in components.items():
        assert H.shape == (30, egendal.COHORTS[cohort], 96)
        np.testing.assert_allclose(H.sum(axis=2), 1, atol=1e-5)


def test_misnamed_files_are_their_own_runs(
    components: dict[tuple[str, str], np.ndarray], folder: Path
) -> None:
    """Each is a run of its own, not a copy of another one."""
    for method, run in (("convex_nmf", 23), ("autoencoder", 20)):
        H = components["Uterus", method]
        others = np.delete(np.arange(30), run)
        assert all(np.abs(H[run] - H[other]).max() > 1e-6 for other in others)


def test_published_exposures_are_permuted(folder: Path) -> None:
    x = egendal.load_catalogue(folder / "gel-sbs", "Ovary").x
    run = egendal.load_run(folder / "egendal-2024", "Ovary", "nmf", 0, x)
    path = folder / "egendal-2024" / "generated_data" / "Ovary" / "nmf_0_exp.csv"
    as_stored = np.loadtxt(path, delimiter=",", skiprows=1)[:, 1:].T
    wrong = metrics.mse(x[run.train], metrics.Product(as_stored, run.H))
    assert wrong == pytest.approx(7.4e6, rel=0.01)
    assert metrics.mse(x[run.train], metrics.Product(run.W, run.H)) < 7000


def test_loader_bad_input(folder: Path, tmp_path: Path) -> None:
    here = folder / "egendal-2024"
    with pytest.raises(UserError, match="no published method 'vae'"):
        egendal.load_components(here, "Ovary", "vae")
    with pytest.raises(UserError, match="no published cohort 'ovary'"):
        egendal.load_components(here, "ovary", "nmf")
    with pytest.raises(UserError, match="is not there"):
        egendal.load_components(tmp_path, "Ovary", "nmf")
    with pytest.raises(UserError, match="runs are 0 to 29"):
        egendal.load_run(here, "Ovary", "nmf", 30, np.ones((523, 96)))
    with pytest.raises(UserError, match="Give the catalogue of Ovary"):
        egendal.load_run(here, "Ovary", "nmf", 0, np.ones((311, 96)))
