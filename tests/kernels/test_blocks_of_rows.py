"""Blocks of rows that add up their sums do what one process with all rows does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from making import planted, positive, some_mask
from test_hals import PENALTIES

from nmfnet.kernels import rows as row_module
from nmfnet.kernels.extrapolation import begin
from nmfnet.kernels.hals import hals
from nmfnet.kernels.matrix import matrix
from nmfnet.kernels.newton import newton
from nmfnet.types import Tensor

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")

N, F, K, SIZE = 41, 15, 4, 3


class Together:
    """The sum over threads that all call it the same number of times."""

    def __init__(self, size: int) -> None:
        self.values: list[Tensor | None] = [None] * size
        self.all_here, self.all_read = Barrier(size, timeout=30), Barrier(size, timeout=30)

    def of(self, rank: int):
        def total(value: Tensor) -> Tensor:
            self.values[rank] = value
            self.all_here.wait()
            summed = torch.stack([v for v in self.values if v is not None]).sum(0)
            self.all_read.wait()
            return summed

        return total


@pytest.mark.parametrize("penalties", [{}, PENALTIES], ids=["plain", "penalised"])
@pytest.mark.parametrize(
    "kind", ["hals", "hals-sparse", "kl", "kl-sparse", "kl-masked", "kl-masked-sparse", "masked"]
)
def test_several_processes_do_what_one_does(kind, penalties, monkeypatch):
    monkeypatch.setattr(row_module, "BLOCK_ENTRIES", 100)  # several blocks in every process
    X = torch.from_numpy(planted(N, F)[0] + 0.3 * positive(N, F))
    mask = None
    if "masked" in kind or "sparse" in kind:
        mask = torch.from_numpy(some_mask(N, F)).double()
        X = X * mask
    mask = mask if "masked" in kind else None
    W, H = torch.from_numpy(positive(2 * N, K, 1)), torch.from_numpy(positive(2 * K, F, 2))
    W, H = W.reshape(2, N, K), H.reshape(2, K, F)

    def fitted(rows: slice, **own):
        x, seen = X[rows], None if mask is None else mask[rows]
        if "sparse" in kind:
            x, seen = x.to_sparse_csr(), None if seen is None else seen.to_sparse_csr()
        data = matrix(x, seen, transposed=True, **own)
        state = begin(W[:, rows], H)
        for _ in range(3):
            if "hals" in kind:
                value = hals(state, data, 3, **penalties)
            else:
                value = newton(state, data, 3, beta=1 if "kl" in kind else 2, **penalties)
        return state, value

    whole, value = fitted(slice(None))
    together, width = Together(SIZE), -(-N // SIZE)
    with ThreadPoolExecutor(SIZE) as pool:
        parts = list(
            pool.map(
                lambda i: fitted(slice(i * width, (i + 1) * width), total=together.of(i)),
                range(SIZE),
            )
        )
    for state, reached in parts:
        torch.testing.assert_close(reached, value, rtol=1e-9, atol=0)
        torch.testing.assert_close(state.H, whole.H, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        torch.cat([state.W for state, _ in parts], 1), whole.W, rtol=1e-6, atol=1e-9
    )
