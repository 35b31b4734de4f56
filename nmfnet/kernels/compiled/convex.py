"""Coordinate descent on the weights that make components out of samples."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmfnet.kernels.compiled.lanes import JIT


@njit(**JIT)
def basis_sweeps(  # type: ignore[no-untyped-def]
    x, squares, A, S, M, C, sweeps
):
    """Lower ``1/2 tr(M S Sᵀ) - tr(C Sᵀ)`` with S = A X over A >= 0, in place, one entry at a time.

    Parameters
    ----------
    x : array, shape (m, p)
    squares : array, shape (m,)
        Squared norms of the rows of x.
    A : array, shape (k, m), changed
    S : array, shape (k, p), changed
        A X.
    M : array, shape (k, k)
        Wᵀ W.
    C : array, shape (k, p)
        Wᵀ X.
    sweeps : int
    """
    k, m = A.shape
    p = x.shape[1]
    slope = np.empty(p, x.dtype)
    for c in range(k):
        own = M[c, c]
        if own <= 0:
            continue
        for q in range(p):
            slope[q] = -C[c, q]
        for other in range(k):
            weight = M[c, other]
            for q in range(p):
                slope[q] += weight * S[other, q]
        for _ in range(sweeps):
            for j in range(m):
                if squares[j] <= 0:
                    continue
                gradient = x.dtype.type(0)
                for q in range(p):
                    gradient += slope[q] * x[j, q]
                old = A[c, j]
                new = max(old - gradient / (own * squares[j]), x.dtype.type(0))
                step = new - old
                if step != 0:
                    A[c, j] = new
                    scaled = own * step
                    for q in range(p):
                        slope[q] += scaled * x[j, q]
                        S[c, q] += step * x[j, q]
