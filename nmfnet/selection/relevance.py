"""Automatic relevance determination as a criterion of the rank: how many components stay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from nmfnet.config import Config
from nmfnet.data.matrix import Matrix
from nmfnet.kernels.ard import ard, ard_objective, dispersion, prior_of
from nmfnet.kernels.arrays import as_tensor
from nmfnet.selection.resampling import are_counts
from nmfnet.settings.objects import build, locate

__all__ = ["Kept", "applies", "fit_relevance", "kept"]

PLAIN_STEPS = 500
"""Iterations without prior from which the dispersion is estimated."""


class Kept(NamedTuple):
    """What ARD says.

    Attributes
    ----------
    n_components : int
        Components that the start with the lowest objective keeps.
    starts : list of int
        The same of every start.
    largest : int
        Components that each began with.
    dispersion : float
        Variance of an entry in units of its mean to the power 2 - beta.
    converged : int
        Starts that ended within the budget.
    seconds : float
        All starts together.
    """

    n_components: int
    starts: list[int]
    largest: int
    dispersion: float
    converged: int
    seconds: float

    @property
    def sentence(self) -> str:
        """For the reason of the suggestion."""
        low, high = min(self.starts), max(self.starts)
        same = f"all {len(self.starts)} starts" if len(self.starts) > 1 else "one start"
        spread = same if low == high else f"{low} to {high} over {len(self.starts)} starts"
        text = f"ARD keeps {self.n_components} of {self.largest} components ({spread})"
        if self.n_components == self.largest:
            text += ": it may want more than the largest rank"
        if missing := len(self.starts) - self.converged:
            text += f"; {missing} of the starts did not converge"
        return text


def applies(cfg: Config, matrix: Matrix, beta: float | None) -> str | None:
    """Why ARD cannot be had, or None where it can: it is of X ~ W H >= 0 under a beta divergence."""
    if not getattr(locate(cfg.model["_target_"]), "bilinear", False):
        what = f"model={cfg.model_name} is not X ~ W H with both factors free"
    elif beta is None:
        what = f"{type(build(cfg.loss)).__name__} is no beta divergence"
    elif matrix.values.min() < 0:
        what = "X has negative entries"
    else:
        return None
    return f"no ARD, which is of NMF (model=nmf, loss=kl or frobenius, X >= 0): {what}"


def fit_relevance(
    matrix: Matrix, beta: float, largest: int, draws: tuple[np.random.Generator, ...]
) -> dict[str, Any]:
    """One start of ARD from ``largest`` components.

    The dispersion is estimated from a fit without prior; of counts under beta = 1 it is at least 1,
    since they are at least Poisson.

    Parameters
    ----------
    matrix : Matrix
    beta : float
    largest : int
    draws : two generators
        Of the fit for the dispersion, which all starts share, and of this start.
    """
    began, cpu = time.perf_counter(), torch.device("cpu")
    x = as_tensor(matrix.values, torch.float64, cpu)
    mask = None if matrix.mask is None else as_tensor(matrix.mask, torch.float64, cpu)
    n, f = matrix.shape
    observed = n * f if matrix.mask is None else len(matrix.mask.nonzero()[0])
    mean = float(matrix.values.sum()) / max(observed, 1)
    size = np.sqrt(max(mean, 1e-12) / largest)

    def start(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        W, H = (size * rng.uniform(0.5, 1.5, shape) for shape in ((n, largest), (largest, f)))
        return torch.as_tensor(W), torch.as_tensor(H)

    plain = ard(x, *start(draws[0]), beta, None, mask, max_iter=PLAIN_STEPS)
    phi = dispersion(x, plain.W, plain.H, beta, mask)
    floor = 1.0 if beta == 1 and are_counts(matrix.values) else 1e-12 * max(mean, 1e-12) ** beta
    prior = prior_of(max(mean, 1e-12), n, f, largest, max(phi, floor))
    found = ard(x, *start(draws[1]), beta, prior, mask)
    return {
        "kept": float(found.kept.sum()),
        "objective": float(ard_objective(x, found.W, found.H, beta, prior, mask)),
        "dispersion": prior.phi,
        "n_iter": float(found.n_iter),
        "converged": float(found.converged),
        "seconds": time.perf_counter() - began,
        "relevance": (found.weights * prior.c / prior.b).numpy(),
    }


def kept(fits: Sequence[dict[str, Any]], largest: int) -> Kept:
    """The verdict of several starts."""
    best = min(fits, key=lambda made: float(made["objective"]))
    return Kept(
        n_components=int(best["kept"]),
        starts=[int(made["kept"]) for made in fits],
        largest=largest,
        dispersion=float(best["dispersion"]),
        converged=int(sum(made["converged"] for made in fits)),
        seconds=float(sum(made["seconds"] for made in fits)),
    )
