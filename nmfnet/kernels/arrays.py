"""Matrices as users hold them (lists, numpy, pandas, scipy.sparse, torch) to torch tensors."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nmfnet.errors import UserError
from nmfnet.kernels.csr import csr
from nmfnet.kernels.rows import spans


def as_tensor(X: Any, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """A 2-D tensor of X: sparse CSR if X is sparse, else dense; shares memory where it can.

    Raises
    ------
    UserError
        If X is not a matrix of numbers.
    """
    if isinstance(X, Tensor):
        tensor = X.detach()
        if tensor.layout not in (torch.strided, torch.sparse_csr):
            tensor = tensor.to_sparse_coo().to_sparse_csr()
    elif type(X).__module__.startswith("scipy.sparse"):
        rows = X.tocsr()
        rows = rows if rows.has_sorted_indices else rows.sorted_indices()
        crow, columns, values = (_shared(a) for a in (rows.indptr, rows.indices, rows.data))
        tensor = csr(crow, columns, values.to(dtype), rows.shape)
    else:
        if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
            raise UserError(
                f"X is a masked array that hides {int(np.ma.count_masked(X))} entries: give X.data and "
                "mask=~numpy.ma.getmaskarray(X)"
            )
        array = np.asarray(X)
        if array.dtype.kind not in "buif":
            raise UserError(f"X holds {array.dtype} values: give a matrix of numbers")
        tensor = _shared(array)
    if tensor.ndim != 2:
        raise UserError(
            f"X has {tensor.ndim} dimension(s), shape {tuple(tensor.shape)}: give a matrix "
            "(n_samples, n_features)"
        )
    return tensor.to(device=device, dtype=dtype)


def size(values: Any) -> float:
    """Mean size of the entries of an array or a scipy sparse matrix that are not 0; 0 without any.

    Where their sum is too large for float64, the size of the largest.
    """
    held = np.atleast_1d(values.data if hasattr(values, "tocsr") else values)
    total, count = 0.0, 0
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in spans(len(held), held[0].size if len(held) else 1):
            part = np.abs(held[rows], dtype=np.float64)
            total, count = total + float(part.sum()), count + int(np.count_nonzero(part))
    if np.isfinite(total):
        return total / max(count, 1)
    known = np.abs(held[~np.isnan(held)], dtype=np.float64)
    with np.errstate(over="ignore"):
        total, count = float(known.sum()), max(int(np.count_nonzero(known)), 1)
    return total / count if np.isfinite(total) else float(known.max())


def checksum(values: Any) -> int:
    """CRC-32 of the bytes of an array, or of what a scipy sparse matrix stores and where."""
    parts = ("data", "indices", "indptr") if hasattr(values, "tocsr") else ()
    found = 0
    for held in [getattr(values, part) for part in parts if hasattr(values, part)] or [values]:
        for rows in spans(len(held), held[0].size if len(held) else 1):
            found = zlib.crc32(np.ascontiguousarray(held[rows]).data, found)
    return found


def _shared(array: np.ndarray) -> Tensor:
    """A tensor over the same memory; over a copy of what torch cannot write to, or does not know."""
    if not array.dtype.isnative or array.dtype.itemsize > 8:
        array = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())
