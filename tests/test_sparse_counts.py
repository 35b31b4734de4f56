"""Negative binomials of a sparse X: the fit of the dense one, without all of X_hat in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import nmfnet
from nmfnet.core.likelihoods import NegativeBinomial
from nmfnet.core.objective import factor_sums
from nmfnet.kernels import rows as kernel_rows
from nmfnet.types import Batch

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")

N, F = 40, 25
BLOCK = 150
"""Entries, of the 1000 of X."""


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(kernel_rows, "BLOCK_ENTRIES", BLOCK)


def counts() -> np.ndarray:
    rng = np.random.default_rng(0)
    mean = rng.gamma(0.5, 1, (N, 3)) @ rng.gamma(0.5, 1, (3, F))
    X = rng.negative_binomial(3, 3 / (3 + mean)).astype(float)
    X[np.arange(F), np.arange(F)] += 1  # nothing is empty
    return X


def fit(x: Any, **settings: Any) -> Any:
    own = {"n_components": 3, "dtype": "float64", "max_iter": 20, "tol": 0.0, **settings}
    return nmfnet.fit(x, "nmf", loss="negative_binomial", threads=1, figures=False, **own)


@pytest.mark.parametrize("settings", [{"n_restarts": 2}, {"solver": "adam"}])
def test_a_sparse_fit_is_the_dense_one(settings, small_blocks):
    X = counts()
    dense, sparse = (fit(x, **settings) for x in (X, sp.csr_matrix(X)))
    for name, factor in dense.factors.items():
        torch.testing.assert_close(sparse.factors[name](), factor(), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(sparse.objectives, dense.objectives, rtol=1e-10, atol=0)
    codes = [m.transform(x) for m, x in ((dense, X[:4]), (sparse, sp.csr_matrix(X[:4])))]
    np.testing.assert_allclose(codes[1], codes[0], rtol=1e-6, atol=1e-8)
    theta = dense.factors["dispersion"]().detach()
    assert float((theta - 1).abs().median()) > 0.05  # learned


def test_only_stored_entries_count_where_others_are_not_observed(small_blocks):
    X = counts()
    dense = fit(X, mask=(X > 0).astype(float))
    sparse = fit(sp.csr_matrix(X), mask=sp.csr_matrix((X > 0).astype(float)))
    torch.testing.assert_close(sparse.objectives, dense.objectives, rtol=1e-10, atol=0)
    for name, factor in dense.factors.items():
        torch.testing.assert_close(sparse.factors[name](), factor(), rtol=1e-8, atol=1e-10)
    assert not torch.allclose(dense.objectives, fit(X).objectives, rtol=1e-3)


def test_the_gradient_is_the_dense_one_and_the_sums_its_halves(small_blocks):
    X = counts()
    model = fit(sp.csr_matrix(X), max_iter=1)
    index = torch.arange(N)
    dense = Batch(torch.from_numpy(X), index)
    sparse = Batch(torch.from_numpy(X).to_sparse_csr(), index)
    parameters = [model.factors[name].raw for name in ("W", "H", "dispersion")]
    slopes = [
        torch.autograd.grad(model.terms(batch)["data"].sum(), parameters)
        for batch in (dense, sparse)
    ]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9)
    for name, slope in zip(("W", "H"), slopes[0], strict=False):
        neg, pos = factor_sums(model, name, sparse)
        assert bool((neg >= 0).all() & (pos >= 0).all())
        torch.testing.assert_close(pos - neg, slope, rtol=1e-8, atol=1e-8)


def test_no_more_than_a_block_is_formed(small_blocks, monkeypatch):
    sizes = []

    def watched(name: str) -> None:
        plain = getattr(NegativeBinomial, name)

        def seen(self, x, x_hat, *rest):
            sizes.append(x_hat.numel())
            return plain(self, x, x_hat, *rest)

        monkeypatch.setattr(NegativeBinomial, name, seen)

    for name in ("entries", "split"):
        watched(name)
    from nmfnet.core import likelihoods

    better = likelihoods.better_dispersion

    def stepped(x, mean, *rest):
        sizes.append(mean.numel())
        return better(x, mean, *rest)

    monkeypatch.setattr(likelihoods, "better_dispersion", stepped)
    fit(sp.csr_matrix(counts()), max_iter=2)
    assert sizes
    assert max(sizes) <= BLOCK


def test_the_objective_never_rises():
    model = fit(sp.csr_matrix(counts()), max_iter=100, solver="mu", **{"solver.n_inner": 5})
    values = np.array(list(model.plot.run.history["objective"]))
    assert len(values) == 20
    assert (np.diff(values) <= 1e-9 * values[:-1]).all()


def test_inflated_zeros_of_a_sparse_matrix_are_refused():
    with pytest.raises(nmfnet.UserError, match="dropout"):
        nmfnet.fit(sp.csr_matrix(counts()), "nmf", loss="zinb", n_components=2, max_iter=1)
