"""What tests of models and solvers share: small data, and a model with its batch, no Trainer."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from _pytest.mark.structures import ParameterSet

from nmfnet.config import Config, check_config, conf_dir, read_choice
from nmfnet.core.model import Factorization
from nmfnet.core.starting import initialise
from nmfnet.run.checkpoint import assemble, task_of
from nmfnet.run.loop import make_steppable
from nmfnet.settings.objects import locate
from nmfnet.settings.words import configuration, set_key
from nmfnet.solvers.base import total
from nmfnet.solvers.choice import check_solver
from nmfnet.types import Batch, Sizes, Tensor

MULTILINEAR: dict[str, dict[str, Any]] = {
    "nmf": {"model": "nmf"},
    "projective": {"model": "projective_nmf"},
    "convex-samples": {"model": "convex_nmf", "convex_axis": "samples"},
    "convex-features": {"model": "convex_nmf", "convex_axis": "features"},
    "convex-samples-full-power": {"model": "convex_nmf", "square_root": False},
    "convex-samples-tied": {"model": "convex_nmf", "convex_axis": "samples", "tied": True},
    "convex-features-tied": {"model": "convex_nmf", "convex_axis": "features", "tied": True},
    "ae": {"model": "autoencoder", "solver": "mu"},
    "ae-tied": {"model": "autoencoder", "solver": "mu", "tied": True},
    "ae-deep": {"model": "autoencoder", "solver": "mu", "hidden": [4], "decoder": "mirror"},
    "ae-deep-tied": {
        "model": "autoencoder",
        "solver": "mu",
        "hidden": [4],
        "decoder": "mirror",
        "tied": True,
    },
}
"""Every non-negative multilinear model that multiplicative updates can train, by a short name."""

LOSSES: dict[str, dict[str, Any]] = {
    "frobenius": {"loss": "frobenius"},
    "kl": {"loss": "kl"},
    "itakura_saito": {"loss": "itakura_saito"},
    "beta=1.5": {"loss": "beta", "loss.beta": 1.5},
    "beta=0.5": {"loss": "beta", "loss.beta": 0.5},
    "beta=3": {"loss": "beta", "loss.beta": 3.0},
}
"""One loss on each side of every border of the beta family."""


def positive(n: int = 9, f: int = 7, seed: int = 0) -> np.ndarray:
    """A matrix without structure or zeros."""
    return np.random.default_rng(seed).uniform(0.05, 1, (n, f))


def multilinear(losses: Iterable[str]) -> list[ParameterSet]:
    """Every model of ``MULTILINEAR`` with every loss.

    Quick are NMF with every loss, and every model with one of them: the update of a model and the
    split of a loss meet only in ``split``, so the other pairs are among the slow tests.
    """
    return [
        pytest.param(
            *(variant, loss),
            marks=[] if variant == "nmf" or loss == "kl" else [pytest.mark.slow],
        )
        for variant in MULTILINEAR
        for loss in losses
    ]


def planted(
    n: int = 40, f: int = 15, k: int = 3, seed: int = 0, *, overlap: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``X = W H`` exactly, with W and H of half zeros (or H with one component per feature)."""
    rng = np.random.default_rng(seed)
    W, H = rng.exponential(size=(n, k)), rng.exponential(size=(k, f))
    W *= rng.random((n, k)) < 0.6
    H *= rng.random((k, f)) < 0.6 if overlap else np.arange(f) % k == np.arange(k)[:, None]
    W[np.arange(k), np.arange(k)] += 1
    H[np.arange(k), np.arange(k)] += 1
    return W @ H, W, H


def some_mask(n: int, f: int, seed: int = 0, observed: float = 0.8) -> np.ndarray:
    """True = observed; every row and column keeps an entry."""
    mask = np.random.default_rng(seed).random((n, f)) < observed
    mask[np.arange(max(n, f)) % n, np.arange(max(n, f)) % f] = True
    return mask


def some_weights(n: int, f: int, seed: int = 0) -> np.ndarray:
    """Weights of entries; 0 where `some_mask` has nothing observed."""
    return some_mask(n, f, seed) * np.random.default_rng(seed + 1).choice([0.25, 1.0, 3.0], (n, f))


KINDS = {"whole": None, "masked": some_mask, "weighted": some_weights}
"""What may lie beside X, by name: a function of its shape, or nothing."""


def model_class(name: str) -> type[Factorization]:
    """The class of a choice of ``model=``."""
    node = yaml.safe_load((conf_dir() / "model" / f"{name}.yaml").read_text())["model"]
    found: type[Factorization] = locate(node["_target_"])
    return found


def brings_data(name: str) -> bool:
    """Whether a model is for data of a kind of its own, of which it has a small example."""
    return model_class(name).example is not Factorization.example


def batch_of(X: np.ndarray, mask: np.ndarray | None = None) -> Batch:
    """All rows of X in float64, as a datamodule would hand them out."""
    seen = None if mask is None else torch.from_numpy(mask).double()
    x = torch.from_numpy(np.array(X, dtype=np.float64))
    return Batch(x if seen is None else torch.where(seen > 0, x, 0.0), torch.arange(len(X)), seen)


def config(settings: dict[str, Any]) -> Config:
    """The configuration of ``nmfnet.fit``'s settings, in float64 and with ``solver=mu`` by default."""
    groups = ("loss", "penalty", "constraint", "init", "solver")
    chosen = {group: settings[group] for group in groups if group in settings}
    model = settings.get("model", "nmf")
    if "autoencoder" not in model:
        chosen = {"solver": "mu"} | chosen
    cfg = configuration({"model": model, "dtype": "float64"}).plain()
    for group, choice in chosen.items():
        if group == "penalty":  # one or a list
            cfg[group] = configuration({group: choice}).penalty
        else:  # what Hydra makes of it, which takes a tenth of a second, is the file
            cfg[group] = deepcopy(read_choice(group, choice))
    for key, value in settings.items():
        if key not in (*groups, "model"):
            set_key(cfg, key, value)
    return check_config(cfg)


def make(
    X: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    restarts: range | None = None,
    **settings: Any,
) -> tuple[Factorization, Batch]:
    """A started model of ``nmfnet.fit``'s settings, and the batch to train it on."""
    cfg = config({"n_components": 3, **settings})
    model = assemble(cfg, Sizes(*X.shape), restarts, masked=mask is not None)
    batch = batch_of(X, mask)
    check_solver(model.solver, task_of(model))
    initialise(model, batch)
    make_steppable(model)
    return model, batch


def advance(model: Factorization, batch: Batch, n_iter: int) -> Tensor:
    """``n_iter`` iterations of the model's solver; the objective after them, shape (r,)."""
    return total(model.solver.step(model, batch, n_iter, list(range(model.n_restarts))))


def values(model: Factorization) -> dict[str, Tensor]:
    """A copy of every factor's value."""
    return {name: factor().detach().clone() for name, factor in model.factors.items()}


def reconstruct(model: Factorization, batch: Batch) -> Tensor:
    """X_hat of every restart, shape (r, n, f)."""
    with torch.no_grad():
        return model.decode(model.encode(batch))
