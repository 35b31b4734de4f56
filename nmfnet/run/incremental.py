"""Learning from batches of rows that are seen once: what ``Estimator.partial_fit`` does."""

from __future__ import annotations

from typing import Any

import torch

from nmfnet.core.model import Factorization
from nmfnet.core.starting import initialise
from nmfnet.errors import UserError
from nmfnet.kernels.arrays import as_tensor
from nmfnet.kernels.refit import refit_W
from nmfnet.run.checkpoint import assemble, task_of
from nmfnet.settings.words import configuration
from nmfnet.solvers.base import total
from nmfnet.solvers.choice import check_solver
from nmfnet.solvers.online import Online
from nmfnet.types import Batch, Sizes

W_STEPS = 50
"""Updates of a batch's W under KL; the squared error is solved exactly."""


def begin(X: Any, settings: dict[str, Any], H: Any = None) -> Factorization:
    """A model with ``solver=online`` that has learned nothing yet.

    Parameters
    ----------
    X : array-like or sparse matrix, shape (n, n_features), >= 0
        The first batch: it sets the number of features and the scale of the start.
    settings : dict
        As for :func:`nmfnet.fit`.
    H : array-like, shape (n_components, n_features), optional
        Start of the components; default as ``init`` says.

    Raises
    ------
    UserError
        For settings that cannot learn from batches.
    """
    solver = settings.get("solver", "online")
    if solver not in ("online", "auto"):
        raise UserError(f"solver={solver} needs all rows at once: batches need solver=online")
    cfg = configuration({"progress": False, **settings, "solver": "online"})
    model = assemble(cfg, Sizes(*X.shape))
    check_solver(model.solver, task_of(model)._replace(batch_size=X.shape[0]))
    initialise(model, _batch(model, X))
    if H is not None:
        raw = model.factors["H"].raw
        model.factors["H"].assign_(torch.as_tensor(H).expand_as(raw))
    return model


@torch.no_grad()
def learn(model: Factorization, X: Any, n_seen: int) -> None:
    """Improve the components by one batch: first its W for H as it is, then H from all batches.

    Before the batch is added, what was seen before counts ``(1 - n / n_seen) ** forgetting``.

    Parameters
    ----------
    model : Factorization
        From :func:`begin`.
    X : array-like or sparse matrix, shape (n, n_features), >= 0
    n_seen : int
        Rows of all batches so far, this one included.

    Source: Mairal et al. 2010, algorithm 1.
    """
    assert isinstance(model.solver, Online)
    batch = _batch(model, X)
    assert model.loss.beta is not None
    model.factors["W"].raw.data = refit_W(
        batch.x, model.components(), model.loss.beta, 1.0, max_iter=W_STEPS
    )
    model.sizes = Sizes(*batch.x.shape)
    terms = model.solver.learn(model, batch, n_seen, 1, list(range(model.n_restarts)))
    keep = max(0.0, 1 - X.shape[0] / n_seen) ** model.solver.forgetting
    before = torch.where(torch.isfinite(model.objectives), model.objectives, 0)
    model.objectives.copy_(keep * before + total(terms))
    model.best.fill_(int(model.objectives.argmin()))
    model.n_iter += 1
    model.iteration += 1


def _batch(model: Factorization, X: Any) -> Batch:
    x = as_tensor(X, model.precision, model.device)
    return Batch(x, torch.arange(x.shape[0], device=model.device))
