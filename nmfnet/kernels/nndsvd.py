"""NNDSVD: a deterministic start of NMF from the leading singular triplets."""

from __future__ import annotations

import torch

from nmfnet.types import Float, Tensor


def nndsvd(
    x: Float[Tensor, "n f"], k: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "k f"]]:
    """``W, H >= 0`` with exact zeros, from the larger of the two signed parts of each triplet.

    Parameters
    ----------
    x : Tensor, shape (n, f), >= 0, dense or sparse CSR
    k : int
        Components, at most min(n, f).
    generator : torch.Generator
        For the randomised SVD of large matrices; small ones are exact.

    Source: Boutsidis & Gallopoulos 2008, "SVD based initialization", section 2 (NNDSVD).
    """
    U, S, V = leading_svd(x, k, generator)
    W = torch.zeros(x.shape[0], k, dtype=x.dtype, device=x.device)
    H = torch.zeros(k, x.shape[1], dtype=x.dtype, device=x.device)
    W[:, 0], H[0] = S[0].sqrt() * U[:, 0].abs(), S[0].sqrt() * V[:, 0].abs()
    for j in range(1, k):
        u, v = U[:, j], V[:, j]
        positive = (u.clamp_min(0), v.clamp_min(0))
        negative = (u.neg().clamp_min(0), v.neg().clamp_min(0))
        mass = [a.norm() * b.norm() for a, b in (positive, negative)]
        (a, b), sigma = (positive, mass[0]) if mass[0] > mass[1] else (negative, mass[1])
        if sigma > 0:
            W[:, j] = (S[j] * sigma).sqrt() * a / a.norm()
            H[j] = (S[j] * sigma).sqrt() * b / b.norm()
    return W, H


def leading_svd(
    x: Float[Tensor, "n f"], k: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """``U (n, k), S (k,), V (f, k)``: exact up to 4 million entries, randomised beyond.

    Source: Halko, Martinsson & Tropp 2011, algorithm 4.4 (subspace iteration).
    """
    if not x.is_sparse_csr and x.numel() <= 4_000_000:
        U, S, Vt = torch.linalg.svd(x, full_matrices=False)
        return U[:, :k], S[:k], Vt[:k].mT
    xt = x.t().to_sparse_csr() if x.is_sparse_csr else x.mT
    probe = torch.randn(x.shape[1], min(k + 10, *x.shape), generator=generator, dtype=x.dtype).to(
        x.device
    )
    Q = torch.linalg.qr(x @ probe).Q
    for _ in range(7):
        Q = torch.linalg.qr(x @ torch.linalg.qr(xt @ Q).Q).Q
    U, S, Vt = torch.linalg.svd((xt @ Q).mT, full_matrices=False)
    return (Q @ U)[:, :k], S[:k], Vt[:k].mT
