"""NMF from the same start is scikit-learn's NMF, update by update; NNDSVD is scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from making import advance, make, planted, positive, values
from sklearn.decomposition import non_negative_factorization
from sklearn.decomposition._nmf import _initialize_nmf

from nmfnet.core.inits import NNDSVDa, NNDSVDar, Random
from nmfnet.kernels.nndsvd import leading_svd, nndsvd

BETA = {"frobenius": "frobenius", "kl": "kullback-leibler", "itakura_saito": "itakura-saito"}


def start(X, path, **settings):
    rng = np.random.default_rng(1)
    W, H = rng.uniform(0.1, 1, (len(X), 3)), rng.uniform(0.1, 1, (3, X.shape[1]))
    np.savez(path / "start.npz", W=W, H=H)
    given = {"init": "given", "init.path": str(path / "start.npz"), "solver.extrapolation": False}
    return *make(X, **given, **settings), W, H


def scikit_learn(X, W, H, n_iter, **settings):
    W, H, _ = non_negative_factorization(
        X, W.copy(), H.copy(), n_components=3, init="custom", solver="mu", max_iter=n_iter, tol=0,
        **settings,
    )  # fmt: skip
    return W, H


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_iter", [1, 2, 10, 200])
@pytest.mark.parametrize("loss", BETA)
def test_same_factors_after_every_number_of_updates(tmp_path, loss, n_iter):
    X = positive(30, 12)
    model, batch, W, H = start(X, tmp_path, loss=loss)
    advance(model, batch, n_iter)
    wanted = scikit_learn(X, W, H, n_iter, beta_loss=BETA[loss])
    for name, theirs in zip("WH", wanted, strict=True):
        np.testing.assert_allclose(values(model)[name][0].numpy(), theirs, rtol=1e-6, atol=1e-14)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("beta", [1.5, 0.5, 3.0])
def test_same_factors_for_any_beta(tmp_path, beta):
    X = positive(30, 12)
    model, batch, W, H = start(X, tmp_path, loss="beta", **{"loss.beta": beta})
    advance(model, batch, 20)
    for name, theirs in zip("WH", scikit_learn(X, W, H, 20, beta_loss=beta), strict=True):
        np.testing.assert_allclose(values(model)[name][0].numpy(), theirs, rtol=1e-6, atol=1e-14)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("penalty", "l1_ratio"), [("l1", 1.0), ("l2", 0.0)])
@pytest.mark.parametrize("on", ["W", "H"])
def test_same_factors_under_a_penalty(tmp_path, penalty, l1_ratio, on):
    """scikit-learn multiplies alpha_W by the number of features and alpha_H by that of samples."""
    X = positive(30, 12)
    weights = {f"penalty.{penalty}.on": on, f"penalty.{penalty}.weight": 0.7}
    model, batch, W, H = start(X, tmp_path, penalty=penalty, **weights)
    advance(model, batch, 20)
    alpha = {"alpha_W": 0.0, "alpha_H": 0.0, f"alpha_{on}": 0.7 / (12 if on == "W" else 30)}
    wanted = scikit_learn(X, W, H, 20, l1_ratio=l1_ratio, **alpha)
    for name, theirs in zip("WH", wanted, strict=True):
        np.testing.assert_allclose(values(model)[name][0].numpy(), theirs, rtol=1e-6, atol=1e-14)


def test_objective_is_scikit_learns(tmp_path):
    X = positive(30, 12)
    for loss, name in BETA.items():
        model, batch, W, H = start(X, tmp_path, loss=loss)
        _, _, n_iter = non_negative_factorization(
            X, W.copy(), H.copy(), n_components=3, init="custom", solver="mu", beta_loss=name,
            max_iter=500, tol=1e-4,
        )  # fmt: skip
        from sklearn.decomposition._nmf import _beta_divergence

        after = advance(model, batch, n_iter)
        W1, H1 = (values(model)[name][0].numpy() for name in "WH")
        assert float(after) == pytest.approx(_beta_divergence(X, W1, H1, name), rel=1e-10)


# ---------------------------------------------------------------------- starts
@pytest.mark.parametrize(("n", "f"), [(30, 12), (12, 30)])
def test_nndsvd_is_scikit_learns(n, f):
    X = planted(n, f)[0] + positive(n, f) / 10
    W, H = nndsvd(torch.from_numpy(X), 4, torch.Generator())
    W_ref, H_ref = _initialize_nmf(X, 4, init="nndsvd", eps=0, random_state=0)
    np.testing.assert_allclose(W.numpy(), W_ref, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(H.numpy(), H_ref, rtol=1e-6, atol=1e-9)


def test_nndsvda_is_scikit_learns():
    X = planted(30, 12)[0] + positive(30, 12) / 10
    W, H = NNDSVDa()(torch.from_numpy(X), 4, torch.Generator())
    W_ref, H_ref = _initialize_nmf(X, 4, init="nndsvda", eps=0, random_state=0)
    np.testing.assert_allclose(W.numpy(), W_ref, rtol=1e-6)
    np.testing.assert_allclose(H.numpy(), H_ref, rtol=1e-6)


def test_nndsvdar_fills_the_zeros_of_nndsvd_with_little():
    X = torch.from_numpy(planted(30, 12)[0] + positive(30, 12) / 10)
    plain = nndsvd(X, 4, torch.Generator())
    filled = NNDSVDar()(X, 4, torch.Generator().manual_seed(0))
    for zeros, v in zip(plain, filled, strict=True):
        assert (zeros == 0).any()
        torch.testing.assert_close(v[zeros > 0], zeros[zeros > 0])
        assert float(v[zeros == 0].max()) <= float(X.mean()) / 100
        assert float(v[zeros == 0].min()) > 0


def test_nndsvd_of_rank_one_is_exact():
    u, v = torch.rand(8, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    W, H = nndsvd(torch.outer(u, v), 1, torch.Generator())
    torch.testing.assert_close(W @ H, torch.outer(u, v))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_randomised_svd_is_the_svd(layout):
    generator = torch.Generator().manual_seed(0)
    x = torch.from_numpy(planted(300, 40, 5)[0])
    exact = leading_svd(x, 5, generator)
    found = leading_svd(x.to_sparse_csr(), 5, generator) if layout == "sparse" else exact
    torch.testing.assert_close(found[1], exact[1], rtol=1e-9, atol=0)
    U, S, V = found
    torch.testing.assert_close((U * S) @ V.mT, x, rtol=1e-8, atol=1e-8)


def test_random_start_has_the_mean_of_the_data():
    x = torch.from_numpy(positive(400, 300))
    W, H = Random()(x, 5, torch.Generator().manual_seed(0))
    assert float((W @ H).mean()) == pytest.approx(float(x.mean()) * 2 / torch.pi, rel=0.05)
