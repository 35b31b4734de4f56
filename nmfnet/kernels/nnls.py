"""Non-negative least squares for many right-hand sides at once, in Gram space, differentiable.

``S = argmin_{S >= 0} ||X - S H||`` needs the data only through ``G = H Hᵀ (k, k)`` and
``C = X Hᵀ (n, k)``, so X may be sparse and nothing of its size is formed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt
import torch

from nmfnet.kernels.products import in_ranges
from nmfnet.kernels.sparse import Transpose, times_components
from nmfnet.types import Float, Tensor

Array = npt.NDArray[Any]

BLOCK_ENTRIES = 4_000_000
"""Most entries of the stack of k x k systems solved together (32 MB)."""


def least_squares(
    G: Float[Tensor, "*r k k"], C: Float[Tensor, "*r n k"], ridge: float = 1e-10
) -> Float[Tensor, "*r n k"]:
    """Rows of any sign that solve the normal equations, with a ridge in units of G's mean diagonal."""
    size = G.double().diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-200)[..., None, None]
    A = G.double() + ridge * size * torch.eye(G.shape[-1], dtype=torch.float64, device=G.device)
    return torch.linalg.solve(A, C.double().mT).mT.to(C.dtype)


def nnls(
    G: Float[Tensor, "*r k k"], C: Float[Tensor, "*r n k"], support: Tensor | None = None
) -> Float[Tensor, "*r n k"]:
    """``argmin_{s >= 0} s G sᵀ / 2 - c sᵀ`` for every row c of C, differentiable in G and C.

    Parameters
    ----------
    G : Tensor, shape (*r, k, k)
        Symmetric positive semi-definite; singular is allowed (a ridge of 1e-12 of its mean
        diagonal then makes the answer unique).
    C : Tensor, shape (*r, n, k)
    support : Tensor of bool, shape (*r, n, k), optional
        Where the answer is expected to be positive; the right guess makes one solve enough.

    Returns
    -------
    Tensor, shape (*r, n, k), >= 0

    Notes
    -----
    The derivative is that of the solution on its support, ``dC = V`` and ``dG = -Vᵀ S`` with V the
    solution for the incoming gradient; it exists where no zero is borderline. Any number of
    derivatives can be taken.

    Source: Kim & Park 2011, "Fast nonnegative matrix factorization: an active-set-like method",
    algorithm 2 (block principal pivoting over all columns); Lawson & Hanson 1974, chapter 23, where
    that does not end.
    """
    with torch.no_grad():
        found = _pivoted(G.detach().double(), C.detach().double(), support)
    return _SupportSolve.apply(G, C, *found).clamp_min(0)


def nnls_rows(
    x: Float[Tensor, "n f"],
    H: Float[Tensor, "*r k f"],
    support: Tensor | None = None,
    ridge: float = 0.0,
    transpose: Transpose | None = None,
) -> Float[Tensor, "*r n k"]:
    """``argmin_{S >= 0} ||X - S H||_F``, the W of given components; x dense or sparse CSR.

    ``ridge`` is added to the diagonal of H Hᵀ, in units of its mean diagonal: it bounds the derivative
    where components are nearly dependent. ``transpose`` makes the derivative faster for a sparse x.
    """
    if x.is_sparse_csr and H.ndim > 2:
        return torch.stack([nnls_rows(x, one, None, ridge, transpose) for one in H])
    C = times_components(x, H, transpose) if x.is_sparse_csr else x @ H.mT
    return nnls(with_ridge(H @ H.mT, ridge), C, support)


def with_ridge(G: Float[Tensor, "*r k k"], ridge: float) -> Float[Tensor, "*r k k"]:
    """G with ``ridge`` times its mean diagonal added to the diagonal."""
    if ridge == 0:
        return G
    mean = G.detach().diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    return G + ridge * mean * torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)


class _SupportSolve(torch.autograd.Function):
    """Solution of the normal equations on a fixed support; its backward is one more of itself.

    ``solution`` is the solution where it is known already.
    """

    @staticmethod
    def forward(ctx: Any, G: Tensor, C: Tensor, support: Tensor, solution: Tensor | None) -> Tensor:
        S = solve_on(G.double(), C.double(), support) if solution is None else solution
        S = S.to(C.dtype, copy=True)  # autograd takes what comes out as it went in for an input
        ctx.save_for_backward(G, S, support)
        return S

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        G, S, support = ctx.saved_tensors
        V = _SupportSolve.apply(G, grads[0], support, None)
        dG = None
        if ctx.needs_input_grad[0]:
            half = V.mT @ S
            dG = -(half + half.mT) / 2
        return dG, V, None, None


def find_support(
    G: Float[Tensor, "*r k k"], C: Float[Tensor, "*r n k"], support: Tensor | None = None
) -> Tensor:
    """Support of the solution by block principal pivoting; float64.

    Every round exchanges all infeasible variables of a row; a row whose count of infeasible
    variables has not fallen for three rounds, or whose system is singular, gets them one by one
    instead, which terminates. On a CPU in compiled code row by row, elsewhere all rows at once.
    """
    return _pivoted(G, C, support)[0]


