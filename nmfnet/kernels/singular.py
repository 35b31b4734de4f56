"""Leading singular vectors, the same bits each time."""

from __future__ import annotations

import numpy as np
import torch

from nmfnet.kernels.csr import to_scipy
from nmfnet.types import Float, Tensor


def leading_right(
    x: Float[Tensor, "n f"], k: int
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k f"]]:
    """The k largest singular values of x, dense or CSR, and their right vectors, in float64.

    The largest entry of every vector is positive. Lanczos where k is below the rank that x can have.
    """
    from scipy.sparse.linalg import svds

    x = x.double()
    if k < min(x.shape) and min(x.shape) > 2:
        held = to_scipy(x) if x.is_sparse_csr else x.cpu().numpy()
        first = np.random.default_rng(0).uniform(-1, 1, min(held.shape))
        _, found, rows = svds(held, k=k, v0=first)
        order = np.argsort(-found, kind="stable")
        values, V = (torch.from_numpy(part[order].copy()).to(x.device) for part in (found, rows))
    else:
        _, values, V = torch.linalg.svd(x.to_dense(), full_matrices=False)
        values, V = values[:k], V[:k]
    return values, V * signs(V)


def signs(H: Float[Tensor, "k f"]) -> Float[Tensor, "k one"]:
    """The sign of the largest entry of every row: times it, a direction is the same each time."""
    return H.gather(-1, H.abs().argmax(-1, keepdim=True)).sign()
