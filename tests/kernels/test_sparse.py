"""A sparse X gives the numbers of the same X stored densely."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from making import advance, make

from nmfnet.core.objective import kkt, row_losses
from nmfnet.kernels.divergences import beta_divergence
from nmfnet.kernels.generic_mu import generic_sums
from nmfnet.kernels.multiplicative import nmf_sums_H, nmf_sums_W
from nmfnet.kernels.rows import dense, row_blocks, take_rows
from nmfnet.kernels.sparse import sparse_row_losses, sparse_sums, transpose_of, with_values
from nmfnet.types import Batch, Output, View

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")


def csr(crow, columns, values, shape):
    return torch.sparse_csr_tensor(crow, columns, values, size=shape, check_invariants=False)


def parts(seed=0, n=15, f=9, k=3):
    rng = np.random.default_rng(seed)
    X = rng.random((n, f)) * (rng.random((n, f)) < 0.4)
    X[2], X[:, 4] = 0, 0
    mask = X > 0
    mask[0, :3] = True  # observed zeros
    x = torch.from_numpy(X)
    W, H = torch.from_numpy(rng.random((n, k))), torch.from_numpy(rng.random((k, f)))
    seen = torch.from_numpy(mask)
    crow = torch.cat([torch.zeros(1, dtype=torch.int64), seen.sum(1).cumsum(0)])
    rows, columns = seen.nonzero(as_tuple=True)
    stored = csr(crow, columns, x[rows, columns], x.shape)
    return x, seen.double(), stored, W, H


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("beta", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_sums_and_losses_are_the_dense_ones(beta, masked):
    x, seen, stored, W, H = parts()
    mask = seen if masked else None
    for name, rule in (("W", nmf_sums_W), ("H", nmf_sums_H)):
        wanted = rule(x, W, H, beta, mask)
        found = sparse_sums(name, stored, transpose_of(stored), W, H, beta, masked)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(
                dense(one), other.expand_as(dense(one)), rtol=1e-12, atol=1e-14
            )
    torch.testing.assert_close(
        sparse_row_losses(stored, W, H, beta, masked), beta_divergence(x, W @ H, beta, mask)
    )


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("beta", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_gradients_are_the_dense_ones(beta, masked):
    """Also where a zero is stored."""
    x, seen, stored, W, H = parts()
    found = []
    for sparse in (True, False):
        w, h = W.clone().requires_grad_(), H.clone().requires_grad_()
        value = (
            sparse_row_losses(stored, w, h, beta, masked)
            if sparse
            else beta_divergence(x, w @ h, beta, seen if masked else None)
        )
        found.append(torch.autograd.grad(value.sum(), (w, h)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("loss", ["frobenius", "kl", "poisson"])
@pytest.mark.parametrize("solver", ["mu", "adam"])
def test_training_is_the_dense_training(solver, loss, masked):
    x, seen, stored, _, _ = parts()
    model, batch = make(
        x.numpy(), mask=seen.numpy() > 0 if masked else None, loss=loss, solver=solver, n_restarts=2
    )
    other, _ = make(
        x.numpy(), mask=seen.numpy() > 0 if masked else None, loss=loss, solver=solver, n_restarts=2
    )
    ones = with_values(stored, torch.ones_like(stored.values()))
    sparse = Batch(stored, batch.index, ones if masked else None)
    other.transpose = transpose_of(stored)
    for _ in range(2):
        a, b = advance(model, batch, 30), advance(other, sparse, 30)
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)
    for i in range(2):
        with torch.no_grad(), model.restarts(i), other.restarts(i):
            torch.testing.assert_close(kkt(model, batch), kkt(other, sparse), rtol=1e-6, atol=1e-8)
            if solver == "adam":
                continue
            fits = [
                row_losses(m, rows, m.infer(rows)) for m, rows in ((model, batch), (other, sparse))
            ]
            torch.testing.assert_close(*fits, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_itakura_saito_of_positive_entries(masked):
    """Without a mask no entry may be absent, since it would be a zero."""
    x, seen, _, W, H = parts()
    seen = seen if masked else torch.ones_like(seen)
    x = torch.where(seen > 0, x + 0.1, 0)
    stored, mask = x.to_sparse_csr(), seen if masked else None
    wanted = beta_divergence(x, W @ H, 0.0, mask)
    torch.testing.assert_close(sparse_row_losses(stored, W, H, 0.0, masked), wanted)
    for name, rule in (("W", nmf_sums_W), ("H", nmf_sums_H)):
        found = sparse_sums(name, stored, transpose_of(stored), W, H, 0.0, masked)
        torch.testing.assert_close(found, rule(x, W, H, 0.0, mask))


def test_rows_of_a_sparse_matrix():
    x, _, stored, _, _ = parts()
    for rows in (slice(0, 4), slice(3, 15), slice(None), slice(2, 3)):
        torch.testing.assert_close(dense(take_rows(stored, rows)), x[rows])
    blocks = list(row_blocks(x, 10**6))
    assert [s.start for s in blocks[1:]] == [s.stop for s in blocks[:-1]]
    assert (blocks[0].start, blocks[-1].stop) == (0, 15)


def test_autograd_oracle_agrees():
    x, _, stored, W, H = parts()
    W.requires_grad_()

    def split(a, y, mask):
        return a / y, torch.ones_like(y)

    oracle = generic_sums(lambda: {"x": Output(W @ H)}, W, {"x": View(x)}, lambda view: split)
    found = sparse_sums("W", stored, None, W.detach(), H, 1.0, False)
    for one, other in zip(found, oracle, strict=True):
        torch.testing.assert_close(one.expand_as(W), other)
