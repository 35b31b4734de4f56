"""Accelerated HALS with extrapolation for one small dense matrix, without leaving compiled code."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmfnet.kernels.compiled.lanes import (
    JIT,
    dense_divergence,
    extrapolate,
    gram,
    inner,
    matmul,
    penalty,
    sweep,
)

NOISE = 8
"""Error of an objective by Gram matrices, as a multiple of the rounding of sum(x ** 2) / 2."""

HIDDEN = 1e-3
"""Least share of the objective which that error has to hide for a sum of residuals to be worth it."""


@njit(**JIT)
def hals_run(  # type: ignore[no-untyped-def]
    x, xt, w_y, w_old, h_y, h_old, memory, half_square, l1, l2, sweeps, n_iter, momentum, buffers
):
    """``n_iter`` iterations in place; the point reached is (w_y, h_old).

    Parameters
    ----------
    x, xt : arrays (n, f) and (f, n)
    w_y, w_old : arrays (k, n)
        Extrapolated and last plain W.
    h_y, h_old : arrays (k, f)
    memory : array (3,) of float64
        Nesterov's t, and the objective of the previous iteration.
    half_square : float
        ``sum(x ** 2) / 2``.
    l1, l2, sweeps : pairs
        Penalties and inner sweeps of W and of H.
    n_iter : int
    momentum : bool
        False = plain HALS.
    buffers : tuple
        From ``log_buffers``.

    Notes
    -----
    Nesterov's t starts again when the objective rises. By Gram matrices it is a difference of numbers as
    large as ``half_square``; changes that their rounding may hide are decided by sums of residuals.
    """
    k = w_y.shape[0]
    kind = x.dtype.type
    w, a = np.empty_like(w_y), np.empty_like(w_y)
    h, c = np.empty_like(h_y), np.empty_like(h_y)
    b, g = np.empty((k, k), x.dtype), np.empty((k, k), x.dtype)
    t, previous, none = memory[0], memory[1], np.empty((0, 0), x.dtype)
    noise, last = NOISE * np.finfo(x.dtype).eps * half_square, np.inf
    for _ in range(n_iter):
        t_next = 0.5 * (1 + np.sqrt(1 + 4 * t * t)) if momentum else 1.0
        step = kind((t - 1) / t_next)
        gram(h_y, b)
        matmul(h_y, xt, a)
        penalise(a, b, l1[0], l2[0])
        w[:] = w_y
        sweep(w, a, b, np.int64(0), w.shape[1], sweeps[0])
        extrapolate(w_y, w, w_old, step, kind(0))
        gram(w_y, g)
        size = np.trace(g)
        matmul(w_y, x, c)
        penalise(c, g, l1[1], l2[1])
        h[:] = h_y
        sweep(h, c, g, np.int64(0), h.shape[1], sweeps[1])
        gram(h, b)
        of_w = 0.5 * l2[0] * size + penalty(w_y, l1[0], kind(0))
        objective = half_square - inner(c, h) + 0.5 * inner(b, g) + of_w
        rose = objective > previous
        if abs(objective - previous) < noise and noise > HIDDEN * objective:
            exact = dense_divergence(x, none, w_y, h, np.bool_(False), buffers)
            exact += penalty(h, l1[1], l2[1]) + of_w
            rose, last = exact > last, exact
        else:
            last = np.inf
        if rose:
            t = 1.0
            w_y[:] = w
            h_y[:] = h
            h_old[:] = h
        else:
            t = t_next
            extrapolate(h_y, h, h_old, step, kind(0))
        previous = objective
    memory[0], memory[1] = t, previous


@njit(**JIT)
def penalise(a, b, l1, l2):  # type: ignore[no-untyped-def]
    """Let the linear part a and the curvature b of a least-squares problem carry penalties."""
    if l1 > 0:
        for i in range(a.shape[0]):
            for j in range(a.shape[1]):
                a[i, j] -= l1
    if l2 > 0:
        for i in range(b.shape[0]):
            b[i, i] += l2
