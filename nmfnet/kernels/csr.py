"""Compressed sparse rows (CSR) in torch, made in one place."""

from __future__ import annotations

import warnings

import torch

from nmfnet.types import Tensor


def csr(crow: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A CSR tensor of parts that are known to fit together; without torch's notice that it is beta.

    Parameters
    ----------
    crow : Tensor of int, shape (n + 1,)
        Where every row begins in ``columns`` and ``values``.
    columns : Tensor of int, shape (nnz,)
    values : Tensor, shape (nnz,)
    shape : tuple (n, f)
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(crow, columns, values, size=shape, check_invariants=False)
