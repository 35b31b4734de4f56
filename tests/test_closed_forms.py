"""SVD, PCA, ICA and separable NMF, which are found at once; semi-NMF and nsNMF beside them."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

import nmfnet
from nmfnet import metrics
from nmfnet.errors import UserError
from nmfnet.kernels.separable import extreme_rays, successive_projections

fit = functools.partial(nmfnet.fit, figures=False, threads=1, dtype="float64")


def signed(n: int = 40, f: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, f)) + 0.5


# ---------------------------------------------------------------------- SVD and PCA
def test_svd_reaches_the_floor_and_has_scipys_singular_values():
    from scipy.sparse.linalg import svds

    X = signed()
    fitted = fit(X, "svd", n_components=4)
    values = np.linalg.norm(fitted.transform(X), axis=0)
    np.testing.assert_allclose(values, np.sort(svds(X, 4)[1])[::-1], rtol=1e-9)
    found = fitted.metrics
    assert found["train/relative_error"] == pytest.approx(found["floor/relative_error"], rel=1e-9)
    assert found["status"] == "converged"
    assert (fitted.components_[range(4), np.abs(fitted.components_).argmax(1)] > 0).all()
    rough = fit(X, "svd", n_components=4, **{"model.algorithm": "randomized"})
    assert rough.metrics["train/relative_error"] == pytest.approx(
        found["train/relative_error"], rel=1e-3
    )


def test_pca_is_scikit_learns_and_no_worse_than_svd():
    from sklearn.decomposition import PCA

    X, new = signed(), signed(7, seed=1)
    fitted, peer = fit(X, "pca", n_components=4), PCA(4).fit(X)
    cosines = np.abs((fitted.components_ * peer.components_).sum(1))
    np.testing.assert_allclose(cosines, 1, rtol=1e-9)
    np.testing.assert_allclose(fitted.reconstruct(X), peer.inverse_transform(peer.transform(X)))
    np.testing.assert_allclose(np.abs(fitted.transform(new)), np.abs(peer.transform(new)))
    svd = fit(X, "svd", n_components=4)
    assert fitted.metrics["train/loss"] <= svd.metrics["train/loss"]
    assert fitted.metrics["floor/relative_error"] < fitted.metrics["train/relative_error"]


@pytest.mark.parametrize("model", ["svd", "pca", "ica"])
def test_what_a_closed_form_has_no_room_for_is_refused(model):
    X = signed(20, 6)
    hidden = np.ones(X.shape)
    hidden[0, 0] = 0
    for settings, words in (
        ({"n_components": 7}, "at most 6"),
        ({"loss": "kl"}, "use loss=frobenius"),
        ({"penalty": "l1"}, "penalty=l1: .* closed form"),
        ({"constraint.H": "project"}, "constraint.H=project"),
        ({"mask": hidden}, "cannot leave entries out"),
        ({"H": np.ones((3, 6))}, "a given factor"),
    ):
        with pytest.raises(nmfnet.UserError, match=words):
            fit(X, model, **{"n_components": 3, **settings})


def test_equal_restarts_are_said_to_be_equal():
    assert "3 restarts are the same" in fit(signed(), "svd", n_restarts=3).notes[0]
    assert fit(signed(), "svd").notes == []


# ---------------------------------------------------------------------- ICA
def sources(n: int = 2000) -> np.ndarray:
    """A square wave, a saw tooth and Laplacian noise, of mean 0 and variance 1."""
    t, rng = np.arange(n), np.random.default_rng(0)
    S = np.stack([np.sign(np.sin(t / 23)), t % 37 / 37.0, rng.laplace(size=n)], 1)
    return (S - S.mean(0)) / S.std(0)


def amari(P: np.ndarray) -> float:
    """How far a matrix is from a scaled permutation, in [0, 1]. Source: Amari et al. 1996."""
    P, k = np.abs(P), len(P)
    rows, columns = P / P.max(1, keepdims=True), P / P.max(0, keepdims=True)
    return float((rows.sum() + columns.sum() - 2 * k) / (2 * k * (k - 1)))


def test_ica_separates_sources_that_nmf_does_not():
    """Independent sources under a non-negative mixing: the gate of an Amari distance below 0.05."""
    S = sources()
    A = np.array([[1.0, 0.5, 0.3], [0.4, 1.0, 0.6], [0.5, 0.7, 1.0], [0.9, 0.2, 0.4]]).T
    X = S @ A
    ica = fit(X, "ica", n_components=3, n_restarts=2)
    assert amari(A @ ica.factors["E"]()[int(ica.best)].numpy()) < 0.05
    codes = ica.transform(X)
    np.testing.assert_allclose(codes.std(0), 1, rtol=1e-6)
    matched = np.abs(np.corrcoef(codes.T, S.T)[:3, 3:]).max(0)
    assert matched.min() > 0.99
    lifted = X - X.min(0)
    nmf = fit(lifted, "nmf", n_components=3, dtype="float32")
    assert np.abs(np.corrcoef(nmf.transform(lifted).T, S.T)[:3, 3:]).max(0).min() < 0.97


def test_ica_is_scikit_learns_from_the_same_start_and_has_pcas_error():
    from sklearn.decomposition import FastICA

    X = signed(200, 6)
    fitted = fit(X, "ica", n_components=3)
    seed = int(fitted.streams[0]) % 2**32
    peer = FastICA(
        3, whiten="unit-variance", random_state=seed, whiten_solver="svd", max_iter=1000
    ).fit(X)
    overlap = np.abs(np.corrcoef(fitted.transform(X).T, peer.transform(X).T)[:3, 3:])
    np.testing.assert_allclose(overlap.max(1), 1, atol=1e-9)
    pca = fit(X, "pca", n_components=3)
    assert fitted.metrics["train/loss"] == pytest.approx(pca.metrics["train/loss"], rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 1000.0])
@pytest.mark.parametrize("rank", [0, 2])
def test_ica_refuses_more_sources_than_the_samples_have_directions(rank, shift):
    X = signed(30, rank) @ signed(rank, 8) + shift
    with pytest.raises(UserError, match=f"lie in {rank} directions around their mean"):
        fit(X, "ica", n_components=3)


def test_ica_that_has_not_ended_is_not_called_converged():
    with pytest.warns(UserWarning, match="has not come to its end in 1 iterations of restart 0"):
        fitted = fit(signed(100, 8), "ica", n_components=4, **{"model.most": 1})
    assert fitted.metrics["status"] != "converged"


# ---------------------------------------------------------------------- semi-NMF, nsNMF
def test_semi_nmf_takes_any_sign_and_nears_the_svd():
    X = signed(60, 10)
    fitted = fit(X, "semi_nmf", n_components=3)
    assert fitted.metrics["solver"] == "anls"
    assert fitted.metrics["status"] == "converged"
    assert fitted.transform(X).min() >= 0
    assert fitted.components_.min() < 0
    assert fitted.metrics["train/relative_error"] < 1.05 * fitted.metrics["floor/relative_error"]
    with pytest.raises(nmfnet.UserError, match="negative"):
        fit(X, "nmf")


@pytest.mark.slow
def test_smoothing_of_none_is_nmf_and_more_of_it_makes_sparser_parts():
    X = (
        np.random.default_rng(0).exponential(size=(40, 3))
        @ metrics.normalize_scale(
            np.ones((1, 3)), np.random.default_rng(1).exponential(size=(3, 15))
        )[1]
    )
    same = {"n_components": 3, "solver": "mu", "max_iter": 100, "init": "random"}
    plain = fit(X, "nmf", **same).metrics["objective"]
    assert fit(X, "nsnmf", **{"model.smoothing": 0.0}, **same).metrics[
        "objective"
    ] == pytest.approx(plain, rel=1e-9)
    found = {
        theta: fit(X, "nsnmf", n_components=3, max_iter=400, **{"model.smoothing": theta})
        for theta in (0.1, 0.6)
    }
    sparse = [
        float(metrics.hoyer_sparsity(one.factors["B"]()[0].detach()).mean())
        for one in found.values()
    ]
    assert sparse[1] > sparse[0] + 0.1
    assert found[0.6].metrics["train/loss"] > found[0.1].metrics["train/loss"]


# ---------------------------------------------------------------------- separable NMF
def separable(seed: int, noise: float = 0.0) -> tuple[np.ndarray, set[int]]:
    rng = np.random.default_rng(seed)
    W = rng.dirichlet(np.full(6, 0.5), 80)
    pure = rng.permutation(80)[:6]
    W[pure] = np.eye(6)
    X = W @ rng.exponential(size=(6, 25)) + noise * rng.random((80, 25))
    return X * rng.exponential(size=(80, 1)), set(pure.tolist())


@pytest.mark.parametrize("rule", [successive_projections, extreme_rays])
def test_pure_rows_are_found_whatever_their_size(rule):
    for seed in range(4):
        for noise in (0.0, 1e-3):
            X, pure = separable(seed, noise)
            assert set(rule(torch.from_numpy(X), 6).tolist()) == pure
    with pytest.raises(nmfnet.UserError, match="combinations of 6 of them"):
        rule(torch.from_numpy(separable(0)[0]), 7)


def test_separable_nmf_is_exact_on_separable_data_and_names_its_anchors(tmp_path):
    import pandas as pd

    X, pure = separable(2)
    fitted = fit(X, "separable_nmf", n_components=6, run_dir=tmp_path / "run")
    assert fitted.metrics["train/relative_error"] < 1e-7
    assert fitted.metrics["status"] == "converged"
    table = pd.read_csv(tmp_path / "run" / "anchors.csv")
    assert set(np.flatnonzero(table["component"])) == pure
    start = fit(X, "nmf", n_components=6, init="spa", max_iter=1)
    assert start.metrics["train/relative_error"] < 1e-6