def _pivoted(
    G: Float[Tensor, "*r k k"], C: Float[Tensor, "*r n k"], support: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The support, and in compiled code the solution that comes with it."""
    if C.is_cuda:
        return pivot_together(G, C, support), None
    from nmfnet.kernels.compiled.nnls import pivot

    P = (C > 0 if support is None else support.clone()).contiguous()
    return _in_ranges(pivot, G, C, P)


def _in_ranges(
    search: Callable[..., None], G: Tensor, C: Tensor, P: Tensor
) -> tuple[Tensor, Tensor]:
    """Support and solution by a compiled search, which begins with the guess P and overwrites it."""
    S = torch.empty_like(C, memory_format=torch.contiguous_format)
    for g, c, p, s in zip(*_stacks(G, C, P, S), strict=True):
        in_ranges(lambda i, j, a=(g, c, p, s): search(*a, i, j), len(c), 64)  # type: ignore[misc]
    return P.logical_and_(S > 0), S  # whatever a guess had there: a zero has no derivative


def _stacks(G: Tensor, *rows: Tensor) -> tuple[Array, ...]:
    """Numpy views of CPU tensors: systems (a, k, k), and for each of them its rows (a, n, k)."""
    k, systems = G.shape[-1], G.shape[:-2].numel()
    counts = [t.numel() // max(1, systems * k) for t in rows]
    flat = [t.reshape(systems, n, k) for t, n in zip(rows, counts, strict=True)]
    return tuple(t.contiguous().numpy() for t in (G.reshape(systems, k, k), *flat))


def pivot_together(
    G: Float[Tensor, "*r k k"], C: Float[Tensor, "*r n k"], support: Tensor | None = None
) -> Tensor:
    """The same in plain torch, a round of all rows at a time; insertion is left to compiled code."""
    from nmfnet.kernels.compiled.nnls import inserted

    k = C.shape[-1]
    P = (C > 0 if support is None else support.clone()).reshape(-1, k)
    flat_C = C.reshape(-1, k)
    system = _owners(G, C)
    flat_G = G.reshape(-1, k, k)
    scale = flat_C.abs().amax(-1, keepdim=True).clamp_min(1e-300)
    size = flat_G.diagonal(dim1=-2, dim2=-1).amax(-1).clamp_min(1e-300)
    todo = torch.arange(P.shape[0], device=P.device)
    grace = torch.full_like(todo, 3)
    fewest = torch.full_like(todo, k + 1)
    while len(todo):
        owner, c = system[todo], flat_C[todo]
        S, singular = _solve(flat_G, c, P[todo], owner)
        grace[todo[singular]] = 0
        Y = _times(S, flat_G, owner) - c
        here = P[todo]
        bad = (here & (-1e-12 * scale[todo] / size[owner, None] > S)) | (
            ~here & (-1e-12 * scale[todo] > Y)
        )
        count = bad.sum(-1)
        fell = (count < fewest[todo]) & ~singular
        grace[todo] = torch.where(fell, 3, grace[todo] - 1)
        fewest[todo] = torch.where(fell, count, fewest[todo])
        for row in todo[grace[todo] < 0].tolist():
            problem = flat_G[system[row]].cpu(), flat_C[row, None].cpu()
            found, _ = _in_ranges(inserted, *problem, P[row, None].cpu())
            P[row] = found[0].to(P.device)
        going = (count > 0) & (grace[todo] >= 0)
        todo = todo[going]
        P[todo] ^= bad[going]
    return P.reshape(C.shape)


def solve_on(
    G: Float[Tensor, "*r k k"], C: Float[Tensor, "*r n k"], support: Tensor
) -> Float[Tensor, "*r n k"]:
    """Rows s with ``(G s)_P = c_P`` and 0 off their support P; float64."""
    if C.is_cuda:
        k = C.shape[-1]
        flat = C.reshape(-1, k), support.reshape(-1, k), _owners(G, C)
        return _solve(G.reshape(-1, k, k), *flat)[0].reshape(C.shape)
    from nmfnet.kernels.compiled.nnls import on_support

    S = torch.empty_like(C, memory_format=torch.contiguous_format)
    for g, c, p, s in zip(*_stacks(G, C, support, S), strict=True):
        in_ranges(lambda i, j, a=(g, c, p, s): on_support(*a, i, j), len(c), 64)  # type: ignore
    return S


def _solve(G: Tensor, C: Tensor, P: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """The same in plain torch for flat rows, and which of them were singular.

    The system of row i is ``G[owner[i]]``.
    """
    rows = max(1, BLOCK_ENTRIES // C.shape[-1] ** 2)
    blocks = [
        _solve_block(G, C[i : i + rows], P[i : i + rows], owner[i : i + rows])
        for i in range(0, max(1, C.shape[0]), rows)
    ]
    solutions, singular = zip(*blocks, strict=True)
    return torch.cat(solutions), torch.cat(singular)


def _solve_block(G: Tensor, C: Tensor, P: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    on = P.to(G.dtype)
    systems = G[owner] * on[:, :, None] * on[:, None, :]
    systems.diagonal(dim1=-2, dim2=-1).add_(1 - on)
    factor, failed = torch.linalg.cholesky_ex(systems)
    pivots, sizes = (t.diagonal(dim1=-2, dim2=-1) for t in (factor, systems))
    singular = (failed > 0) | (pivots.square() <= 1e-12 * sizes).any(-1)
    if bool(singular.any()):
        ridge = 1e-12 * G[owner].diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-300)
        sizes.add_(torch.where(singular, ridge, 0)[:, None])
        factor = torch.linalg.cholesky(systems)
    return torch.cholesky_solve((C * on)[..., None], factor)[..., 0] * on, singular


def _owners(G: Tensor, C: Tensor) -> Tensor:
    """For every row of C, flattened, which of the flattened systems is its own."""
    systems, k = G.shape[:-2].numel(), C.shape[-1]
    rows = C.numel() // (k * max(1, systems))
    return torch.arange(systems, device=C.device).repeat_interleave(rows)


def _times(S: Tensor, G: Tensor, owner: Tensor) -> Tensor:
    if G.shape[0] == 1:
        return S @ G[0]
    return (S[:, None, :] @ G[owner])[:, 0]
