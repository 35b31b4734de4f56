"""Coordinate descent on the weights of a linear code, each row of which has its own curvature."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmfnet.kernels.compiled.lanes import JIT
from nmfnet.kernels.compiled.newton import at


@njit(**JIT)
def code_sweeps(xt, slope, curve, bend, least, move, n_sweeps):  # type: ignore[no-untyped-def]
    """Lower ``Σ_i slope_i · d_i + d_i C_i d_i / 2`` with ``d = X move``, entry by entry, in place.

    Parameters
    ----------
    xt : array, shape (f, n)
        X transposed.
    slope : array, shape (k, n)
        Of every row of the code.
    curve : array, shape (k (k + 1) / 2, n)
        C_i of every row: lower triangles, row by row.
    bend : array, shape (k, f)
        Curvature by every entry of ``move``, ``Σ_i x_ij² C_i,cc``.
    least : array, shape (k, f), <= 0
        No entry of ``move`` falls below.
    move : array, shape (k, f), changed
        Zeros at first.
    n_sweeps : int
        Passes over all entries.
    """
    k, n = slope.shape
    f = xt.shape[0]
    d, t = np.zeros((k, n), xt.dtype), np.empty(n, xt.dtype)
    for _ in range(n_sweeps):
        for c in range(k):
            own, e, s = curve[at(c, c)], d[c], slope[c]
            for i in range(n):
                t[i] = s[i]
            for o in range(k):
                a, b = curve[at(c, o)], d[o]
                for i in range(n):
                    t[i] += a[i] * b[i]
            for j in range(f):
                if not bend[c, j] > 0:
                    continue
                x = xt[j]
                gradient = xt.dtype.type(0)
                for i in range(n):
                    gradient += x[i] * t[i]
                new = max(move[c, j] - gradient / bend[c, j], least[c, j])
                step = new - move[c, j]
                if step != 0:
                    move[c, j] = new
                    for i in range(n):
                        turn = step * x[i]
                        e[i] += turn
                        t[i] += own[i] * turn
